from __future__ import annotations

import numpy as np
import pytest
from enginery.client.partition import bounds, join, split


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
    assert split({1: 2, 3: 4}, 2, "b") == [[1], [3]]
    assert bounds(2, 3) == [(0, 1), (1, 2), (2, 2)]
    with pytest.raises(ValueError, match="round robin"):
        split([1], 1, "x")
