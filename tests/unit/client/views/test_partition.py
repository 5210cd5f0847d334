from __future__ import annotations

import array
from collections import deque

import numpy as np
import pandas as pd
import pytest
from enginery.client.views.partition import bounds, join, length_of, only_item, split


@pytest.mark.parametrize("n", range(12))
@pytest.mark.parametrize("parts", range(1, 6))
@pytest.mark.parametrize("dist", ["b", "r"])
def test_split_and_join_are_inverse(n, parts, dist):
    for sequence in (list(range(n)), tuple(range(n)), range(n), iter(range(n)), np.arange(n)):
        pieces = split(sequence, parts, dist)
        assert len(pieces) == parts
        sizes = [len(piece) for piece in pieces]
        assert max(sizes) - min(sizes) <= 1
        assert list(join(pieces, dist)) == list(range(n))


def test_arrays_stay_arrays():
    array = np.arange(20.0).reshape(10, 2)
    for dist in ("b", "r"):
        whole = join(split(array, 3, dist), dist)
        assert isinstance(whole, np.ndarray)
        assert (whole == array).all()


def test_other_things():
    assert split("abcde", 2, "b") == ["abc", "de"]
    assert join(["abc", "de"], "b") == "abcde"
    assert join([1, 2], "b") == [1, 2]
    assert join([[1], np.array([2])], "b") == [1, 2]
    assert join([], "b") == []
    assert bounds(2, 3) == [(0, 1), (1, 2), (2, 2)]
    with pytest.raises(ValueError, match="round robin"):
        split([1], 1, "x")


DISTS = pytest.mark.parametrize("dist", ["b", "r"])
SIZES = pytest.mark.parametrize("n", [0, 1, 2, 3, 7])


@DISTS
@SIZES
@pytest.mark.parametrize("make", [lambda n: "abcdefg"[:n], lambda n: bytes(range(n)), lambda n: bytearray(range(n))])
def test_text_and_bytes(make, n, dist):
    parts = split(make(n), 3, dist)
    assert {type(part) for part in parts} == {type(make(n))}
    assert join(parts, dist) == make(n)
    assert type(join(parts, dist)) is type(make(n))


@DISTS
@SIZES
def test_dicts(n, dist):
    given = {chr(97 + i): i for i in range(n)}
    parts = split(given, 3, dist)
    assert all(type(part) is dict for part in parts)
    assert list(join(parts, dist).items()) == list(given.items())


@DISTS
@SIZES
@pytest.mark.parametrize(
    "make",
    [
        lambda n: np.arange(n, dtype=np.int16),
        lambda n: np.arange(6.0 * n).reshape(n, 2, 3).astype(np.float32),
        lambda n: np.asfortranarray(np.arange(2 * n).reshape(n, 2)),
        lambda n: np.array([(i, str(i)) for i in range(n)], dtype=[("a", "i4"), ("b", "U3")]),
        lambda n: np.ma.masked_equal(np.arange(n), 1),
        lambda n: np.array(["x" * i for i in range(n)], dtype=object),
    ],
)
def test_arrays_keep_dtype_and_shape(make, n, dist):
    whole = make(n)
    parts = split(whole, 3, dist)
    assert all(part.dtype == whole.dtype and part.shape[1:] == whole.shape[1:] for part in parts)
    back = join(parts, dist)
    assert (type(back), back.dtype, back.shape) == (type(whole), whole.dtype, whole.shape)
    assert np.array_equal(np.ma.getmaskarray(back), np.ma.getmaskarray(whole))
    assert (np.ma.getdata(back) == np.ma.getdata(whole)).all()


def test_blocks_of_an_array_are_not_copied():
    whole = np.zeros((9, 2))
    assert all(part.base is whole and part.flags.c_contiguous for part in split(whole, 3, "b"))


@DISTS
@SIZES
def test_tables_are_cut_by_rows_and_keep_their_index(n, dist):
    index = [f"row {i % 4}" for i in range(n)]
    frame = pd.DataFrame({"a": range(n), "b": pd.Categorical(["x", "y"] * n, categories=["x", "y"])[:n]}, index=index)
    for whole in (frame, frame["a"], frame.set_index("a", append=True)):
        parts = split(whole, 3, dist)
        assert {type(part) for part in parts} == {type(whole)}
        back = join(parts, dist)
        assert back.equals(whole)
        assert back.index.equals(whole.index)


@DISTS
def test_what_cannot_be_sliced_becomes_lists(dist):
    for sequence in (deque(range(5)), iter(range(5)), range(5), dict.fromkeys(range(5)).keys()):
        parts = split(sequence, 2, dist)
        assert all(type(part) is list for part in parts)
        assert join(parts, dist) == list(range(5))
    assert sorted(join(split({1, 2, 3}, 2, dist), dist)) == [1, 2, 3]
    assert join(split(array.array("i", range(5)), 2, dist), dist) == list(range(5))


def test_what_has_no_items():
    for nothing in (np.array(5), 5, None):
        with pytest.raises(TypeError):
            split(nothing, 2, "b")
    with pytest.raises(TypeError, match="a ndarray of 0 dimensions has no items to distribute"):
        split(np.array(5), 2, "r")


def test_parts_that_are_no_sequences_are_a_list():
    assert join([np.float64(1), np.float64(2)], "b") == [1, 2]
    assert join([np.array(1), np.array(2)], "r") == [np.array(1), np.array(2)]
    assert join([{1: 2}, 3], "b") == [{1: 2}, 3]
    frame = pd.DataFrame({"a": [1]})
    mixed = join([frame, 3], "b")
    assert mixed[0] is frame


def test_the_only_item_of_a_part():
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert only_item(frame[:1])["a"] == 1
    assert only_item(frame) is frame
    assert only_item(frame["a"][:1]) == 1
    assert only_item(np.array([[1, 2]])).tolist() == [1, 2]
    assert only_item([]) == []
    assert only_item("x") == "x"
    assert length_of(frame) == 2
