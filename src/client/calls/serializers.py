"""What a direct view can pickle with instead of cloudpickle; engines read all of it with `pickle`."""

from __future__ import annotations

import pickle
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ...pickles import REDUCER
from ...serialize import pickling_with
from .functions import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ...wire.messages import Function


class Own:
    """A pickler of a view's own, and what it has made of functions."""

    def __init__(self, name: str, pickler: Callable[..., Any]) -> None:
        self.name = name
        self._pickler = pickler
        self._functions = FunctionCache()

    def pickling(self) -> AbstractContextManager[None]:
        """Return the context in which values are pickled with it."""
        return pickling_with(self.name, self._pickler)

    def get_function(self, function: Callable[..., Any]) -> Function:
        """Return a function as it is now, pickled with it."""
        with self.pickling():
            return self._functions.get(function)


def standard() -> tuple[str, Callable[..., Any]]:
    """Return the standard library's pickler: functions and classes by name."""
    return "pickle", pickle.Pickler


def dill() -> tuple[str, Callable[..., Any]]:
    """Return dill's pickler, with what functions read of their globals; ImportError if it is not installed."""
    try:
        from dill import Pickler  # noqa: PLC0415 - only for who asks for it
    except ImportError:
        raise ImportError("use_dill() needs the package dill, here and on the engines: pip install dill") from None

    class Dill(Pickler):  # type: ignore[misc] # dill is untyped
        def reducer_override(self, obj: Any) -> Any:
            return (
                obj.__dict__[REDUCER](obj) if type(obj) is FunctionType and REDUCER in obj.__dict__ else NotImplemented
            )

    return "dill", partial(Dill, recurse=True)
