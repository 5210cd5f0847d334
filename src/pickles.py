"""Values to bytes and back: the picklers behind `serialize`.

`dumps` returns a payload and out-of-band buffers (pickle protocol 5). Three ways, cheapest first:

1. Plain values (atoms, small containers of them, arrays of numbers) go through the C pickler.
2. Everything else goes through cloudpickle, with functions and classes *of the user's own modules* by value: an engine
   need not be able to import them, and sees them as they are now. Installed modules travel by reference.
3. When that fails (a module holds something that cannot travel), the user's modules go by reference too.

A payload of 64 KB or more becomes the first buffer and leaves `b""` in its place, so that headers stay small whatever a
value weighs. cloudpickle and numpy are never imported before they are needed.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections import ChainMap
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import SerializationError
from .placeholders import collecting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    Wrap = Callable[[list[memoryview], list[Any]], list[memoryview]]

Buffer = memoryview

OUT_OF_BAND_MIN = 4096
"""Smaller buffers ride inside the pickle: a frame costs more than the copy."""

PAYLOAD_MAX = 1 << 16
"""A longer pickle travels as a frame."""

COPY_BELOW = 1 << 16
"""Shorter writable frames are copied too: they are slices of a receive buffer, which they would keep alive."""

PROTOCOL = 5

# ------------------------------------------------------------------------------------------------------ plain values

_ATOMS: set[type] = {int, float, complex, str, bytes, bool, type(None), range, type(...)}
"""Exact types that the C pickler handles without seeing any user code. numpy's scalars are added when first met."""

_are_atoms = _ATOMS.issuperset
_CONTAINERS = {list, tuple, set, frozenset}
_DEPTH = 4
_MANY = 256
"""Containers nested in a container are looked at one by one up to this many; beyond, cloudpickle is as fast."""


def declare_plain(kind: type) -> None:
    """Let the C pickler alone carry this type, which must hold nothing else than plain values."""
    _ATOMS.add(kind)


def is_plain(value: Any, depth: int = _DEPTH) -> bool:
    """Say whether the C pickler alone carries the value faithfully. No means "not sure"."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind in _CONTAINERS:
        if _are_atoms(map(type, value)):
            return True
        if depth and len(value) <= _MANY:
            return all(is_plain(item, depth - 1) for item in value)
        return False
    if kind is dict:
        if _are_atoms(map(type, value)):
            if _are_atoms(map(type, value.values())):
                return True
            if depth and len(value) <= _MANY:
                return all(is_plain(item, depth - 1) for item in value.values())
        return False
    return _is_plain_array(value, kind)


def _is_plain_array(value: Any, kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is None or kind.__module__ != "numpy":
        return False
    if kind is numpy.ndarray:
        return not value.dtype.hasobject
    if issubclass(kind, numpy.generic) and kind is not numpy.void:
        _ATOMS.add(kind)
        return True
    return False


# ------------------------------------------------------------------------------------------------- the user's modules


class _UserModules:
    """Which loaded modules are the user's own, found again when modules were loaded since."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._count = 0
        self._lock = threading.Lock()
        self._own: set[str] = set()
        self._installed_below: tuple[str, ...] | None = None

    def refresh(self) -> None:
        """Have cloudpickle pickle the user's modules by value."""
        if len(sys.modules) == self._count:
            return
        import cloudpickle  # noqa: PLC0415 - only for values that need it

        with self._lock:
            count = len(sys.modules)
            for name in sys.modules.keys() - self._seen:
                self._seen.add(name)
                module = sys.modules.get(name)
                if module is not None and self._is_own(name, module):
                    self._own.add(name)
                    cloudpickle.register_pickle_by_value(module)
            self._count = count

    def __contains__(self, name: str) -> bool:
        if len(sys.modules) != self._count:
            self.refresh()
        return name in self._own

    def _is_own(self, name: str, module: ModuleType) -> bool:
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in {_PACKAGE, "__main__", "__mp_main__"}:
            return False
        if getattr(module, "__name__", None) != name:  # an alias; cloudpickle would look for the other name
            return False
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py"):
            return False
        if self._installed_below is None:
            self._installed_below = _installed_folders()
        parts = file.replace("\\", "/")
        if "/site-packages/" in parts or "/dist-packages/" in parts:
            return False
        return not file.startswith(self._installed_below)


def _installed_folders() -> tuple[str, ...]:
    """Return the folders below which everything is installed.

    `sys.prefix` itself is not one: it may be `/usr`, and a project may live in `/usr/src`.
    """
    import os  # noqa: PLC0415 - once
    import site  # noqa: PLC0415 - once
    import sysconfig  # noqa: PLC0415 - once

    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    if site.ENABLE_USER_SITE:
        paths.append(site.getusersitepackages())
    return tuple(path.rstrip(os.sep) + os.sep for path in paths if path)


