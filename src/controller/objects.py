"""The books of objects: which stores have them, and who holds them.

An object is held by tasks that have not ended and have it among their arguments; by clients, with so many *handles*
each; by results that are *kept* for whoever asks, because their client is gone; by results that the graph keeps for
tasks that wait; and by set-up. When nobody is left at the end of a turn, all stores that have it are told to drop it.

So whoever hears of an object enters it, held or not, and nobody need think of what becomes of one that turns out to be
wanted by nobody: that of a result that came too late, of a task that was refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..wire.messages import Drop
from ..wire.objects import store_of
from .journal.ledger import ObjectGone, ObjectIs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..ids import Peer
    from ..wire.messages import ObjectInfo, Source
    from .records import Task
    from .state import State

DROPPED_S = 300.0
"""So long it is remembered what was dropped: a store that was away meanwhile has not heard of it."""

MISSED_MAX = 10_000
"""It is remembered of so many objects that they were lost before anybody spoke of them."""


class Held:
    """An object that somebody holds."""

    __slots__ = ("handles", "info", "kept", "nodes", "setups", "stores", "tasks")

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info
        self.stores: set[bytes] = set()
        """The stores that have it whole; none: it is lost."""
        self.tasks: set[int] = set()
        """Tasks (and pieces of such) that have it among their arguments."""
        self.handles: dict[int, int] = {}
        """How many each client has."""
        self.kept: set[int] = set()
        """Tasks whose results refer to it, and are kept for whoever asks."""
        self.nodes: set[int] = set()
        """Tasks whose results refer to it, and are kept for tasks that wait for them."""
        self.setups: set[int] = set()
        """Set-up that has it among its arguments."""

    @property
    def is_held(self) -> bool:
        """Whether anybody holds it."""
        return bool(self.tasks or self.handles or self.kept or self.nodes or self.setups)


class Objects:
    """All objects that somebody holds."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Held] = {}
        self.stores: dict[bytes, Peer] = {}
        """Of which nannies the stores are."""
        self.touched: set[bytes] = set()
        """Those of which somebody may have let go, or that are new."""
        self.changed: set[bytes] = set()
        """Those whose record is to be written down."""
        self.kept: deque[tuple[float, int, bytes]] = deque()
        """Since when which results are kept, with their objects; in this order."""
        self.kept_bytes = 0
        """What the objects of these results weigh."""
        self.dropped: set[bytes] = set()
        """What was dropped lately."""
        self.missed: set[bytes] = set()
        """What a store had and has lost before anybody spoke of it."""
        self._dropped: deque[tuple[float, bytes]] = deque()

    # ------------------------------------------------------------------------------------------------ holding

    def enter(self, info: ObjectInfo) -> Held:
        """Return the entry of an object; a new one is in the store that made it, unless it has gone from there."""
        held = self.entries.get(info.id)
        if held is None:
            held = self.entries[info.id] = Held(info)
            store = store_of(info.id)
            if info.id in self.dropped or info.id in self.missed:
                self.dropped.discard(info.id)
                self.missed.discard(info.id)
            elif store in self.stores:
                held.stores.add(store)
            self.touch(info.id)
        return held

    def touch(self, id_: bytes) -> None:
        """Its record has changed: have it looked at, and written down, at the end of the turn."""
        self.touched.add(id_)
        self.changed.add(id_)

    def hear(self, infos: Iterable[ObjectInfo]) -> None:
        """There are these objects; if nobody comes to hold them in this turn, they are dropped."""
        for info in infos:
            self.enter(info)

    def hold(self, task: Task) -> None:
        """A task is in the books, or has another id: it holds its objects."""
        for info in task.objects:
            self.enter(info).tasks.add(task.id)

    def let_go(self, task: Task) -> None:
        """A task is off the books."""
        for info in task.objects:
            held = self.entries.get(info.id)
            if held is not None:
                held.tasks.discard(task.id)
                self.touched.add(info.id)

    def give_more(self, task: Task, infos: Iterable[ObjectInfo]) -> None:
        """A task (in the books) is given results, which refer to these."""
        there = {info.id for info in task.objects}
        more = tuple(info for info in {info.id: info for info in infos}.values() if info.id not in there)
        if more:
            task.objects += more
            for info in more:
                self.enter(info).tasks.add(task.id)

    def wait(self, root: int, infos: Iterable[ObjectInfo]) -> None:
        """The graph keeps a result of a task that refers to these."""
        for info in infos:
            self.enter(info).nodes.add(root)

    def heard(self, root: int, infos: Iterable[ObjectInfo]) -> None:
        """All that waited for a task have its results."""
        for info in infos:
            held = self.entries.get(info.id)
            if held is not None:
                held.nodes.discard(root)
                self.touched.add(info.id)

    def give_handle(self, client: int, info: ObjectInfo) -> None:
        """A client has one handle more."""
        handles = self.enter(info).handles
        handles[client] = handles.get(client, 0) + 1
        self.touch(info.id)

    def take_handle(self, client: int, id_: bytes) -> None:
        """A client gives a handle back."""
        held = self.entries.get(id_)
        if held is None or client not in held.handles:
            return
        held.handles[client] -= 1
        if not held.handles[client]:
            del held.handles[client]
        self.touch(id_)

    def has_handle(self, client: int, id_: bytes) -> bool:
        """Return whether a client holds an object."""
        held = self.entries.get(id_)
        return held is not None and client in held.handles

    def take_handles(self, client: int) -> None:
        """A client has no handles any more."""
        for id_, held in self.entries.items():
            if held.handles.pop(client, 0):
                self.touch(id_)

    def keep(self, root: int, info: ObjectInfo, now: float) -> None:
        """A result of a task is kept for whoever asks, and refers to this."""
        held = self.enter(info)
        if root not in held.kept:
            held.kept.add(root)
            self.kept.append((now, root, info.id))
            self.kept_bytes += info.nbytes
            self.touch(info.id)

    def discard(self, root: int, id_: bytes) -> None:
        """The result of a task is not kept any more."""
        held = self.entries.get(id_)
        if held is not None and root in held.kept:
            held.kept.discard(root)
            self.kept_bytes -= held.info.nbytes
            self.touch(id_)

    def is_there(self, infos: Iterable[ObjectInfo]) -> bool:
        """Return whether all of these are in the books: some store has them, or had them when they were lost."""
        return all(info.id in self.entries for info in infos)

    # ------------------------------------------------------------------------------------------------ stores

    def arrived(self, store: bytes, id_: bytes) -> bool:
        """A store has an object now; return whether anybody holds it (else it is to be dropped there)."""
        held = self.entries.get(id_)
        if held is None:
            return False
        if store not in held.stores:
            held.stores.add(store)
            self.touch(id_)
        return True

    def stock_of(self, source: Source | None) -> set[bytes]:
        """Return what a store has."""
        if source is None:
            return set()
        return {id_ for id_, held in self.entries.items() if source.store in held.stores}

    def vanished(self, store: bytes, id_: bytes) -> None:
        """A store has an object no longer."""
        held = self.entries.get(id_)
        if held is not None and store in held.stores:
            held.stores.discard(store)
            self.touch(id_)

    def miss(self, id_: bytes) -> None:
        """A store has lost an object of which nobody has spoken, and somebody may do so yet."""
        if len(self.missed) >= MISSED_MAX:
            self.missed.clear()
        self.missed.add(id_)

    def store_lost(self, store: bytes) -> None:
        """A store is gone, and its copies with it."""
        self.stores.pop(store, None)
        for id_, held in self.entries.items():
            if store in held.stores:
                held.stores.discard(store)
                self.touch(id_)

    # ------------------------------------------------------------------------------------------------ the end

    def remember(self, id_: bytes, now: float) -> None:
        """An object was dropped: whoever says later that it has it is to be told."""
        self.dropped.add(id_)
        self._dropped.append((now, id_))
        while self._dropped[0][0] < now - DROPPED_S:
            self.dropped.discard(self._dropped.popleft()[1])


