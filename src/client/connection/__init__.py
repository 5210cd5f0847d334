"""The connection to a controller: one I/O thread, and its books."""
