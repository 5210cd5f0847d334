"""Objects that move between stores, and to and from clients elsewhere: real sockets, on loopback."""

import contextlib
import os
import queue
import shutil
import threading
import time
from pathlib import Path

import pytest
from enginery.config import Connection
from enginery.errors import ObjectLost, ObjectStoreFull
from enginery.nanny.store import guests, mover, serving
from enginery.nanny.store.mover import Mover
from enginery.objects.far import FarStore
from enginery.objects.packing import StoreGoneError
from enginery.objects.progress import CHUNK
from enginery.security import CLIENT_ROLE, ENGINE_ROLE, new_key_pair
from enginery.wire.objects import (
    Abandoned,
    ObjectInfo,
    Reserve,
    Reserved,
    Sealed,
    Source,
    StoreHello,
    StoreWelcome,
    There,
    Want,
)

from helpers import wait_until

ENGINES, CLIENTS = new_key_pair(), new_key_pair()


def a_connection(pair):
    return Connection(cluster="x", address="", public_key=pair.public, secret_key=pair.secret)


class Store:
    """A host's store with the simplest of books, and its mover."""

    def __init__(self, folder, number):
        self.id = bytes([number]) * 8
        self.folder = folder
        folder.mkdir()
        self.events = queue.Queue()
        self.made = 0
        self.whole = set()
        self.used = set()
        self.reserved = set()
        self.guests = []
        self.names = {}
        self.left = []
        self.room = 1 << 40
        self.is_odd = False
        self.mover = Mover(self, a_connection(ENGINES), print)
        roles = {ENGINES.public: ENGINE_ROLE, CLIENTS.public: CLIENT_ROLE}
        address, key = self.mover.start("tcp://127.0.0.1:*", "127.0.0.1", roles)
        self.source = Source(self.id, address, key)

    def new(self):
        self.made += 1
        return self.id + self.made.to_bytes(8, "big")

    def has(self, data):
        info = ObjectInfo(self.new(), len(data))
        (self.folder / info.id.hex()).write_bytes(data)
        self.whole.add(info.id)
        return info

    def bring(self, info, *sources):
        path = str(self.folder / f"{info.id.hex()}.part")
        self.mover.pull(info, [store.source for store in sources], path)

    def content(self, info):
        return (self.folder / info.id.hex()).read_bytes()

    # As the mover sees it

    def find(self, object_id):
        path = self.folder / object_id.hex()
        return (str(path), path.stat().st_size) if object_id in self.whole else None

    def on_pulled(self, object_id):
        (self.folder / f"{object_id.hex()}.part").rename(self.folder / object_id.hex())
        self.whole.add(object_id)
        self.events.put(object_id)

    def on_unpulled(self, object_id, why, *, full=False):
        self.events.put((object_id, why, full))

    def on_used(self, object_id):
        self.used.add(object_id)

    def attach(self, answer):
        self.guests.append(answer)
        return len(self.guests) - 1

    def detach(self, guest):
        self.left.append(self.names[guest])

    def tell(self, guest, message):
        answer = None
        match message:
            case StoreHello(_, peer):
                self.names[guest] = peer
                answer = StoreWelcome(self.id, str(self.folder), 1 << 20)
            case Reserve(request, nbytes, full):
                if nbytes > self.room:
                    answer = Reserved(request, error="there is no room")
                else:
                    made = self.new()
                    folder = self.folder / "nowhere" if self.is_odd and not full else self.folder
                    self.reserved.add(made)
                    answer = Reserved(request, made, str(folder / made.hex()))
            case Sealed(made):
                self.whole.add(made)
                self.reserved.discard(made)
            case Abandoned(made):
                self.reserved.discard(made)
            case Want(request, info):
                found = self.find(info.id)
                answer = There(request, found[0] if found else "", "" if found else "nobody has it")
        if answer is not None:
            threading.Thread(target=self.guests[guest], args=[answer]).start()


