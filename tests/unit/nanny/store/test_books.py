"""The decisions of a store, driven directly; with a folder of names that stands for files."""

import random

import pytest
from enginery.nanny.store import books as books_
from enginery.nanny.store.books import Books
from enginery.nanny.store.records import Answer, Fetch, Look, Move, Place, Remove, Stage, Tell, Unfetch
from enginery.wire import objects as o

STORE = b"ourstore"
SOURCES = [o.Source(b"another!", "tcp://there:1")]


class Host:
    """A store's books, and what does as they say."""

    def __init__(self, limit=100, disk=1000):
        self.books = Books(STORE, "M", "D" if disk else "", limit, self)
        self.disk = disk
        self.files = {}
        """Size by path; what is not whole yet has no size."""
        self.answers = {}
        """By user and request."""
        self.told = []
        self.moves = []
        self.fetching = {}
        self.mapped = set()
        self.gone = set()
        self.looks = 0
        self.requests = 0

    # What the books ask.

    def room(self):
        return self.disk - sum(nbytes or 0 for path, nbytes in self.files.items() if path[0] == "D")

    def is_there(self, path):
        return path in self.files

    # What they want done.

    def run(self, *, look=True):
        while actions := self.books.take():
            for action in actions:
                self.act(action, look=look)

    def act(self, action, *, look):
        books = self.books
        match action:
            case Answer(user, message):
                assert (user, message.request) not in self.answers, "answered twice"
                self.answers[user, message.request] = message
                if isinstance(message, o.There) and not message.error:
                    assert message.path in self.files
            case Tell(message):
                self.told.append(message)
            case Look():
                self.looks += 1
                if look:
                    books.on_looked(self.mapped, self.gone)
            case Move(object_id, to_disk):
                self.moves.append((object_id, to_disk))
            case Remove(object_id, on_disk):
                found = self.files.pop(books.path(object_id, on_disk=on_disk), None)
                if found is not None and not on_disk and object_id in self.mapped:
                    self.mapped.remove(object_id)
                    self.gone.add(object_id)
            case Fetch(info, _, on_disk):
                self.fetching[info.id] = on_disk
            case Unfetch(object_id, on_disk):
                del self.fetching[object_id]
                self.files.pop(books.path(object_id, on_disk=on_disk), None)
            case Place(object_id, on_disk):
                assert self.fetching.pop(object_id) == on_disk
                self.files[books.path(object_id, on_disk=on_disk)] = 0

    # What happens.

    def reserve(self, user, nbytes, *, full=False):
        self.requests += 1
        self.books.on_reserve(user, o.Reserve(self.requests, nbytes, full))
        self.run()
        return self.answers.get((user, self.requests))

    def seal(self, user, object_id):
        known = self.books.objects[object_id]
        self.files[self.books.path(object_id, on_disk=known.on_disk)] = known.nbytes
        self.books.on_sealed(user, o.Sealed(object_id))
        self.run()

    def make(self, user, nbytes):
        reserved = self.reserve(user, nbytes)
        assert not reserved.error
        self.seal(user, reserved.object)
        return reserved.object

    def want(self, user, object_id, nbytes=10):
        self.requests += 1
        self.books.on_want(user, o.Want(self.requests, o.ObjectInfo(object_id, nbytes)))
        self.run()
        return self.answers.get((user, self.requests))

    def move(self, error=""):
        object_id, to_disk = self.moves.pop(0)
        source, target = (self.books.path(object_id, on_disk=on_disk) for on_disk in (not to_disk, to_disk))
        if source not in self.files:
            error = error or "it is gone"
        if not error:
            self.files[target] = self.files[source]
        self.books.on_moved(object_id, to_disk=to_disk, error=error)
        self.run()

    def drop(self, *objects):
        self.books.on_drop(objects)
        self.run()

    def tell(self):
        told, self.told = self.told, []
        return told

    def check(self):
        """Assert that the books are right."""
        books, room = self.books, self.books.room
        known = list(books.objects.values())
        moves = list(books._moves.values())
        to_disk = dict(self.moves)
        memory = sum(one.nbytes for one in known if not one.on_disk or one.is_moving)
        memory += sum(one.nbytes for one in moves if not to_disk[one.id])
        on_disk = sum(one.nbytes for one in known if one.on_disk or one.is_moving)
        on_disk += sum(one.nbytes for one in moves if to_disk[one.id])
        leaving = sum(one.nbytes for one in known if one.id not in books._moves and to_disk.get(one.id))
        leaving += sum(one.nbytes for one in moves if to_disk[one.id])
        assert (room.memory, room.on_disk, books._leaving) == (memory, on_disk, leaving)
        unwritten = sum(one.nbytes for one in known if one.on_disk and one.stage is not Stage.WHOLE)
        assert room.unwritten == unwritten + leaving
        assert room.used <= room.limit
        assert room.ghost_bytes == sum(room.ghosts.values())
        in_memory = [one for one in known if one.stage is Stage.WHOLE and not one.on_disk]
        assert list(books._in_memory.values()) == sorted(in_memory, key=lambda one: one.used)
        for one in known:
            if one.stage is Stage.WHOLE:
                assert books.path(one.id, on_disk=one.on_disk) in self.files
        for user, process in books.users.items():
            assert all(books.objects[made].maker == user for made in process.made)


