"""Tasks that wait for others: when they come, when what they wait for has ended, and what follows from that.

Nothing follows at once: a task's end is noted in the graph, and `settle` works that off once in a turn, before
placement. What a task names is either open; or its end is known to the client, which says so in the same message; or
the client has not heard of it yet, and it is among what was sent and is not confirmed (`unheard`); or else the journal
is asked, and the task waits for the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..ids import TaskId, client_of
from ..reasons import linked, listed, never
from ..wire.given import find_given, inherited, join
from ..wire.messages import Fetched, Outcome, Reply, Result, Status
from ..wire.parts import with_frames
from . import fleet, homes, lines, memory, pools
from .graph import AFTER, FOLLOW, NEED, Blocked, Never, Node, inherit, known
from .handles import released
from .journal.ledger import CONTROLLER, LOST_PAYLOAD, TOO_LARGE, Lookup, Needed
from .records import TaskState
from .unheard import Unheard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..wire.messages import Dependency, ObjectInfo, Options
    from ..wire.parts import Part
    from .graph import Ended
    from .records import Client, Task
    from .state import State

AT_A_TIME = 1000
"""Tasks that the journal is asked for at once."""

UNKNOWN = "nobody knows"
"""What there is to say of a task that is not known."""

NO_JOURNAL = "has ended, and this cluster has no journal that would tell how"


# ------------------------------------------------------------------------------------------------------ they come


def enter(state: State, task: Task, needs: tuple[int, ...]) -> None:
    """A task (in the books, but in no queue) depends on others: have it wait, or be ready, or end.

    Raises ValueError if what its payload says of them is malformed.
    """
    blocked = _account_of(task, needs)
    task.state = TaskState.BLOCKED
    state.graph.blocked[task.id] = blocked
    if task.options.ordered:
        lines.line_up(state, task)
    if task.root in blocked.roles:
        end: Never | None = Never(Status.INVALID, "waits for itself")
    else:
        end = _hear_known(blocked)
    if end is not None:
        _never(state, blocked, end)
    elif blocked.is_ready:
        _release(state, blocked)
    else:
        for other, roles in blocked.roles.items():
            _node_of(state, other, is_strange=other in blocked.strange).waiters.append((task.id, roles))
        _learn(state, task.options)


def _account_of(task: Task, needs: tuple[int, ...]) -> Blocked:
    """Leave a task the arguments alone; return its account, with the results that its client had beside them."""
    parts: dict[int, dict[int, Part]] = {}
    given = find_given(task.payload) if needs else None
    if given is None:
        return Blocked(task, needs, parts)
    task.frames, results = given.split(task.frames)
    task.payload = given.payload
    for result, frames in results:
        parts.setdefault(result.id, {})[result.lo] = result, frames
    return Blocked(task, needs, parts, given.by_id)


def _hear_known(blocked: Blocked) -> Never | None:
    """Have a task hear of what its client knows; return why it can never run, if it cannot."""
    for part in blocked.values():
        if part[0].status != Status.OK:
            return inherit(part)
    options = blocked.task.options
    for role, spec in ((AFTER, options.after), (FOLLOW, options.follow)):
        for outcome in spec.known if spec is not None else ():
            if outcome.over and blocked.roles.get(outcome.task, 0) & role:
                end = blocked.take(outcome.task, known(outcome), role)
                if end is not None:
                    return end
    return None


def _node_of(state: State, other: int, *, is_strange: bool) -> Node:
    """Return the node of a task that another depends on, to which it may be `strange`."""
    graph = state.graph
    if state.is_open(other):
        node = graph.nodes.get(other)
        if node is None:
            node = graph.nodes[other] = Node()
        if _is_divisible(state, other):
            node.is_partial |= is_strange
            if not is_strange:
                graph.partial.add(other)  # what it does not say it has heard is on its way
        return node
    node = graph.sought.get(other) or graph.missing.get(other)
    if node is None:
        node = graph.missing[other] = Node()
    node.is_partial |= is_strange
    return node


def _is_divisible(state: State, root: int) -> bool:
    task = state.tasks.get(root) or state.tasks[next(iter(state.pieces[root]))]
    return task.hi > 0


def _learn(state: State, options: Options) -> None:
    """A client says what it knows of results of tasks that go on, as far as it has heard."""
    graph = state.graph
    for spec in (options.after, options.follow):
        for outcome in spec.known if spec is not None else ():
            for nodes in (graph.nodes, graph.missing, graph.sought):
                if not outcome.over and outcome.task in nodes:
                    nodes[outcome.task].learn(outcome)


# ------------------------------------------------------------------------------------------------------ others end


def settle(state: State) -> None:
    """Tell all that wait what has ended, and whatever follows from that."""
    graph = state.graph
    while not graph.is_settled:
        if graph.partial or graph.missing:
            look(state)
        ended, graph.ended = graph.ended, {}
        for root, node in ended.items():
            if node.is_partial:
                _ask_for_others(state, root, node)
            outcome = node.ended()
            for waiter, roles in node.waiters:
                blocked = graph.blocked.get(waiter)
                if blocked is None or not blocked.roles.get(root, 0) & roles:
                    continue
                end = _take(state, blocked, root, outcome, roles)
                if end is not None:
                    _never(state, blocked, end)
                elif blocked.is_ready:
                    _release(state, blocked)
            if root not in graph.sought and root not in graph.ended:  # (others may hear of it later)
                for result, _ in outcome.parts:
                    if result.objects:
                        state.objects.heard(root, result.objects)
        if graph.missing and not graph.ended:
            _look_for_missing(state)


def _take_parts(state: State, root: int, node: Node, parts: Iterable[Part]) -> None:
    """Have the graph keep results of a task for those who wait for it."""
    for result, frames in parts:
        node.take(result, frames)
        if result.objects and node.parts[result.lo][0] is result:
            state.objects.wait(root, [info for info in result.objects if info.id in state.objects.entries])


def _take(state: State, blocked: Blocked, root: int, outcome: Ended, roles: int) -> Never | None:
    """Have a task that waits hear how another has ended, and hold what it is given of it."""
    if roles & blocked.roles[root] & NEED:
        infos = [info for result, _ in outcome.parts for info in result.objects]
        if infos:
            gone = next((info for info in infos if info.id not in state.objects.entries), None)
            if gone is not None:
                why = f"has no value any more: {released(gone)}"
                return Never(Status.INVALID, linked("needs the value of", root, why))
            state.objects.give_more(blocked.task, infos)
    return blocked.take(root, outcome, roles)


def _never(state: State, blocked: Blocked, end: Never) -> None:
    """A task can never run."""
    task = blocked.task
    task.state = TaskState.ENDED
    lines.leave(state, task)
    result = Result(task.id, end.status, b"", lo=task.lo, hi=task.hi)
    frames: Sequence[Any] = ()
    if end.cause is None:
        result.payload = never(task.id, task.options.label, end.why).encode()
    else:
        cause, frames = end.cause
        result.payload, result.frames, result.objects = inherited(cause, end.why), cause.frames, cause.objects
    state.end(task, result, frames)


def _release(state: State, blocked: Blocked) -> None:
    """A task waits for nothing any more: it can be given to an engine, with the values it needs."""
    task = blocked.task
    end = _prepare(state, blocked)
    if end is not None:
        _never(state, blocked, end)
        return
    pool = pools.pool_of(task)
    if task.payload is LOST_PAYLOAD:
        task.state = TaskState.ENDED
    lines.leave(state, task)
    if task.payload is LOST_PAYLOAD:
        state.end(task, Result(task.id, Status.UNKNOWN, TOO_LARGE.encode(), lo=task.lo, hi=task.hi))
    elif task.options.ordered:
        return  # it went to its engine, or does when those before it have
    elif pool is not None and pools.is_hopeless(state, pool):
        task.state = TaskState.ENDED
        fleet.give_up(state, task, pool)
    else:
        task.state = TaskState.WAITING
        homes.enqueue(state, state.clients.get(task.client) or state.ghost(task.client), task)


def _prepare(state: State, blocked: Blocked) -> Never | None:
    """Put the values into a task's payload, and say in its options where it may run; or return why it nowhere may."""
    task, follow = blocked.task, blocked.follow
    if blocked.parts and task.payload is not LOST_PAYLOAD:
        task.payload, task.frames = join(task.payload, task.frames, blocked.values())
        memory.weigh_again(state, task)
    options = task.options
    if options.after is None and follow is None:
        return None
    targets = options.targets
    if follow is not None:
        ran = sorted(follow.engines or ())
        there = [engine for engine in ran if fleet.can_serve(state, engine)]
        if not there:
            last = follow.spec.tasks[-1]
            gone = ", ".join(map(str, ran))
            where = f"on an engine that is not there any more ({gone})" if ran else "which was on no engine"
            return Never(Status.IMPOSSIBLE, f"is to run where {listed([last])} ran, {where}")
        allowed = [engine for engine in there if targets is None or engine in targets]
        if not allowed:
            why = f"is to run on one of the engines {list(targets or ())}, and follows a task that ran on {ran}"
            return Never(Status.IMPOSSIBLE, why)
        targets = tuple(allowed)
    task.options = msgspec.structs.replace(options, targets=targets, after=None, follow=None)
    return None