@pytest.fixture
def stores(tmp_path):
    made = []

    def make(n):
        for _ in range(n):
            made.append(Store(tmp_path / str(len(made)), len(made) + 1))
        return made

    yield make
    for store in made:
        store.mover.close()


def test_an_object_is_brought_from_another_host(stores):
    here, there = stores(2)
    data = os.urandom(5 * CHUNK + 17)
    info = there.has(data)
    here.bring(info, there)
    assert here.events.get(timeout=20) == info.id
    assert here.content(info) == data


def test_the_memory_of_messages_is_given_back_when_nothing_moves_any_more(stores, monkeypatch):
    monkeypatch.setattr(mover, "MOVED_S", 0.2)
    here, there = stores(2)
    info = there.has(os.urandom(3 * CHUNK))
    here.bring(info, there)
    assert here.events.get(timeout=20) == info.id
    wait_until(lambda: not (here.mover._heap.is_kept or there.mover._heap.is_kept), "it is given back")
    assert not here.mover._heap._held


def test_many_small_objects_and_a_large_one_are(stores):
    here, there = stores(2)
    infos = [there.has(os.urandom(1 + i * 1000)) for i in range(150)]
    infos.append(there.has(os.urandom(50 * CHUNK)))
    for info in infos:
        here.bring(info, there)
    assert {here.events.get(timeout=30) for _ in infos} == {info.id for info in infos}
    assert all(here.content(info) == there.content(info) for info in infos)


def test_an_object_goes_down_a_tree_as_it_comes(stores):
    """All are told at once, and the leaves may ask before their source has heard of it."""
    root, *others = stores(5)
    data = os.urandom(20 * CHUNK)
    info = root.has(data)
    others[3].bring(info, others[1])
    others[2].bring(info, others[0])
    others[1].bring(info, others[0])
    others[0].bring(info, root)
    for store in others:
        assert store.events.get(timeout=20) == info.id
        assert store.content(info) == data


def test_a_source_that_does_not_have_it_says_so_and_another_is_asked(stores, monkeypatch):
    monkeypatch.setattr(serving, "UNHEARD_S", 0.1)
    here, empty, there = stores(3)
    info = there.has(os.urandom(CHUNK))
    here.bring(info, empty, there)
    assert here.events.get(timeout=20) == info.id
    lost = ObjectInfo(bytes(16), 5)
    here.bring(lost, empty)
    _, why, is_full = here.events.get(timeout=20)
    assert not is_full
    assert "a host has object 00000000-0 no more" in why


def test_a_source_that_dies_midway_is_replaced_by_another(stores):
    here, dying, there = stores(3)
    data = os.urandom(200 * CHUNK)
    info = there.has(data)
    dying.whole.add(info.id)
    shutil.copy(there.folder / info.id.hex(), dying.folder)
    here.bring(info, dying, there)
    wait_until(lambda: here.mover._pulls.has(info.id, 0, CHUNK), "it has begun")
    dying.mover.close()
    assert here.events.get(timeout=30) == info.id
    assert here.content(info) == data


def test_what_cannot_be_written_here_is_said(stores):
    here, there = stores(2)
    info = there.has(os.urandom(2 * CHUNK))
    here.mover.pull(info, [there.source], str(here.folder / "nowhere" / "file"))
    lost, why, is_full = here.events.get(timeout=20)
    assert (lost, is_full) == (info.id, True)
    assert "No such file or directory" in why
    here.bring(info, there)
    assert here.events.get(timeout=20) == info.id


def test_an_object_that_was_dropped_is_let_go_of(stores):
    here, there = stores(2)
    info = there.has(os.urandom(CHUNK))
    here.bring(info, there)
    here.events.get(timeout=20)
    assert info.id in there.used
    there.whole.discard(info.id)
    (there.folder / info.id.hex()).unlink()

    def mapped():
        with Path("/proc/self/maps").open() as maps:
            return info.id.hex() in maps.read()

    wait_until(lambda: not mapped(), "nothing of it is mapped")


