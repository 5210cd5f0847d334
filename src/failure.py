"""Exceptions of user code, from the engine where they were raised to the client where they are raised again."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import msgspec

from .culprit import is_picklable
from .errors import RemoteError, RemoteTraceback, SerializationError
from .pickles import PROTOCOL, declare_plain, dumps, is_plain, loads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

Frame = tuple[str, int, str, str]

_FIRST_FRAMES, _LAST_FRAMES = 30, 70
_EVALUE_MAX = 1 << 16


class Failure(msgspec.Struct):
    """An exception of user code, as it travels from its engine to its client."""

    ename: str
    evalue: str
    frames: list[Frame] = msgspec.field(default_factory=list)
    """`(file, line number, function, source line)`, outermost first; the source line may be empty."""
    exception: bytes | None = None
    """The pickled exception; None if it cannot be pickled."""
    buffers: list[bytes] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    cause: str = ""
    """The tracebacks of what caused it, rendered, with the sentence that joins them."""
    place: dict[str, Any] = msgspec.field(default_factory=dict)
    """Where it happened: `engine_uuid`, `host`, `pid`."""


declare_plain(Failure)


_place: dict[str, Any] = {}


def set_place(**place: Any) -> None:
    """Say where this process is, for all failures that happen in it."""
    _place.clear()
    _place.update(place)


def failure_from(exc: BaseException, skip: tuple[str, ...] = ()) -> Failure:
    """Return what is to be told about an exception, cheaply: nothing is formatted but the chain of its causes.

    Frames of files of this package are left out, and of those whose path starts with one of `skip`.
    """
    relayed = exc.__dict__.get("_failure") if isinstance(exc, RemoteError) else None
    if isinstance(relayed, Failure):
        return msgspec.structs.replace(relayed, place=_place)  # the task was a client, and passes on what befell it
    skip = (_OWN_FILES, *skip)
    pickled, buffers = _pickle_exception(exc)
    return Failure(
        type(exc).__name__,
        _message(exc),
        _frames(exc.__traceback__, skip),
        pickled,
        buffers,
        [str(note) for note in getattr(exc, "__notes__", ())],
        _render_cause(exc, skip, {id(exc)}),
        _place,
    )


_OWN_FILES = __file__.rpartition("failure.py")[0]


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as error:
        return f"<its message cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _EVALUE_MAX else f"{text[:_EVALUE_MAX]}... ({len(text)} characters)"


def _frames(tb: TracebackType | None, skip: tuple[str, ...]) -> list[Frame]:
    import linecache  # noqa: PLC0415 - only where something failed

    found = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if not code.co_filename.startswith(skip):
            found.append((code, tb.tb_lineno, tb.tb_frame.f_globals))
        tb = tb.tb_next
    left_out = len(found) - _FIRST_FRAMES - _LAST_FRAMES
    if left_out > 0:
        del found[_FIRST_FRAMES:-_LAST_FRAMES]
    frames = [
        (code.co_filename, line, code.co_name, linecache.getline(code.co_filename, line, scope).strip())
        for code, line, scope in found
    ]
    if left_out > 0:
        frames.insert(_FIRST_FRAMES, ("...", 0, f"{left_out} more calls, left out here", ""))
    return frames


def _pickle_exception(exc: BaseException) -> tuple[bytes | None, list[bytes]]:
    """Pickle the type, arguments and state, not the exception.

    Unpickling an exception calls its type with `args`, which fails for every constructor that does not pass all its
    parameters on; `_rebuild` runs no constructor of the user's.
    """
    kind = type(exc)
    builtin = _builtin_base(kind)
    try:
        _, args, state = (*builtin.__reduce__(exc), None)[:3]
        if besides := _besides(exc):
            state = {**(state or {}), **besides}
        if kind is builtin and not state and is_plain(args):
            return pickle.dumps((kind, args, state), PROTOCOL), []
        try:
            payload, buffers = dumps((kind, args, state))
        except SerializationError:
            if not state:
                raise
            state = {name: value for name, value in state.items() if is_picklable(value)}
            payload, buffers = dumps((kind, args, state))
        return payload, [bytes(buffer) for buffer in buffers]
    except Exception:  # it travels as text then
        return None, []


def _builtin_base(kind: type[BaseException]) -> Any:
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def _besides(exc: BaseException) -> dict[str, Any]:
    """Return what an exception has that its built-in base does not tell: what it keeps in slots, and which name."""
    found = {}
    for kind in type(exc).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(exc, name) and not name.startswith("__"):
                found[name] = getattr(exc, name)
    if isinstance(exc, NameError | AttributeError) and exc.name is not None:
        found["name"] = exc.name
    return found


def _render_cause(exc: BaseException, skip: tuple[str, ...], seen: set[int]) -> str:
    if exc.__cause__ is not None:
        cause, joint = exc.__cause__, "The above exception was the direct cause of the following exception"
    elif exc.__context__ is not None and not exc.__suppress_context__:
        cause, joint = exc.__context__, "During handling of the above exception, another exception occurred"
    else:
        return ""
    if id(cause) in seen:
        return ""
    seen.add(id(cause))
    earlier = _render_cause(cause, skip, seen)
    remote = RemoteError(type(cause).__name__, _message(cause), _frames(cause.__traceback__, skip), None, earlier)
    return f"{remote.traceback}\n{joint}:\n\n"


# ------------------------------------------------------------------------------------------ failure back to exception


def to_exception(
    failure: Failure, engine: int | None = None, engine_info: Mapping[str, Any] | None = None
) -> RemoteError:
    """Return the exception to raise here: of the original type where that can be rebuilt, and always a `RemoteError`.

    `engine_info` is what is known here of where it happened, besides what the failure says.

    Exceptions that steer an interpreter rather than report (`SystemExit`, `KeyboardInterrupt`, `StopIteration`) come as
    plain `RemoteError`: raised here they would end the wrong program, or the wrong loop.
    """
    error = None
    if failure.exception is not None:
        try:
            kind, args, state = loads(failure.exception, failure.buffers, keep_classes=True)
            if issubclass(kind, Exception) and not issubclass(kind, StopIteration | StopAsyncIteration):
                error = _rebuild(kind, args, state)
        except Exception:  # whatever a foreign type does when it is made without its blessing
            error = None
    if error is None:
        error = RemoteError.__new__(RemoteError)
        error.args = (failure.ename, failure.evalue)
        for note in failure.notes:
            error.add_note(note)
    if "_remote" not in error.__dict__:  # else the task raised a RemoteError of its own, which says more
        info = {**failure.place, **(engine_info or {})}
        error._set_remote(failure.ename, failure.evalue, failure.frames, engine, failure.cause, engine_info=info)
    error.__dict__["_failure"] = failure
    error.__cause__ = RemoteTraceback(error)
    return error


_duals: dict[type, type[RemoteError]] = {}
_DUALS_MAX = 1000


def _dual(kind: type[Exception]) -> type[RemoteError]:
    """Return the class that is both `kind` and `RemoteError`; its own attributes win over those of `RemoteError`."""
    dual = _duals.get(kind)
    if dual is None:
        if issubclass(kind, RemoteError):
            dual = kind
        else:
            body = {
                "__module__": kind.__module__,
                "__qualname__": kind.__qualname__,
                "__doc__": kind.__doc__,
                "__str__": kind.__str__,
                "__repr__": kind.__repr__,
                "__reduce_ex__": _reduce_dual,
            }
            dual = type(kind.__name__, (kind, RemoteError), body)
        if len(_duals) >= _DUALS_MAX:  # a program that makes classes without end
            _duals.clear()
        _duals[kind] = dual
    return dual


def _reduce_dual(self: RemoteError, _protocol: Any) -> tuple[Any, ...]:
    remote = self.__dict__["_remote"]
    return to_exception, (self.__dict__["_failure"], remote["engine"], remote["engine_info"])


def _rebuild(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any] | None) -> RemoteError:
    """Return an instance of the dual class, without running constructors of the user."""
    dual, builtin = _dual(kind), _builtin_base(kind)
    made_by: Any = dual
    while made_by.__module__ != "builtins":  # where it has several built-in bases, Python insists on this one
        made_by = made_by.__base__
    error: RemoteError = made_by.__new__(dual, *args)
    builtin.__init__(error, *args)
    if state:
        builtin.__setstate__(error, state)
    return error
