"""The operations built into an engine, on the user's variables. Their digests begin with `!`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .functions import Function
from .output import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .functions import Functions
    from .values import Values

EXECUTE = b"!execute"
PUSH = b"!push"
PULL = b"!pull"
DELETE = b"!delete"
CLEAR = b"!clear"
SETUP = b"!setup"
COMM = b"!comm"

ERROR_MAX = 300
"""Characters of an error that the controller is told."""


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


class Setup:
    """Set-up: code or a function that every engine has run. How it went is a record of its output (`report`), since the
    controller, which wants to know, opens no payload.
    """

    def __init__(
        self,
        functions: Functions,
        values: Values,
        execute: Callable[..., Any],
        report: Callable[[str, Any], None],
    ) -> None:
        self._functions = functions
        self._values = values
        self._execute = execute
        self._report = report

    def __call__(self, what: str | bytes, arguments: bytes, buffers: Sequence[bytes]) -> Any:
        """Run code, or call a pickled function with pickled arguments; return what that returns."""
        try:
            if isinstance(what, str):
                value = self._execute(what, silent=True, store_history=False)
            else:
                function = self._functions.load(Function(what))
                args, kwargs = self._values.load(arguments, [bytearray(buffer) for buffer in buffers])
                value = function(*args, **kwargs)
        except BaseException as error:
            self._report("setup", clean_text(f"{type(error).__name__}: {error}"[:ERROR_MAX]))
            raise
        self._report("setup", "")
        return value


def build_in(
    functions: Functions,
    variables: dict[str, Any],
    execute: Callable[..., Any],
    clear: Callable[[], None],
    hide: tuple[str, ...],
    *,
    values: Values,
    report: Callable[[str, Any], None],
    receive: Callable[..., bool],
) -> None:
    """Put the operations among an engine's functions."""
    namespace = Namespace(variables)
    for digest, operation in (
        (EXECUTE, execute),
        (PUSH, namespace.push),
        (PULL, namespace.pull),
        (DELETE, namespace.delete),
        (CLEAR, clear),
        (COMM, receive),
        (SETUP, Setup(functions, values, execute, report)),
    ):
        functions.build_in(digest, operation, hide)
