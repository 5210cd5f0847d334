"""Functions whose global names mean the variables of whoever calls them: `interactive`."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any, TypeVar

from .dependent import is_dependent, over
from .pickles import REDUCER
from .serialize import find_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def interactive(function: F) -> F:
    """Decorate a function whose global names are to mean the engine's variables, as if it were defined there.

        @enginery.interactive
        def count():
            return len(part)             # the engine's own `part`, say from scatter

        client[:].apply_sync(count)

    Any other function takes along what its global names mean here. This one takes along its code, its defaults, and
    what it captures in closures. Called here, its global names mean the variables of `__main__`. Together with
    `require` and `depend`, in any order, it is about the function that they are for. Raises TypeError for what is not
    written in Python, and for what another decorator made of a function.
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"interactive decorates a function written in Python, not {type(function).__name__}")
    if is_dependent(function):
        below: F = over(function, interactive)
        return below
    if hasattr(function, "__wrapped__"):
        name = function.__qualname__
        raise TypeError(f"{name} is what another decorator made of a function; put @interactive below that decorator")
    made = types.FunctionType(
        function.__code__, _here(), function.__name__, function.__defaults__, function.__closure__
    )
    _fill(made, _state(function))
    return made  # type: ignore[return-value] # of the same kind, if it is a function at all


def _here() -> dict[str, Any]:
    namespace = find_namespace()
    return vars(sys.modules["__main__"]) if namespace is None else namespace


def _state(function: types.FunctionType) -> dict[str, Any]:
    return {
        "__kwdefaults__": function.__kwdefaults__,
        "__doc__": function.__doc__,
        "__qualname__": function.__qualname__,
        "__annotations__": function.__annotations__,
        "__dict__": {name: value for name, value in function.__dict__.items() if name != REDUCER},
    }


def _fill(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name, value in state.items():
        if name == "__dict__":
            function.__dict__.update(value)
        elif name == "cells":
            for cell, content in zip(function.__closure__ or (), value, strict=True):
                cell.cell_contents = content
        else:
            setattr(function, name, value)
    function.__module__ = "__main__"
    function.__dict__[REDUCER] = _reduce


def _reduce(function: types.FunctionType) -> Any:
    if hasattr(function, "__wrapped__"):
        return NotImplemented  # a decorator has made another of it
    closure = function.__closure__ or ()
    state = {**_state(function), "cells": [cell.cell_contents for cell in closure]}
    args = (function.__code__, function.__name__, function.__defaults__, len(closure))
    return _make, args, state, None, None, _fill  # its state later: it may refer to itself


def _make(code: types.CodeType, name: str, defaults: tuple[Any, ...] | None, cells: int) -> types.FunctionType:
    closure = tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(code, _here(), name, defaults, closure)
