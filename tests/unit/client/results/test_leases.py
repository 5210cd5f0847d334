from __future__ import annotations

import gc
import pickle
import threading

import pytest
from enginery.client.results.leases import Lease, Leases
from enginery.errors import ObjectLost
from enginery.objects.local import StoreGoneError
from enginery.wire.messages import ObjectInfo


def info(number, nbytes=7):
    return ObjectInfo(number.to_bytes(16, "big"), nbytes)


class Store:
    """Has what is put into it, until it is gone."""

    def __init__(self):
        self.has = {}
        self.gone = False

    def open(self, info):
        if self.gone:
            raise StoreGoneError("it has ended")
        try:
            return self.has[info.id]
        except KeyError:
            raise ObjectLost("nobody has it") from None

    def find(self, info):
        return self.has.get(info.id)


@pytest.fixture
def leases():
    made = Leases()
    made.store = Store()
    made.woken = 0

    def wake():
        made.woken += 1

    made.wake = wake
    return made


def test_a_lease_is_no_frames(leases):
    lease = leases.new(info(1))
    assert not lease
    assert len(lease) == 0
    assert [*lease] == []
    assert lease.info == info(1)


def test_its_end_is_told(leases):
    one, two = leases.new(info(1)), leases.new(info(1))
    assert not leases.has_returned
    assert not leases.is_idle
    del one
    assert leases.woken == 1
    assert leases.take() == [info(1).id]
    assert not leases.has_returned
    assert not leases.is_idle
    also = two
    del two
    assert leases.take() == []
    del also
    assert not leases.is_idle  # it is to be told yet
    assert leases.take() == [info(1).id]
    assert leases.is_idle


def test_it_ends_in_any_thread_and_in_a_cycle(leases):
    held = [leases.new(info(1))]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    cycle = [leases.new(info(2))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert leases.take() == [info(1).id, info(2).id]


def test_one_that_was_never_made_ends_quietly():
    Lease()


def test_it_opens_what_is_in_the_store(leases):
    lease = leases.new(info(1))
    with pytest.raises(ObjectLost, match="nobody has it"):
        lease.open()
    value = pickle.dumps(1), []
    leases.store.has[info(1).id] = value
    assert lease.open() is value
    leases.store.gone = True
    with pytest.raises(ObjectLost, match="00000000-1 cannot be read any more: it has ended"):
        lease.open()
    leases.store = None
    with pytest.raises(ObjectLost, match="a store that this process cannot use"):
        lease.open()


def test_after_the_end_what_was_in_memory_can_be_read(leases):
    there, elsewhere, over = leases.new(info(1)), leases.new(info(2)), leases.new(info(3))
    value = pickle.dumps(1), []
    leases.store.has[info(1).id] = value
    del over
    leases.end(hold=True)
    leases.store.gone = True
    assert leases.take() == []
    assert there.open() is value
    with pytest.raises(ObjectLost, match="when this client was closed"):
        elsewhere.open()
    woken = leases.woken
    del there, elsewhere
    assert leases.take() == []
    assert leases.woken == woken
    assert not leases._mapped
    leases.end(hold=True)


def test_without_hold_nothing_is_mapped(leases):
    lease = leases.new(info(1))
    leases.store.has[info(1).id] = b"", []
    leases.end(hold=False)
    leases.store.gone = True
    with pytest.raises(ObjectLost):
        lease.open()