@pytest.fixture
def host():
    host = Host()
    host.books.on_user(1, b"e1.1")
    host.books.on_user(2, b"client")
    return host


def test_ids_are_of_this_store_and_never_the_same(host):
    first, second = host.make(1, 10), host.make(2, 10)
    assert (o.store_of(first), o.show_object(second)) == (STORE, "6f757273-2")
    assert host.books.find(first) == (f"M/{first.hex()}", 10)
    host.check()


def test_wants_of_what_is_being_written_wait_until_it_is_whole(host):
    reserved = host.reserve(1, 10)
    assert host.want(2, reserved.object) is None
    host.seal(1, reserved.object)
    assert host.answers[2, host.requests].path == reserved.path
    assert host.tell() == []


def test_what_was_never_finished_is_refused_to_who_waits(host):
    for end in (
        lambda made: host.books.on_left(1),
        lambda made: host.books.on_abandoned(1, o.Abandoned(made)),
    ):
        host.books.users.pop(1, None)
        host.books.on_user(1, b"e1.1")
        reserved = host.reserve(1, 10)
        host.want(2, reserved.object)
        end(reserved.object)
        host.run()
        assert "is not to be had here: whoever wrote it has" in host.answers[2, host.requests].error
        host.check()
    assert host.books.room.memory == 0


def test_only_who_makes_it_may_say_that_it_is_whole(host):
    reserved = host.reserve(1, 10)
    host.books.on_sealed(2, o.Sealed(reserved.object))
    host.books.on_abandoned(2, o.Abandoned(reserved.object))
    assert host.books.holdings() == ([], [])
    host.seal(1, reserved.object)
    host.seal(1, reserved.object)  # said twice
    assert host.books.holdings() == ([o.ObjectInfo(reserved.object, 10)], [])


def test_who_made_it_may_take_it_back(host):
    made = host.make(1, 10)
    host.books.on_abandoned(1, o.Abandoned(made))
    host.run()
    assert host.books.holdings() == ([], [])
    host.check()


def test_a_forked_copy_is_not_the_process(host):
    host.books.on_user(3, b"client")
    made = host.make(3, 10)
    host.books.on_left(3)
    host.books.on_left(2)
    host.run()
    assert host.tell() == [o.StoreLeft(b"", [made]), o.StoreLeft(b"client", [])]
    assert host.books.holdings()[1] == [made]


def test_what_is_dropped_while_it_is_written_goes_when_it_is_whole(host):
    reserved = host.reserve(1, 10)
    host.drop(reserved.object)
    host.seal(1, reserved.object)
    assert host.files == {}
    host.check()