def test_who_is_not_of_the_cluster_gets_nothing(stores):
    (there,) = stores(1)
    info = there.has(os.urandom(CHUNK))
    stranger = FarStore(there.source, a_connection(new_key_pair()), b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enginery.objects.far.CONNECT_S", 0.5)
        with pytest.raises(StoreGoneError, match="does not answer"):
            stranger.open(info)
    stranger.close()


# ------------------------------------------------------------------------------------------------ clients elsewhere


@pytest.fixture
def far(stores):
    (there,) = stores(1)
    far = FarStore(there.source, a_connection(CLIENTS), b"c1.")
    yield far, there
    far.close()


def test_a_client_elsewhere_makes_objects_and_uses_them(far):
    far, there = far
    buffers = [os.urandom(3 * CHUNK + 5), b"", bytearray(os.urandom(100)), os.urandom(2 * CHUNK)]
    info = far.make(b"pickle", buffers)
    assert info.id in there.whole
    assert not there.reserved
    payload, found = far.open(info)
    assert bytes(payload) == b"pickle"
    assert [bytes(buffer) for buffer in found] == [bytes(buffer) for buffer in buffers]
    found[0][:3] = b"abc"
    assert far.is_worth(1 << 20)
    assert not far.is_worth(1 << 19)
    assert far.pack(b"small", []) is None
    assert far.pack(b"x" * (1 << 20), [])[1].id in there.whole


def test_threads_of_a_client_do_not_wait_for_one_another(far):
    far, _there = far
    data = [os.urandom(CHUNK * i) for i in range(1, 9)]
    made = [None] * 8
    threads = [threading.Thread(target=lambda i=i: made.__setitem__(i, far.make(data[i], []))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [bytes(far.open(info)[0]) for info in made] == data


def test_a_client_elsewhere_hears_that_an_object_is_lost_and_that_there_is_no_room(far):
    far, there = far
    with pytest.raises(ObjectLost, match="nobody has it"):
        far.open(ObjectInfo(bytes(16), 5))
    there.room = 2 * CHUNK
    with pytest.raises(ObjectStoreFull, match="there is no room"):
        far.make(bytes(3 * CHUNK), [])


def test_a_place_that_turns_out_to_be_of_no_use_is_given_back_and_another_one_is_asked_for(far):
    far, there = far
    there.is_odd = True
    info = far.make(bytes(CHUNK), [])
    assert info.id in there.whole
    assert not there.reserved
    assert bytes(far.open(info)[0]) == bytes(CHUNK)


def test_a_client_elsewhere_that_vanishes_has_left(far, monkeypatch):
    monkeypatch.setattr(guests, "ENDED_S", 0.1)
    far, there = far
    info = far.make(bytes(CHUNK), [])
    assert not there.left
    far.close()
    wait_until(lambda: b"c1." in there.left, "the store knows")
    assert info.id in there.whole


def test_a_connection_that_was_away_for_too_long_is_used_as_if_it_were_new(far):
    far, there = far
    info = far.make(bytes(CHUNK), [])
    for peer in list(there.mover._guests._guests):
        there.mover._call(lambda _now, peer=peer: there.mover._guests.leave(peer))
    assert far.open(info)[0].nbytes == CHUNK
    assert far.make(bytes(CHUNK), []).id in there.whole


def test_a_fork_of_a_client_has_a_connection_of_its_own(far):
    far, _there = far
    info = far.make(bytes(CHUNK), [])
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if far.open(info)[0].nbytes == CHUNK else 2
        os._exit(code)
    began = time.monotonic()
    wait_until(lambda: os.waitpid(pid, os.WNOHANG) == (pid, 0), "it has read it", 20)
    assert time.monotonic() - began < 20
    assert far.open(info)[0].nbytes == CHUNK
