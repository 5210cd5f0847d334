"""Which part of a value cannot travel: for the sentence of a `SerializationError`."""

from __future__ import annotations

import functools
import io
import types
from typing import TYPE_CHECKING, Any

from .pickles import PROTOCOL, by_reference_pickler, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator


def find_culprit(obj: Any, what: str) -> str:
    """Return a sentence naming the smallest part of a value that cannot be pickled.

    >>> import threading
    >>> find_culprit({"a": [1, threading.Lock()]}, "argument 'cfg' of f")
    "argument 'cfg' of f: item ['a'][1] is a _thread.lock"
    """
    noun, path, seen = "", "", {id(obj)}
    error = _why_not(obj)
    while len(seen) < _CULPRIT_STEPS:
        for kind, label, child in _children(obj):
            if id(child) in seen:
                continue
            seen.add(id(child))
            problem = _why_not(child)
            if problem is not None:
                if not path:
                    noun, path = kind, label
                else:
                    path += label if label.startswith(_JOINTS) else f", its {kind} {label}"
                obj, error = child, problem
                break
        else:
            break
    kind_of = type(obj)
    name = kind_of.__qualname__ if kind_of.__module__ == "builtins" else f"{kind_of.__module__}.{kind_of.__qualname__}"
    where = f"{what}: {noun} {path}" if path else what
    text = str(error)
    standard = isinstance(error, TypeError) and "cannot pickle" in text
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{where} is {article} {name}" + ("" if standard or error is None else f" that cannot be pickled: {text}")


_CULPRIT_STEPS = 10_000

_JOINTS = (".", "[", "(")
"""What begins so is written right after what it is a part of."""


def _why_not(obj: Any) -> Exception | None:
    if is_plain(obj):
        return None
    try:
        by_reference_pickler()(io.BytesIO(), PROTOCOL).dump(obj)
    except Exception as error:
        return error
    return None


def is_picklable(obj: Any) -> bool:
    """Return whether `dumps` would accept a value. It pickles it to find out: for the way to an error message."""
    return _why_not(obj) is None


def _children(obj: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the parts of a value: what kind of part, how it is written after a path, and the part."""
    if isinstance(obj, dict):
        for key, value in list(obj.items()):
            yield "key", f"[{key!r:.40}]", key
            yield "item", f"[{key!r:.40}]", value
    elif isinstance(obj, list | tuple | set | frozenset):
        for index, value in enumerate(list(obj)):
            yield "item", f"[{index}]", value
    elif isinstance(obj, types.MethodType):
        yield "attribute", ".__self__", obj.__self__
        yield "attribute", ".__func__", obj.__func__
    elif isinstance(obj, types.FunctionType):
        yield from _captured(obj)
    elif isinstance(obj, functools.partial):
        yield "function", ".func", obj.func
        yield from (("argument", f".args[{index}]", value) for index, value in enumerate(obj.args))
        yield from (("argument", f".keywords[{name!r}]", value) for name, value in obj.keywords.items())
    elif isinstance(obj, type):
        yield from (("attribute", f".{name}", value) for name, value in vars(obj).items() if name not in _NO_STATE)
    elif isinstance(obj, staticmethod | classmethod):
        yield "function", "", obj.__func__
    elif isinstance(obj, property):
        yield from (("function", "", function) for function in (obj.fget, obj.fset, obj.fdel) if function is not None)
    elif not isinstance(obj, types.ModuleType):
        yield from _reduced(obj)


_NO_STATE = {"__dict__", "__weakref__"}
"""What a class makes anew for itself."""


def _reduced(obj: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield what an object says it consists of; nothing if it refuses to be pickled."""
    try:
        reduced: Any = obj.__reduce_ex__(PROTOCOL)
    except Exception:  # it is the culprit itself
        return
    if not isinstance(reduced, tuple):
        return
    parts: list[Any] = [*reduced, None, None, None, None]
    args, state, items, pairs = parts[1:5]
    for part in state if isinstance(state, tuple) else (state,):  # of an object with slots: a pair of dicts
        if isinstance(part, dict):
            yield from (("attribute", f".{name}", value) for name, value in part.items())
        elif part is not None:
            yield "state", ".__getstate__()", part
    yield from (("item", f"[{index}]", value) for index, value in enumerate(items or ()))
    yield from (("item", f"[{key!r:.40}]", value) for key, value in pairs or ())
    for index, value in enumerate(args or ()):
        if isinstance(value, type):
            yield "class", value.__qualname__, value
        else:
            yield "argument", f"({index})", value


def _captured(function: types.FunctionType) -> Iterator[tuple[str, str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield "captured variable", f"{name}", cell.cell_contents
        except ValueError:  # not bound yet
            continue
    names = global_names(function.__code__)
    yield from (("global", name, function.__globals__[name]) for name in names if name in function.__globals__)
    yield from (("default", f"[{i}]", value) for i, value in enumerate(function.__defaults__ or ()))
    yield from (("default", f"[{name!r}]", value) for name, value in (function.__kwdefaults__ or {}).items())


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that a function, or a function inside it, may look up in its globals."""
    names = dict.fromkeys(code.co_names)
    for const in code.co_consts:
        if isinstance(const, type(code)):
            names.update(dict.fromkeys(global_names(const)))
    return tuple(names)
