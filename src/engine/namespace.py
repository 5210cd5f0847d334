"""The operations built into an engine, on the user's variables. Their digests begin with `!`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .functions import Functions

EXECUTE = b"!execute"
PUSH = b"!push"
PULL = b"!pull"
DELETE = b"!delete"
CLEAR = b"!clear"


class Namespace:
    """Variables by name, where a name may also be dotted (an attribute), or, to read, any expression."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self._variables = variables

    def push(self, values: Mapping[str, Any]) -> None:
        """Set variables, or attributes of what they hold."""
        for name, value in values.items():
            owner, attribute = self._owner(name)
            if owner is None:
                self._variables[name] = value
            else:
                setattr(owner, attribute, value)

    def pull(self, names: Sequence[str]) -> list[Any]:
        """Return the values of names or expressions; a missing name is a NameError."""
        return [self._evaluate(name) for name in names]

    def delete(self, names: Sequence[str]) -> None:
        """Delete variables or attributes; a missing name is a NameError, and nothing is deleted then."""
        for name in names:
            self._evaluate(name)
        for name in names:
            owner, attribute = self._owner(name)
            if owner is None:
                self._variables.pop(name, None)
            else:
                delattr(owner, attribute)

    def _evaluate(self, name: str) -> Any:
        if name.isidentifier() and name in self._variables:
            return self._variables[name]
        return eval(name, self._variables)  # noqa: S307 - running the user's expressions is what an engine is for

    def _owner(self, name: str) -> tuple[Any, str]:
        path, _, attribute = name.rpartition(".")
        if not attribute.isidentifier():
            raise ValueError(f"{name!r} is not the name of a variable or attribute")
        return (self._evaluate(path), attribute) if path else (None, attribute)


def build_in(
    functions: Functions,
    variables: dict[str, Any],
    execute: Callable[..., Any],
    clear: Callable[[], None],
    hide: tuple[str, ...],
) -> None:
    """Put the operations among an engine's functions."""
    namespace = Namespace(variables)
    for digest, operation in (
        (EXECUTE, execute),
        (PUSH, namespace.push),
        (PULL, namespace.pull),
        (DELETE, namespace.delete),
        (CLEAR, clear),
    ):
        functions.build_in(digest, operation, hide)