# ------------------------------------------------------------------------------------------------------ looking


def look(state: State) -> None:
    """Look for results that were asked for in this turn, before what a client confirms is let go of."""
    graph = state.graph
    partial, graph.partial = graph.partial, set()
    for root, parts in _find_unheard(state, {*partial, *graph.missing}):
        node = graph.missing.get(root) or graph.nodes.get(root) or graph.ended[root]
        _take_parts(state, root, node, parts)


def _look_for_missing(state: State) -> None:
    """Find the ends of tasks that are not open, or have the journal asked."""
    graph = state.graph
    missing, graph.missing = graph.missing, {}
    unknown: dict[int, Node] = {}
    for root, node in missing.items():
        if node.parts:
            node.is_partial = node.is_partial and any(result.hi for result, _ in node.parts.values())
            graph.ended[root] = node
        else:
            unknown[root] = node
    if unknown:
        _ask(state, unknown)


def _find_unheard(state: State, roots: Iterable[int]) -> Iterator[tuple[int, list[Part]]]:
    """Yield the results of tasks that their clients have not confirmed, those of this turn included."""
    by_client: dict[int, list[int]] = {}
    for root in roots:
        by_client.setdefault(client_of(TaskId(root)), []).append(root)
    for no, mine in by_client.items():
        client = state.clients.get(no)
        if client is not None:
            yield from _unheard_of(client, mine).items()


