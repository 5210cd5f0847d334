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
    Status.REFUSED,
    Status.TIMEOUT,
    Status.LOST,
    Status.UNKNOWN,
)
RANK = {status.value: rank for rank, status in enumerate(_WORSE)}
"""Of several ends of one task's items, the worst counts."""


class Account(msgspec.Struct, gc=False):
    """What is known of the end of a task, or of its items."""

    left: int
    """How many of its items (or calls) have no result yet."""
    status: int = 0
    engine: int = -1
    started: float = 0.0
    ended: float = 0.0
    duration: float = 0.0
    received: float = 0.0
    seen: set[int] | None = None
    """Where the runs of items that have been entered begin."""

    def enter(self, result: Result, at: float) -> None:
        """Take a result that was written down at that time, unless it is there already."""
        if self.left <= 0:
            return
        if result.hi > result.lo:
            if self.seen is None:
                self.seen = set()
            if result.lo in self.seen:
                return
            self.seen.add(result.lo)
            self.left -= result.hi - result.lo
        else:
            self.left = 0
        if result.status and RANK.get(result.status, len(RANK)) > RANK.get(self.status, len(RANK)):
            self.status = result.status
        if at > self.received:  # noqa: PLR1730 - calling max() costs more, for each of a million
            self.received = at
        self.duration += result.duration
        started = result.started
        if started:
            if not self.started or started < self.started:
                self.started = started
            if started + result.duration >= self.ended:
                self.ended = started + result.duration
                self.engine = result.engine
        elif self.engine < 0:
            self.engine = result.engine


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
    account: Account | None = None
    engine: int | None = None
    """Where it is now."""

    @property
    def has_ended(self) -> bool:
        """Whether all there is to come has come."""
        return self.account is not None and self.account.left <= 0


def ticks(seconds: float) -> int | None:
    """Return a time in microseconds since 1970, rounded as datetime does; None for 0, which is none."""
    if not seconds:
        return None
    whole = int(seconds)
    return whole * 1_000_000 + round((seconds - whole) * 1e6)


def _status(task: Subject) -> str:
    if task.account is not None and task.account.left <= 0:
        return WORDS.get(task.account.status, UNKNOWN)
    return UNKNOWN if task.is_over else PENDING


def _engine(task: Subject) -> int | None:
    if task.account is None or task.account.engine < 0:
        return task.engine
    return task.account.engine


def _started(task: Subject) -> int | None:
    return None if task.account is None else ticks(task.account.started)


def _completed(task: Subject) -> int | None:
    return ticks(task.account.ended) if task.account is not None and task.account.left <= 0 else None


def _received(task: Subject) -> int | None:
    return ticks(task.account.received) if task.account is not None and task.account.left <= 0 else None


def _duration(task: Subject) -> float | None:
    return None if task.account is None or not task.account.started else task.account.duration


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
