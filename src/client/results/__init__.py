"""What submitting returns: results to come, one, several, of a map, joined, split, stored."""
