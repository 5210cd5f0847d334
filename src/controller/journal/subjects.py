"""A task as a query sees it: what was submitted, what became of it, and the fields that are made of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import TaskId, show_task
from ...wire.messages import Options, Result, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...wire.parts import Dependency

BUILTIN = b"!"
"""First byte of the names of operations built into the engine, which are text."""

PENDING = "pending"
UNKNOWN = Status.UNKNOWN.name.lower()

WORDS = {status.value: status.name.lower() for status in Status}

_WORSE = (
    Status.OK,
    Status.CANCELLED,
    Status.ERROR,
    Status.UNMET,
    Status.IMPOSSIBLE,
    Status.INHERITED,
    Status.INVALID,
    Status.REFUSED,
    Status.TIMEOUT,
    Status.LOST,
    Status.UNKNOWN,
)
RANK = {status.value: rank for rank, status in enumerate(_WORSE)}
"""Of several ends of one task's items, the worst counts."""


class Items(msgspec.Struct, gc=False):
    """What is known of the end of a task's items, all together: as far as that goes, it reads as a `Result`."""

    left: int
    """How many of them have no result yet."""
    status: int = 0
    engine: int = -1
    started: float = 0.0
    duration: float = 0.0
    ended: float = 0.0
    seen: set[int] = msgspec.field(default_factory=set)
    """Where the runs of items that have been entered begin."""

    def enter(self, result: Result) -> None:
        """Take a result, unless it is there already."""
        lo, hi = (result.lo, result.hi) if result.hi > result.lo else (0, self.left)  # ended before it began: all
        if lo in self.seen or self.left <= 0:
            return
        self.seen.add(lo)
        self.left -= hi - lo
        if RANK.get(result.status, len(RANK)) > RANK.get(self.status, len(RANK)):
            self.status = result.status
        self.duration += result.duration
        started, ended = result.started, result.started + result.duration
        if started:
            self.started = min(self.started or started, started)
        if ended >= self.ended and (started or self.engine < 0):
            self.ended, self.engine = ended, result.engine


class Subject(msgspec.Struct, gc=False):
    """One task."""

    id: int
    client: int
    items: int
    function: bytes
    options: Options
    copy: int
    """Which of several engines it is addressed to: a place in `options.targets`."""
    at: int
    """When it was submitted, in microseconds since 1970."""
    is_over: bool
    """What is not known of its end by now never will be."""
    end: Result | Items | None = None
    """What became of it, as far as it is known."""
    received: float = 0.0
    """When the last of that was written down."""
    engine: int | None = None
    """Where it is now."""

    def enter(self, result: Result, at: float) -> None:
        """Take a result that was written down at that time; of a call, the first counts."""
        if not self.items:
            if self.end is None:
                self.end, self.received = result, at
            return
        if self.end is None:
            self.end = Items(self.items)
        if not self.has_ended:
            self.end.enter(result)  # type: ignore[union-attr] # it has items
            self.received = max(self.received, at)

    @property
    def has_ended(self) -> bool:
        """Whether all there is to come has come."""
        end = self.end
        return end is not None and (not self.items or end.left <= 0)  # type: ignore[union-attr] # the same


def ticks(seconds: float) -> int | None:
    """Return a time in microseconds since 1970, rounded as datetime does; None for 0, which is none."""
    if not seconds:
        return None
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)


def _status(task: Subject) -> str:
    end = task.end
    if end is not None and task.has_ended:
        return WORDS.get(end.status, UNKNOWN)
    return UNKNOWN if task.is_over else PENDING


def _engine(task: Subject) -> int | None:
    end = task.end
    return task.engine if end is None or end.engine < 0 else end.engine


def _started(task: Subject) -> int | None:
    return None if task.end is None else ticks(task.end.started)


def _completed(task: Subject) -> int | None:
    end = task.end
    if end is None or not end.started or not task.has_ended:
        return None
    return ticks(end.ended if isinstance(end, Items) else end.started + end.duration)


def _received(task: Subject) -> int | None:
    return ticks(task.received) if task.has_ended else None


def _duration(task: Subject) -> float | None:
    return None if task.end is None or not task.end.started else task.end.duration


def _function(task: Subject) -> str:
    name = task.function
    return name.decode(errors="replace") if name[:1] == BUILTIN else name.hex()


def _targets(task: Subject) -> list[int] | None:
    targets = task.options.targets
    if targets is None:
        return None
    return [targets[task.copy]] if task.options.ordered and task.copy < len(targets) else list(targets)


def _tasks(dependency: Dependency | None) -> list[str] | None:
    return None if dependency is None else [show_task(TaskId(task)) for task in dependency.tasks]


GETTERS: dict[str, Callable[[Subject], Any]] = {
    "msg_id": lambda task: show_task(TaskId(task.id)),
    "label": lambda task: task.options.label,
    "status": _status,
    "client": lambda task: task.client,
    "engine_id": _engine,
    "submitted": lambda task: task.at,
    "started": _started,
    "completed": _completed,
    "received": _received,
    "duration": _duration,
    "items": lambda task: task.items or None,
    "function": _function,
    "targets": _targets,
    "retries": lambda task: task.options.retries,
    "priority": lambda task: task.options.priority,
    "timeout": lambda task: task.options.timeout_s,
    "resources": lambda task: dict(task.options.resources),
    "after": lambda task: _tasks(task.options.after),
    "follow": lambda task: _tasks(task.options.follow),
}
"""The fields of a record, `wire.query.FIELDS`, each as it is made of a task."""

OF_RESULTS = frozenset(("status", "engine_id", "started", "completed", "received", "duration"))
"""Those that depend on what became of it."""
