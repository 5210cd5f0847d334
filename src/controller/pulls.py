"""Objects on their way to stores: who brings what from where.

Stores that want the same object make a tree: each takes it from one that has it, or that is about to have it and
serves what comes as it comes, and none serves more than a few at a time. Where a source goes, those that took from it
are told another. When there is none left, whoever wants the object is told so.

Nothing of this is written down: to a controller that takes over, nannies say again what they want.
"""

from __future__ import annotations

from heapq import heappop, heappush, nsmallest
from typing import TYPE_CHECKING

from ..wire.messages import Lacking, Pull
from ..wire.objects import show_object
from . import objects

if TYPE_CHECKING:
    from ..ids import Peer
    from ..wire.messages import Need, Pulled, Unpulled, Vanished
    from ..wire.objects import ObjectInfo, Source
    from .records import Engine, Nanny, Task
    from .state import State

FAN = 2
"""A store serves so many others with the same object at a time, if others can do it too."""

NAMED = 4
"""A store is told of so many sources: the one it is to take from, and others in case that one fails."""

AGAIN_S = 0.5
"""When all sources have failed, or are away, this is the pause before they are tried again."""

ROUNDS = 2
"""All sources are tried so often before it is said that the object cannot be had."""


class Coming:
    """An object on its way to a store."""

    __slots__ = ("failed", "named", "rounds", "source", "why")

    def __init__(self) -> None:
        self.source = b""
        """The store it is to be taken from; empty while there is none."""
        self.named: tuple[bytes, ...] = ()
        """The stores that the puller was told of."""
        self.failed: set[bytes] = set()
        """Those it could not have it from, in this round."""
        self.rounds = 0
        self.why = ""
        """What the last of them said, or the puller of them."""


class Tree:
    """An object and all the stores it is on its way to."""

    __slots__ = ("_depth", "_load", "_open", "coming", "info")

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info
        self.coming: dict[bytes, Coming] = {}
        """By the store that it is coming to."""
        self._load: dict[bytes, int] = {}
        """How many take it from a store."""
        self._depth: dict[bytes, int] = {}
        """How far from a holder a store is, or was when it was last looked at: 0 for a holder."""
        self._open: list[tuple[int, int, int, bytes]] = []
        """Heap of (depth, load, what it serves of other objects, store); entries that are not so any more are void."""

    def offer(self, store: bytes, depth: int | None = None, busy: int = 0) -> None:
        """A store may serve."""
        depth = self._depth.get(store, 0) if depth is None else depth
        self._depth[store] = depth
        load = self._load.get(store, 0)
        if load < FAN:
            heappush(self._open, (depth, load, busy, store))

    def withdraw(self, store: bytes) -> None:
        """A store serves no more: it neither has the object nor is it coming there."""
        self._depth.pop(store, None)

    def attach(self, store: bytes, source: bytes, serving: dict[bytes, int]) -> None:
        """A store is to take the object from another."""
        coming = self.coming[store]
        self.detach(store, serving)
        coming.source = source
        self._load[source] = self._load.get(source, 0) + 1
        serving[source] = serving.get(source, 0) + 1
        if source in self._depth:
            self.offer(source, busy=serving[source])
        self.offer(store, self._depth.get(source, 0) + 1, serving.get(store, 0))

    def detach(self, store: bytes, serving: dict[bytes, int]) -> None:
        """A store takes the object from nobody for now."""
        coming = self.coming[store]
        source, coming.source = coming.source, b""
        if not source:
            return
        for counts in (self._load, serving):
            counts[source] -= 1
            if not counts[source]:
                del counts[source]
        if source in self._depth:
            self.offer(source, busy=serving.get(source, 0))

    def pullers(self, source: bytes) -> list[bytes]:
        """Return the stores that take it from another."""
        if source not in self._load:
            return []
        return [store for store, coming in self.coming.items() if coming.source == source]

    def choose(self, state: State, store: bytes) -> bytes:
        """Return the store that another should take it from; empty if none can serve it."""
        failed = self.coming[store].failed
        aside: list[tuple[int, int, int, bytes]] = []
        found = b""
        heap = self._open
        while heap and not found:
            entry = heappop(heap)
            depth, load, _, other = entry
            if self._depth.get(other) != depth or self._load.get(other, 0) != load:
                continue
            aside.append(entry)
            if other not in failed and self._may_serve(state, other, store):
                found = other
        for entry in aside:
            heappush(heap, entry)
        if not found:  # of those that serve as many as they should
            others = [o for o in self._depth if o not in failed and self._may_serve(state, o, store)]
            found = min(others, key=lambda o: (self._load.get(o, 0), self._depth[o], o), default=b"")
        if len(heap) > 64 + 4 * len(self._depth):
            self._open = [
                e for e in sorted(set(heap)) if self._depth.get(e[3]) == e[0] and self._load.get(e[3], 0) == e[1]
            ]
        return found

    def _may_serve(self, state: State, source: bytes, store: bytes) -> bool:
        """Return whether a store can be reached and is not to get the object from this one."""
        if find_source(state, source) is None:
            return False
        above, steps = source, 0
        while above and steps <= len(self.coming):
            if above == store:
                return False
            coming = self.coming.get(above)
            if coming is None:
                return above in self._depth  # it has the object, or had it
            above, steps = coming.source, steps + 1
        return False  # nobody serves that one

    def spare(self, state: State, store: bytes, chosen: bytes) -> tuple[bytes, ...]:
        """Return the stores to tell another of: the chosen one and some that have the object whole."""
        named = [chosen]
        for holder in nsmallest(2 * NAMED, state.objects.entries[self.info.id].stores):
            if len(named) == NAMED:
                break
            if holder not in (chosen, store) and find_source(state, holder) is not None:
                named.append(holder)
        return tuple(named)


