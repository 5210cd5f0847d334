"""The store of a simulated host: which objects it has, whole or on their way, and what it says of them.

What is judged here: nobody who has a right to an object waits for it in vain, and none is removed that somebody holds.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from enginery.wire import messages as m
from enginery.wire.objects import find_reference, show_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from enginery.ids import Peer
    from models import Nanny
    from world import World

NOTICE_S = 0.01
"""In about how long a store notices that a process has ended."""

PIECES = 4
"""An object comes in so many pieces, and a source may be lost between them."""


class Coming:
    """An object that is being brought."""

    def __init__(self, info: m.ObjectInfo, sources: list[m.Source]) -> None:
        self.info = info
        self.sources = sources
        self.pieces = 0


class Store:
    """A nanny's store."""

    def __init__(self, world: World, nanny: Nanny) -> None:
        self.world, self.nanny = world, nanny
        self.id = b"store%03d" % len(world.stores)
        self.source = m.Source(self.id, "tcp://host:1")
        self.numbers = 0
        self.whole: dict[bytes, m.ObjectInfo] = {}
        self.makers: dict[bytes, Peer] = {}
        """Of what was made here by somebody who is still there."""
        self.left: list[m.StoreLeft] = []
        """What the controller may not have heard, if the connection broke meanwhile."""
        self.coming: dict[bytes, Coming] = {}
        self.wants: dict[bytes, list[Callable[[str], None]]] = defaultdict(list)
        self.gone = False
        world.stores[self.id] = self

    def say(self, message: object) -> None:
        if not self.gone:
            self.nanny.say(message)

    # -- what processes of this host do

    def make(self, peer: Peer, value: bytes) -> m.ObjectInfo:
        """A process has written a value, and sealed it."""
        assert not self.gone
        self.numbers += 1
        info = m.ObjectInfo(self.id + self.numbers.to_bytes(8, "big"), 1 << 20)
        self.whole[info.id] = info
        self.makers[info.id] = peer
        self.world.values[info.id] = value
        return info

    def want(self, info: m.ObjectInfo, then: Callable[[str], None]) -> None:
        """A process wants to map an object; `then` is told when it can, or why it never will."""
        if self.gone:
            return  # so is the process
        if info.id in self.whole:
            then("")
            return
        self.wants[info.id].append(then)
        if info.id not in self.coming and len(self.wants[info.id]) == 1:
            self.say(m.Need([info.id]))

    def leave(self, peer: Peer) -> None:
        """A process has ended, or has closed its connection."""
        if self.gone:
            return
        made = [id_ for id_, maker in self.makers.items() if maker == peer]
        for id_ in made:
            del self.makers[id_]
        self.left.append(m.StoreLeft(peer, made))
        self.say(self.left[-1])

    def leave_soon(self, peer: Peer) -> None:
        self.world.after(self.world.random.expovariate(1 / NOTICE_S), self.leave, peer)

    # -- what the controller says

    def receive(self, message: object) -> None:
        match message:
            case m.Drop():
                for id_ in message.objects:
                    self.drop(id_)
            case m.Pull():
                self.pull(message)
            case m.Lacking():
                self.fail(message.object, message.why)
            case m.StoreQuery():
                seen = [m.InStore(info.id, info.nbytes, "memory") for info in self.whole.values()]
                self.say(m.StoreSeen(message.request, seen))
            case _:
                raise AssertionError(message)

    def drop(self, id_: bytes) -> None:
        self.whole.pop(id_, None)
        self.makers.pop(id_, None)
        self.coming.pop(id_, None)
        self.fail(id_, "it was dropped")

    def fail(self, id_: bytes, why: str) -> None:
        if id_ in self.whole:
            return  # the last of it came meanwhile
        self.coming.pop(id_, None)
        for then in self.wants.pop(id_, ()):
            then(why)

    def pull(self, message: m.Pull) -> None:
        info = message.object
        if info.id in self.whole:
            self.say(m.Pulled([info]))  # it did not know
            return
        coming = self.coming.get(info.id)
        if coming is not None:
            coming.sources = message.sources
            return
        coming = self.coming[info.id] = Coming(info, message.sources)
        self.piece(coming)

    def piece(self, coming: Coming) -> None:
        """Get the next piece, from the first of the sources that has it."""
        info = coming.info
        if self.gone or self.coming.get(info.id) is not coming:
            return
        if coming.pieces == PIECES:
            del self.coming[info.id]
            self.whole[info.id] = info
            self.say(m.Pulled([info]))
            for then in self.wants.pop(info.id, ()):
                then("")
            return
        stores = [self.world.stores[source.store] for source in coming.sources]
        for store in stores:
            there = store.coming.get(info.id)
            if not store.gone and (info.id in store.whole or (there is not None and there.pieces > coming.pieces)):
                coming.pieces += 1
                break
            if not store.gone and there is not None and self.may_wait_for(store, info.id):
                break
        else:
            del self.coming[info.id]
            self.say(m.Unpulled(info.id, "none of the sources has it"))
            if info.id in self.wants:
                self.say(m.Need([info.id]))
            return
        self.world.after(self.world.random.expovariate(1 / self.world.pull_s), self.piece, coming)

    def may_wait_for(self, store: Store, id_: bytes) -> bool:
        """Return whether what another store is about to get will come, and not from us."""
        seen = {self.id}
        while True:
            if store.id in seen:
                return False
            seen.add(store.id)
            there = store.coming.get(id_)
            if there is None:
                return id_ in store.whole
            if not there.sources:
                return False
            store = self.world.stores[there.sources[0].store]

    # -- what happens to it

    def tell(self, running: m.Running) -> None:
        """Say what is here, once the nanny is welcomed again."""
        running.objects = list(self.whole.values())
        running.orphans = [id_ for id_ in self.whole if id_ not in self.makers]

    def told(self) -> None:
        """The nanny has been welcomed again, and has said what is here."""
        for left in self.left:
            self.say(left)
        needed = [id_ for id_ in self.wants if id_ not in self.coming]
        if needed:
            self.say(m.Need(needed))

    def vanish(self, id_: bytes) -> None:
        """Somebody has removed a file."""
        if self.whole.pop(id_, None) is not None:
            self.world.harmed.add(id_)
            self.makers.pop(id_, None)
            self.say(m.Vanished([id_]))

    def lose(self) -> None:
        """The host is lost, with all that is here."""
        self.gone = True
        self.world.harmed.update(self.whole)
        self.whole.clear()
        self.coming.clear()
        self.wants.clear()


