"""From the books to what is written down of them, and back: how a controller takes over from one that died.

Restored tasks are where the records say: waiting, or assigned to an engine that is `AWAY` until it has said itself what
it has (`sessions`). Nothing is given out before that, so nothing runs twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import CONTROLLER_NO, ClientNo, EngineId, Incarnation, Peer
from ...wire.messages import DeathCertificate, ObjectInfo, Options, Result, Source, Status
from .. import dependents, fleet, intake, lines, memory, pools, resources, sessions, setups, stopping
from ..records import Client, Engine, EngineState, Nanny, Setup, Task, TaskState, Unmet
from ..state import State
from .ledger import (
    LOST_PAYLOAD,
    TOO_LARGE,
    Assigned,
    Killed,
    Lacked,
    Piece,
    Returned,
    SetupCall,
    Stopped,
    Summary,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ...wire.messages import Results, Submit
    from ...wire.parts import Part
    from .ledger import EngineIs, Move, Saved

_infos = msgspec.msgpack.Decoder(tuple[ObjectInfo, ...])

Runs = list[tuple[int, int]]
"""Runs of items, `lo <= i < hi` each."""


def summary(state: State) -> Summary:
    """Return what there is to know of all tasks that have not ended. It shares nothing with the books: another thread
    writes it down while they change.
    """
    moves: list[Move] = []
    touched: dict[int, list[Task]] = {}
    numbers = {setup.payload: setup.no for setup in state.setups}
    for task in state.tasks.values():
        if task.client == CONTROLLER_NO and task.payload in numbers:
            moves.append(SetupCall(task.id, numbers[task.payload], (task.options.targets or (-1,))[0]))
        elif task.root in state.pieces or task.id != task.root or task.attempt or task.lo or task.early:
            touched.setdefault(task.root, []).append(task)
    for root, tasks in touched.items():
        moves.append(Whole(root, [(t.id, t.lo, t.hi, t.attempt, list(t.early or ())) for t in tasks]))
    moves.extend(Killed(task.id, list(task.deaths)) for task in state.tasks.values() if task.deaths)
    moves.extend(
        Lacked(task.id, sorted(task.unmet.engines), task.unmet.sentence)
        for task in state.tasks.values()
        if task.unmet is not None
    )
    moves.extend(Assigned(engine.id, list(engine.assigned)) for engine in state.engines.values() if engine.assigned)
    for task_id, stop in state.stops.items():
        moves.append(stop.move([task_id]))
    return Summary(moves, sorted({task.root for task in state.tasks.values()}))


def restore(saved: Saved, cluster: str, epoch: int, last_client: int, now: float) -> State:
    """Return the books of the controller that wrote these records, as far as they can be known."""
    state = State(cluster, epoch=epoch, durable=True)
    state.now = now
    state.last_client = last_client
    _restore_clients(state, saved)
    _restore_fleet(state, saved, now)
    _restore_objects(state, saved, now)
    for came in saved.setups:
        setups.enter(state, Setup(came.no, came.name, came.payload, _infos.decode(came.objects)))
    tasks = _Tasks(state)
    for submitted, open_ in saved.submitted:
        tasks.enter(submitted.client, submitted.message, submitted.frames, open_)
    for move in saved.moves:
        tasks.move(move)
    for root, lo, hi in saved.ended:
        tasks.end(root, lo, hi)
    tasks.settle(saved.needed)
    for engine in list(state.engines.values()):
        if engine.nanny not in state.nannies and engine.state is not EngineState.FAILED:
            gone = DeathCertificate(engine.id, engine.incarnation, engine.pid, None, "its host left the cluster")
            fleet.begin_end(state, engine, gone, now)
    for client in state.clients.values():
        intake.away(state, client, now)
    state.fleet_changed = True
    return state


def _restore_clients(state: State, saved: Saved) -> None:
    for came in saved.clients:
        client = Client(ClientNo(came.no), Peer(came.peer), came.name, came.pid, came.host)
        client.cancel_on_exit = came.cancel_on_exit
        client.patience_s = came.patience_s
        client.ended = came.no in saved.gone_clients
        client.incoming.have = saved.heard.get(came.peer, 0)
        client.outgoing.last = saved.acked.get(came.no, 0)
        intake.enter_client(state, client)
    for delivered in saved.unheard:
        receiver = state.clients.get(delivered.client)
        if receiver is not None:
            receiver.outgoing.put_back(
                delivered.message, delivered.frames, memory.weigh_message(delivered.message, delivered.frames)
            )
    for digest, pickled in saved.functions.items():
        state.functions.add(digest, pickled, 0)
        state.functions.entries[digest].owners.clear()
    for digest, owner in saved.owners:
        entry = state.functions.entries.get(digest)
        holder = state.clients.get(owner)
        if entry is not None and holder is not None:
            entry.owners.add(owner)
            holder.digests.add(digest)


def _restore_fleet(state: State, saved: Saved, now: float) -> None:
    for there in saved.nannies:
        nanny = Nanny(Peer(there.peer), there.host, there.pid, there.cores, head=there.head)
        nanny.resources = msgspec.msgpack.decode(there.resources, type=dict[str, float])
        state.nannies[nanny.peer] = nanny
        sessions.know_store(state, nanny, msgspec.msgpack.decode(there.store, type=Source | None))
        sessions.nanny_away(state, nanny, now)
    state.gone.update(saved.gone)
    for record in saved.engines:
        engine = _engine(record)
        engine.incoming.have = saved.heard.get(engine.peer, 0)
        state.engines[engine.id] = engine
        if engine.retiring:
            state.retiring.add(engine.id)
        host = state.nannies.get(engine.nanny)
        if host is not None:
            host.engines.add(engine.id)
        if engine.state is not EngineState.FAILED:
            state.engine_peers[engine.peer] = engine
            state.engine_peers[engine.control] = engine
        if engine.state is EngineState.AWAY:
            sessions.expect_back(state, engine, now)


def _restore_objects(state: State, saved: Saved, now: float) -> None:
    """Have objects in the books as they were held, but by tasks and set-up: these come later in this turn."""
    objects = state.objects
    for there in saved.objects:
        held = objects.enter(ObjectInfo(there.id, there.nbytes))
        held.stores = {store for store in there.stores if store in objects.stores}
        held.handles = {no: count for no, count in there.handles if no in state.clients}
        for root in there.kept:
            objects.keep(root, held.info, now)
    for id_ in saved.dropped:
        objects.remember(id_, now)


def _engine(record: EngineIs) -> Engine:
    engine = Engine(EngineId(record.id), Peer(record.nanny), record.host)
    engine.incarnation = Incarnation(record.incarnation - 1)
    engine.renew()
    engine.session = -1  # nothing it says of what it holds counts before it has been welcomed
    engine.pid, engine.failures, engine.retiring = record.pid, record.failures, record.retiring
    engine.state = EngineState(record.state)
    if engine.state in (EngineState.READY, EngineState.DYING):
        engine.state = EngineState.AWAY  # its nanny says how it ended, if it did
    if engine.state is EngineState.FAILED:
        engine.reason = record.reason
    return engine


class _Tasks:
    """Tasks being put together: `left` has the unreported items of each, one empty run for a plain call."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.tasks: dict[int, Task] = {}
        self.left: dict[int, Runs] = {}
        """By id, only for tasks with items."""
        self.stops: dict[int, Stopped] = {}
        self.of_root: dict[int, list[int]] = {}
        """Ids of the tasks of a root, where that is not the root itself alone."""
        self.needs: dict[int, tuple[int, ...]] = {}
        """What tasks need the values of, by root."""

    def enter(self, client: int, message: Submit, frames: Sequence[Any], open_: frozenset[int] | None) -> None:
        """Take in what a client has submitted, but for what had ended."""
        for wanted in message.tasks:
            if wanted.needs:
                self.needs.update((wanted.id + copy, wanted.needs) for copy in range(wanted.copies))
        for task in expand(client, message, frames):
            if open_ is None or task.id in open_:
                self.tasks[task.id] = task
                if task.hi:
                    self.left[task.id] = [(0, task.hi)]

    def move(self, move: Move) -> None:
        """Repeat what happened."""
        match move:
            case Assigned(engine, ids):
                for task_id in ids:
                    task = self.tasks.get(task_id)
                    there = self.state.engines.get(engine)
                    if task is not None and there is not None:
                        self._unassign(task_id)
                        task.engine = engine
                        there.assigned[task_id] = task
            case Returned(ids):
                for task_id in ids:
                    self._unassign(task_id)
            case Piece(id_, root, lo, hi, attempt):
                self._piece(id_, root, lo, hi, attempt)
            case SetupCall(id_, no, engine):
                for setup in self.state.setups:
                    if setup.no == no:
                        self.tasks[id_] = setups.make(id_, setup, engine)
            case Killed(id_, engines):
                if id_ in self.tasks:
                    self.tasks[id_].deaths = engines
            case Lacked(id_, asked, sentence):
                if id_ in self.tasks:
                    self.tasks[id_].unmet = Unmet(frozenset(asked), sentence)
            case Stopped():
                self.stops.update(dict.fromkeys(move.tasks, move))
            case Whole(root, pieces):
                original = self._any_of(root)
                for task_id in list(self.of_root.get(root, [root])):
                    self._drop(task_id, root)
                if original is None:
                    return
                for id_, lo, hi, attempt, early in pieces:
                    task = self._new(original, id_, lo, hi, attempt)
                    if hi:
                        self.left[task.id] = _without([(lo, hi)], early)

    def end(self, root: int, lo: int, hi: int) -> None:
        """A result of a root, or of some of its items, was delivered."""
        for task_id in list(self.of_root.get(root, [root])):
            if not hi:
                self._drop(task_id, root)
            elif task_id in self.left:
                self._shrink(task_id, root, [(lo, hi)])

    def _piece(self, id_: int, root: int, lo: int, hi: int, attempt: int) -> None:
        original = self._any_of(root)
        if original is None:
            return
        for task_id in list(self.of_root.get(root, [root])):
            if not hi or task_id == id_:
                self._drop(task_id, root)
            else:
                self._shrink(task_id, root, [(lo, hi)])
        task = self._new(original, id_, lo, hi, attempt)
        if hi:
            self.left[task.id] = [(lo, hi)]

    def _any_of(self, root: int) -> Task | None:
        for task_id in self.of_root.get(root, [root]):
            if task_id in self.tasks:
                return self.tasks[task_id]
        return None

    def _new(self, original: Task, id_: int, lo: int, hi: int, attempt: int) -> Task:
        task = msgspec.structs.replace(
            original, id=id_, lo=lo, hi=hi, attempt=attempt, engine=-1, early=None, deaths=None, unmet=None
        )
        self.tasks[id_] = task
        ids = self.of_root.setdefault(task.root, [task.root] if task.root in self.tasks and id_ != task.root else [])
        if id_ not in ids:
            ids.append(id_)
        return task

    def _shrink(self, task_id: int, root: int, runs: Runs) -> None:
        left = _without(self.left.get(task_id, []), runs)
        if left:
            self.left[task_id] = left
        else:
            self._drop(task_id, root)

    def _unassign(self, task_id: int) -> None:
        task = self.tasks.get(task_id)
        if task is not None and task.engine >= 0:
            engine = self.state.engines.get(task.engine)
            if engine is not None:
                engine.assigned.pop(task_id, None)
            task.engine = -1

    def _drop(self, task_id: int, root: int) -> None:
        self._unassign(task_id)
        self.tasks.pop(task_id, None)
        self.left.pop(task_id, None)
        ids = self.of_root.get(root)
        if ids is not None and task_id in ids:
            ids.remove(task_id)

    # ------------------------------------------------------------------------------------------------ into the books

    def settle(self, needed: Iterable[Part]) -> None:
        """Put the tasks into the books; `needed` are the results of those that others depend on."""
        state = self.state
        unwanted: list[Task] = []
        for task in self.tasks.values():
            runs = self.left.get(task.id)
            if runs is not None:
                task.lo, task.hi = runs[0][0], runs[-1][1]
                task.early = _without([(task.lo, task.hi)], runs) or None
            elif task.hi:
                continue
            entry = state.functions.find(task.function)
            if entry is None or (task.payload is LOST_PAYLOAD and task.engine < 0):
                unwanted.append(task)
                continue
            entry.unfinished += 1
            state.tasks[task.id] = task
            if task.objects:
                state.objects.hold(task)
            client = state.clients.get(task.client)
            if task.id != task.root or self.of_root.get(task.root):
                pieces = state.pieces.setdefault(task.root, set())
                if client is not None and not pieces:
                    client.unfinished += 1
                pieces.add(task.id)
            elif client is not None:
                client.unfinished += 1
        for engine in state.engines.values():
            self._settle_engine(engine)
        for task_id, stopped in self.stops.items():
            if task_id in state.tasks and state.tasks[task_id].state == TaskState.ASSIGNED:
                stopping.restore_stop(state, state.tasks[task_id], stopped)
        self._settle_dependents(needed)
        memory.restored(state)
        for task in unwanted:
            client = state.clients.get(task.client) or state.ghost(task.client)
            client.results.append(Result(task.root, Status.UNKNOWN, TOO_LARGE.encode(), lo=task.lo, hi=task.hi))
            state.outbox.to_client(client)

    def _settle_engine(self, engine: Engine) -> None:
        state = self.state
        engine.assigned = {id_: task for id_, task in engine.assigned.items() if id_ in state.tasks}
        for task in engine.assigned.values():
            engine.given = task.order = engine.given + 1
            task.state = TaskState.ASSIGNED
            task.cost_s = state.estimate_s(task)
            engine.load_s += task.cost_s
            engine.coroutines += task.is_coroutine
        resources.pin(engine, (task for task in engine.assigned.values() if resources.is_pinned(task)))
        engine.in_setup = setups.is_under_way(engine)
        state.touch(engine)

    def _settle_dependents(self, needed: Iterable[Part]) -> None:
        """Have the waiting tasks wait where they are to, and those that depend on others know of these."""
        state = self.state
        parts: dict[int, list[Part]] = {}
        for part in needed:
            parts.setdefault(part[0].id, []).append(part)
        depends = {
            task.id
            for task in state.tasks.values()
            if task.root in self.needs or task.options.after is not None or task.options.follow is not None
        }
        for id_ in sorted(depends):
            if state.tasks[id_].state == TaskState.ASSIGNED:
                dependents.refill(state, state.tasks[id_], self.needs.get(state.tasks[id_].root, ()), parts)
        for task in self._waiting():
            if task.id not in depends:
                self._wait(task)
            elif self._can_wait(task):
                dependents.restore(state, task, self.needs.get(task.root, ()), parts)
        dependents.settle(state)

    def _can_wait(self, task: Task) -> bool:
        """Return whether an engine may come that can serve a task; else it has ended."""
        pool = pools.pool_of(task)
        if pool is None or not pools.is_hopeless(self.state, pool):
            return True
        fleet.give_up(self.state, task, pool)
        return False

    def _waiting(self) -> Iterator[Task]:
        """The waiting tasks, the oldest first."""
        tasks = self.state.tasks.values()
        yield from sorted((t for t in tasks if t.state == TaskState.WAITING), key=lambda t: (t.root, t.lo))

    def _wait(self, task: Task) -> None:
        state, targets = self.state, task.options.targets
        task.engine = -1
        if not self._can_wait(task):
            return
        if task.options.ordered and lines.is_held_up(state, task):
            lines.line_up(state, task)
        elif task.options.ordered and targets is not None:
            engine = state.engines[targets[0]]
            engine.direct.append(task)
            state.touch(engine)
        else:
            client = state.clients.get(task.client) or state.ghost(task.client)
            state.queue_for(task).push(client, task)


