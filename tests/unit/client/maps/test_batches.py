from __future__ import annotations

import pytest
from enginery.client.maps.batches import BYTES_MAX, ITEMS_MAX, Sizes, check_map


@pytest.mark.parametrize(
    ("length", "engines", "size"),
    [(0, 4, 1), (8, 4, 1), (64, 4, 1), (65, 4, 2), (10**6, 4, 15625), (10**8, 4, ITEMS_MAX), (100, 0, 7)],
)
def test_a_known_length_is_cut_evenly(length, engines, size):
    assert Sizes(length, engines, "auto").next() == size


def test_large_items_make_short_tasks():
    sizes = Sizes(10**6, 1, "auto")
    sizes.learn(sizes.next(), BYTES_MAX * 16)
    assert sizes.next() == ITEMS_MAX // 16
    sizes.learn(1, BYTES_MAX * 5)
    assert sizes.next() == 1
    sizes.learn(1, 10)
    assert sizes.next() == ITEMS_MAX


def test_an_unknown_length_makes_growing_tasks():
    sizes = Sizes(None, 2, "auto")
    read = []
    for _ in range(40):
        read.append(sizes.next())
        sizes.learn(read[-1], 10)
    assert read[0] == 1
    assert read == sorted(read)
    assert read[-1] > 20


def test_a_given_size_is_kept():
    sizes = Sizes(100, 4, 7)
    sizes.learn(7, BYTES_MAX * 100)
    assert sizes.next() == 7
    for wrong in (0, -1, "large", 1.5, None):
        with pytest.raises(ValueError, match="chunksize"):
            Sizes(1, 1, wrong)


def test_what_can_be_mapped():
    with pytest.raises(TypeError, match="takes a function"):
        check_map(3, ([],))
    with pytest.raises(TypeError, match="at least one sequence"):
        check_map(abs, ())
