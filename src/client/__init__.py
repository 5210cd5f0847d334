"""The client: a library in the user's process, and its one I/O thread.

`client` is what users hold; `directview`, `balancedview` and `maps` make tasks; `futures` and `mapresult` take results;
`core` keeps the books; `link` is the only file that knows sockets. Nothing is imported here: see `enginery`.
"""
