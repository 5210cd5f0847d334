"""Homes: tasks that any engine may run, and that need objects, wait at a host that has most of the bytes.

A host's engines are served from its home and from what any engine may run in turns. An engine elsewhere has a task of a
home only if it would be idle and the home's own engines have all they can take: then moving bytes beats waiting.
Nothing of this concerns tasks without objects, or a cluster with one store.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from ..ids import Peer
from . import pools
from .queues import FairQueue
from .records import EngineState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.objects import ObjectInfo
    from .records import Client, Engine, Task
    from .state import State

EVERYWHERE = 16
"""An object that so many stores have is near anyway."""


NOWHERE = Peer(b"")
"""The home of a task that has none."""


class Home:
    """The tasks that wait at a host, and its engines that can take more."""

    __slots__ = ("_turn", "open", "queue")

    def __init__(self) -> None:
        self.queue = FairQueue()
        self.open: list[tuple[float, int, int]] = []
        """Heap of (load, engine, version), like `State.open`."""
        self._turn = False

    def offer(self, engine: Engine) -> None:
        """An engine of the host can take more."""
        heappush(self.open, (engine.load_s, engine.id, engine.version))

    def next_engine(self, state: State) -> Engine | None:
        """Return the engine with the least load of those that may be able to take more, once; None: there is none."""
        while self.open:
            _, engine_id, version = heappop(self.open)
            engine = state.engines.get(engine_id)
            if engine is not None and engine.version == version:
                return engine
        return None

    def yields(self, common: FairQueue) -> bool:
        """Return whether it is the turn of what any engine may run."""
        mine, theirs = self.queue.find_next(), common.find_next()
        if mine is None or theirs is None:
            return mine is None
        if mine[0] is theirs[0]:
            own, other = mine[1][0].options.priority, theirs[1][0].options.priority
            if own != other:
                return other > own
        self._turn = not self._turn
        return not self._turn


def enqueue(state: State, client: Client, task: Task) -> None:
    """Have a task wait behind the others of its priority, at the best of places."""
    if task.objects and pools.pool_of(task) is None and not task.is_coroutine:
        task.home = find(state, task.objects)
        if task.home and task.home not in state.homes:
            _open(state, task.home)
    state.queue_for(task).push(client, task)


def find(state: State, objects: Sequence[ObjectInfo]) -> Peer:
    """Return the nanny of the host that has most of these, of several the one where least waits; empty for none."""
    books = state.objects
    if len(books.stores) < 2:
        return NOWHERE
    weights: dict[bytes, int] = {}
    for info in objects:
        held = books.entries.get(info.id)
        if held is None or len(held.stores) > EVERYWHERE or len(held.stores) == len(books.stores):
            continue
        for store in held.stores:
            weights[store] = weights.get(store, 0) + info.nbytes
    if not weights:
        return NOWHERE
    most = max(weights.values())
    best = (books.stores.get(store) for store, weight in sorted(weights.items()) if weight == most)
    able = [peer for peer in islice(best, EVERYWHERE) if peer is not None and has_engines(state, peer)]
    return min(able, key=lambda peer: _waiting_at(state, peer), default=NOWHERE)


def has_engines(state: State, peer: Peer) -> bool:
    """Return whether a host has engines that may take tasks, now or when they have done what they have."""
    nanny = state.nannies.get(peer)
    return nanny is not None and any(
        engine.state is EngineState.READY and not engine.retiring
        for engine_id in nanny.engines
        if (engine := state.engines.get(engine_id)) is not None
    )


def is_near(state: State, task: Task, engine: Engine) -> bool:
    """Return whether an engine's host has all that a task needs."""
    nanny = state.nannies.get(engine.nanny)
    if nanny is None or nanny.store is None:
        return False
    store, entries = nanny.store.store, state.objects.entries
    return all((held := entries.get(info.id)) is not None and store in held.stores for info in task.objects)


def dissolve(state: State, peer: Peer) -> None:
    """A host has no engines for the tasks that wait at it: let them wait for any."""
    home = state.homes.pop(peer)
    for task in list(home.queue):
        task.home = NOWHERE
        client = state.clients.get(task.client) or state.ghost(task.client)
        state.common.push(client, task)


def check(state: State) -> None:
    """Assert what must hold between turns: nothing waits at a host while it has engines that can take more."""
    for peer, home in state.homes.items():
        waiting = list(home.queue)
        assert waiting or state.stopping, f"a home of nothing at {peer!r}"
        assert all(task.home == peer for task in waiting)
        able = [e for _, id_, version in home.open if (e := state.engines.get(id_)) and e.version == version]
        assert not able or state.stopping, f"{able} could take what waits at {peer!r}"
        assert not state.idle or state.stopping, f"engines {state.idle} are idle, and could take what waits at {peer!r}"


def _waiting_at(state: State, peer: Peer) -> float:
    home = state.homes.get(peer)
    return 0.0 if home is None else home.queue.waiting / len(state.nannies[peer].engines)


def _open(state: State, peer: Peer) -> None:
    home = state.homes[peer] = Home()
    for engine_id in state.nannies[peer].engines:
        engine = state.engines.get(engine_id)
        if engine is not None:
            home.offer(engine)  # whether it can take more is seen then
