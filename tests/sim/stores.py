"""The store of a simulated host: which objects it has, whole or on their way, and what it says of them.

What is judged here: nobody who has a right to an object waits for it in vain, and none is removed that somebody holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enginery.nanny.store.books import Books
from enginery.nanny.store.records import Answer, Fetch, Look, Move, Place, Remove, Tell, Unfetch
from enginery.wire import messages as m
from enginery.wire import objects as o
from enginery.wire.objects import find_reference, show_object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from enginery.ids import Peer
    from enginery.nanny.store.records import Action
    from models import Nanny
    from world import World

NOTICE_S = 0.01
"""In about how long a store notices that a process has ended."""

NBYTES = 1 << 20
"""So large is an object."""

PIECES = 4
"""An object comes in so many pieces, and a source may be lost between them."""


class Coming:
    """An object that is being brought."""

    def __init__(self, info: m.ObjectInfo, sources: tuple[m.Source, ...]) -> None:
        self.info = info
        self.sources = sources
        self.pieces = 0


class Store:
    """A nanny's store: its books are the real ones, and here is what is done for them."""

    def __init__(self, world: World, nanny: Nanny) -> None:
        self.world, self.nanny = world, nanny
        self.id = b"store%03d" % len(world.stores)
        self.source = m.Source(self.id, "tcp://host:1")
        self.books = Books(self.id, "memory", "disk", world.memory, self)
        self.files: dict[str, None] = {}
        self.users: dict[Peer, int] = {}
        self.asked: dict[int, Callable[[Any], None]] = {}
        self.due: list[Callable[[], None]] = []
        """Looks and copies that are under way."""
        self.coming: dict[bytes, Coming] = {}
        self.gone = False
        world.stores[self.id] = self

    @property
    def whole(self) -> dict[bytes, m.ObjectInfo]:
        """The objects that are here, as the store knows."""
        return {} if self.gone else {info.id: info for info in self.books.holdings()[0]}

    # -- what the books ask

    def room(self) -> int:
        """Return how much fits on disk."""
        return 1 << 40

    def is_there(self, path: str) -> bool:
        """Return whether there is such a file."""
        return path in self.files

    # -- what processes of this host do

    def _user(self, peer: Peer) -> int:
        if peer not in self.users:
            self.users[peer] = self.world.next_number()
            self.books.on_user(self.users[peer], peer)
        return self.users[peer]

    def _ask(self, then: Callable[[Any], None]) -> int:
        number = self.world.next_number()
        self.asked[number] = then
        return number

    def make(self, peer: Peer, value: bytes) -> m.ObjectInfo:
        """A process has written a value, and sealed it."""
        assert not self.gone
        user, answers = self._user(peer), []
        self.books.on_reserve(user, o.Reserve(self._ask(answers.append), NBYTES))
        self.do()
        while not answers:
            self.due[0]()  # it waits for these, and nothing else happens to it meanwhile
        (reserved,) = answers
        assert not reserved.error
        info = m.ObjectInfo(reserved.object, NBYTES)
        self.files[reserved.path] = None
        self.books.on_sealed(user, o.Sealed(info.id))
        self.do()
        self.world.values[info.id] = value
        return info

    def want(self, peer: Peer, info: m.ObjectInfo, then: Callable[[str], None]) -> None:
        """A process wants to map an object; `then` is told when it can, or why it never will."""
        if self.gone:
            return  # so is the process
        if self.is_there(self.books.path(info.id, on_disk=False)) and info.id in self.whole:
            self.books.on_used(info.id)
            self.do()
            then("")
            return

        def there(message: o.There) -> None:
            if not message.error and message.path not in self.files:  # it was moved, or dropped
                self.world.after(0.001, self.want, peer, info, then)
            else:
                then(message.error)

        self.books.on_want(self._user(peer), o.Want(self._ask(there), info))
        self.do()

    def leave(self, peer: Peer) -> None:
        """A process has ended, or has closed its connection."""
        if not self.gone:
            self.books.on_left(self._user(peer))
            del self.users[peer]
            self.do()

    def leave_soon(self, peer: Peer) -> None:
        self.world.after(self.world.random.expovariate(1 / NOTICE_S), self.leave, peer)

    # -- what the controller says

    def receive(self, message: object) -> None:
        match message:
            case m.Drop():
                self.books.on_drop(message.objects)
            case m.Pull():
                self.books.on_pull(message)
            case m.Lacking():
                self.books.on_lacking(message)
            case m.StoreQuery():
                seen = [m.InStore(info.id, info.nbytes, "memory") for info in self.whole.values()]
                self.nanny.say(m.StoreSeen(message.request, seen))
            case _:
                raise AssertionError(message)
        self.do()

    # -- what the books want done

    def do(self) -> None:
        while actions := self.books.take():
            for action in actions:
                self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Answer(_, message):
                then = self.asked.pop(message.request)
                if isinstance(message, o.Reserved):
                    then(message)
                else:
                    self.world.after(0.0, then, message)
            case Tell(message):
                self.nanny.say(message)
            case Look():
                self._soon(self._look)
            case Move(object=id_, to_disk=to_disk):
                self._soon(lambda: self._move(id_, to_disk=to_disk))
            case Remove(object=id_, on_disk=on_disk):
                self.files.pop(self.books.path(id_, on_disk=on_disk), None)
            case Fetch(info, sources):
                coming = self.coming.get(info.id)
                if coming is None:
                    coming = self.coming[info.id] = Coming(info, sources)
                    self.world.after(0.0, self.piece, coming)
                coming.sources = sources
            case Unfetch(object=id_):
                self.coming.pop(id_, None)
            case Place(object=id_, on_disk=on_disk):
                self.files[self.books.path(id_, on_disk=on_disk)] = None

    def _soon(self, job: Callable[[], None]) -> None:
        def run() -> None:
            if run in self.due:
                self.due.remove(run)
                once()

        def once() -> None:
            if not self.gone:
                job()
                self.do()

        self.due.append(run)
        self.world.after(self.world.random.expovariate(1 / 0.01), run)

    def _look(self) -> None:
        chance = self.world.random
        mapped = [id_ for id_ in self.whole if chance.random() < 0.2]
        self.books.on_looked(mapped, [id_ for id_ in self.books.room.ghosts if chance.random() < 0.5])

    def _move(self, id_: bytes, *, to_disk: bool) -> None:
        error = "" if self.is_there(self.books.path(id_, on_disk=not to_disk)) else "it is not there"
        if not error:
            self.files[self.books.path(id_, on_disk=to_disk)] = None
        self.books.on_moved(id_, to_disk=to_disk, error=error)

    # -- other stores

    def piece(self, coming: Coming) -> None:
        """Get the next piece, from the first of the sources that has it."""
        info = coming.info
        if self.gone or self.coming.get(info.id) is not coming:
            return
        if coming.pieces == PIECES:
            del self.coming[info.id]
            self.books.on_pulled(info.id)
            self.do()
            return
        for source in coming.sources:
            store = self.world.stores[source.store]
            there = store.coming.get(info.id)
            if not store.gone and (info.id in store.whole or (there is not None and there.pieces > coming.pieces)):
                coming.pieces += 1
                break
            if not store.gone and there is not None and self.may_wait_for(store, info.id):
                break
        else:
            del self.coming[info.id]
            self.books.on_unpulled(info.id, "none of the sources has it")
            self.do()
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
        running.objects, running.orphans = self.books.holdings()

    def told(self) -> None:
        """The nanny has been welcomed again, and has said what is here."""
        self.books.on_resumed()
        self.do()

    def vanish(self, id_: bytes) -> None:
        """Somebody removes a file; that is noticed when it is wanted."""
        self.world.harmed.add(id_)
        for on_disk in (False, True):
            self.files.pop(self.books.path(id_, on_disk=on_disk), None)

    def lose(self) -> None:
        """The host is lost, with all that is here."""
        self.world.harmed.update(self.whole)
        self.gone = True
        self.files.clear()
        self.coming.clear()
        self.asked.clear()

    # -- judging

    def judge_rest(self) -> None:
        """Assert that nobody waits for anything."""
        assert not self.books._wanted
        assert not self.books._wishes
        assert not self.coming
        assert not self.due

    def judge_files(self, *, harmed: Collection[bytes]) -> None:
        """Assert that the files are those that should be here."""
        files = {self.books.find(id_)[0] for id_ in self.whole if id_ not in harmed}
        assert files <= self.files.keys(), f"{files - self.files.keys()} are not there"
        extra = self.files.keys() - files
        assert not {path for path in extra if bytes.fromhex(path.split("/")[1]) not in harmed}, f"{extra} are left"


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
        store.judge_rest()
        store.judge_files(harmed=world.harmed)


def judge_emptiness(world: World) -> None:
    """Assert that nothing is left when nobody holds anything."""
    lost = {client.no for client in world.clients if client.left and client.home is not None and client.home.lost}
    for id_, held in world.core.state.objects.entries.items():  # nobody knows of the ends of those clients
        assert held.handles.keys() <= lost, f"{show_object(id_)} is held by {held.handles}"
        assert held.handles, f"{show_object(id_)} is held by somebody else"
    for store in world.stores.values():
        if not store.gone:
            assert store.whole.keys() <= world.core.state.objects.entries.keys(), f"{store.whole} are left"
            store.judge_rest()
            store.judge_files(harmed=world.harmed)
            count = len(store.whole)
            assert store.books.room.memory + store.books.room.on_disk == count * NBYTES
