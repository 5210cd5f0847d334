"""Values to bytes and back: the picklers behind `serialize`.

`dumps` returns a payload and out-of-band buffers (pickle protocol 5). Three ways, cheapest first:

1. Plain values (atoms, small containers of them, arrays of numbers) go through the C pickler.
2. Everything else goes through cloudpickle, with functions and classes *of the user's own modules* by value: an engine
   need not be able to import them, and sees them as they are now. Installed modules travel by reference.
3. When that fails (a module holds something that cannot travel), the user's modules go by reference too.

A payload of 64 KB or more becomes the first buffer and leaves `b""` in its place, so that headers stay small whatever a
value weighs. It may stay in pieces, so that large `bytes` are not copied before they are written. cloudpickle and numpy
are never imported before they are needed.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import SerializationError
from .pieces import Pieces
from .placeholders import collecting
from .tensors import reducers
from .usermodules import user_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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

_ATOMS: set[type] = {int, float, complex, str, bool, type(None), range, type(...)}
"""Exact types that the C pickler handles without seeing any user code. numpy's scalars are added when first met."""

_BYTES = {bytes, bytearray}
"""As these, but they may be large, and then are better not copied."""

_SIMPLE: set[type] = _ATOMS | _BYTES

_are_atoms = _ATOMS.issuperset
_are_simple = _SIMPLE.issuperset
_CONTAINERS = {list, tuple, set, frozenset}
_DEPTH = 4
_MANY = 256
"""Containers nested in a container are looked at one by one up to this many; beyond, cloudpickle is as fast."""

_FIRST = 16

_PLAIN = 1
_WEIGHTY = 2
"""Plain, and has large bytes in it."""


def declare_plain(kind: type) -> None:
    """Let the C pickler alone carry this type, which must hold nothing else than plain values."""
    _ATOMS.add(kind)
    _SIMPLE.add(kind)


def is_plain(value: Any) -> bool:
    """Say whether the C pickler alone carries the value faithfully. No means "not sure"."""
    return _look_at(value, _DEPTH) != 0


def _look_at(value: Any, depth: int) -> int:
    """Return `_PLAIN` or `_WEIGHTY`; 0 for what is not plain."""
    kind = type(value)
    if kind in _ATOMS:
        return _PLAIN
    if kind in _CONTAINERS:
        return _PLAIN if _are_atoms(map(type, value)) else _look_into(value, len(value), depth)
    if kind is dict:
        if not _are_simple(map(type, value)):
            return 0
        values = value.values()
        return _PLAIN if _are_atoms(map(type, values)) else _look_into(values, len(value), depth)
    if kind in _BYTES:
        return _WEIGHTY if len(value) >= PAYLOAD_MAX else _PLAIN
    return _PLAIN if _is_plain_array(value, kind) else 0


def _look_into(items: Iterable[Any], count: int, depth: int) -> int:
    if _are_simple(map(type, items)):
        return _WEIGHTY if _are_large(items) else _PLAIN
    if not depth or count > _MANY:
        return 0
    found = _PLAIN
    for item in items:
        plain = _look_at(item, depth - 1)
        if not plain:
            return 0
        if plain == _WEIGHTY:
            found = _WEIGHTY
    return found


def _are_large(atoms: Iterable[Any]) -> bool:
    """Return whether there are large bytes among the first: not to see others costs a copy of them, no more."""
    return any([len(atom) >= PAYLOAD_MAX for atom in islice(atoms, _FIRST) if type(atom) in _BYTES])  # noqa: C419 - faster


def _is_plain_array(value: Any, kind: type) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is None or kind.__module__ != "numpy":
        return False
    if kind is numpy.ndarray:
        return not value.dtype.hasobject
    if issubclass(kind, numpy.generic) and kind is not numpy.void:
        declare_plain(kind)
        return True
    return False


# ------------------------------------------------------------------------------------------------------------- dumps


