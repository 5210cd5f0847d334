"""Every error a user can meet. The class says whose fault it is, and so what to do about it.

```
EngineryError
├── RemoteError            your code raised on an engine (an instance of the original type too, where possible)
├── TaskAborted            it was cancelled or aborted (a concurrent.futures.CancelledError)
├── TaskLost               the task was not carried out, through no fault of its code
│   ├── EngineDied         its engine's process ended; carries a death certificate
│   └── ControllerLost     the controller is gone; nobody can say what becomes of the task
├── TaskTimeout            it was stopped at its time limit (a TimeoutError)
├── TaskRefused            it can never run as asked
│   └── NoSuchEngine       it names an engine that is not there (an IndexError)
├── UnmetDependency        it cannot run on this engine, which lacks something (raised there by user code, too)
│   └── ImpossibleDependency       it can run on no engine, or what it comes after ended otherwise
│       └── InvalidDependency      what it is to come after is not known
├── NoSuchTask             the cluster does not know a task of that id or label (a KeyError)
├── SerializationError     a value cannot travel (a TypeError)
├── NoEngines              there is no engine to do this (NoEnginesRegistered is its older name)
├── ClusterError           starting, finding or steering a cluster failed
│   ├── NoClusterError     there is no such cluster running
│   └── ClusterExists      there is one of that name already
└── CompositeError         several tasks failed (an ExceptionGroup)
```

Errors know nobody but the words for a death (`certificate`). They carry data, `str()` composes the sentence, and they
pickle.
"""

from __future__ import annotations

import re
import weakref
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NoReturn

from .certificate import in_words
from .ids import show_engines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self


class EngineryError(Exception):
    """Base of all errors of this package."""


class _Detail:
    """An attribute of `RemoteError` that gives way to one of the same name in the user's own exception.

    Having no `__set__`, it is found after the instance's own dictionary.
    """

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: RemoteError | None, owner: type | None = None) -> Any:
        return self if instance is None else instance.__dict__["_remote"][self._name]


class _Traceback(_Detail):
    """The text of the traceback, made when somebody looks."""

    def __get__(self, instance: RemoteError | None, owner: type | None = None) -> Any:
        return self if instance is None else "".join(RemoteError.render_traceback(instance))


