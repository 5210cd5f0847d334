"""Large values that stay on engines while several tasks use them, so that each need not bring them along.

A client sends one to all engines (`keep`), and puts a `Kept` in its place into the arguments of tasks; an engine that
never got it, or has been restarted since, answers NotKept, and the client sends the arguments whole.
"""

from __future__ import annotations

from typing import Any

_values: dict[str, Any] = {}


class NotKept(LookupError):
    """This engine does not have the value that a task's arguments mean."""


class Kept:
    """Stands for a value in arguments; arrives as the value."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return get, (self.key,)


def keep(key: str, value: Any) -> None:
    """Keep a value under a key. Arrays become read-only: all tasks here share one."""
    flags = getattr(value, "flags", None)
    if hasattr(flags, "writeable"):
        value.flags.writeable = False
    _values[key] = value


def get(key: str) -> Any:
    """Return a value that is kept: an array itself, of anything else a copy. Raises NotKept."""
    try:
        value = _values[key]
    except KeyError:
        raise NotKept(f"nothing is kept here under {key}") from None
    return value if hasattr(getattr(value, "flags", None), "writeable") else value.copy()


def forget(keys: list[str]) -> None:
    """Keep these no more."""
    for key in keys:
        _values.pop(key, None)