class Pulls:
    """All objects that are on their way."""

    def __init__(self) -> None:
        self.trees: dict[bytes, Tree] = {}
        self.serving: dict[bytes, int] = {}
        """How many pulls each store serves."""

    def stores(self, object_id: bytes) -> list[bytes]:
        """Return the stores that an object is on its way to."""
        tree = self.trees.get(object_id)
        return [] if tree is None else list(tree.coming)

    def forget(self, object_id: bytes) -> list[bytes]:
        """Nobody holds an object any more. Return the stores that it was on its way to: they are to be told, too."""
        tree = self.trees.pop(object_id, None)
        if tree is None:
            return []
        for store in tree.coming:
            tree.detach(store, self.serving)
        return list(tree.coming)

    def check(self) -> None:
        """Assert what must hold between turns."""
        served: dict[bytes, int] = {}
        for tree in self.trees.values():
            assert tree.coming, f"nothing is on its way of {show_object(tree.info.id)}"
            for coming in tree.coming.values():
                if coming.source:
                    served[coming.source] = served.get(coming.source, 0) + 1
        assert served == self.serving


# ------------------------------------------------------------------------------------------------------ beginning


def on_need(state: State, nanny: Nanny, message: Need, now: float) -> None:
    """Processes of a host want objects that are not there: say where they are, or that they are nowhere."""
    if nanny.store is None:
        return
    for object_id in message.objects:
        _on_lack(state, nanny.peer, nanny.store.store, object_id, now)


def _on_lack(state: State, peer: Peer, store: bytes, object_id: bytes, now: float) -> None:
    """An object is wanted at a store, and neither there nor on its way."""
    held = state.objects.entries.get(object_id)
    if held is None:
        state.outbox.say(peer, Lacking(object_id, "nobody held it, so it was freed"))
        return
    if store in held.stores:  # it knows better
        _is_gone(state, object_id, store, now)
    _bring(state, held.info, store, now, again=True)


def ahead(state: State, engine: Engine, task: Task) -> None:
    """A task was given to an engine: what it needs and its host lacks is to be there when it begins."""
    nanny = state.nannies.get(engine.nanny)
    if nanny is None or nanny.store is None:
        return
    store = nanny.store.store
    for info in task.objects:
        held = state.objects.entries.get(info.id)
        if held is not None and store not in held.stores:
            _bring(state, held.info, store, state.now, again=False)


