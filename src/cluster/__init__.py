"""Clusters as a whole: start, find, steer and stop them, from Python and from the shell."""