def sweep(state: State) -> None:
    """Drop what nobody holds, and have written down what has changed."""
    objects = state.objects
    if not objects.touched:
        return
    drops: dict[bytes, list[bytes]] = {}
    for id_ in sorted(objects.touched):  # in the same order whenever a simulation is played again
        held = objects.entries.get(id_)
        if held is None:
            continue
        if held.is_held:
            if state.durable and id_ in objects.changed:
                state.note(object_is(held))
            continue
        del objects.entries[id_]
        objects.remember(id_, state.now)
        state.note(ObjectGone(id_))
        for store in {*held.stores, *state.pulls.forget(id_)}:
            drops.setdefault(store, []).append(id_)
    objects.touched.clear()
    objects.changed.clear()
    for store, ids in drops.items():
        drop(state, store, ids)


def drop(state: State, store: bytes, ids: list[bytes]) -> None:
    """Have a store drop these. One that cannot be reached hears of it when it is back."""
    peer = state.objects.stores.get(store)
    if peer is not None and ids:
        state.outbox.say(peer, Drop(sorted(ids)))


def object_is(held: Held) -> ObjectIs:
    """Return what is to be written down of an object."""
    handles = sorted(held.handles.items())
    return ObjectIs(held.info.id, held.info.nbytes, sorted(held.stores), handles, sorted(held.kept))


def check(state: State) -> None:
    """Assert what must hold between turns."""
    objects = state.objects
    tasks: dict[bytes, set[int]] = {}
    for task in state.tasks.values():
        ids = [info.id for info in task.objects]
        assert len(ids) == len(set(ids)), f"{task} has an object twice"
        for id_ in ids:
            tasks.setdefault(id_, set()).add(task.id)
    nodes: dict[bytes, set[int]] = {}
    for root, node in (*state.graph.nodes.items(), *state.graph.sought.items()):
        for result, _ in node.parts.values():
            for info in result.objects:
                nodes.setdefault(info.id, set()).add(root)
    kept = 0
    for id_, held in objects.entries.items():
        assert held.info.id == id_
        assert held.is_held or id_ in objects.touched, f"nobody holds {held.info}"
        assert held.tasks == tasks.pop(id_, set())
        assert held.nodes == nodes.pop(id_, set())
        assert all(count > 0 and no in state.clients for no, count in held.handles.items())
        kept += len(held.kept) * held.info.nbytes
        assert held.stores <= set(objects.stores)
        assert held.setups <= {setup.no for setup in state.setups}
    assert objects.kept_bytes == kept
    assert not tasks, f"tasks have objects that are not in the books: {tasks}"
    assert all(peer in state.nannies for peer in objects.stores.values())
