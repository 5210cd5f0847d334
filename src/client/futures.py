"""What submitting returns: `AsyncResult` for one task.

Results are unpickled when somebody asks for the value, in the thread that asks; the I/O thread only files them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..errors import CompositeError, RemoteError
from ..ids import TaskId, show_task
from ..placeholders import stand_in
from ..serialize import loads
from ..wire.messages import Status
from .lightfuture import CANCELLED, FINISHED, PENDING, LightFuture
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK, error_of, value_of
from .sending import Sending
from .waits import AsArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from ..wire.messages import Output, Result


class Canceller(Protocol):
    """What a result needs of the connection it came by."""

    def cancel(self, tasks: list[int], *, grace_s: float | None, interrupt: bool) -> LightFuture[Any]:
        """Ask the controller to stop tasks; the future's value is the list of those stopped."""

    def may_wait(self) -> bool:
        """Return False in the I/O thread and in a coroutine, where waiting would block what is waited for."""

    def check(self) -> None:
        """Raise if nothing will come any more."""


class Part(NamedTuple):
    """One task of a result, as far as it is known: the source of all metadata."""

    task: int
    reply: Result | None
    received: float
    outputs: Sequence[Output]
    data: bytes | None = None
    """What it published last, pickled."""


DATA = "data"
"""The kind of records of which the newest counts."""

GOES_ON = "What was waited for goes on. To stop it: cancel() on its result, or on the client for everything."


