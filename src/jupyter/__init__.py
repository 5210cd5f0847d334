"""Engines' output shown where the user is: magics, live displays and progress, in notebooks and terminals.

What is shown is decided by pure code (`screen`, `panes`, `items`, `options`); `live` waits and publishes.
"""
