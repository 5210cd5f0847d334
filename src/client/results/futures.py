"""What submitting returns: `AsyncResult` for one task.

Results are unpickled when somebody asks for the value, in the thread that asks; the I/O thread only files them.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from ...errors import CompositeError, EngineryError, NoSuchTask, RemoteError, TaskAborted
from ...ids import TaskId, show_task
from ...placeholders import stand_in
from .leases import Lease
from .lightfuture import CANCELLED, FINISHED, PENDING, LightFuture
from .metadata import METADATA, Metadata, Part
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK, error_of, value_of
from .sending import Sending
from .shown import Shown
from .timeouts import limit_of
from .waits import AsArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...wire.messages import Options, Output, Result
    from .joined import JoinedResult
    from .splitting import Pieces

When = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]
"""For what to wait, as `concurrent.futures` spells it."""


class Canceller(Protocol):
    """What a result needs of the connection it came by."""

    def cancel(self, tasks: list[int], *, grace_s: float | None, interrupt: bool) -> LightFuture[Any]:
        """Ask the controller to stop tasks; the future's value is the list of those stopped."""

    def may_wait(self) -> bool:
        """Return False in the I/O thread and in a coroutine, where waiting would block what is waited for."""

    def check(self) -> None:
        """Raise if nothing will come any more."""

    def find_incarnation(self, engine: int, at: float) -> int | None:
        """Return which process of an engine was there at a time, if that is known."""


DATA = "data"
"""The kind of records of which the newest counts."""

GOES_ON = "What was waited for goes on. To stop it: cancel() on its result, or on the client for everything."


def _check_when(when: str) -> None:
    if when not in _WHEN:
        raise ValueError(f"return_when is one of {', '.join(_WHEN)}, not {when!r}")


_WHEN = (concurrent.futures.FIRST_COMPLETED, concurrent.futures.FIRST_EXCEPTION, concurrent.futures.ALL_COMPLETED)


