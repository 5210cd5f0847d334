"""The same questions put to everybody: a small adapter per peer, each a program in an environment of its own."""