def dumps(
    obj: Any, *, by_value: bool = True, wrap: Wrap | None = None, pieces: bool = False
) -> tuple[bytes, Sequence[Buffer]]:
    """Return the payload and the out-of-band buffers of a value; the buffers must not change until they are sent.

    With `by_value` False the user's modules travel by reference. With `wrap`, results of tasks inside the value go as
    placeholders, and the buffers are what `wrap` makes of them and those results. With `pieces`, the first buffer may
    be `Pieces`. Raises `SerializationError` naming the culprit.

    >>> payload, buffers = dumps({"x": [1, 2]})
    >>> loads(payload, buffers)
    {'x': [1, 2]}
    """
    if type(obj) is tuple and len(obj) == 2 and type(obj[1]) is dict and type(obj[0]) is tuple:
        # The arguments of a call, by far the most frequent value: without the walk, if they are all atoms.
        args, kwargs = obj
        if (_are_atoms(map(type, args)) or (_are_simple(map(type, args)) and not _are_large(args))) and (
            not kwargs or _are_atoms(map(type, chain(kwargs, kwargs.values())))
        ):
            payload = pickle.dumps(obj, PROTOCOL)
            return (payload, ()) if len(payload) < PAYLOAD_MAX else (b"", (memoryview(payload),))
    buffers: list[Any] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_MIN:
            return True
        buffers.append(raw)
        return False

    found: list[Any] = []
    plain = _look_at(obj, _DEPTH)
    if plain:
        try:
            if plain == _PLAIN:
                payload = pickle.dumps(obj, PROTOCOL, buffer_callback=keep)
                if len(payload) < PAYLOAD_MAX:
                    return payload, buffers
                made = [payload]
            else:
                made = _dump(pickle.Pickler, obj, keep)
        except (ValueError, MemoryError, RuntimeError) as error:  # changed by another thread meanwhile, too large
            raise SerializationError(f"the value cannot be pickled: {error}") from error
    elif wrap is None:
        made = _dumps_any(obj, keep, buffers, by_value=by_value)
    else:
        with collecting(found):
            made = _dumps_any(obj, keep, buffers, by_value=by_value)
        buffers = wrap(buffers, found) if found else buffers
    if len(made) == 1:
        payload = made[0]
        if len(payload) < PAYLOAD_MAX:
            return payload, buffers
        buffers.insert(0, memoryview(payload))
    elif (whole := Pieces(made)).nbytes < PAYLOAD_MAX:
        return b"".join(made), buffers
    else:
        buffers.insert(0, whole if pieces else whole.join())
    return b"", buffers


class _File:
    """What a pickler writes to."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Any], object]) -> None:
        self.write = write


def _dump(kind: Any, obj: Any, keep: Callable[[Any], bool]) -> list[Any]:
    """Return a pickle in pieces: the C pickler hands on large bytes as they are."""
    made: list[Any] = []
    pickler = kind(_File(made.append), PROTOCOL, buffer_callback=keep)
    pickler.dump(obj)
    for i, piece in enumerate(made):
        if type(piece) is memoryview:  # of a string, which the pickler keeps alive, and nobody else might
            made[i] = bytes(piece)
    return made


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
    return b"".join(_dumps_any(obj, lambda _buffer: True, [], by_value=True))


def dumps_function(function: Callable[..., Any]) -> bytes:
    """Return the pickle of a function, in one piece; SerializationError naming what it captures that cannot travel."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if name == "partial":
        name = f"partial({getattr(getattr(function, 'func', None), '__qualname__', '...')}, ...)"
    return b"".join(_dumps_any(function, lambda _buffer: True, [], by_value=True, what=f"function {name}"))


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
) -> list[Any]:
    chosen = _chosen.get()
    if chosen is not None:
        name, pickler = chosen
        try:
            file = io.BytesIO()
            pickler(file, PROTOCOL, buffer_callback=keep).dump(obj)
            return [file.getvalue()]
        except Exception as error:
            raise SerializationError(f"{what} cannot be pickled with {name}: {error}") from error
    if by_value:
        user_modules.refresh()
        try:
            return _dump(_picklers()[0], obj, keep)
        except Exception as error:
            first = error
    else:
        first = None
    buffers.clear()
    try:
        return _dump(by_reference_pickler(), obj, keep)
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
    tensors = reducers()  # the same ever after, and empty until torch is loaded
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
        dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: reduce_code_with_file}, tensors, tables)

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


def loads_mapped(payload: memoryview, buffers: Sequence[memoryview], *, keep_classes: bool = False) -> Any:
    """Return the value of an object: as `loads` does, but its buffers are used as they are, whatever their size.

    >>> loads_mapped(memoryview(dumps_whole([1, 2])), [])
    [1, 2]
    """
    if keep_classes:
        return _KeepClasses(_Reader(payload), buffers=buffers).load()
    return pickle.loads(payload, buffers=buffers)


class _Reader:
    """Memory as a file, of which no more is copied than is asked for."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def read(self, size: int) -> bytes:
        found = self._view[self._at : self._at + size]
        self._at += found.nbytes
        return bytes(found)

    def readinto(self, buffer: Any) -> int:
        found = self._view[self._at : self._at + memoryview(buffer).nbytes]
        memoryview(buffer)[: found.nbytes] = found
        self._at += found.nbytes
        return found.nbytes

    def readline(self) -> bytes:
        """Return the rest of a line: only in pickles of old protocols."""
        made = bytearray()
        while (byte := self.read(1)) and byte != b"\n":
            made += byte
        return bytes(made + byte)


class _KeepClasses(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name == "_class_setstate" and module.startswith("cloudpickle"):
            return lambda cls, state: cls if _is_complete(cls, state) else found(cls, state)
        return found


def _is_complete(cls: type, state: tuple[Mapping[str, Any], Any]) -> bool:
    return all(name in cls.__dict__ for name in state[0])