def _unheard_of(client: Client, roots: list[int]) -> dict[int, list[Part]]:
    if client.unheard is None:
        client.unheard = Unheard()
    found = client.unheard.find(client.outgoing, roots)
    if client.results:
        wanted = set(roots)
        for part in with_frames(client.results, client.frames):
            if part[0].id in wanted:
                found[part[0].id] = [*found.get(part[0].id, ()), part]
    return found


def _ask_for_others(state: State, root: int, node: Node) -> None:
    """A divisible task has ended, and not all of its results are here: have those to which it is strange hear of it
    from the journal.
    """
    told: list[tuple[int, int]] = []
    others = Node()
    for waiter, roles in node.waiters:
        blocked = state.graph.blocked.get(waiter)
        if blocked is not None:
            (others.waiters if root in blocked.strange else told).append((waiter, roles))
    node.waiters = told
    if others.waiters:
        for part in node.parts.values():
            others.take(*part)
        _ask(state, {root: others})


def _ask(state: State, nodes: dict[int, Node]) -> None:
    """Ask the journal what became of tasks; without one, they are not known."""
    graph = state.graph
    if not state.durable or state.journal_failure:
        why = state.journal_failure or NO_JOURNAL
        for root, node in nodes.items():
            node.is_partial, node.unknown = False, why
            graph.ended[root] = node
        return
    roots = list(nodes)
    graph.sought.update(nodes)
    for at in range(0, len(roots), AT_A_TIME):
        number = state.next_request()
        some = graph.questions[number] = roots[at : at + AT_A_TIME]
        state.lookups.append(Lookup(CONTROLLER, Needed(number, some)))