def test_what_is_dropped_before_it_comes_is_refused_to_who_waits(host):
    object_id = b"elsewher" + bytes(8)
    assert host.want(1, object_id) is None
    request = host.requests
    host.drop(object_id)
    assert "nobody holds it any more" in host.answers[1, request].error
    host.check()


def test_the_least_recently_used_go_to_disk_unless_they_are_mapped(host):
    a, b, c, d = (host.make(1, 25) for _ in range(4))
    host.books.on_used(a)
    host.mapped = {b}
    assert host.reserve(1, 30) is None
    assert host.moves == [(c, True), (d, True)]
    host.move()
    assert (1, host.requests) not in host.answers
    host.move()
    assert host.answers[1, host.requests].path.startswith("M/")
    assert {path[0] for path in (host.books.find(b)[0], host.books.find(a)[0])} == {"M"}
    host.check()


def test_if_only_what_is_mapped_could_go_the_new_one_goes_to_disk(host):
    host.mapped = {host.make(1, 60), host.make(1, 30)}
    assert host.reserve(1, 30).path.startswith("D/")
    assert host.moves == []
    host.check()


def test_what_is_larger_than_all_memory_goes_to_disk(host):
    a = host.make(1, 90)
    assert host.reserve(1, 101).path.startswith("D/")
    assert host.books.find(a)[0].startswith("M/")


def test_room_is_given_in_the_order_in_which_it_was_asked_for(host):
    a = host.make(1, 90)
    assert host.reserve(1, 50) is None
    assert host.reserve(2, 10) is None
    host.drop(a)
    assert host.answers[1, host.requests - 1].path.startswith("M/")
    assert host.answers[2, host.requests].path.startswith("M/")
    host.move()
    assert host.files == {}
    host.check()


def test_what_is_removed_and_mapped_takes_memory_until_it_is_not(host):
    a = host.make(1, 60)
    host.mapped = {a}
    host.drop(a)
    assert host.books.room.used == 60
    assert host.reserve(1, 50).path.startswith("D/")
    host.gone.clear()
    assert host.reserve(1, 50).path.startswith("M/")
    host.check()


def test_what_is_wanted_comes_back_from_disk_if_there_is_room(host):
    a, b = host.make(1, 50), host.make(1, 50)
    host.reserve(1, 40)
    host.move()
    host.drop(b)
    assert host.want(2, a) is None
    assert host.want(1, a) is None
    assert host.moves == [(a, False)]
    host.move()
    assert {host.answers[2, host.requests - 1].path, host.answers[1, host.requests].path} == {f"M/{a.hex()}"}
    assert list(host.files) == [f"M/{a.hex()}"]
    host.check()


def test_else_it_is_used_from_there_and_what_is_older_makes_room(host):
    a, b = host.make(1, 50), host.make(1, 50)
    c = host.reserve(1, 40)
    host.move()
    host.seal(1, host.answers[1, host.requests].object)
    assert c is None
    assert host.want(2, a).path == f"D/{a.hex()}"
    assert host.moves == []  # all others were used since
    assert host.want(2, a).path == f"D/{a.hex()}"
    assert host.moves == [(b, True)]
    host.move()
    assert host.want(2, a) is None
    host.move()
    assert host.answers[2, host.requests].path == f"M/{a.hex()}"
    host.check()


def test_nobody_waits_for_very_much_to_be_on_disk(monkeypatch):
    monkeypatch.setattr(books_, "MOVED_MAX", 30)
    host = Host()
    host.books.on_user(1, b"e1.1")
    large = host.make(1, 90)
    assert host.reserve(1, 20).path.startswith("D/")
    assert host.moves == [(large, True)]
    host.disk = 110
    assert host.reserve(1, 15) is None  # it has to, since the disk is full soon
    host.move()
    assert host.answers[1, host.requests].path.startswith("M/")
    host.check()


def test_a_full_disk_is_an_error_of_who_wants_room(host):
    a = host.make(1, 90)
    assert host.reserve(1, 50) is None
    host.move(error="No space left on device")
    assert "cannot be written to: No space left on device" in host.answers[1, host.requests].error
    assert host.books.find(a) == (f"M/{a.hex()}", 90)
    host.check()
    host.disk = 20
    error = host.reserve(1, 50).error
    assert error.startswith("there is no room for an object of 50 B: 90 B of the 100 B of shared memory")
    assert "--memory-limit" in error
    host.check()


