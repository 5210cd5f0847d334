"""Functions, pickled once as long as that is safe.

A function travels as it is at the call: its code, its defaults, what it captures in closures and what it reads from
globals. So a pickle may be used again only if all of that is the same *object* as before and can never change inside:
numbers, text, installed modules, functions and classes, tuples of those, and functions of the user's of which the same
holds in turn. Whatever else a function captures (a list, an array, an object, a class of the user's own) makes it
*volatile*: it is pickled at every submit, and sent again only if the bytes differ.

The check before each reuse compares identities: below a microsecond for a function without captures.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

from ...serialize import dumps_function, user_modules
from ...wire.messages import Function
from ...wire.parts import COROUTINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ATOMS = {int, float, complex, str, bytes, bool, type(None), type(...), range}
_BUILTINS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_GLOBAL_OPS = {"LOAD_GLOBAL", "LOAD_NAME"}
_MISSING: Any = type("Missing", (), {})()
_STRONG_MAX = 1000
_DEPTH = 20


class _VolatileError(Exception):
    """Something captured may change."""


def is_by_reference(obj: Any) -> bool:
    """Return whether a module, class or function is installed, so that its name says all about it."""
    name: Any
    if isinstance(obj, types.ModuleType):
        name = obj.__name__
        return sys.modules.get(name) is obj and name != "__main__" and not _is_users(name)
    if isinstance(obj, _BUILTINS):
        owner: Any = getattr(obj, "__self__", None)
        return owner is None or isinstance(owner, types.ModuleType)
    name = getattr(obj, "__module__", None)
    if not isinstance(name, str) or name == "__main__" or _is_users(name):
        return False
    found: Any = sys.modules.get(name)
    for part in str(getattr(obj, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is obj


def _is_users(name: str) -> bool:
    """Return whether cloudpickle is told to pickle this module, or one that it is inside of, by value."""
    while True:
        if name in user_modules:
            return True
        name, _, last = name.rpartition(".")
        if not last or not name:
            return False


class _Captured:
    """What one function of the user's consisted of when it was pickled, and whether it still does."""

    __slots__ = ("attributes", "cells", "closure", "code", "defaults", "globals", "keyword_defaults", "ref", "simple")

    def __init__(self, function: types.FunctionType) -> None:
        self.ref = weakref.ref(function)
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.closure = function.__closure__
        self.keyword_defaults = tuple((name, _Same(value)) for name, value in (function.__kwdefaults__ or {}).items())
        self.attributes = tuple((name, _Same(value)) for name, value in function.__dict__.items())
        try:
            self.cells = tuple((cell, _Same(cell.cell_contents)) for cell in self.closure or ())
        except ValueError:
            raise _VolatileError from None  # a cell that is not bound yet
        scope = function.__globals__
        self.globals = tuple((name, _Same(scope.get(name, _MISSING))) for name in _names(self.code))
        self.simple = not (self.cells or self.globals or self.keyword_defaults or self.attributes)

    def values(self) -> Iterator[Any]:
        """Yield everything captured."""
        yield from self.defaults or ()
        for _, same in (*self.keyword_defaults, *self.attributes, *self.cells, *self.globals):
            yield same.get()

    def holds(self) -> bool:
        """Return whether the function is still what it was."""
        function: Any = self.ref()
        if (
            function is None
            or function.__code__ is not self.code
            or function.__defaults__ is not self.defaults
            or function.__closure__ is not self.closure
        ):
            return False
        scope, attributes, keyword_defaults = function.__globals__, function.__dict__, function.__kwdefaults__ or {}
        if len(attributes) != len(self.attributes) or len(keyword_defaults) != len(self.keyword_defaults):
            return False
        try:
            return (
                all(same.holds(scope.get(name, _MISSING)) for name, same in self.globals)
                and all(same.holds(cell.cell_contents) for cell, same in self.cells)
                and all(same.holds(attributes.get(name, _MISSING)) for name, same in self.attributes)
                and all(same.holds(keyword_defaults.get(name, _MISSING)) for name, same in self.keyword_defaults)
            )
        except ValueError:  # a cell was emptied
            return False


