"""The wire: every message once, its encoding, and the protocol's version."""