def test_a_full_place_is_answered_by_the_other(host):
    reserved = host.reserve(1, 10)
    host.books.on_abandoned(1, o.Abandoned(reserved.object))
    again = host.reserve(1, 10, full=True)
    assert again.path.startswith("D/")
    host.books.on_abandoned(1, o.Abandoned(again.object))
    assert host.reserve(1, 10, full=True).path.startswith("M/")
    host.check()


def test_without_a_disk_it_says_so():
    host = Host(disk=0)
    host.books.on_user(1, b"e1.1")
    host.make(1, 90)
    assert "there is no folder on disk" in host.reserve(1, 20).error
    assert "there is no folder on disk" in host.reserve(1, 120).error


def test_what_is_not_here_is_needed_once_and_brought(host):
    info = o.ObjectInfo(b"elsewhere0000001", 10)
    host.want(1, info.id)
    host.want(2, info.id)
    assert host.tell() == [o.Need([info.id])]
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    assert host.fetching == {info.id: False}
    host.books.on_pulled(info.id)
    host.run()
    assert host.tell() == [o.Pulled([info])]
    assert {answer.path for answer in host.answers.values()} == {f"M/{info.id.hex()}"}
    assert host.books.holdings() == ([info], [info.id])
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    assert host.tell() == [o.Pulled([info])]
    host.check()


def test_when_it_cannot_be_brought_it_is_needed_still_until_it_is_lacking(host):
    info = o.ObjectInfo(b"elsewhere0000001", 10)
    host.want(1, info.id)
    host.books.on_pull(o.Pull(info, SOURCES))
    host.books.on_unpulled(info.id, "its host does not answer")
    host.run()
    assert host.tell() == [
        o.Need([info.id]),
        o.Unpulled(info.id, "its host does not answer"),
        o.Need([info.id]),
    ]
    host.books.on_resumed()
    host.run()
    assert host.tell() == [o.Need([info.id])]
    host.books.on_lacking(o.Lacking(info.id, "nobody has it"))
    host.run()
    assert "nobody has it" in host.answers[1, host.requests].error
    host.check()


def test_what_is_brought_needs_room_too(host):
    info = o.ObjectInfo(b"elsewhere0000001", 50)
    host.make(1, 90)
    host.want(1, info.id)
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    assert host.fetching == {}
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    host.move()
    assert host.fetching == {info.id: False}
    host.drop(info.id)
    assert "nobody holds it any more" in host.answers[1, host.requests].error
    assert host.fetching == {}
    host.check()


def test_where_there_is_no_room_for_it_that_is_said_to_all(host):
    host.disk = 0
    info = o.ObjectInfo(b"elsewhere0000001", 150)
    host.want(1, info.id)
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    assert host.told[-1].full
    assert "there is no room" in host.answers[1, host.requests].error
    host.check()


def test_what_is_brought_goes_to_disk_if_others_have_filled_the_memory(host):
    info = o.ObjectInfo(b"elsewhere0000001", 50)
    host.want(1, info.id)
    host.books.on_pull(o.Pull(info, SOURCES))
    host.run()
    host.books.on_unpulled(info.id, "no space left", is_full=True)
    host.run()
    assert host.fetching == {info.id: True}
    assert host.tell() == [o.Need([info.id])]
    host.books.on_unpulled(info.id, "no space left", is_full=True)
    host.run()
    assert host.tell() == [o.Unpulled(info.id, "no space left", full=True)]
    assert "no space left" in host.answers[1, host.requests].error
    host.check()


def test_what_somebody_else_has_removed_is_told_and_looked_for(host):
    made = host.make(1, 10)
    host.files.clear()
    assert host.want(2, made) is None
    assert host.tell() == [o.Vanished([made]), o.Need([made])]
    host.check()


