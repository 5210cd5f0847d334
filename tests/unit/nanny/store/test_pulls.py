"""Of whom the chunks of an object are asked, and what happens when one fails."""

import random

import pytest
from enginery.nanny.store import pulls as p
from enginery.objects.progress import CHUNK, WINDOW
from enginery.wire.objects import ObjectInfo, Source

A, B, C = (Source(bytes([i]) * 8, f"tcp://10.0.0.{i}:1", "key") for i in (1, 2, 3))


def an_object(i, chunks=4.0):
    return ObjectInfo(bytes(8) + i.to_bytes(8, "big"), int(chunks * CHUNK))


class Host:
    """Pulls whose actions are taken apart."""

    def __init__(self):
        self.pulls = p.Pulls()
        self.now = 0.0
        self.asked = []
        """(store, Chunk) that have not been answered."""
        self.connected = []
        self.whole = []
        self.failed = {}

    def bring(self, info, *sources):
        self.pulls.bring(info, sources, self.now)
        self.look()

    def look(self):
        for action in self.pulls.take():
            match action:
                case p.Ask(store, chunk):
                    self.asked.append((store, chunk))
                case p.Connect(source):
                    self.connected.append(source.store)
                case p.Disconnect(store):
                    self.connected.remove(store)
                case p.Whole(object_id):
                    self.whole.append(object_id)
                case p.Failed(object_id, why):
                    self.failed[object_id] = why

    def up(self, source):
        self.pulls.on_up(source.store, self.now)
        self.look()

    def down(self, source):
        self.asked = [(store, chunk) for store, chunk in self.asked if store != source.store]
        self.pulls.on_down(source.store, self.now)
        self.look()

    def tick(self, seconds):
        self.now += seconds
        self.pulls.tick(self.now)
        self.look()

    def answer(self, n=1, of=None):
        """The first n requests (of one source) are answered; return where their bytes belong."""
        places = []
        for _ in range(n):
            i = next(i for i, (store, _) in enumerate(self.asked) if of is None or store == of.store)
            chunk = self.asked.pop(i)[1]
            place = self.pulls.expect(chunk.request)
            if place is not None:
                assert place == (chunk.object, chunk.offset, chunk.nbytes)
                places.append(place)
                self.pulls.on_written(chunk.request, self.now)
            self.look()
        return places

    def refuse(self):
        self.pulls.on_no_piece(self.asked.pop(0)[1].request, "it has it no more", self.now)
        self.look()

    def asked_of(self, source):
        return [chunk.offset for store, chunk in self.asked if store == source.store]


@pytest.fixture
def host():
    return Host()


def test_chunks_are_asked_for_a_few_at_a_time_until_all_are_there(host):
    info = an_object(1, 20.5)
    host.bring(info, A)
    assert host.connected == [A.store]
    assert not host.asked, "the connection is not there yet"
    host.up(A)
    assert host.asked_of(A) == [i * CHUNK for i in range(WINDOW)]
    seen = host.answer(5)
    assert len(host.asked) == WINDOW
    assert host.pulls.has(info.id, 0, 5 * CHUNK)
    assert not host.pulls.has(info.id, 0, 5 * CHUNK + 1)
    seen += host.answer(16)
    assert sorted(place.offset for place in seen) == [i * CHUNK for i in range(21)]
    assert seen[-1].nbytes == CHUNK // 2
    assert host.whole == [info.id]
    assert not host.asked
    assert not host.pulls.knows(info.id)


def test_a_source_that_is_gone_is_replaced_by_the_next_and_what_has_come_stays(host):
    info = an_object(1, 20)
    host.bring(info, A, B)
    host.up(A)
    host.answer(3)
    host.down(A)
    assert host.connected == [A.store, B.store]
    host.up(B)
    assert host.asked_of(B) == [i * CHUNK for i in range(3, 3 + WINDOW)]
    host.answer(17)
    assert host.whole == [info.id]


def test_a_source_that_has_it_no_more_is_replaced_by_the_next(host):
    info = an_object(1, 3)
    host.bring(info, A, B)
    host.up(A)
    stale = host.asked[1]
    host.refuse()
    host.asked.clear()
    assert host.pulls.expect(stale[1].request) is None, "it is asked for elsewhere"
    host.up(B)
    host.answer(3)
    assert host.whole == [info.id]


def test_when_all_sources_have_it_no_more_it_fails_with_what_they_said(host):
    info = an_object(1, 1)
    host.bring(info, A, B)
    host.up(A)
    host.refuse()
    host.up(B)
    host.refuse()
    assert host.failed == {info.id: "object 00000000-1 is not to be had: it has it no more"}
    assert not host.pulls._pulls


def test_without_a_source_that_serves_others_it_fails_at_once(host):
    host.bring(an_object(1), Source(bytes(8), ""))
    assert list(host.failed.values()) == ["object 00000000-1 is not to be had: no other host has it"]


