"""How many engines fit."""

import pytest
from enginery.cluster.limits import (
    available_bytes,
    check_count,
    check_threads,
    nbytes,
    parse_resources,
    seconds,
)
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0, 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("90 s", 90.0),
        (" 5min ", 300.0),
        ("5m", 300.0),
        ("12h", 43200.0),
        (".5h", 1800.0),
        ("1.5 d", 129600.0),
        ("7D", 604800.0),
        ("2w", 1209600.0),
    ],
)
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("100b", 100),
        ("5kB", 5000),
        ("5k", 5000),
        ("500MB", 500 * 10**6),
        ("1.5 GB", 1500 * 10**6),
        ("2g", 2 * 10**9),
        ("1TB", 10**12),
        ("0.5t", 5 * 10**11),
        ("1.5GiB", 3 << 29),
        ("2 Gi", 2 << 30),
        ("64kib", 64 << 10),
    ],
)
def test_sizes(text, expected):
    size = nbytes(text)
    assert size == expected
    assert isinstance(size, int)


@pytest.mark.parametrize("text", ["", "s", "-1", "1 y", "1..2", "five", "1h30", "1e3", "inf", "nan", "5 MB", None, -3])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=f"a time is a number of seconds, or one like 90s, 12h or 7d, not {text!r}"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 h", "1..2", "1PB", "2 iB", None, -3])
def test_what_is_no_size(text):
    with pytest.raises(
        ValueError, match=f"a size is a number of bytes, or one like 500MB, 2GB or 1.5GiB, not {text!r}"
    ):
        nbytes(text)


@pytest.mark.parametrize(
    ("texts", "resources"),
    [
        ([], ()),
        (["gpu=2"], (("gpu", 2.0),)),
        (["mem=64", "gpu = 0.5"], (("gpu", 0.5), ("mem", 64.0))),
        (["b=1,a=2"], (("a", 2.0), ("b", 1.0))),
    ],
)
def test_resources(texts, resources):
    assert parse_resources(texts) == resources


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["gpu"], "a resource is written NAME=AMOUNT, like gpu=2, not 'gpu'"),
        (["gpu=two"], "a resource is written NAME=AMOUNT, like gpu=2, not 'gpu=two'"),
        (["gpu=1", "gpu=2"], "resource gpu is given twice"),
        (["gpu=0"], "the amount of resource gpu is a number above 0, not 0.0"),
        (["gpu=nan"], "the amount of resource gpu is a number above 0, not nan"),
        (["=1"], "a resource is named by a word, not ''"),
        (["gpu=1,"], "a resource is written NAME=AMOUNT, like gpu=2, not ''"),
    ],
)
def test_resources_that_are_none(texts, complaint):
    with pytest.raises(ValueError) as caught:
        parse_resources(texts)
    assert str(caught.value) == complaint


@pytest.mark.parametrize("threads", [-1, True, 1.5, "2"])
def test_threads_that_are_none(threads):
    with pytest.raises(ClusterError, match="threads per engine are a number, or 0 to leave it to the libraries, not"):
        check_threads(threads)
    assert [check_threads(some) for some in (None, 0, 3)] == [None, 0, 3]