def test_what_vanishes_while_it_goes_to_disk_fails_nobody_else(host):
    made = host.make(1, 90)
    assert host.reserve(2, 50) is None
    host.files.clear()
    host.move()
    assert host.tell() == [o.Vanished([made])]
    assert host.answers[2, host.requests].path.startswith("M/")
    host.check()


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_books_are_right_and_everybody_is_answered(seed):
    chance = random.Random(seed)
    host = Host(limit=100, disk=chance.choice([0, 60, 1000]))
    users = {}
    asked = set()
    writing = {}
    elsewhere = [o.ObjectInfo(b"elsewhere%07d" % i, chance.randrange(1, 120)) for i in range(6)]

    def take_in():
        for key, answer in host.answers.items():
            if isinstance(answer, o.Reserved) and not answer.error and key in asked and key[0] in users:
                writing[answer.object] = key[0]
        asked.difference_update(host.answers)

    def somebody():
        if not users or (len(users) < 4 and chance.random() < 0.2):
            user = max(users, default=0) + 100 * chance.randrange(1, 5)
            users[user] = None
            host.books.on_user(user, b"p%d" % user)
        return chance.choice(list(users))

    for _ in range(300):
        whole = [known.id for known in host.books.objects.values() if known.stage is Stage.WHOLE]
        match chance.randrange(12):
            case 0 | 1 | 2:
                user = somebody()
                asked.add((user, host.requests + 1))
                host.reserve(user, chance.randrange(1, 120), full=chance.random() < 0.1)
            case 3 | 4 if writing:
                made, user = writing.popitem()
                if chance.random() < 0.8:
                    host.seal(user, made)
                else:
                    host.books.on_abandoned(user, o.Abandoned(made))
            case 5 if whole or elsewhere:
                user = somebody()
                wanted = chance.choice(whole + [info.id for info in elsewhere])
                asked.add((user, host.requests + 1))
                host.want(user, wanted)
            case 6 if whole:
                host.drop(*chance.sample(whole, chance.randrange(1, len(whole) + 1)))
            case 7:
                host.books.on_pull(o.Pull(chance.choice(elsewhere), SOURCES))
            case 8 if host.fetching:
                coming = chance.choice(list(host.fetching))
                if chance.random() < 0.6:
                    host.books.on_pulled(coming)
                else:
                    host.books.on_unpulled(coming, "it failed", is_full=chance.random() < 0.3)
            case 9 if host.moves:
                host.move(error="it failed" if chance.random() < 0.2 else "")
            case 10:
                in_memory = [known.id for known in host.books.objects.values() if not known.on_disk]
                host.mapped = set(chance.sample(in_memory, min(2, len(in_memory))))
                host.gone = {one for one in host.gone if chance.random() < 0.5}
            case 11 if users and chance.random() < 0.3:
                user = chance.choice(list(users))
                del users[user]
                host.books.on_left(user)
                asked = {key for key in asked if key[0] != user}
                writing = {made: by for made, by in writing.items() if by != user}
        host.run()
        take_in()
        host.check()
    # All that is under way comes to its end.
    while asked or host.moves or writing or host.fetching:
        if host.moves:
            host.move()
        elif host.fetching:
            host.books.on_unpulled(next(iter(host.fetching)), "it failed")
        elif writing:
            made, user = writing.popitem()
            host.seal(user, made)
        else:
            before = len(asked)
            for info in elsewhere:
                host.books.on_lacking(o.Lacking(info.id, "nobody has it"))
            for wanted in list(host.books._wanted):
                host.books.on_lacking(o.Lacking(wanted, "nobody has it"))
            host.run()
            take_in()
            assert len(asked) < before, "somebody waits for ever"
        host.run()
        take_in()
        host.check()
    host.mapped.clear()
    host.gone.clear()
    for user in list(host.books.users):
        host.books.on_left(user)
    host.drop(*list(host.books.objects))
    host.books.on_looked((), ())
    host.run()
    assert host.files == {}
    assert (host.books.room.used, host.books.room.on_disk, host.books.room.unwritten) == (0, 0, 0)