class _Same:
    """An object to be recognized again, without keeping it alive if it is a function.

    So the cache never keeps a function alive that refers to itself, or that others refer to.
    """

    __slots__ = ("get", "holds")

    def __init__(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            ref = weakref.ref(value)
            self.get: Callable[[], Any] = ref
            self.holds: Callable[[Any], bool] = lambda other: ref() is other
        else:
            self.get = lambda: value
            self.holds = lambda other: value is other


_names_of: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = weakref.WeakKeyDictionary()


def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the globals that code, and the code inside it, may look up."""
    names = _names_of.get(code)
    if names is None:
        import dis  # noqa: PLC0415 - once per function

        found = dict.fromkeys(i.argval for i in dis.get_instructions(code) if i.opname in _GLOBAL_OPS)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                found.update(dict.fromkeys(_names(const)))
        names = _names_of[code] = tuple(found)
    return names


def _capture(function: types.FunctionType) -> tuple[_Captured, ...]:
    """Return what this function and the user's functions that it reaches consist of, or raise _VolatileError."""
    captured: dict[int, _Captured] = {}
    todo = [function]
    while todo:
        one = todo.pop()
        if id(one) in captured:
            continue
        captured[id(one)] = record = _Captured(one)
        for value in record.values():
            todo.extend(_functions_in(value, _DEPTH))
    return tuple(captured.values())


def _functions_in(value: Any, depth: int) -> Iterator[types.FunctionType]:
    """Yield the user's functions in a value that else can never change, or raise _VolatileError."""
    kind = type(value)
    if kind in _ATOMS or value is _MISSING:
        return
    if kind in {tuple, frozenset}:
        if not depth:
            raise _VolatileError
        for item in value:
            yield from _functions_in(item, depth - 1)
    elif isinstance(value, types.FunctionType):
        if not is_by_reference(value):
            yield value
    elif not (isinstance(value, (types.ModuleType, type, *_BUILTINS)) and is_by_reference(value)):
        raise _VolatileError


class _Entry:
    __slots__ = ("captured", "function", "ref", "simple")

    def __init__(self, ref: Callable[[], Any], function: Function, captured: tuple[_Captured, ...]) -> None:
        self.ref = ref
        self.function = function
        self.captured = captured
        """Empty for what is known by its name: it never changes."""
        self.simple = captured[0] if len(captured) == 1 and captured[0].simple else None


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether calling it (a function, a partial, an object with `__call__`) makes a coroutine."""
    import inspect  # noqa: PLC0415 - once per function

    if inspect.iscoroutinefunction(function):  # looks through partials
        return True
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type) or inspect.isroutine(function):
        return False
    return inspect.iscoroutinefunction(type(function).__call__)


class FunctionCache:
    """Pickles of functions, by function object. Used from any thread: at worst, two threads pickle the same function.

    >>> cache = FunctionCache()
    >>> double = lambda x: 2 * x
    >>> cache.get(double) is cache.get(double)
    True
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._strong: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, function: Callable[..., Any]) -> Function:
        """Return the function as it is now, pickled. SerializationError if it captures something that cannot travel."""
        entry = self._entries.get(id(function))
        if entry is not None and entry.ref() is function:
            simple = entry.simple
            if simple is not None:
                if (
                    function.__code__ is simple.code
                    and function.__defaults__ is simple.defaults
                    and not function.__kwdefaults__
                    and not function.__dict__
                ):
                    return entry.function
            elif all(captured.holds() for captured in entry.captured):
                return entry.function
        return self._pickle(function)

    def _pickle(self, function: Callable[..., Any]) -> Function:
        captured: tuple[_Captured, ...] | None = None
        if isinstance(function, types.FunctionType):
            if is_by_reference(function):
                captured = ()
            else:
                try:
                    captured = _capture(function)  # before pickling: a change in between is found at the next check
                except _VolatileError:
                    captured = None
        elif isinstance(function, (type, *_BUILTINS)) or _pickles_as_name(function):
            captured = () if is_by_reference(function) or _is_ufunc(function) else None
        pickled = dumps_function(function)
        kind = COROUTINE if is_coroutine_function(function) else b"f"  # never `!`, see `Function`
        made = Function(kind + hashlib.blake2b(pickled, digest_size=15).digest(), pickled)
        if captured is not None:
            self._keep(function, made, captured)
        return made

    def _keep(self, function: Any, made: Function, captured: tuple[_Captured, ...]) -> None:
        key = id(function)
        ref: Callable[[], Any]
        try:
            ref = weakref.ref(function, lambda _ref, key=key, entries=self._entries: entries.pop(key, None))  # type: ignore[misc] # bound now
        except TypeError:  # builtins of some kinds cannot be referred to weakly; there are few
            if len(self._strong) >= _STRONG_MAX:
                return
            self._strong[key] = function
            ref = lambda kept=function: kept  # type: ignore[misc] # noqa: E731 - bound now
        self._entries[key] = _Entry(ref, made, captured)


def _pickles_as_name(function: Any) -> bool:
    """Return whether an object of another kind says that its name is all there is to pickle (extensions have such)."""
    if _is_ufunc(function):
        return True
    try:
        return isinstance(function.__reduce_ex__(4), str)
    except Exception:  # what is wrong with it will be said when it is pickled
        return False


def _is_ufunc(function: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None and isinstance(function, numpy.ufunc) and getattr(numpy, function.__name__, None) is function
    )