_PACKAGE = __name__.partition(".")[0]
user_modules = _UserModules()
"""`name in user_modules`: functions and classes of that module travel by value."""


# ------------------------------------------------------------------------------------------------------------- dumps


def dumps(obj: Any, *, by_value: bool = True, wrap: Wrap | None = None) -> tuple[bytes, Sequence[Buffer]]:
    """Return the payload and the out-of-band buffers of a value; the buffers must not change until they are sent.

    With `by_value` False the user's modules travel by reference. With `wrap`, results of tasks inside the value go as
    placeholders, and the buffers are what `wrap` makes of them and those results. Raises `SerializationError` naming
    the culprit.

    >>> payload, buffers = dumps({"x": [1, 2]})
    >>> loads(payload, buffers)
    {'x': [1, 2]}
    """
    if type(obj) is tuple and len(obj) == 2 and type(obj[1]) is dict and type(obj[0]) is tuple:
        # The arguments of a call, by far the most frequent value: without the walk, if they are all atoms.
        args, kwargs = obj
        if _are_atoms(map(type, args)) and (not kwargs or _are_atoms(map(type, chain(kwargs, kwargs.values())))):
            payload = pickle.dumps(obj, PROTOCOL)
            return (payload, ()) if len(payload) < PAYLOAD_MAX else (b"", (memoryview(payload),))
    buffers: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_MIN:
            return True
        buffers.append(raw)
        return False

    if is_plain(obj):
        try:
            payload = pickle.dumps(obj, PROTOCOL, buffer_callback=keep)
        except (ValueError, MemoryError, RuntimeError) as error:  # changed by another thread meanwhile, too large
            raise SerializationError(f"the value cannot be pickled: {error}") from error
    elif wrap is None:
        payload = _dumps_any(obj, keep, buffers, by_value=by_value)
    else:
        found: list[Any] = []
        with collecting(found):
            payload = _dumps_any(obj, keep, buffers, by_value=by_value)
        buffers = wrap(buffers, found) if found else buffers
    if len(payload) >= PAYLOAD_MAX:
        buffers.insert(0, memoryview(payload))
        return b"", buffers
    return payload, buffers


def dumps_whole(obj: Any) -> bytes:
    """Return the payload of a value that has no out-of-band buffers.

    >>> loads(dumps_whole({"x": b"large" * 10000})) == {"x": b"large" * 10000}
    True
    """
    if is_plain(obj):
        try:
            return pickle.dumps(obj, PROTOCOL)
        except (ValueError, MemoryError, RuntimeError) as error:  # as above
            raise SerializationError(f"the value cannot be pickled: {error}") from error
    return _dumps_any(obj, lambda _buffer: True, [], by_value=True)


def dumps_function(function: Callable[..., Any]) -> bytes:
    """Return the pickle of a function, in one piece; SerializationError naming what it captures that cannot travel."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if name == "partial":
        name = f"partial({getattr(getattr(function, 'func', None), '__qualname__', '...')}, ...)"
    return _dumps_any(function, lambda _buffer: True, [], by_value=True, what=f"function {name}")


_chosen: ContextVar[tuple[str, Callable[..., Any]] | None] = ContextVar("enginery_pickler", default=None)


@contextmanager
def pickling_with(name: str, pickler: Callable[..., Any]) -> Iterator[None]:
    """Pickle what is not plain with another pickler, of that name, in this thread within a `with` block.

    It is made as `pickle.Pickler` is, and what it makes must be readable by `pickle`.
    """
    token = _chosen.set((name, pickler))
    try:
        yield
    finally:
        _chosen.reset(token)


def _dumps_any(
    obj: Any, keep: Callable[[Any], bool], buffers: list[Buffer], *, by_value: bool, what: str = "the value"
) -> bytes:
    chosen = _chosen.get()
    if chosen is not None:
        name, pickler = chosen
        try:
            file = io.BytesIO()
            pickler(file, PROTOCOL, buffer_callback=keep).dump(obj)
            return file.getvalue()
        except Exception as error:
            raise SerializationError(f"{what} cannot be pickled with {name}: {error}") from error
    if by_value:
        user_modules.refresh()
        try:
            file = io.BytesIO()
            _picklers()[0](file, PROTOCOL, buffer_callback=keep).dump(obj)
            return file.getvalue()
        except Exception as error:
            first = error
    else:
        first = None
    buffers.clear()
    try:
        file = io.BytesIO()
        by_reference_pickler()(file, PROTOCOL, buffer_callback=keep).dump(obj)
        return file.getvalue()
    except Exception as error:
        from .culprit import find_culprit  # noqa: PLC0415 - it looks with our picklers, and only after a failure

        # The culprit is looked for with user modules by reference: by value, the whole of a module would be searched.
        raise SerializationError(find_culprit(obj, what)) from (first or error)


_made: tuple[type[pickle.Pickler], type[pickle.Pickler]] | None = None

REDUCER = "__enginery_reduce__"
"""A function that has an attribute of this name is pickled by calling that with it, as `__reduce__` is of objects.
NotImplemented: as any other function. Decorators copy attributes (`functools.wraps`), so it may not be meant."""

_NO_FILE = "<dynamic-code>"
"""What cloudpickle puts in the place of a file's name."""


