"""Maps: one function over many items, at once, or as the results are consumed; and the executor."""
