"""The memory of messages: kept while objects move."""

import sys

import pytest
from enginery.nanny.store.heap import HELD, MOVING, OTHERWISE, Heap


class Libc:
    """A C library that notes what it is told."""

    def __init__(self):
        self.values = {}
        self.trimmed = 0

    def mallopt(self, name, value):
        self.values[name] = value

    def malloc_trim(self, _pad):
        self.trimmed += 1


class Message:
    """A message that tells when it goes, and how the C library was set then."""

    def __init__(self, libc, gone):
        self.libc, self.gone = libc, gone

    def __del__(self):
        self.gone.append(dict(self.libc.values))


def test_what_is_kept_is_given_back_with_the_last_messages():
    heap, libc, gone = Heap(), Libc(), []
    heap._libc = libc
    heap.keep()
    assert heap.is_kept
    assert libc.values == MOVING
    for _ in range(HELD + 2):
        heap.hold(Message(libc, gone))
    assert len(gone) == 2
    heap.give_back()
    assert not heap.is_kept
    assert gone[2:] == [OTHERWISE] * HELD, "they go when the C library gives back what is freed"
    assert libc.trimmed == 1


def test_without_such_a_c_library_nothing_is_done():
    heap = Heap()
    heap._libc = None
    heap.keep()
    heap.give_back()
    assert not heap.is_kept


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_the_real_one_takes_the_values():
    heap = Heap()
    if heap._libc is None:
        pytest.skip("the C library is another one")
    try:
        assert all(heap._libc.mallopt(name, value) == 1 for name, value in MOVING.items())
    finally:
        heap.give_back()
