"""Which tasks wait for which others, and what is known of those: the graph of dependencies, without its consequences.

Every task that others depend on has a *node* from then on until its end; it collects the task's results, and knows who
waits. A *blocked* task has an account of what it waits for. When a task ends, each that waits for it hears of it
(`Blocked.take`), and is ready, or can never run, or waits on. Each pair of tasks is looked at once, and nothing calls
itself: a chain of any length is worked off by a loop (`dependents.settle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..ids import TaskId, client_of
from ..reasons import linked, listed, reason_of
from ..wire.messages import Outcome, Status
from .records import TaskState

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Sequence

    from ..wire.messages import Dependency, Result
    from ..wire.parts import Part
    from .records import Task

NEED, AFTER, FOLLOW = 1, 2, 4
"""What a task may be to another: its value is an argument of that; that comes after it; and runs where it ran."""


class Ended(NamedTuple):
    """How a task has ended."""

    ok: bool
    why: str = ""
    """If not `ok`: the reason."""
    engines: frozenset[int] = frozenset()
    """Where it, or a part of it, ran."""
    parts: Sequence[Part] = ()
    """Its results."""
    unknown: str = ""
    """It is no task that is known, for this reason."""


class Never(NamedTuple):
    """Why a task can never run."""

    status: Status
    why: str
    cause: Part | None = None
    """The result of the task whose end it inherits."""


class Node:
    """A task that others depend on, and what is known of its results."""

    __slots__ = ("_failed", "engines", "is_partial", "parts", "unknown", "waiters", "why")

    def __init__(self) -> None:
        self.waiters: list[tuple[int, int]] = []
        """Who waits, and what it is to them."""
        self.parts: dict[int, Part] = {}
        """By first item."""
        self.engines: frozenset[int] = frozenset()
        self._failed = False
        self.why = ""
        self.unknown = ""
        self.is_partial = False
        """Some of its results may have been delivered earlier, and are `strange` to one who waits."""

    def take(self, result: Result, frames: Sequence[Any]) -> None:
        """A result of it is delivered, or found."""
        if result.lo in self.parts:
            return
        self.parts[result.lo] = result, frames
        if result.engine >= 0:
            self.engines |= {result.engine}
        if result.status != Status.OK and not self._failed:
            self._failed, self.why = True, reason_of(result)

    def learn(self, outcome: Outcome) -> None:
        """A client knows of earlier results of it."""
        self.engines |= set(outcome.engines)
        if not outcome.ok and not self._failed:
            self._failed, self.why = True, outcome.why

    def so_far(self, task: int) -> Outcome:
        """Return what is known of it, though it goes on."""
        return Outcome(task, not self._failed, tuple(sorted(self.engines)), self.why, over=False)

    def ended(self) -> Ended:
        """Return how it has ended."""
        parts = [part for _, part in sorted(self.parts.items())]
        return Ended(not self._failed, self.why, self.engines, parts, self.unknown)


def known(outcome: Outcome) -> Ended:
    """Return how a task has ended, as its client knows."""
    return Ended(outcome.ok, outcome.why, frozenset(outcome.engines))


class _Wanted:
    """What has become of the tasks of a `Dependency`."""

    __slots__ = ("_follows", "engines", "is_met", "left", "spec")

    def __init__(self, spec: Dependency, role: int) -> None:
        self.spec = spec
        self.left = len(set(spec.tasks))
        self.is_met = not self.left
        self.engines: frozenset[int] | None = None
        """Where it may run by this."""
        self._follows = role == FOLLOW

    def take(self, task: int, ended: Ended) -> str:
        """One of the tasks has ended; return why what depends on them can never run, empty if it may."""
        spec = self.spec
        self.left -= 1
        if spec.success if ended.ok else spec.failure:
            mine = ended.engines
            if self.engines is not None:
                mine = mine & self.engines if spec.all else mine | self.engines
            self.engines = mine
            self.is_met = self.is_met or not spec.all or not self.left
            if not self._follows or mine or not spec.all:
                return ""
            return f"is to run where {listed(spec.tasks)} ran, and there is no engine where they all did"
        if self.is_met:
            return ""
        what = "follows" if self._follows else "comes after"
        if spec.all:
            what = f"{what} a failure of" if ended.ok else what
            return linked(what, task, ended.why or "succeeded")
        wanted = "ended" if spec.success and spec.failure else "succeeded" if spec.success else "failed"
        return "" if self.left else f"{what} one of {listed(spec.tasks)}, none of which {wanted}"


class Blocked:
    """A task that waits for others."""

    __slots__ = ("_needs", "after", "follow", "parts", "roles", "strange", "task")

    def __init__(
        self, task: Task, needs: tuple[int, ...], parts: dict[int, dict[int, Part]], by_id: Iterable[int] = ()
    ) -> None:
        """Have the account of a task, whose payload and frames are those of its arguments alone, and which has `parts`
        of what it needs, some of that only `by_id`.
        """
        self.task = task
        self._needs = len(set(needs))
        """How many values it has not got."""
        self.parts = parts
        """What it has of the values it needs, by task and first item."""
        options = task.options
        self.after = None if options.after is None else _Wanted(options.after, AFTER)
        self.follow = None if options.follow is None else _Wanted(options.follow, FOLLOW)
        self.roles = dict.fromkeys(needs, NEED)
        """What it waits for: tasks, and what they are to it."""
        for role, spec in ((AFTER, options.after), (FOLLOW, options.follow)):
            for other in spec.tasks if spec is not None else ():
                self.roles[other] = self.roles.get(other, 0) | role
        self.strange = {other for other in self.roles if client_of(TaskId(other)) != task.client}.union(
            by_id, *(spec.by_id for spec in (options.after, options.follow) if spec is not None)
        )
        """Of these its client does not say what was delivered earlier: only the journal knows."""

    @property
    def needs(self) -> tuple[int, ...]:
        """What it needs the values of and has not got."""
        return tuple(other for other, roles in self.roles.items() if roles & NEED)

    @property
    def is_ready(self) -> bool:
        """Whether it waits for nothing any more."""
        after, follow = self.after, self.follow
        return not self._needs and (after is None or after.is_met) and (follow is None or follow.is_met)

    def take(self, other: int, ended: Ended, roles: int = NEED | AFTER | FOLLOW) -> Never | None:
        """A task that it waits for has ended, and is to be heard of in these roles; return why it can never run, if it
        cannot.
        """
        roles &= self.roles[other]
        left = self.roles.pop(other) & ~roles
        if left:
            self.roles[other] = left
        if ended.unknown:
            what = "needs the value of" if roles & NEED else "comes after"
            return Never(Status.INVALID, linked(what, other, ended.unknown))
        if roles & NEED and (never := self._take_value(other, ended)) is not None:
            return never
        for role, wanted in ((AFTER, self.after), (FOLLOW, self.follow)):
            if roles & role and wanted is not None and (why := wanted.take(other, ended)):
                return Never(Status.IMPOSSIBLE, why)
        return None

    def _take_value(self, other: int, ended: Ended) -> Never | None:
        mine = self.parts.setdefault(other, {})
        for result, frames in ended.parts:
            mine.setdefault(result.lo, (result, frames))
        for part in mine.values():
            if part[0].status != Status.OK:
                return inherit(part)
        if not ended.ok:
            return Never(Status.IMPOSSIBLE, linked("needs the value of", other, ended.why))
        if not _is_whole([part[0] for part in mine.values()]):
            why = "has results that are not known any more"
            return Never(Status.INVALID, linked("needs the value of", other, why))
        self._needs -= 1
        return None

    def values(self) -> Iterable[Part]:
        """Return the results it has got, by task and item."""
        for _, mine in sorted(self.parts.items()):
            for _, part in sorted(mine.items()):
                yield part


def inherit(part: Part) -> Never:
    """Return why a task can never run that needs the value of one with this result."""
    result = part[0]
    return Never(Status.INHERITED, linked("needs the value of", result.id, reason_of(result)), part)


def _is_whole(results: Iterable[Result]) -> bool:
    """Return whether these results leave no gap before the last item."""
    at = 0
    for result in sorted(results, key=lambda result: result.lo):
        if result.lo != at:
            return False
        at = result.hi
    return True


class Graph:
    """All dependencies there are."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        """Open tasks that others depend on."""
        self.blocked: dict[int, Blocked] = {}
        self.ended: dict[int, Node] = {}
        """Tasks that have ended, and whoever waits has not heard."""
        self.missing: dict[int, Node] = {}
        """Tasks that are not open: what became of them is to be found out."""
        self.partial: set[int] = set()
        """Divisible tasks that have nodes, and of which results may be on their way to their client."""
        self.sought: dict[int, Node] = {}
        """Of these the journal is asked."""
        self.questions: dict[int, list[int]] = {}
        """What it is asked, by number."""
        self.lines: dict[tuple[int, int], deque[Task]] = {}
        """Tasks addressed to an engine by a client, from the first that is blocked on: their order is kept."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be done before the turn is over."""
        return not (self.ended or self.missing or self.partial)

    def take_result(self, root: int, result: Result, frames: Sequence[Any]) -> None:
        """A result of a task, or of some of its items, is delivered."""
        node = self.nodes.get(root)
        if node is not None:
            node.take(result, frames)

    def end(self, root: int) -> None:
        """A task has ended; its last result was delivered."""
        node = self.nodes.pop(root, None)
        if node is not None:
            self.ended[root] = node

    def held(self) -> int:
        """Return how many tasks cannot go to an engine yet."""
        in_line = sum(task.id not in self.blocked for line in self.lines.values() for task in line)
        return len(self.blocked) + in_line

    def check(self, open_: set[int]) -> set[int]:
        """Assert what must hold between turns, where these tasks are open; return those that cannot go to an engine."""
        waiting = {(id_, other) for id_, blocked in self.blocked.items() for other in blocked.roles}
        heard = {**self.ended, **self.missing, **self.sought}
        assert set(self.nodes) <= open_, "a task has ended, and nobody who waits for it was told"
        assert not open_.intersection(self.missing, self.sought)
        told = {(id_, other) for other, node in [*self.nodes.items(), *heard.items()] for id_, _ in node.waiters}
        assert waiting <= told, f"these wait for what nobody will tell them: {waiting - told}"
        assert {root for roots in self.questions.values() for root in roots} == set(self.sought)
        held = set(self.blocked)
        for line in self.lines.values():
            assert line, "a line of nobody"
            assert line[0].id in self.blocked, f"{line[0]} is held up by nothing"
            held.update(task.id for task in line if task.state == TaskState.BLOCKED)
        for blocked in self.blocked.values():
            assert not blocked.is_ready, f"{blocked.task} is ready"
            assert blocked.roles
        return held