def _utc(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _stream(part: Part, kind: str) -> str:
    return "".join(str(record.data) for record in part.outputs if record.kind == kind)


def _status(part: Part) -> str:
    return "pending" if part.reply is None else Status(part.reply.status).name.lower()


class AsyncResult(Sending, AsArgument, LightFuture[Any]):
    """The result of a call that runs, or will run, on an engine: a `concurrent.futures.Future` that can be awaited.

        future = client.submit(pow, 2, 10)
        future.result()                       # 1024; raises what the call raised
        await future                          # the same in a coroutine

    Besides what every future has, it knows what became of its task: `engine_id`, `status`, `stdout`, `started`, ...
    (also as `future["engine_id"]`). For several tasks these are lists.
    """

    _reply: Result | None = None
    _frames: Sequence[Any] = ()
    _received = 0.0
    _records: list[Output] | None = None
    _data: bytes | None = None
    _handed_over = 0
    """How many records of the log have been handed to those who act on them."""
    _late: Callable[[Output], bool] | None = None
    """Takes what still comes when the output has been shown; returns whether it did."""
    _client: Any = None
    """The client, for what the output of a direct view may ask for."""
    _addressed: Sequence[int] | dict[int, int] = ()
    """The engines that a direct view has addressed its tasks to: in order of the tasks, or by task."""
    _convert: Callable[[Any, Part], Any] | None = None
    _lost: Exception | None = None
    _opened: tuple[Any, Exception | None] | None = None
    """The value or the error, once somebody has asked."""
    _scalar = True
    _is_map = False

    def __init__(self, link: Canceller, task: int, submitted: float, label: str | None = None) -> None:
        self._link = link
        self._task = task
        self._submitted = submitted
        self._label = label

    # ---------------------------------------------------------------- filed by the I/O thread

    def accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take a result; return whether it was the last under its task id."""
        self._frames = frames
        self._reply = reply  # after its frames: other threads look
        self._received = now
        if reply.status == OK:
            self._settle()
        else:
            self._settle(CANCELLED if reply.status == STATUS_CANCELLED else FINISHED, failed=True)
        return True

    def add_output(self, record: Output) -> None:
        """Take something that the task printed, displayed or published."""
        if record.kind == DATA:
            self._data = record.data
            return
        if self._late is not None and self._late(record):
            return
        if self._records is None:
            self._records = []
        self._records.append(record)

    def fail(self, error: Exception) -> None:
        """Nothing will come any more, for this reason."""
        if self._state == PENDING:
            self._lost = error
            self._settle(failed=True)

    # ---------------------------------------------------------------- the outcome

    def _open(self) -> tuple[Any, Exception | None]:
        """Return the value, or None and the error."""
        opened = self._opened
        if opened is None:
            opened = self._opened = self._read()
            if not self._needed:
                self._frames = ()
                if self._reply is not None and opened[1] is None:
                    self._reply.payload = b""  # unpickled: no need to keep both
        return opened

    def _read(self) -> tuple[Any, Exception | None]:
        if self._lost is not None:
            return None, self._lost
        frames, reply = self._frames, self._reply
        assert reply is not None, "a finished task has a result"
        return unpack(reply, frames, self._label, self._convert, self._parts)

    def _outcome(self) -> Any:
        value, error = self._open()
        if error is not None:
            raise error
        return value

    def __reduce_ex__(self, protocol: Any) -> Any:
        return stand_in(self) or super().__reduce_ex__(protocol)

    def _check_wait(self) -> None:
        self._link.check()

    def _interrupted(self, error: KeyboardInterrupt) -> None:
        if GOES_ON not in getattr(error, "__notes__", ()):
            error.add_note(GOES_ON)

    # ---------------------------------------------------------------- waiting

    def get(self, timeout: float | None = None, *, return_exceptions: bool = False) -> Any:
        """Return the value; wait for it at most `timeout` seconds (-1 or None: as long as it takes).

        Raises TimeoutError (the task goes on), or what the call raised; with `return_exceptions` that is returned.
        Where several tasks failed, CompositeError.
        """
        timeout = None if timeout is None or timeout < 0 else timeout
        if not self._wait_done(timeout):
            assert timeout is not None
            raise self._too_late(timeout)
        if return_exceptions:
            return self._values()
        return self._outcome()

    def _values(self) -> Any:
        value, error = self._open()
        return value if error is None else error

    def wait(self, timeout: float | None = -1) -> bool:
        """Wait until it is done, at most `timeout` seconds (-1 or None: as long as it takes); return whether it is."""
        return self._wait_done(None if timeout is None or timeout < 0 else timeout)

    def ready(self) -> bool:
        """Return whether it is done."""
        return self.done()

    def successful(self) -> bool:
        """Return whether it is done without an error; ValueError if it is not done."""
        if not self.done():
            raise ValueError("the result is not ready yet; ask ready() first, or wait()")
        return not self.cancelled() and self.exception() is None

    @property
    def r(self) -> Any:
        """The value, as `get()`."""
        return self.get()

    # ---------------------------------------------------------------- stopping

    def cancel(self, *, grace_s: float | None = None, interrupt: bool = True) -> bool:
        """Stop the task; return True if it will never run or has been stopped, False if it ended or runs on. Of
        several tasks or items: True if some were stopped and none runs on; those that had ended keep their results.

        One that has not started is withdrawn. One that runs is interrupted (unless `interrupt` is False), again each
        second; if it still runs `grace_s` seconds later its engine is killed and replaced (never, without `grace_s`).
        Waits for the controller's word; in a coroutine or a done-callback it does not wait, and returns False.
        """
        if not self.done():
            reply = self._link.cancel(self._open_tasks(), grace_s=grace_s, interrupt=interrupt)
            if not self._link.may_wait():
                return False
            self._await_stopped(reply.result())
        return self.done() and STATUS_CANCELLED in self._statuses()

    def _await_stopped(self, stopped: list[int]) -> None:
        """Wait for the results of tasks of which the controller says that they were stopped, if nothing runs on."""
        if set(stopped).issuperset(self._open_tasks()):
            self._wait_done(None)  # they are on their way, or here

    def _statuses(self) -> set[int]:
        """Return how the tasks have ended of which that is known."""
        return set() if self._reply is None else {self._reply.status}

    def abort(self) -> None:
        """Withdraw what has not started; leave what runs alone."""
        self.cancel(interrupt=False)

    def _abandon(self) -> None:
        self._link.cancel(self._open_tasks(), grace_s=None, interrupt=True)

    def _open_tasks(self) -> list[int]:
        return [part.task for part in self._parts() if part.reply is None]

    # ---------------------------------------------------------------- metadata

    def _parts(self) -> list[Part]:
        return [Part(self._task, self._reply, self._received, self._records or (), self._data)]

    def _each(self, get: Callable[[Part], Any]) -> Any:
        values = [get(part) for part in self._parts()]
        return values[0] if self._scalar else values

    @property
    def msg_id(self) -> Any:
        """The task's id, as text."""
        return self._each(lambda part: show_task(TaskId(part.task)))

    @property
    def engine_id(self) -> Any:
        """The engine that ran it; None while that is not known."""
        return self._each(lambda part: part.reply.engine if part.reply and part.reply.engine >= 0 else None)

    @property
    def status(self) -> Any:
        """`pending`, `ok`, `error`, `cancelled`, `timeout`, `lost`, `refused` or `unknown`."""
        return self._each(_status)

    @property
    def submitted(self) -> datetime:
        """When it was submitted."""
        return datetime.fromtimestamp(self._submitted, UTC)

    @property
    def started(self) -> Any:
        """When it started, by the engine's clock; None if it has not ended yet, or never started."""
        return self._each(lambda part: _utc(part.reply.started) if part.reply else None)

    @property
    def completed(self) -> Any:
        """When it ended, by the engine's clock."""
        return self._each(
            lambda part: _utc(part.reply.started + part.reply.duration) if part.reply and part.reply.started else None
        )

    @property
    def received(self) -> Any:
        """When its result arrived here."""
        return self._each(lambda part: _utc(part.received))

    @property
    def stdout(self) -> Any:
        """What it has printed so far."""
        return self._each(lambda part: _stream(part, "stdout"))

    @property
    def stderr(self) -> Any:
        """What it has written to stderr so far."""
        return self._each(lambda part: _stream(part, "stderr"))

    @property
    def outputs(self) -> Any:
        """Rich outputs (figures, tables, ...) so far, as `(kind, data)`."""
        streams = ("stdout", "stderr")
        return self._each(lambda part: [(r.kind, r.data) for r in part.outputs if r.kind not in streams])

    @property
    def data(self) -> Any:
        """What it published last; None if it has published nothing."""
        return self._each(lambda part: None if part.data is None else loads(part.data, ()))

    @property
    def error(self) -> Any:
        """The error, without waiting: None while it is pending or if there is none."""
        return self._open()[1] if self.done() else None

    @property
    def label(self) -> str | None:
        """The label it was submitted with."""
        return self._label

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key in METADATA:
            return getattr(self, key)
        if isinstance(key, str):
            raise KeyError(f"{key!r} is not metadata of a task; there are: {', '.join(METADATA)}")
        raise TypeError(f"a {type(self).__name__} of one task has no items; use get()")

    # ---------------------------------------------------------------- its output, shown

    def _log(self) -> Sequence[Output]:
        """Return all records of output in the order in which they came; it grows at its end."""
        return self._records or ()

    def _engines(self) -> tuple[int, ...]:
        """Return the engines it is of, as far as that is known."""
        return () if self._reply is None or self._reply.engine < 0 else (self._reply.engine,)

    def _ended_engines(self) -> list[tuple[int, bool]]:
        """Return the engines that are done, each with whether that was without a value."""
        reply = self._reply
        return [] if reply is None or reply.engine < 0 else [(reply.engine, reply.status != OK)]

    def _errors(self) -> list[Exception]:
        """Return the errors that are known by now."""
        error = self._open()[1] if self.done() else None
        return [] if error is None else [error]

    def _total(self) -> int:
        """Return what `progress` will be when all is done."""
        return 1

    def display_outputs(self, groupby: str = "type") -> None:
        """Wait until it is done, then show what was printed and displayed: in a notebook as rich output, else as text.

        `groupby` is "type" (what all engines printed, then what they displayed, then their values), "engine" or
        "order".
        """
        from ..jupyter.lines import GROUPINGS  # noqa: PLC0415 - only who looks needs it
        from ..jupyter.live import display_outputs  # noqa: PLC0415

        if groupby not in GROUPINGS:
            raise ValueError(f"groupby is one of {', '.join(GROUPINGS)}, not {groupby!r}")
        self._wait_done(None)
        display_outputs(self, groupby)

    @contextmanager
    def stream_output(self) -> Iterator[Self]:
        """Print what is printed there as it comes, each line with its engine, while the `with` block runs.

        with client[:].execute(code).stream_output() as result:
            result.wait()
        """
        from ..jupyter.streaming import streamed  # noqa: PLC0415 - only who looks needs it

        with streamed(self):
            yield self

    def wait_interactive(self, interval: float = 0.25, timeout: float | None = -1) -> bool:
        """Wait with a progress bar, as `wait`; it is drawn anew every `interval` seconds."""
        from ..jupyter.live import wait_interactive  # noqa: PLC0415 - only who looks needs it

        return wait_interactive(self, interval, None if timeout is None or timeout < 0 else timeout)

    # ---------------------------------------------------------------- progress and times

    @property
    def progress(self) -> int:
        """How many of its tasks (for a map: items) have ended."""
        return sum(part.reply is not None for part in self._parts())

    @property
    def elapsed(self) -> float:
        """Seconds since it was submitted, to its end if it is done."""
        return (self._last_received() if self.done() else time.time()) - self._submitted

    @property
    def serial_time(self) -> float:
        """Seconds of run time on engines, summed."""
        return sum(part.reply.duration for part in self._parts() if part.reply is not None)

    @property
    def wall_time(self) -> float:
        """Seconds from submission until the last result was here; TimeoutError if it is not done."""
        if not self.done():
            raise TimeoutError("the result is not ready yet; use `elapsed`, or wait()")
        return self._last_received() - self._submitted

    def _last_received(self) -> float:
        return max((part.received for part in self._parts()), default=0.0) or time.time()

    def _repr_html_(self) -> str:
        from .show import result_html  # noqa: PLC0415 - for notebooks only

        return result_html(self)

    def __repr__(self) -> str:
        label = f" {self._label!r}" if self._label else ""
        return f"<{type(self).__name__}{label} {show_task(TaskId(self._task))}: {_state_text(self)}>"


METADATA = (
    "msg_id",
    "engine_id",
    "status",
    "submitted",
    "started",
    "completed",
    "received",
    "stdout",
    "stderr",
    "outputs",
    "data",
    "error",
    "label",
)


def _state_text(result: AsyncResult) -> str:
    if not result.done():
        return "pending"
    return "cancelled" if result.cancelled() else "finished"


def unpack(
    reply: Result,
    frames: Sequence[Any],
    label: str | None,
    convert: Callable[[Any, Part], Any] | None,
    parts: Callable[[], list[Part]],
) -> tuple[Any, Exception | None]:
    """Return the value of a result, or None and its error. `convert` gets the value and the first of `parts`."""
    try:
        if reply.status != OK:
            error = error_of(reply, frames, label)
            if isinstance(error, RemoteError):
                _add_shown(error, parts()[0].outputs)
            return None, error
        value = value_of(reply, frames)
        return (value if convert is None else convert(value, parts()[0])), None
    except Exception as error:  # unpickling runs code of the user's
        return None, error


def _add_shown(error: RemoteError, records: Sequence[Output]) -> None:
    """Have IPython show an error that ended a cell as the engine's IPython showed it."""
    for record in reversed(records):
        if record.kind == "error":
            error.__dict__["_shown"] = record.data.get("traceback")
            return


def raise_errors(errors: list[Exception], what: str) -> None:
    """Raise the error if there is one, and a CompositeError of all if there are several."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        first = f"{type(errors[0]).__name__}: {errors[0]}"
        raise CompositeError(f"{len(errors)} {what} failed; the first with {first:.200}", errors)
