"""Giving waiting tasks to engines: one pass per turn, however many messages came.

Tasks are bound late. An engine is given a *window* of work measured in time: thousands of no-ops, or one long task and
one more to begin at once when that ends. The engine with the least load is served first; a burst is spread evenly over
the engines there are. What turns out to be badly placed is taken back (`taking`).
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import TYPE_CHECKING

from ..recorder import COROUTINES
from ..wire.messages import Call, Function
from ..wire.parts import COROUTINE
from . import homes, pools, pulls, resources
from .records import EngineState, TaskState
from .state import CALL_OVERHEAD_S, COROUTINE_S, ITEM_OVERHEAD_S, WINDOW_S

if TYPE_CHECKING:
    from collections import deque

    from ..ids import Peer
    from .pools import Pool
    from .queues import FairQueue
    from .records import Engine, Task
    from .state import State

QUANTUM_S = 0.005
"""How much engine time a client is given at a stretch while others wait too."""

PREFETCH = 2
"""An engine away from what a task needs has one to run, and one whose objects are brought meanwhile."""

UNKNOWN_S = 0.001
"""What a task of unknown duration counts in its client's account."""


def place(state: State) -> None:
    """Give out what can be given out."""
    if state.direct_ready:
        _place_direct(state)
    if state.pools:
        _place_pools(state)
    if state.coroutines.waiting:
        _place_coroutines(state, state.coroutines, list(state.engines.values()))
    if state.homes:
        _place_homes(state)
    if state.common.waiting and state.open:
        _place_common(state)
    if state.homes and state.idle:
        _place_abroad(state)


def _place_direct(state: State) -> None:
    for engine_id in sorted(state.direct_ready):
        engine = state.engines[engine_id]
        _feed(state, engine, engine.direct, len(engine.direct), WINDOW_S)
        state.touch(engine)
    state.direct_ready.clear()