def value_of(world: World, payload: bytes) -> bytes:
    """Return what a payload is, or what the object is that it stands for."""
    info = find_reference(payload)
    return payload if info is None else world.values[info.id]


def objects_of(payload: bytes, results: list[m.Result], refs: list[m.ObjectInfo]) -> list[m.ObjectInfo]:
    """Return the objects that are needed to begin with a call."""
    found = [find_reference(payload), *(find_reference(result.payload) for result in results), *refs]
    return list({info.id: info for info in found if info is not None}.values())


def judge_drops(world: World, drop: m.Drop) -> None:
    """Assert that nobody holds what is about to be dropped."""
    for id_ in drop.objects:
        for client in world.clients:
            if not client.left:
                assert not client.handles[id_], f"{client.name.decode()} holds {show_object(id_)}, which is dropped"
        for task in world.core.state.tasks.values():
            assert id_ not in {info.id for info in task.objects}, f"{task.id} needs {show_object(id_)}"


def judge_objects(world: World) -> None:
    """Assert that what somebody holds is there, and that nothing else is, once everything has come to rest."""
    entries = world.core.state.objects.entries
    for client in world.clients:
        if client.left:
            continue
        mine = {id_: held.handles[client.no] for id_, held in entries.items() if client.no in held.handles}
        assert mine == {id_: count for id_, count in client.handles.items() if count}, client.name
    alive = [store for store in world.stores.values() if not store.gone]
    for id_, held in entries.items():
        assert held.tasks or held.handles or held.kept, f"nobody holds {show_object(id_)}"
        there = {store.id for store in alive if id_ in store.whole}
        assert held.stores == there, f"{show_object(id_)} is in {there}"
        assert there or id_ in world.harmed, f"{show_object(id_)} is nowhere, and nobody has harmed it"
    for store in alive:
        assert store.whole.keys() <= entries.keys(), f"{store.whole.keys() - entries.keys()} are left in {store.id!r}"
        assert not store.wants
        assert not store.coming


def judge_emptiness(world: World) -> None:
    """Assert that nothing is left when nobody holds anything."""
    assert not world.core.state.objects.entries
    for store in world.stores.values():
        assert not store.whole, f"{store.whole} are left"
        assert not store.wants
        assert not store.coming
