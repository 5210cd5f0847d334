"""The store at work, with real sockets and files; a folder of the test stands for shared memory."""

import os
import threading
import time
from pathlib import Path

import pytest
from enginery.errors import ObjectLost, ObjectStoreFull
from enginery.nanny.store.thread import Store
from enginery.objects.local import LocalStore
from enginery.wire import objects as o

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")  # noqa: PTH112

MB = 1 << 20


class Place:
    """A store and processes that use it, all in this process."""

    def __init__(self, folder, limit=100 * MB, *, disk=True):
        (folder / "memory").mkdir()
        (folder / "disk").mkdir()
        self.memory, self.disk = folder / "memory", folder / "disk"
        self.logged = []
        self.store = Store(
            str(folder / "s"),
            str(self.memory),
            str(self.disk) if disk else "",
            limit=limit,
            least=MB,
            log=self.logged.append,
        )
        self.users = []
        self.told = []

    def user(self, peer=b"e0.1"):
        user = LocalStore(self.store.path, peer)
        assert user.connect()
        self.users.append(user)
        return user

    def hear(self, kind, count=1, deadline=5.0):
        """Return messages of a kind that the controller was told, once there are so many."""
        until = time.monotonic() + deadline
        while True:
            self.told += self.store.take()
            found = [message for message in self.told if isinstance(message, kind)]
            if len(found) >= count:
                return found
            assert time.monotonic() < until, f"no {kind.__name__}: {self.told}"
            time.sleep(0.002)

    def seen(self):
        self.told = []
        self.store.deliver(o.StoreQuery(7))
        return self.hear(o.StoreSeen)[0]

    def wait_until(self, condition, what, deadline=5.0):
        until = time.monotonic() + deadline
        while not condition():
            assert time.monotonic() < until, what
            time.sleep(0.002)

    def close(self):
        for user in self.users:
            user.close()
        self.store.close()
        assert self.logged == []


@pytest.fixture
def make(tmp_path):
    made = []

    def new(*args, **options):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Place(folder, *args, **options))
        made[-1].store.start()
        return made[-1]

    yield new
    for place in made:
        place.close()


def made_by(user, letter, nbytes=2 * MB):
    """Have a process make an object, of which somebody will hear."""
    info = user.make(b"pickle", [letter * nbytes])
    user.claim()
    return info


def test_what_one_makes_another_maps_writable_and_private(make):
    place = make()
    one, two = place.user(b"e0.1"), place.user(b"e1.1")
    info = made_by(one, b"a")
    payload, (buffer,) = two.open(info)
    assert bytes(payload) == b"pickle"
    assert buffer[:3] == b"aaa"
    buffer[0] = ord("x")
    assert one.open(info)[1][0][:3] == b"aaa"
    seen = place.seen()
    assert seen.memory_bytes == info.nbytes
    assert seen.limit_bytes == 100 * MB
    assert seen.objects == [o.InStore(info.id, info.nbytes, "memory", seen.objects[0].engines, [])]
    assert seen.objects[0].engines in ([0], [1])  # they are one process here


def test_a_dropped_object_is_gone_but_for_those_who_have_it(make):
    place = make()
    one = place.user()
    info = made_by(one, b"a")
    opened = one.open(info)
    place.store.deliver(o.Drop([info.id]))
    place.wait_until(lambda: not list(place.memory.iterdir()), "it is still there")
    assert opened[1][0][:3] == b"aaa"
    assert [one.place for one in place.seen().objects] == ["mapped"]
    del opened
    assert place.seen().objects == []
    assert place.seen().memory_bytes == 0


def test_what_is_not_here_is_needed_and_lacking(make):
    place = make()
    one = place.user()
    info = o.ObjectInfo(b"elsewhere 123456", 5 * MB)
    errors = []

    def ask():
        try:
            one.open(info)
        except ObjectLost as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    assert place.hear(o.Need)[0].objects == [info.id]
    place.store.deliver(o.Lacking(info.id, "its only holder has died"))
    asking.join(5)
    assert "its only holder has died" in errors[0]