def _place_pools(state: State) -> None:
    awaited: set[tuple[Peer, str]] = set()
    willing: pools.Willing = {}
    for pool, queue in list(state.pools.items()):
        if not queue.waiting:  # all were withdrawn, and their function may be forgotten
            del state.pools[pool]
            continue
        engines = pools.members(state, pool, willing)
        pinned = bool(pool.resources or pool.unmet)
        if pool.resources:
            _place_takers(state, pool, queue, engines, awaited)
        elif pool.coroutines:
            _place_coroutines(state, queue, engines, pinned=pinned)
        else:
            while queue.waiting and (able := [engine for engine in engines if _can_take(engine)]):
                engine = _choose(state, queue, able)
                _serve(state, queue, engine, -(-queue.waiting // len(able)), pinned=pinned)
        if not queue.waiting:
            del state.pools[pool]


def _place_takers(
    state: State, pool: Pool, queue: FairQueue, engines: list[Engine], awaited: set[tuple[Peer, str]]
) -> None:
    """Give out tasks that take resources, one by one, while there are some free.

    Pools take turns. One that waits for more than is free keeps those after it from taking what it waits for
    (`awaited`, by host and name): else tasks that take much would wait for ever for those that take little.
    """
    can_take = _can_take_coroutine if pool.coroutines else _can_take
    names = [name for name, _ in pool.resources]
    while queue.waiting:
        able = [engine for engine in engines if can_take(engine)]
        takers = [
            engine
            for engine in able
            if awaited.isdisjoint((engine.nanny, name) for name in names)
            and resources.are_free(state, state.nannies[engine.nanny], pool.resources)
        ]
        if not takers:
            awaited.update((engine.nanny, name) for engine in able for name in names)
            return
        _serve(state, queue, _choose(state, queue, takers), 1, pinned=True)
        state.pools[pool] = state.pools.pop(pool)


def _choose(state: State, queue: FairQueue, engines: list[Engine]) -> Engine:
    """Return the engine that the next task of a pool is for: where its objects are, if any is, with the least load."""
    chosen = queue.find_next()
    if chosen is not None and chosen[1][0].objects and len(state.objects.stores) > 1:
        engines = [engine for engine in engines if homes.is_near(state, chosen[1][0], engine)] or engines
    return min(engines, key=lambda e: e.load_s)


def _place_coroutines(state: State, queue: FairQueue, engines: list[Engine], *, pinned: bool = False) -> None:
    """Spread coroutines evenly over those of the engines that can take some; they run at once there, unless a task that
    keeps its engine to itself does.
    """
    able = [engine for engine in engines if _can_take_coroutine(engine)]
    able.sort(key=lambda engine: (engine.load_s, engine.id))
    while queue.waiting and able:
        share = -(-queue.waiting // len(able))
        for engine in able:
            _serve(state, queue, engine, min(share, COROUTINES - engine.coroutines), pinned=pinned)
        able = [engine for engine in able if _can_take_coroutine(engine)]


def _can_take(engine: Engine) -> bool:
    return engine.state is EngineState.READY and not engine.retiring and _has_room(engine)


def _can_take_coroutine(engine: Engine) -> bool:
    return engine.coroutines < COROUTINES and _can_take(engine)


def _place_common(state: State) -> None:
    queue, heap, engines = state.common, state.open, state.engines
    ready = sum(1 for e in engines.values() if e.state is EngineState.READY) if len(engines) < 64 else len(engines)
    while queue.waiting and heap:
        _, engine_id, version = heappop(heap)
        engine = engines.get(engine_id)
        if engine is None or engine.version != version:
            continue
        _serve(state, queue, engine, max(1, -(-queue.waiting // ready)))


def _place_homes(state: State) -> None:
    """Give out tasks where most of what they need is; those hosts' engines have of the other tasks in turns."""
    common = state.common
    for peer, home in list(state.homes.items()):
        queue = home.queue
        while queue.waiting and (engine := home.next_engine(state)) is not None:
            if not _can_take(engine):
                continue  # it comes again when it can
            chosen = common if common.waiting and home.yields(common) else queue
            engines = len(state.engines) if chosen is common else len(state.nannies[peer].engines)
            _serve(state, chosen, engine, -(-chosen.waiting // engines))
        if not queue.waiting:
            del state.homes[peer]
        elif not homes.has_engines(state, peer):
            homes.dissolve(state, peer)


def _place_abroad(state: State) -> None:
    """Give tasks to engines that would be idle while the engines where they are at home have all they can take."""
    waiting = [(-home.queue.waiting, peer) for peer, home in state.homes.items()]
    heapify(waiting)
    for engine_id in sorted(state.idle):
        left, peer = waiting[0]
        if not left:
            break
        engine, queue = state.engines[engine_id], state.homes[peer].queue
        chosen = queue.find_next()
        assert chosen is not None, "a home is closed when nothing waits there"
        share = -(-queue.waiting // len(state.engines))
        if not homes.is_near(state, chosen[1][0], engine):
            share = min(share, PREFETCH)
        _serve(state, queue, engine, share)
        heapreplace(waiting, (-queue.waiting, peer))
        if not queue.waiting:
            del state.homes[peer]


def _has_room(engine: Engine) -> bool:
    return engine.plain < 2 or engine.load_s < WINDOW_S


def _serve(state: State, queue: FairQueue, engine: Engine, share: int, *, pinned: bool = False) -> None:
    """Give an engine its share of a queue, as far as it has room, to the clients in turn."""
    while share > 0 and _has_room(engine):
        chosen = queue.find_next()
        if chosen is None:
            break
        client, lane = chosen
        taken, cost_s = _feed(state, engine, lane, share, QUANTUM_S if queue.contested else WINDOW_S, pinned=pinned)
        if pinned:
            resources.pin(engine, islice(reversed(engine.assigned.values()), taken))
        queue.served(client, taken, cost_s)
        share -= taken
    state.touch(engine)


def _feed(
    state: State,
    engine: Engine,
    source: deque[Task],
    most: int,
    quantum_s: float,
    *,
    pinned: bool = False,
) -> tuple[int, float]:
    """Move tasks from the front of a lane to an engine while it has room, `most` and the quantum allow; `pinned`: they
    are not given back unasked.

    Return how many, and the time they count in their client's account. This is the inner loop of placement.
    """
    work = state.outbox.work_for(engine)
    calls, known, assigned = work.calls, engine.known, engine.assigned
    entries = state.functions.entries
    load_s, coroutines = engine.load_s, engine.coroutines
    count = len(assigned) - coroutines
    engine_id = engine.id
    several = len(state.objects.stores) > 1
    taken, spent_s = 0, 0.0
    digest, entry = b"", None
    while source and taken < most and (count < 2 or load_s < WINDOW_S) and spent_s < quantum_s:
        task = source.popleft()
        if task.state != TaskState.WAITING:
            continue
        if coroutines >= COROUTINES and task.is_coroutine:
            source.appendleft(task)
            break
        if task.function != digest or entry is None:
            digest = task.function
            entry = entries[digest]
            if digest not in known:
                known.add(digest)
                if entry.pickled:
                    work.functions.append(Function(digest, entry.pickled))
        options = task.options
        mean_s = entry.mean_s
        if digest[:1] == COROUTINE and task.hi <= 1:
            coroutines += 1
            count -= 1
            cost_s = COROUTINE_S
            spent_s += cost_s
        elif mean_s is None:
            cost_s = WINDOW_S
            spent_s += UNKNOWN_S
        elif task.hi:
            cost_s = (mean_s + ITEM_OVERHEAD_S) * (task.hi - task.lo)
            spent_s += cost_s
        else:
            cost_s = mean_s + CALL_OVERHEAD_S
            spent_s += cost_s
        task.state = TaskState.ASSIGNED
        task.engine = engine_id
        engine.given = task.order = engine.given + 1
        task.cost_s = cost_s
        load_s += cost_s
        count += 1
        taken += 1
        assigned[task.id] = task
        if task.hi:
            state.rebalance = True  # others may be idle, and can have a part
        if options.targets is None and options.timeout_s is None and not pinned and not options.keep:
            calls.append(Call(task.id, digest, task.payload, len(task.frames), task.lo, task.hi))
        else:
            announce = options.timeout_s is not None
            fixed = options.targets is not None or pinned
            if options.setup is not None:
                engine.in_setup = True
            call = Call(task.id, digest, task.payload, len(task.frames), task.lo, task.hi, fixed, announce)
            call.keep = options.keep
            calls.append(call)
        if task.frames:
            work.frames.extend(task.frames)
        if task.objects and several:
            pulls.ahead(state, engine, task)
    engine.load_s = load_s
    engine.coroutines = coroutines
    return taken, spent_s
