"""What is known of the tasks of a result besides their values: where and when they ran, what they printed, how long."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ...ids import TaskId, show_task
from ...serialize import loads
from ...wire.messages import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...wire.messages import Options, Output, Result
    from ...wire.parts import Dependency


class Part(NamedTuple):
    """One task of a result, as far as it is known: the source of all metadata."""

    task: int
    reply: Result | None
    received: float
    outputs: Sequence[Output]
    data: bytes | None = None
    """What it published last, pickled."""
    submitted: float = 0.0
    options: Options | None = None


def _utc(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _stream(part: Part, kind: str) -> str:
    return "".join(str(record.data) for record in part.outputs if record.kind == kind)


def _completed(part: Part) -> datetime | None:
    reply = part.reply
    return _utc(reply.started + reply.duration) if reply is not None and reply.started else None


def _tasks_of(dependency: Dependency | None) -> list[str]:
    return [] if dependency is None else [show_task(TaskId(task)) for task in dependency.tasks]


class Metadata:
    """The metadata of a result: each by attribute (`result.engine_id`) or key (`result["engine_id"]`).

    Of one task they are values, of several lists, in order of the tasks. All times are aware, in UTC. Nothing waits:
    what is not known yet is None (`status`: `pending`).
    """

    _scalar = True
    _submitted: float

    def done(self) -> bool:
        """Return whether it is done."""
        raise NotImplementedError

    def _parts(self) -> list[Part]:
        """Return what is known of each task."""
        raise NotImplementedError

    def _uuid_of(self, part: Part) -> str | None:
        """Return which process of its engine ran a part."""
        raise NotImplementedError

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
    def engine_uuid(self) -> Any:
        """The engine's process that ran it, as text: its id, a dot, and which process that was (`"3.1"`: its first).

        None while it is not known; of a task of the past (`get_result`), also if its engine was restarted since.
        """
        return self._each(self._uuid_of)

    @property
    def status(self) -> Any:
        """`pending`, or how it ended: `ok`, `error`, `cancelled`, `timeout`, `lost`, `refused`, `unmet` (no engine has
        what it needs), `impossible` or `invalid` (what it comes after ended otherwise, or is not known), `inherited`
        (what it needs the value of has failed), `unknown`.
        """
        untold = "unknown" if self.done() else "pending"
        return self._each(lambda part: Status(part.reply.status).name.lower() if part.reply else untold)

    @property
    def submitted(self) -> Any:
        """When it was submitted, by the clock of its client."""
        return self._each(lambda part: _utc(part.submitted))

    @property
    def started(self) -> Any:
        """When it started, by the engine's clock; None if it has not ended yet, or never started."""
        return self._each(lambda part: _utc(part.reply.started) if part.reply else None)

    @property
    def completed(self) -> Any:
        """When it ended, by the engine's clock."""
        return self._each(_completed)

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
        """Its error, without waiting: None while it is pending, or if there is none."""
        raise NotImplementedError

    @property
    def label(self) -> Any:
        """The label it was submitted with."""
        return self._each(lambda part: part.options.label if part.options else None)

    @property
    def after(self) -> Any:
        """The ids of the tasks that it comes after, as text: a list, empty if there are none."""
        return self._each(lambda part: _tasks_of(part.options.after if part.options else None))

    @property
    def follow(self) -> Any:
        """The ids of the tasks that it follows to their engine, as text: a list, empty if there are none."""
        return self._each(lambda part: _tasks_of(part.options.follow if part.options else None))

    @property
    def metadata(self) -> Any:
        """All metadata as a dict by name; of several tasks a list of such dicts."""
        columns = {name: getattr(self, name) for name in METADATA}
        if self._scalar:
            return columns
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]

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

    def timedelta(
        self,
        start: datetime | Iterable[datetime],
        end: datetime | Iterable[datetime],
        start_key: Callable[[Iterable[datetime]], datetime] = min,
        end_key: Callable[[Iterable[datetime]], datetime] = max,
    ) -> float:
        """Return the seconds from `start` to `end`, each a datetime or many: then `start_key`, `end_key` take one.

            result.timedelta(result.submitted, result.received)     # from the first submission to the last arrival
            result.timedelta(result.started, result.started)        # how far apart they began

        Raises ValueError if one of the times is not known yet, or there are none.
        """
        return (_one_time(end, end_key) - _one_time(start, start_key)).total_seconds()

    def _last_received(self) -> float:
        return max((part.received for part in self._parts()), default=0.0) or time.time()


def _one_time(times: datetime | Iterable[datetime] | None, key: Callable[[Iterable[datetime]], datetime]) -> datetime:
    if isinstance(times, datetime):
        return times
    many = [None] if times is None else list(times)
    if not many or None in many:
        raise ValueError("a time is not known (yet): the task is pending, or never started; wait() first")
    return key(many)  # type: ignore[arg-type] # without None


METADATA = (
    "msg_id",
    "engine_id",
    "engine_uuid",
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
    "after",
    "follow",
)