def test_what_is_on_its_way_and_lacking_is_not_waited_for(make):
    place = make()
    one = place.user()
    info = o.ObjectInfo(b"elsewhere 123456", 5 * MB)
    errors = []

    def ask():
        try:
            one.open(info)
        except ObjectLost as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    place.hear(o.Need)
    place.store.deliver(o.Pull(info, [o.Source(b"elsewher", "ipc:///nowhere")]))
    place.store.deliver(o.Lacking(info.id, "its only holder has died"))
    asking.join(5)
    assert "its only holder has died" in errors[0]
    assert place.seen().objects == []


def test_who_leaves_is_told_of_with_what_it_made(make):
    place = make()
    one = place.user(b"client")
    info = made_by(one, b"a")
    place.wait_until(lambda: place.store.holdings() == ([info], []), "it is not sealed")
    one.close()
    assert place.hear(o.StoreLeft)[0] == o.StoreLeft(b"client", [info.id])
    assert place.store.holdings() == ([info], [info.id])


def test_what_was_not_used_for_longest_goes_to_disk_and_comes_back(make):
    place = make(limit=7 * MB)
    one = place.user()
    first, second, third = (made_by(one, letter) for letter in (b"1", b"2", b"3"))
    assert one.open(first)[1][0][:1] == b"1"
    fourth = made_by(one, b"4")
    assert {file.name for file in place.disk.iterdir()} == {second.id.hex()}
    assert {file.name for file in place.memory.iterdir()} == {info.id.hex() for info in (first, third, fourth)}
    place.store.deliver(o.Drop([third.id]))
    place.wait_until(lambda: third.id.hex() not in os.listdir(place.memory), "it is not dropped")  # noqa: PTH208
    assert one.open(second)[1][0][:1] == b"2"
    assert list(place.disk.iterdir()) == []
    assert {one.place for one in place.seen().objects} == {"memory"}


def test_what_is_larger_than_memory_is_on_disk_at_once(make):
    place = make(limit=3 * MB)
    one = place.user()
    info = made_by(one, b"a", 5 * MB)
    assert [file.name for file in place.disk.iterdir()] == [info.id.hex()]
    assert one.open(info)[1][0][:1] == b"a"
    seen = place.seen()
    assert (seen.memory_bytes, seen.disk_bytes) == (0, info.nbytes)


def test_what_is_mapped_stays_and_others_go_to_disk_at_once(make):
    place = make(limit=5 * MB)
    one = place.user()
    held = [one.open(made_by(one, letter)) for letter in (b"1", b"2")]
    info = made_by(one, b"3")
    assert [file.name for file in place.disk.iterdir()] == [info.id.hex()]
    assert [bytes(buffers[0][:1]) for _, buffers in held] == [b"1", b"2"]


def test_no_room_at_all_is_an_error_that_says_what_to_do(make):
    place = make(limit=3 * MB, disk=False)
    one = place.user()
    made_by(one, b"a")
    with pytest.raises(ObjectStoreFull, match=r"2\.1 MB of the 3\.1 MB of shared memory.*--memory-limit"):
        made_by(one, b"b")


def test_the_unfinished_goes_with_who_did_not_finish_it(make):
    place = make()
    one = place.user(b"client")
    reserved = one._ask(o.Reserve, 5 * MB, False, wanted=o.Reserved)
    Path(reserved.path).write_bytes(b"begun")
    assert place.seen().objects == [o.InStore(reserved.object, 5 * MB, "coming")]
    one.close()
    assert place.hear(o.StoreLeft)[0] == o.StoreLeft(b"client", [])
    place.wait_until(lambda: not list(place.memory.iterdir()), "it is still there")
    assert place.seen().memory_bytes == 0


def test_a_stranger_is_refused_and_rubbish_ends_a_connection(make):
    place = make()
    one = place.user()
    one._socket.send(b"rubbish")
    with pytest.raises(Exception, match="has ended"):
        made_by(one, b"a")
    assert "none of our messages" in place.logged.pop()
    made_by(place.user(), b"a")