def _bring(state: State, info: ObjectInfo, store: bytes, now: float, *, again: bool) -> None:
    """Have an object brought to a store; `again`: it wants to hear of it, also if that has been said."""
    pulls = state.pulls
    tree = pulls.trees.get(info.id)
    if tree is None:
        tree = pulls.trees[info.id] = Tree(info)
        for holder in sorted(state.objects.entries[info.id].stores):
            tree.offer(holder, 0, pulls.serving.get(holder, 0))
    coming = tree.coming.get(store)
    if coming is None:
        tree.coming[store] = Coming()
        _look_for_source(state, tree, store, now)
    elif again and coming.source:
        _say_again(state, tree, store, now)


def _look_for_source(state: State, tree: Tree, store: bytes, now: float) -> None:
    """Tell a store where to take an object from, or try again later, or give up."""
    coming = tree.coming[store]
    tree.detach(store, state.pulls.serving)
    source = tree.choose(state, store)
    if source:
        tree.attach(store, source, state.pulls.serving)
        coming.named = tree.spare(state, store, source)
        _say(state, tree, store)
        return
    held = state.objects.entries[tree.info.id]
    others = held.stores - {store}
    if not others:
        _give_up(state, tree, store, _why_nowhere(coming.why), now)
        return
    away = any(_is_away(state, other) for other in others)
    if not away:
        coming.rounds += 1
        if coming.rounds >= ROUNDS or all(_serves_nobody(state, other) for other in others):
            _give_up(state, tree, store, _why_not_from(state, others, coming.why), now)
            return
    coming.failed.clear()
    state.at(now + AGAIN_S, _again, state, tree, store, coming)


def _again(state: State, tree: Tree, store: bytes, coming: Coming, now: float) -> None:
    if state.pulls.trees.get(tree.info.id) is tree and tree.coming.get(store) is coming and not coming.source:
        _look_for_source(state, tree, store, now)


def _say_again(state: State, tree: Tree, store: bytes, now: float) -> None:
    """A store may not have heard where to take an object from: say so, or another source if that is away by now."""
    if find_source(state, tree.coming[store].source) is None:
        _look_for_source(state, tree, store, now)
    else:
        _say(state, tree, store)


def _say(state: State, tree: Tree, store: bytes) -> None:
    peer = state.objects.stores.get(store)
    sources = [source for named in tree.coming[store].named if (source := find_source(state, named)) is not None]
    if peer is not None and sources:
        state.outbox.say(peer, Pull(tree.info, sources))


# ------------------------------------------------------------------------------------------------------ ends


def on_pulled(state: State, nanny: Nanny, message: Pulled) -> None:
    """Objects are whole in a store now."""
    if nanny.store is None:
        return
    store = nanny.store.store
    for info in message.objects:
        _arrived(state, info.id, store)
        if not state.objects.arrived(store, info.id):
            objects.drop(state, store, [info.id])


def _arrived(state: State, object_id: bytes, store: bytes) -> None:
    tree = state.pulls.trees.get(object_id)
    if tree is None:
        return
    if store in tree.coming:
        tree.detach(store, state.pulls.serving)
        del tree.coming[store]
    if tree.coming:
        tree.offer(store, 0, state.pulls.serving.get(store, 0))
    else:
        del state.pulls.trees[object_id]


def on_unpulled(state: State, nanny: Nanny, message: Unpulled, now: float) -> None:
    """A store could not have an object: it has no room for it, or all the sources that it was told of have failed."""
    if nanny.store is None:
        return
    tree, store = state.pulls.trees.get(message.object), nanny.store.store
    if tree is None or store not in tree.coming:  # an earlier controller has told it to bring that
        if message.full:
            state.outbox.say(nanny.peer, Lacking(message.object, message.why))
        else:
            _on_lack(state, nanny.peer, store, message.object, now)
        return
    if message.full:
        _give_up(state, tree, store, message.why, now)
        return
    coming = tree.coming[store]
    coming.failed.update(coming.named)
    coming.why = message.why
    _look_for_source(state, tree, store, now)


