"""Values to bytes and back, between client and engine; nothing else of the system opens a payload.

What the two use, from one place: `dumps` and `loads` (`pickles`), failures (`failure`), what is wrong with a value that
cannot travel (`culprit`), and `Reference`.
"""

from __future__ import annotations

from typing import Any

from .culprit import find_culprit, is_picklable
from .failure import Failure, failure_from, set_place, to_exception
from .pickles import PROTOCOL, Buffer, dumps, dumps_function, dumps_whole, loads, loads_mapped, pickling_with
from .usermodules import user_modules

__all__ = [
    "PROTOCOL",
    "Buffer",
    "Failure",
    "Reference",
    "dumps",
    "dumps_function",
    "dumps_whole",
    "failure_from",
    "find_culprit",
    "find_namespace",
    "is_picklable",
    "loads",
    "loads_mapped",
    "pickling_with",
    "set_namespace",
    "set_place",
    "to_exception",
    "user_modules",
]

_namespace: dict[str, Any] | None = None


def set_namespace(namespace: dict[str, Any]) -> None:
    """Name the variables that a `Reference` means in this process (an engine's user namespace)."""
    global _namespace
    _namespace = namespace


def find_namespace() -> dict[str, Any] | None:
    """Return the variables of this engine's user; None if this is not an engine."""
    return _namespace


class Reference:
    """As an argument: the engine's own variable of that name (or the value of that expression there).

    >>> Reference("x")
    Reference('x')
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"Reference takes the name of a variable as a string, not {type(name).__name__}")
        self.name = name

    def __repr__(self) -> str:
        return f"Reference({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _resolve, (self.name,)


def _resolve(name: str) -> Any:
    if _namespace is None:
        return Reference(name)
    return eval(name, _namespace)  # noqa: S307 - running the user's expressions is what an engine is for
