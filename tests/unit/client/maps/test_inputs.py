from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from enginery.client.maps.inputs import Input, cut, seeded


def read(rows, size):
    """Return all rows as an engine sees them, and how many came at a time."""
    seen, sizes = [], []
    while True:
        items, count = rows.take(size)
        if not count:
            return seen, sizes
        sizes.append(count)
        seen.extend(zip(*items, strict=True) if isinstance(items, tuple) else items)


SERIES = pd.Series([1.5, 2.5, 3.5], index=list("abc"))
FRAME = pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]})


@pytest.mark.parametrize(
    "sequences",
    [
        ([],),
        ([], [1]),
        ("abcde",),
        ({"x": 1, "y": 2},),
        (b"abc",),
        (range(10), "abc", range(100)),
        (SERIES,),
        (FRAME,),
        (np.arange(5.0),),
        (np.array([], dtype=float),),
        (np.arange(12).reshape(4, 3),),
        (np.array(["a", None], dtype=object),),
        (np.array(["2020-01-01"] * 3, dtype="M8[D]"),),
        (np.array([(1, 2.0), (3, 4.0)], dtype=[("a", int), ("b", float)]),),
        (np.arange(7), [1, 2, 3]),
        ([1, 2, 3, 4], np.arange(3), np.arange(9)),
    ],
    ids=lambda sequences: ",".join(type(s).__name__ for s in sequences),
)
@pytest.mark.parametrize("size", [1, 2, 100, None])
def test_rows_are_what_python_iterates_over(sequences, size):
    expected = list(zip(*sequences, strict=False)) if len(sequences) > 1 else list(sequences[0])
    seen, _ = read(Input(sequences), size)
    assert [type(row) for row in seen] == [type(row) for row in expected]
    assert all(np.all(a == b) for a, b in zip(seen, expected, strict=True))


def test_arrays_are_cut_and_what_is_cut_stays_as_it_was():
    array = np.arange(10.0)
    rows = Input((array,))
    first, count = rows.take(4)
    array[:] = -1
    assert isinstance(first, np.ndarray)
    assert count == 4
    assert first.tolist() == [0, 1, 2, 3]
    table = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    assert Input((table,)).row_nbytes == 16
    columns, _ = Input((table, [1, 2, 3])).take(2)
    assert [type(column) for column in columns] == [np.ndarray, list]
    assert columns[0].flags.c_contiguous


def test_a_memory_map_is_cut_into_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "a", dtype="i4", mode="w+", shape=(6,))
    mapped[:] = range(6)
    items, _ = Input((mapped,)).take()
    assert type(items) is np.ndarray
    assert items.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("sequences", "length"),
    [
        (([1, 2],), 2),
        (([1, 2], "abc"), 2),
        ((iter([1, 2, 3]),), 3),
        (([1, 2], (x for x in "ab")), None),
        ((itertools.count(),), None),
        ((FRAME,), 3),
        ((np.zeros((4, 9)),), 4),
    ],
)
def test_lengths(sequences, length):
    assert Input(sequences).length == length


def test_one_iterator_twice_gives_pairs():
    same = iter(range(6))
    assert read(Input((same, same)), 2)[0] == [(0, 1), (2, 3), (4, 5)]


def test_what_was_read_before_the_input_raised_is_not_lost():
    def broken():
        yield from range(5)
        raise KeyError("input")

    rows = Input((broken(), np.arange(100)))
    assert rows.take(3)[1] == 3
    with pytest.raises(KeyError, match="input"):
        rows.take(3)
    (left, right), count = rows.take_rest()
    assert (left, right.tolist(), count) == ([3, 4], [3, 4], 2)
    assert rows.take_rest()[1] == 0


def test_no_more_is_read_than_asked_for():
    count = itertools.count()
    rows = Input((count,))
    rows.take(3)
    assert next(count) == 3
    rows = Input((count, np.arange(2)))
    rows.take(10)
    rows.take(10)
    assert next(count) == 6


@pytest.mark.parametrize("wrong", [3, np.array(3), None])
def test_what_cannot_be_iterated_says_so(wrong):
    with pytest.raises(TypeError, match=r"iter"):
        Input((wrong,))


def test_numbered_rows_begin_with_their_number():
    rows = Input(("abc",), numbered=True)
    items, count = rows.take(2)
    assert items == (range(2), ["a", "b"])
    assert count == 2
    assert rows.take(2)[0] == (range(2, 3), ["c"])
    assert cut(items, 1, 2) == (range(1, 2), ["b"])
    assert cut([1, 2, 3], 1, 2) == [2]


def test_without_a_seed_nothing_changes():
    function, rows = seeded(abs, ([1],), None)
    assert function is abs
    assert rows.take(1) == ([1], 1)


def test_a_coroutine_function_needs_a_parameter_for_its_generator():
    async def draw(x):
        return x

    async def draws(x, rng):
        return x

    with pytest.raises(TypeError, match='takes its generator by a parameter named "rng"'):
        seeded(draw, ([1],), 3)
    assert seeded(draws, ([1],), 3)[0].rng