def on_vanished(state: State, nanny: Nanny, message: Vanished, now: float) -> None:
    """Objects are not in a store any more, and nobody had said that they should go."""
    if nanny.store is not None:
        for object_id in message.objects:
            _is_gone(state, object_id, nanny.store.store, now)


def _is_gone(state: State, object_id: bytes, store: bytes, now: float) -> None:
    if object_id not in state.objects.entries:  # it may be spoken of yet
        state.objects.miss(object_id)
        return
    state.objects.vanished(store, object_id)
    tree = state.pulls.trees.get(object_id)
    if tree is not None:
        if store not in tree.coming:
            tree.withdraw(store)
        _orphaned(state, tree, store, now)


def _orphaned(state: State, tree: Tree, source: bytes, now: float) -> None:
    """Those that took an object from a store that serves it no more are told another."""
    for store in tree.pullers(source):
        if store in tree.coming:
            tree.coming[store].failed.add(source)
            _look_for_source(state, tree, store, now)


def _give_up(state: State, tree: Tree, store: bytes, why: str, now: float) -> None:
    """An object will not come to a store."""
    peer = state.objects.stores.get(store)
    if peer is not None:
        state.outbox.say(peer, Lacking(tree.info.id, why))
    _remove(state, tree, store, now)


def _remove(state: State, tree: Tree, store: bytes, now: float) -> None:
    """A store is not to get an object any more, nor can others have it from there."""
    tree.detach(store, state.pulls.serving)
    del tree.coming[store]
    tree.withdraw(store)
    if not tree.coming:
        del state.pulls.trees[tree.info.id]
        return
    _orphaned(state, tree, store, now)


def store_lost(state: State, store: bytes, now: float) -> None:
    """A store is gone, and what it had with it: after the books of objects have been told."""
    for tree in list(state.pulls.trees.values()):
        if store in tree.coming:
            _remove(state, tree, store, now)
        else:
            tree.withdraw(store)
            _orphaned(state, tree, store, now)


def store_back(state: State, nanny: Nanny, now: float) -> None:
    """A nanny has said what it has: what it was told to bring may not have reached it, or is there."""
    if nanny.store is None:
        return
    store = nanny.store.store
    for tree in list(state.pulls.trees.values()):
        held = state.objects.entries.get(tree.info.id)
        if held is not None and store in held.stores:
            _arrived(state, tree.info.id, store)
        elif store not in tree.coming:
            tree.withdraw(store)
            _orphaned(state, tree, store, now)
        elif tree.coming[store].source:
            _say_again(state, tree, store, now)


# ------------------------------------------------------------------------------------------------------ who can serve


def find_source(state: State, store: bytes) -> Source | None:
    """Return how others reach a store; None if they cannot, now."""
    nanny = _keeper(state, store)
    if nanny is None or nanny.store is None or nanny.away_since is not None:
        return None
    return nanny.store if nanny.store.address else None


def host_of(state: State, store: bytes) -> str:
    """Return the name of a store's host, as far as it is known."""
    nanny = _keeper(state, store)
    return store[:4].hex() if nanny is None else nanny.host


def _keeper(state: State, store: bytes) -> Nanny | None:
    """Return the nanny that has a store, if it is (still) one of the cluster's."""
    peer = state.objects.stores.get(store)
    return None if peer is None else state.nannies.get(peer)


def _is_away(state: State, store: bytes) -> bool:
    """Return whether a store may come back."""
    nanny = _keeper(state, store)
    return nanny is not None and nanny.away_since is not None


def _serves_nobody(state: State, store: bytes) -> bool:
    nanny = _keeper(state, store)
    return nanny is None or nanny.store is None or (nanny.away_since is None and not nanny.store.address)


def _why_nowhere(why: str) -> str:
    more = f" ({why})" if why else ""
    return f"the host that had it is gone, or has lost it{more}"


def _why_not_from(state: State, stores: set[bytes], why: str) -> str:
    hosts = sorted({nanny.host for store in stores if (nanny := _keeper(state, store)) is not None})
    reason = why or "it serves no objects to other hosts"
    where = f"host {', '.join(hosts)}" if hosts else "where it is"
    return f"it cannot be had from {where}: {reason}"