class AsyncResult(Sending, AsArgument, LightFuture[Any], Metadata, Shown):
    """The result of a call that runs, or will run, on an engine: a `concurrent.futures.Future` that can be awaited.

        future = client.submit(pow, 2, 10)
        future.result()                       # 1024; raises what the call raised
        await future                          # the same in a coroutine

    Besides what every future has, it knows what became of its task: `engine_id`, `status`, `stdout`, `started`, ...
    (also as `future["engine_id"]`, or all as `future.metadata`). For several tasks these are lists.

    To cancel a coroutine that awaits it is to cancel its task; awaiting `asyncio.shield(asyncio.wrap_future(future))`
    instead leaves it alone. When it is done it can be pickled, and is then the same, with value or error and metadata,
    wherever that is unpickled.
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
    _is_map = False
    _pieces: Pieces | None = None
    """What `split` made of it."""

    def __init__(self, link: Canceller, task: int, submitted: float, options: Options | None = None) -> None:
        self._link = link
        self._task = task
        self._submitted = submitted
        self._options = options

    # ---------------------------------------------------------------- filed by the I/O thread

    def _accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take a result; return whether it was the last under its task id."""
        self._frames = frames
        self._reply = reply  # after its frames: other threads look
        self._received = now
        if reply.status == OK:
            self._settle()
        else:
            self._settle(CANCELLED if reply.status == STATUS_CANCELLED else FINISHED, failed=True)
        return True

    def _add_output(self, record: Output) -> None:
        """Take something that the task printed, displayed or published."""
        if record.kind == DATA:
            self._data = record.data
            return
        if self._late is not None and self._late(record):
            return
        if self._records is None:
            self._records = []
        self._records.append(record)

    def _fail(self, error: Exception) -> None:
        """Nothing will come any more, for this reason."""
        if self._state == PENDING:
            self._lost = error
            self._settle(failed=True)

    # ---------------------------------------------------------------- the outcome

    def _open(self) -> tuple[Any, Exception | None]:
        """Return the value, or None and the error."""
        opened = self._opened
        if opened is None:
            opened = self._read()
            if self._opened is None:
                self._opened = opened
            if not (self._needed or type(self._frames) is Lease):  # (a lease keeps no memory of ours)
                self._frames = ()  # after that: a thread that reads what is gone finds here what was read
                reply = self._reply
                if reply is not None and opened[1] is None:
                    reply.payload = b""
            return self._opened
        return opened

    def _read(self) -> tuple[Any, Exception | None]:
        if self._lost is not None:
            return None, self._lost
        frames, reply, options = self._frames, self._reply, self._options
        assert reply is not None, "a finished task has a result"
        return unpack(reply, frames, None if options is None else options.label, self._convert, self._parts)

    def _outcome(self) -> Any:
        value, error = self._open()
        if error is not None:
            raise fresh(error)
        return value

    def _check_wait(self) -> None:
        self._link.check()

    def _interrupted(self, error: KeyboardInterrupt) -> None:
        if GOES_ON not in getattr(error, "__notes__", ()):
            error.add_note(GOES_ON)

    # ---------------------------------------------------------------- waiting

    def get(
        self,
        timeout: float | None = None,
        return_exceptions: bool | None = None,
        return_when: When | None = None,
    ) -> Any:
        """Return the value; wait for it at most `timeout` seconds (-1 or None: as long as it takes).

            client[:].apply_async(f).get(timeout=10)

        Raises TimeoutError (the task goes on), or what the call raised; with `return_exceptions` that is returned.
        Where several tasks failed, CompositeError; with `return_when="FIRST_EXCEPTION"`, the first error as soon as it
        is here, while the others go on. ValueError for another `return_when` that does not give all values.
        """
        limit = limit_of(timeout)
        if return_when is not None:
            _check_when(return_when)
            if return_when == concurrent.futures.FIRST_COMPLETED:
                raise ValueError('get() returns all values; wait(return_when="FIRST_COMPLETED") tells which are there')
        if return_when == concurrent.futures.FIRST_EXCEPTION and not return_exceptions:
            if not self._wait_failed(limit):
                raise self._too_late(limit)
            if not self.done():
                raise self._errors()[0]
        if not self._wait_done(limit):
            raise self._too_late(limit)
        if return_exceptions is None:
            return self._outcome()
        return self._values() if return_exceptions else self._raising()

    def _wait_failed(self, timeout: float | None) -> bool:
        """Wait until something has failed or all is done; return whether it is so."""
        return self._wait_done(timeout)

    def _values(self) -> Any:
        """Return what there is, errors among the values."""
        value, error = self._open()
        return value if error is None else error

    def _raising(self) -> Any:
        """Return the value, or raise the error, even if errors were to be values."""
        return self._outcome()

    def _collect(self) -> tuple[list[Any], list[Exception]]:
        """Return all values in order, errors among them, and the errors that are to be raised."""
        value, error = self._open()
        return ([value], []) if error is None else ([error], [error])

    @overload
    def wait(self, timeout: float | None = -1, return_when: None = None) -> bool: ...

    @overload
    def wait(self, timeout: float | None = -1, *, return_when: When) -> tuple[set[AsyncResult], set[AsyncResult]]: ...

    def wait(self, timeout: float | None = -1, return_when: When | None = None) -> Any:
        """Wait until it is done, at most `timeout` seconds (-1 or None: as long as it takes); return whether it is.

            done, pending = result.wait(return_when="FIRST_COMPLETED")

        With `return_when`, wait for the first of its tasks that is done, or fails, or for all of them, and return two
        sets: the results (see `split`) that are done, and those that are not.
        """
        limit = limit_of(timeout)
        if return_when is None:
            return self._wait_done(limit)
        _check_when(return_when)
        try:
            done, pending = concurrent.futures.wait(self.split(), limit, return_when)
        except KeyboardInterrupt as error:
            self._interrupted(error)
            raise
        return set(done), set(pending)

    def ready(self) -> bool:
        """Return whether it is done; the older name of `done()`.

        client[:].apply_async(f).ready()
        """
        return self.done()

    def successful(self) -> bool:
        """Return whether it is done without an error; ValueError if it is not done.

        result.wait()
        print("done" if result.successful() else result.error)
        """
        if not self.done():
            raise ValueError("the result is not ready yet; ask ready() first, or wait()")
        return not self.cancelled() and self.exception() is None

    @property
    def r(self) -> Any:
        """The value, as `get()`."""
        return self.get()

    def get_dict(self, timeout: float | None = None) -> dict[int, Any]:
        """Return the values by engine id, waiting and raising as `get()`.

            client[:].apply_async(os.getpid).get_dict()      # {0: 4711, 1: 4712, ...}

        Of a map it is the list of values that each engine computed. Raises ValueError if else an engine has several.
        """
        self.get(timeout)
        found: dict[int, Any] = {}
        for engine, value in zip(self._value_engines(), self._collect()[0], strict=True):
            if self._is_map:
                found.setdefault(engine, []).append(value)
            elif engine in found:
                raise ValueError(f"engine {engine} has several of these results, so they are no dict; use get()")
            else:
                found[engine] = value
        return found

    def _value_engines(self) -> Sequence[int]:
        """Return of which engine each value is; all is done."""
        return [] if self._reply is None else [self._reply.engine]

    # ---------------------------------------------------------------- several results as one, one as several

    def split(self) -> tuple[AsyncResult, ...]:
        """Return a result for each of its tasks: futures of their own, to wait for, get, and cancel alone.

            for one in concurrent.futures.as_completed(client[:].apply_async(f).split()):
                print(one.engine_id, one.get())

        Asked again, it returns the same. A task of a map has many items: its result is the list of their values. Of a
        single task, it is the result itself.
        """
        return (self,)

    @staticmethod
    def join(*results: AsyncResult) -> JoinedResult:
        """Return one result for several, of any kinds: its value is one list of all their values, in order.

            both = AsyncResult.join(client.submit(f), client[:].apply_async(g), client.map(h, xs))
            for value in both: ...

        To cancel it is to cancel them all. Raises TypeError for what is not a result.
        """
        from .joined import JoinedResult  # noqa: PLC0415 - it rests on this module

        return JoinedResult(results)

    # ---------------------------------------------------------------- stopping

    def cancel(self, *, grace_s: float | None = None, interrupt: bool = True) -> bool:
        """Stop the task; return True if it will never run or has been stopped, False if it ended or runs on. Of
        several tasks or items: True if some were stopped and none runs on; those that had ended keep their results.

            future.cancel(grace_s=5)      # an engine where it still runs in five seconds is replaced

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
        """Withdraw what has not started; leave what runs alone.

        client.map(f, xs).abort()
        """
        self.cancel(interrupt=False)

    def _release(self) -> NoSuchTask:
        """Hold the value no longer; return what is raised by who asks for it."""
        id_ = show_task(TaskId(self._task))
        gone = NoSuchTask(
            f"the value of task {id_} was purged from this client; "
            f'get_result("{id_}") asks the cluster, if that keeps it'
        )
        self._opened, self._frames = (None, gone), ()
        if self._reply is not None:
            self._reply.payload = b""
        return gone

    def _abandon(self) -> None:
        self._link.cancel(self._open_tasks(), grace_s=None, interrupt=True)

    def _open_tasks(self) -> list[int]:
        return [part.task for part in self._parts() if part.reply is None]

    # ---------------------------------------------------------------- metadata

    @property
    def _label(self) -> str | None:
        return None if self._options is None else self._options.label

    def _parts(self) -> list[Part]:
        return [self._part_of(self._task, self._reply, self._received, self._records or (), self._data)]

    def _task_ids(self) -> list[int]:
        """Return the ids of all its tasks, each once."""
        return list(dict.fromkeys(part.task for part in self._parts()))

    def _part_of(
        self, task: int, reply: Result | None, received: float, outputs: Sequence[Output], data: bytes | None
    ) -> Part:
        return Part(task, reply, received, outputs, data, self._submitted, self._options)

    def _uuid_of(self, part: Part) -> str | None:
        reply = part.reply
        if reply is None or reply.engine < 0:
            return None
        at = reply.started if self._fetched else part.received
        incarnation = self._link.find_incarnation(reply.engine, at)
        return None if incarnation is None else f"{reply.engine}.{incarnation}"

    @property
    def error(self) -> Any:
        """Its error, without waiting: None while it is pending, or if there is none."""
        return self._whole_error()

    def _whole_error(self) -> Exception | None:
        """Return what `get()` would raise, without waiting: None while it is pending, or if it would not."""
        return self._open()[1] if self.done() else None

    def __getitem__(self, key: Any) -> Any:
        """Return metadata by name; KeyError for what is none, TypeError for anything else: one value has no items.

        future["engine_id"]
        """
        if isinstance(key, str) and key in METADATA:
            return getattr(self, key)
        if isinstance(key, str):
            raise KeyError(f"{key!r} is not metadata of a task; there are: {', '.join(METADATA)}")
        raise TypeError(f"a {type(self).__name__} of one task has no items; use get()")

    # ---------------------------------------------------------------- its output

    def _log(self) -> Sequence[Output]:
        return self._records or ()

    def _engines(self) -> tuple[int, ...]:
        return () if self._reply is None or self._reply.engine < 0 else (self._reply.engine,)

    def _ended_engines(self) -> list[tuple[int, bool]]:
        reply = self._reply
        return [] if reply is None or reply.engine < 0 else [(reply.engine, reply.status != OK)]

    def _errors(self) -> list[Exception]:
        """Return the errors that are known by now."""
        error = self._whole_error()
        return [] if error is None else [error]

    def _total(self) -> int:
        return 1

    # ---------------------------------------------------------------- elsewhere, and as text

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        from .stored import reduced  # noqa: PLC0415 - it rests on this module

        return stand_in(self) or reduced(self)

    def __repr__(self) -> str:
        label = f" {self._label!r}" if self._label else ""
        return f"<{type(self).__name__}{label} {show_task(TaskId(self._task))}: {_state_text(self)}>"


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


def fresh(error: Exception) -> Exception:
    """Return an error to be raised, without what it remembers of being raised before: each wait would add its frames,
    and keep their variables alive. Of errors that arose here (in what makes one of many values) the frames are told.
    """
    return error.with_traceback(None) if isinstance(error, EngineryError) else error


def raise_errors(errors: list[Exception], what: str) -> None:
    """Raise the error if there is one, a CompositeError of all if there are several; only one if all were cancelled."""
    if len(errors) == 1 or (errors and all(isinstance(error, TaskAborted) for error in errors)):
        raise errors[0]
    if errors:
        first = f"{type(errors[0]).__name__}: {errors[0]}"
        raise CompositeError(f"{len(errors)} {what} failed; the first with {first:.200}", errors)