def test_a_broken_connection_to_the_only_source_is_a_pause(host):
    info = an_object(1, 20)
    host.bring(info, A)
    host.up(A)
    host.answer(3)
    host.down(A)
    host.tick(p.GIVE_UP_S - 1)
    assert not host.asked
    assert not host.failed
    host.up(A)
    assert host.asked_of(A)[0] == 3 * CHUNK
    host.answer(17)
    assert host.whole == [info.id]


def test_a_source_that_cannot_be_reached_for_long_is_given_up(host):
    info = an_object(1)
    host.bring(info, A)
    host.tick(p.GIVE_UP_S + 1)
    assert "tcp://10.0.0.1:1 cannot be reached" in host.failed[info.id]


def test_of_two_sources_that_cannot_be_reached_the_one_that_comes_back_is_asked(host):
    info = an_object(1, 2)
    host.bring(info, A, B)
    host.up(A)
    host.down(A)
    host.up(B)
    host.down(B)
    assert not host.asked
    host.up(A)
    assert len(host.asked_of(A)) == 2
    host.answer(2)
    assert host.whole == [info.id]


def test_a_silent_source_is_left_for_another_but_not_if_it_is_the_only_one(host):
    slow, only = an_object(1, 1), an_object(2, 1)
    host.bring(slow, A, B)
    host.bring(only, A)
    host.up(A)
    assert len(host.asked_of(A)) == 2
    host.tick(p.SILENT_S + 1)
    host.up(B)
    assert len(host.asked_of(B)) == 1
    host.answer(of=B)
    assert host.whole == [slow.id]
    host.asked = [(store, chunk) for store, chunk in host.asked if chunk.object == only.id]
    host.answer()
    assert host.whole == [slow.id, only.id]


def test_other_sources_replace_those_that_were_named_and_what_has_come_stays(host):
    info = an_object(1, 20)
    host.bring(info, A)
    host.up(A)
    host.answer(4)
    host.bring(info, C)
    host.asked.clear()
    host.up(C)
    assert host.asked_of(C)[0] == 4 * CHUNK
    host.bring(info, C, B)
    host.answer(16)
    assert host.whole == [info.id]
    assert host.connected == [A.store, C.store]


def test_an_object_that_is_dropped_midway_is_asked_for_no_more(host):
    info = an_object(1, 20)
    host.bring(info, A)
    host.up(A)
    host.answer(2)
    host.pulls.stop(info.id, host.now)
    asked = len(host.asked)
    assert host.answer(asked) == []
    assert not host.whole
    assert not host.failed
    host.tick(p.IDLE_S + 1)
    assert not host.connected


def test_many_objects_share_a_source_and_none_is_kept_waiting_by_those_that_wait_there(host):
    large = [an_object(i, 100) for i in range(3)]
    small = [an_object(i, 0.5) for i in range(10, 200)]
    for info in (*large, *small):
        host.bring(info, A)
    host.up(A)
    assert len(host.asked) == p.SOURCE_WINDOW + p.ACTIVE - 3 or len(host.asked) <= p.SOURCE_WINDOW + p.ACTIVE
    stuck = {info.id for info in large}
    while True:
        ready = [i for i, (_, chunk) in enumerate(host.asked) if chunk.object not in stuck]
        if not ready:
            break
        host.asked.insert(0, host.asked.pop(ready[0]))
        host.answer()
    assert set(host.whole) == {info.id for info in small}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_all_arrive_if_one_source_lasts(host, seed):
    chance = random.Random(seed)
    infos = [an_object(i, chance.uniform(0.1, 30)) for i in range(12)]
    wanted = {info.id: [0] * -(-info.nbytes // CHUNK) for info in infos}
    dropped = set()
    up = set()
    for info in infos:
        host.bring(info, *chance.sample([A, B, C], 3))
    for _ in range(400):
        source = chance.choice([A, B])
        match chance.randrange(8):
            case 0 if source.store in up:
                up.discard(source.store)
                host.down(source)
            case 1 | 2 if source.store in host.connected and source.store not in up:
                up.add(source.store)
                host.up(source)
            case 3:
                host.tick(chance.uniform(0, 3))
                up &= set(host.connected)
            case 4 if len(dropped) < 3 and chance.random() < 0.1:
                dropped.add(chance.choice(infos).id)
                for object_id in dropped:
                    host.pulls.stop(object_id, host.now)
            case _ if host.asked:
                for place in host.answer():
                    wanted[place.object][place.offset // CHUNK] += 1
    for _ in range(10_000):
        for source in (A, B, C):
            if source.store in host.connected and source.store not in up:
                up.add(source.store)
                host.up(source)
        if not host.asked:
            break
        for place in host.answer():
            wanted[place.object][place.offset // CHUNK] += 1
    assert not host.failed
    assert set(host.whole) | dropped == set(wanted)
    for object_id in host.whole:
        assert set(wanted[object_id]) == {1}, "each chunk once"
    assert not host.pulls._pulls
    assert all(line.asked == 0 for line in host.pulls._lines.values())