class RemoteError(EngineryError):
    """An exception that user code raised on an engine.

    Where the original type can be rebuilt here, what you catch is an instance of that type too:

        try:
            client.submit(lambda: 1 / 0).result()
        except ZeroDivisionError as error:
            print(error.engine, error.traceback)

    Its text, notes and own attributes are those of the original; the exceptions that led to it are in its traceback.
    Where the type cannot be rebuilt (its module is not here, its instances cannot be pickled), it is a `RemoteError`
    that names it: `ename`, `evalue`.
    """

    ename = _Detail("Name of the exception's type.")
    evalue = _Detail("Its message.")
    frames = _Detail("The remote stack, outermost first: `(file, line number, function, source line)` each.")
    engine = _Detail("Id of the engine; None if unknown.")
    cause = _Detail("The tracebacks of the exceptions that led to it, as text.")
    traceback = _Traceback("The remote traceback, as text.")
    engine_info = _Detail("Where: a dict of `engine_id`, `engine_uuid`, `host`, `pid`, `msg_id`, as far as is known.")

    def __init__(
        self,
        ename: str,
        evalue: str = "",
        frames: Sequence[tuple[str, int, str, str]] = (),
        engine: int | None = None,
        cause: str = "",
        *,
        engine_info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(ename, evalue)
        self._set_remote(ename, evalue, frames, engine, cause, engine_info=engine_info)

    def _set_remote(
        self,
        ename: str,
        evalue: str,
        frames: Sequence[tuple[str, int, str, str]],
        engine: int | None,
        cause: str,
        *,
        engine_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Set the details, for an exception that is made without its constructor."""
        self.__dict__["_remote"] = {
            "ename": ename,
            "evalue": evalue,
            "frames": [tuple(frame) for frame in frames],
            "engine": engine,
            "cause": cause,
            "engine_info": {"engine_id": engine, **(engine_info or {})},
        }

    def render_traceback(self) -> list[str]:
        """Return the remote traceback as lines, each with its newline, like `traceback.format_exception`."""
        import linecache  # noqa: PLC0415 - only when somebody looks

        remote = self.__dict__["_remote"]
        lines = [remote["cause"]] if remote["cause"] else []
        if remote["frames"]:
            lines.append("Traceback (most recent call last):\n")
        for file, number, function, source in remote["frames"]:
            if not number:
                lines.append(f"  [{function}]\n")
                continue
            lines.append(f'  File "{file}", line {number}, in {function}\n')
            text = (source or linecache.getline(str(file), int(number))).strip()
            if text:
                lines.append(f"    {text}\n")
        lines.append(self._last_line() + "\n")
        lines.extend(f"{note}\n" for note in getattr(self, "__notes__", ()))
        return lines

    def print_traceback(self) -> None:
        """Print the remote traceback to stderr."""
        import sys  # noqa: PLC0415 - only when somebody looks

        sys.stderr.write("".join(RemoteError.render_traceback(self)))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows for this exception: the remote frames, not those of the wait."""
        engine = self.__dict__["_remote"]["engine"]
        where = "" if engine is None else f"[engine {engine}] "
        return [f"{where}{_first_line(self)}\n{_rendered(self)}"]

    def _last_line(self) -> str:
        remote = self.__dict__["_remote"]
        return f"{remote['ename']}: {remote['evalue']}" if remote["evalue"] else str(remote["ename"])

    def __str__(self) -> str:
        return RemoteError._last_line(self)

    def __reduce__(self) -> tuple[Any, ...]:
        remote = self.__dict__["_remote"]
        return _remote_error, (dict(remote), list(getattr(self, "__notes__", ())))


def _remote_error(remote: dict[str, Any], notes: list[str]) -> RemoteError:
    error = RemoteError(**remote)
    for note in notes:
        error.add_note(note)
    error.__cause__ = RemoteTraceback(error)
    return error


def _rendered(error: Exception) -> str:
    """Return the traceback of an error as IPython showed it on its engine, else as Python would."""
    if not isinstance(error, RemoteError):
        return f"{type(error).__name__}: {error}"
    shown = error.__dict__.get("_shown")
    return ("\n".join(shown) if shown else "".join(RemoteError.render_traceback(error))).rstrip("\n")


def _first_line(error: Exception) -> str:
    text = RemoteError._last_line(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]


def _engine_of(error: Exception) -> int | None:
    if isinstance(error, RemoteError):
        engine: int | None = error.__dict__["_remote"]["engine"]
        return engine
    return error.engine if isinstance(error, EngineDied) else None


class RemoteTraceback(Exception):
    """The `__cause__` of a remote exception: its text, the remote traceback, is made when somebody prints it."""

    def __init__(self, of: RemoteError | str) -> None:
        """Be the cause of an error; as a text, of one whose pickle brought its cause along (tblib's do, with dask)."""
        super().__init__()
        self._of = of if isinstance(of, str) else weakref.ref(of)

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (str(self),)

    def __str__(self) -> str:
        if isinstance(self._of, str):
            return self._of
        error = self._of()
        if error is None:
            return "(the exception is gone)"
        engine = error.__dict__["_remote"]["engine"]
        where = "" if engine is None else f"on engine {engine}:"
        return f"{where}\n" + "".join(RemoteError.render_traceback(error)).rstrip("\n")


class TaskAborted(EngineryError, CancelledError):
    """The task was cancelled or aborted: withdrawn before it started, or stopped while it ran; the text says which."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the sentence; the frames of the wait say nothing of it."""
        return [f"{type(self).__name__}: {self}"]


class TaskLost(EngineryError):
    """The task was not carried out, or nobody knows whether it was, through no fault of its code."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: what happened; the frames of the wait say nothing of it."""
        return [f"{type(self).__name__}: {self}"]


class EngineDied(TaskLost):
    """The engine that ran the task ended. `item` is the index of the lost item where a map was running.

    All that is known is here: `exit_code` (negative for a signal); `since` when the task had been running and when the
    engine `ended`, in seconds of the epoch (0: unknown); `memory_bytes` when last measured, `peak_bytes` at most, and
    the `memory_curve` before the end, as (seconds before it, bytes), oldest first; the `last_output`, with the stack of
    a crash; and in `history` the engines that the task had killed before. `str()` tells it: one line, then details.
    """

    def __init__(
        self,
        engine: int,
        reason: str = "",
        *,
        task: str = "",
        item: int | None = None,
        running: bool = True,
        pid: int = 0,
        exit_code: int | None = None,
        memory_bytes: int = 0,
        last_output: str = "",
        since: float = 0.0,
        ended: float = 0.0,
        peak_bytes: int = 0,
        memory_curve: Sequence[tuple[float, int]] = (),
        history: Sequence[str] = (),
    ) -> None:
        super().__init__(engine, reason)
        self.engine = engine
        self.reason = reason
        self.task = task
        self.item = item
        self.running = running
        self.pid = pid
        self.exit_code = exit_code
        self.memory_bytes = memory_bytes
        self.last_output = last_output
        self.since = since
        self.ended = ended
        self.peak_bytes = peak_bytes
        self.memory_curve = list(memory_curve)
        self.history = list(history)

    def __str__(self) -> str:
        what = f"item {self.item}" if self.item is not None else "the task"
        lost = f"while it ran {what}" if self.running else f"after it had run {what}, before the result had left it"
        return in_words(self, lost)

    def __reduce__(self) -> tuple[Any, ...]:
        return _engine_died, (self.engine, self.reason, dict(self.__dict__))


def _engine_died(engine: int, reason: str, state: dict[str, Any]) -> EngineDied:
    error = EngineDied(engine, reason)
    error.__dict__.update(state)
    return error


class ControllerLost(TaskLost):
    """The controller is gone, so what becomes of the task can no longer be known here."""


class TaskTimeout(EngineryError, TimeoutError):
    """The task was stopped because its run time reached its limit."""


class TaskRefused(EngineryError):
    """The task can never run as it was asked for; the text says why."""


class NoSuchEngine(TaskRefused, IndexError):
    """An engine that is named does not exist (any more)."""


class UnmetDependency(EngineryError):
    """What a task needs is not there on an engine: raised by a function of the user's, it sends the task to another."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the sentence; the frames of the wait say nothing of it."""
        return [f"{type(self).__name__}: {self}"]


class ImpossibleDependency(UnmetDependency):
    """What a task needs can never be there: no engine has it, or what it was to come after has ended otherwise."""


class InvalidDependency(ImpossibleDependency):
    """What a task is to come after is no task that the cluster knows."""


class ObjectLost(EngineryError):
    """A value that was kept in shared memory is there no more; the text says which, and what became of it."""


class ObjectStoreFull(EngineryError, MemoryError):
    """There is no room for a large value on its host, in memory or on disk; the text says how much there is."""

    def __new__(cls, *args: Any) -> Self:  # noqa: D102 - nothing is new about it
        return Exception.__new__(cls, *args)  # MemoryError has one of its own, which refuses to make others (for tblib)


class NoSuchTask(EngineryError, KeyError):
    """The cluster does not know a task of that id or label, or does not keep its results any more."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # a KeyError would show the sentence as a literal


class SerializationError(EngineryError, TypeError):
    """A value cannot travel between processes; the text names the culprit inside it."""


class NoEngines(EngineryError):
    """There is no engine that could do this."""


NoEnginesRegistered = NoEngines
"""The older name of `NoEngines`."""


class ClusterError(EngineryError):
    """Starting, finding or steering a cluster failed; the text says why and what to do."""


class NoClusterError(ClusterError):
    """There is no such cluster running."""


class ClusterExists(ClusterError):
    """A cluster of that name is running already."""


_CELL = re.compile(r"<ipython-input-[^>]*>")
"""The name of a cell, which has the engine's own number in it."""


class CompositeError(EngineryError, ExceptionGroup[Exception]):
    """Several tasks failed. `exceptions` are their errors, in the order of the tasks (`elist` is the older name).

        try:
            client[:].apply_sync(f)
        except* ZeroDivisionError as group: ...      # those of that type; the others go on

    `tb_limit` is how many tracebacks are shown at most.
    """

    tb_limit = 10

    def derive(self, excs: Sequence[Exception], /) -> CompositeError:  # type: ignore[override] # narrower on purpose
        """Return a group of the same kind with other members, `excs`, as `split` and `subgroup` want it."""
        return CompositeError(self.message, excs)

    @property
    def elist(self) -> tuple[Exception, ...]:
        """The errors, under their older name."""
        return self.exceptions

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: one traceback for all errors of a type and message, with their engines."""
        alike: dict[tuple[type, str], list[Exception]] = {}
        for error in self.exceptions:
            line = _CELL.sub("<cell>", _first_line(error))
            alike.setdefault((type(error), line), []).append(error)
        blocks = []
        for (_, line), errors in list(alike.items())[: self.tb_limit]:
            engines = sorted({engine for error in errors if (engine := _engine_of(error)) is not None})
            where = f"[{'engine' if len(engines) == 1 else 'engines'} {show_engines(engines)}] " if engines else ""
            rest = f"{line}\n{_rendered(errors[0])}" if isinstance(errors[0], RemoteError) else _rendered(errors[0])
            blocks.append(where + rest)
        if len(alike) > self.tb_limit:
            blocks.append(f"... and {len(alike) - self.tb_limit} other errors; see .exceptions of the CompositeError")
        return ["\n\n".join([*blocks, f"CompositeError: {self.message.partition(';')[0]}"])]

    def raise_exception(self, index: int = 0) -> NoReturn:
        """Raise one of the errors, by its `index` in `exceptions`; IndexError if there is none."""
        raise self._get(index)

    def print_traceback(self, index: int | None = None) -> None:
        """Print the traceback of an error, by its `index`, to stderr, or (None) those of the first `tb_limit`."""
        import sys  # noqa: PLC0415 - only when somebody looks
        import traceback  # noqa: PLC0415

        for error in self.exceptions[: self.tb_limit] if index is None else (self._get(index),):
            if isinstance(error, RemoteError):
                RemoteError.print_traceback(error)
            else:
                sys.stderr.write("".join(traceback.format_exception(error)))
        if index is None and len(self.exceptions) > self.tb_limit:
            sys.stderr.write(f"... and {len(self.exceptions) - self.tb_limit} more\n")

    def _get(self, index: int) -> Exception:
        count = len(self.exceptions)
        if not -count <= index < count:
            raise IndexError(f"there is no error {index}: the CompositeError has {count}")
        return self.exceptions[index]
