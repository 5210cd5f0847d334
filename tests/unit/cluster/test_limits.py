"""How many engines fit."""

import pytest
from enginery.cluster.limits import available_bytes, check_count
from enginery.errors import ClusterError

GB = 1 << 30


@pytest.mark.parametrize("n", [0, -1, -100])
@pytest.mark.parametrize("force", [False, True])
def test_fewer_than_one(n, force):
    with pytest.raises(ClusterError) as caught:
        check_count(n, force=force)
    assert str(caught.value) == f"an engine count must be at least 1, not {n}"


def test_more_than_fit():
    with pytest.raises(ClusterError) as caught:
        check_count(100_000, available=4 * GB)
    assert str(caught.value) == (
        "100000 engines need about 977 GB of memory and 4.0 GB are free, which is room for 409; "
        "start fewer, or insist with --force (force=True in Python)"
    )
    check_count(100_000, force=True, available=4 * GB)
    check_count(409, available=4 * GB)


def test_a_few_are_always_fine():
    check_count(1, available=0)
    check_count(32, available=0)


def test_there_is_memory():
    assert available_bytes() > 0