def expand(client: int, message: Submit, frames: Sequence[Any]) -> Iterator[Task]:
    """Yield the tasks of a message as they enter the books."""
    default = Options()
    at = 0
    for wanted in message.tasks:
        options = message.options[wanted.options] if wanted.options < len(message.options) else default
        parts: Sequence[Any] = ()
        if wanted.frames:
            parts = frames[at : at + wanted.frames]
            at += wanted.frames
        payload = LOST_PAYLOAD if wanted.payload == LOST_PAYLOAD else wanted.payload
        targets = options.targets or ()
        copies = len(targets) if options.ordered else 1
        for copy in range(copies):
            mine = options
            if options.ordered and len(targets) > 1:
                mine = msgspec.structs.replace(options, targets=(targets[copy],))
            id_ = wanted.id + copy
            weight = memory.weigh(payload, parts, copies)
            task = Task(id_, client, wanted.function, payload, mine, parts, id_, 0, wanted.items, weight=weight)
            if wanted.objects:
                task.objects = wanted.objects
            yield task


def ended_by(message: Results) -> Iterator[tuple[int, int, int]]:
    """Yield what the results of a message speak of: `(root, lo, hi)`."""
    for result in message.results:
        yield result.id, result.lo, result.hi


def _without(runs: Runs, taken: Runs) -> Runs:
    """Return the runs without some of their items.

    >>> _without([(0, 10)], [(2, 3), (5, 7)])
    [(0, 2), (3, 5), (7, 10)]
    """
    for lo, hi in taken:
        rest: Runs = []
        for begin, end in runs:
            if begin < min(end, lo):
                rest.append((begin, min(end, lo)))
            if max(begin, hi) < end:
                rest.append((max(begin, hi), end))
        runs = rest
    return runs