def on_results(state: State, message: Fetched | Reply, frames: Sequence[Any]) -> None:
    """The journal says what became of some tasks, or why it cannot."""
    graph = state.graph
    roots = graph.questions.pop(message.request, [])
    parts: dict[int, list[Part]] = {}
    for part in with_frames(message.results, frames) if isinstance(message, Fetched) else ():
        parts.setdefault(part[0].id, []).append(part)
    torn = frozenset(message.left if isinstance(message, Fetched) else ())
    for root in roots:
        node = graph.sought.pop(root)
        node.is_partial = False
        _take_parts(state, root, node, parts.get(root, ()))
        if not node.parts or root in torn:
            node.unknown = (message.error if isinstance(message, Reply) else None) or UNKNOWN
        graph.ended[root] = node


# ------------------------------------------------------------------------------------------------------ the journal


def named_by(options: Options, needs: Iterable[int]) -> set[int]:
    """Return the tasks that a task depends on."""
    named = set(needs)
    for spec in (options.after, options.follow):
        if spec is not None:
            named.update(spec.tasks)
    return named


def restore(state: State, task: Task, needs: tuple[int, ...], delivered: dict[int, list[Part]]) -> None:
    """A task of an earlier controller that was not given to an engine depends on others, of which `delivered` has all
    results that were delivered.
    """
    for root in named_by(task.options, needs):
        node = _node_of(state, root, is_strange=False)
        _take_parts(state, root, node, delivered.get(root, ()))
    enter(state, task, needs)


def refill(state: State, task: Task, needs: tuple[int, ...], delivered: dict[int, list[Part]]) -> None:
    """A task of an earlier controller was given to an engine, so it has had all it needs: it is to have it again should
    it be given to another.
    """
    blocked = _account_of(task, needs)
    end = _hear_known(blocked)
    for root, roles in list(blocked.roles.items()):
        node = Node()
        for part in delivered.get(root, ()):
            node.take(*part)
        if node.parts and end is None:
            end = _take(state, blocked, root, node.ended(), roles)
    if end is not None or not blocked.is_ready or _prepare(state, blocked) is not None:
        task.payload, task.frames = LOST_PAYLOAD, ()


def as_submitted(
    state: State, task: Task
) -> tuple[bytes, Sequence[Any], tuple[int, ...], Options, tuple[ObjectInfo, ...]]:
    """Return a task's payload, frames, needs, options and objects as if its client submitted it now, knowing what we
    know.
    """
    blocked = state.graph.blocked.get(task.id)
    if blocked is None:
        return task.payload, task.frames, (), task.options, task.objects
    payload, frames, objects = task.payload, task.frames, {info.id: info for info in task.objects}
    parts = {root: dict(mine) for root, mine in blocked.parts.items()}
    for root in blocked.needs:
        node = state.graph.nodes.get(root)
        if node is not None and node.parts:
            parts.setdefault(root, {}).update(node.parts)
            objects.update((info.id, info) for result, _ in node.parts.values() for info in result.objects)
    if parts and payload is not LOST_PAYLOAD:
        payload, frames = join(payload, frames, (part for mine in parts.values() for part in mine.values()))
    options = task.options
    if options.after is not None or options.follow is not None:
        options = msgspec.structs.replace(
            options,
            after=_left_of(state, blocked, AFTER, options.after),
            follow=_left_of(state, blocked, FOLLOW, options.follow),
        )
    return payload, frames, blocked.needs, options, tuple(objects.values())


def _left_of(state: State, blocked: Blocked, role: int, spec: Dependency | None) -> Dependency | None:
    """Return what of a dependency is left."""
    wanted = blocked.after if role == AFTER else blocked.follow
    if spec is None or wanted is None or (wanted.is_met and role == AFTER):
        return None
    left = tuple(task for task in spec.tasks if blocked.roles.get(task, 0) & role)
    heard = [state.graph.nodes[task].so_far(task) for task in left if task in state.graph.nodes]
    if wanted.engines is not None:  # one that has ended as wanted stands for all that have
        first = next(task for task in spec.tasks if not blocked.roles.get(task, 0) & role)
        heard.append(Outcome(first, spec.success, tuple(sorted(wanted.engines))))
        left = (first, *left)
    return msgspec.structs.replace(spec, tasks=left, known=tuple(heard))