def by_reference_pickler() -> type[pickle.Pickler]:
    """Return cloudpickle's pickler with everything that can be imported by name going by name."""
    return _picklers()[1]


def _picklers() -> tuple[type[pickle.Pickler], type[pickle.Pickler]]:
    """Return two picklers: the user's modules by value, and by reference. Made late, as they need cloudpickle."""
    global _made
    if _made is not None:
        return _made
    import functools  # noqa: PLC0415 - once
    import importlib  # noqa: PLC0415 - once
    import types  # noqa: PLC0415 - once

    import cloudpickle  # noqa: PLC0415 - only for values that need it

    cached_function = type(functools.cache(len))
    tables = cloudpickle.Pickler.dispatch_table
    reduce_code = tables[types.CodeType]

    def reduce_code_with_file(code: types.CodeType) -> Any:
        """Keep the name of the file, which cloudpickle (from 3.1.3) leaves out: tracebacks quote its lines."""
        kind, args = reduce_code(code)[:2]
        return kind, tuple("".join(code.co_filename) if arg == _NO_FILE else arg for arg in args)

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle is untyped
        dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: reduce_code_with_file}, tables)

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is types.FunctionType and REDUCER in obj.__dict__:
                reduced = obj.__dict__[REDUCER](obj)
                if reduced is not NotImplemented:
                    return reduced
            if type(obj) is cached_function and (obj.__module__ == "__main__" or obj.__module__ in user_modules):
                # Left alone, it would go by a name that an engine cannot look up. Its cache stays at home.
                parameters = obj.cache_parameters()
                return _cached, (parameters["maxsize"], parameters["typed"], obj.__wrapped__)
            return super().reducer_override(obj)

    class ByReference(ByValue):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, types.ModuleType) and obj.__name__ in user_modules:
                return importlib.import_module, (obj.__name__,)
            if isinstance(obj, types.FunctionType | type | cached_function) and _is_importable(obj):
                return NotImplemented
            return super().reducer_override(obj)

    _made = ByValue, ByReference
    return _made


def _cached(maxsize: int | None, typed: bool, function: Any) -> Any:
    from functools import lru_cache  # noqa: PLC0415 - rarely needed

    return lru_cache(maxsize, typed)(function)


def _is_importable(obj: Any) -> bool:
    name = getattr(obj, "__module__", None)
    if not isinstance(name, str) or name not in user_modules:
        return False
    found: Any = sys.modules.get(name)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


# ------------------------------------------------------------------------------------------------------------- loads


def loads(payload: Any, frames: Sequence[Any] = (), *, keep_classes: bool = False) -> Any:
    """Return the value of a payload and its frames; anything that unpickling raises comes out as it is.

    Arrays are writable: a read-only frame is copied, a writable one is used as it is. With `keep_classes`, a class
    that this process has already is left alone when its pickle comes back (a client keeps its own methods); without,
    it takes the state it was sent with (an engine follows the client).
    """
    if not frames:
        if len(payload) < _SHORTEST_CLASS:
            return pickle.loads(payload)
        if keep_classes and b"cloudpickle" in payload:
            return _KeepClasses(io.BytesIO(payload)).load()
        return pickle.loads(payload)
    rest = iter(frames)
    if not len(payload):
        payload = memoryview(next(rest))
    buffers = [_writable(frame) for frame in rest]
    if keep_classes and b"cloudpickle" in (head := bytes(payload)):
        return _KeepClasses(io.BytesIO(head), buffers=buffers).load()
    return pickle.loads(payload, buffers=buffers)


_SHORTEST_CLASS = len("cloudpickle.cloudpickle._class_setstate")
"""A shorter pickle has no class in it."""


def _writable(frame: Any) -> Any:
    view = memoryview(frame)
    return bytearray(view) if view.readonly or view.nbytes < COPY_BELOW else view


class _KeepClasses(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name == "_class_setstate" and module.startswith("cloudpickle"):
            return lambda cls, state: cls if _is_complete(cls, state) else found(cls, state)
        return found


def _is_complete(cls: type, state: tuple[Mapping[str, Any], Any]) -> bool:
    return all(name in cls.__dict__ for name in state[0])
