"""What functions need on their engines, what tasks take of their hosts, and threads, on real processes."""

from __future__ import annotations

import asyncio
import colorsys
import os
import time
from pathlib import Path

import pytest
from enginery import Cluster, CompositeError, ImpossibleDependency, TaskRefused, UnmetDependency, depend, require
from enginery.cluster import show

from helpers import wait_until


@pytest.fixture(scope="module")
def cluster(session_runtime):
    """Three engines: 0 can import what 1 and 2 cannot; 1 has a GPU; the host offers two licences."""
    running = Cluster(n=3, resources={"licence": 2, "mem": 1.5})
    running.start()
    client = running.connect()
    for engine in client.ids:
        client[engine].execute(f"import os; os.environ['ME'] = '{engine}'").get()
    client[[1, 2]].execute("import sys; sys.modules['colorsys'] = None").get()
    client[1].execute("os.environ['GPU'] = '1'").get()
    yield running
    running.stop()


def me(_x=None):
    return os.environ["ME"]


def has_gpu(wanted=1):
    return int(os.environ.get("GPU", "0")) >= wanted


@require("colorsys")
def coloured(x):
    return os.environ["ME"], colorsys.rgb_to_hsv(x, x, x)[2]


@depend(has_gpu)
def trained(x):
    return os.environ["ME"], x


@depend(has_gpu, wanted=1)
async def awaited(x):
    await asyncio.sleep(0.001)
    return os.environ["ME"], x


def by_number(x):
    if int(os.environ["ME"]) != x % 3:
        raise UnmetDependency(f"{x} is not for engine {os.environ['ME']}")
    return os.environ["ME"], x


# ------------------------------------------------------------------------------------------------------ functions


def test_a_function_runs_where_its_modules_are(client):
    """Its globals name the module, so without it the function cannot even be made."""
    assert [client.submit(coloured, 0.5).result() for _ in range(6)] == [("0", 0.5)] * 6
    assert list(client.map(coloured, [0.0, 0.5, 1.0] * 20)) == [("0", x) for x in [0.0, 0.5, 1.0] * 20]


def test_a_function_runs_where_its_check_says_yes(client):
    assert [client.submit(trained, i).result() for i in range(6)] == [("1", i) for i in range(6)]
    assert list(client.map(trained, range(500))) == [("1", i) for i in range(500)]


def test_so_do_coroutines(client):
    assert [client.submit(awaited, i).result() for i in range(3)] == [("1", i) for i in range(3)]
    assert list(client.map(awaited, range(50))) == [("1", i) for i in range(50)]


def test_each_item_finds_its_engine(client):
    assert list(client.map(by_number, range(300))) == [(str(i % 3), i) for i in range(300)]
    result = client.map(by_number, range(30), ordered=False)
    assert sorted(x for _, x in result) == list(range(30))
    assert result.progress == 30


def test_what_nobody_has_fails_at_once_and_clearly(client):
    @require("no_such_module")
    def f(x):
        return x

    began = time.monotonic()
    with pytest.raises(ImpossibleDependency) as caught:
        client.submit(f, 1).result(10)
    assert time.monotonic() - began < 2
    assert str(caught.value) == (
        f"no engine can run it: {f.__qualname__} requires module no_such_module, which cannot be imported here "
        "(ModuleNotFoundError: No module named 'no_such_module') (asked: engines 0-2)"
    )
    with pytest.raises(ImpossibleDependency, match=r"on has_gpu\(9\), which returned False \(asked: engines 0-2\)"):
        client.submit(depend(has_gpu, 9)(me)).result(10)
    with pytest.raises(ImpossibleDependency, match=r"\(asked: engines 0,2\)"):
        client.load_balanced_view([0, 2]).apply_sync(trained, 1)


def test_one_item_that_nobody_can_run_fails_alone(client):
    def f(x):
        if x == 7:
            raise UnmetDependency("nobody likes 7")
        return x

    values = client.map(f, range(20), return_exceptions=True).get()
    assert isinstance(values[7], ImpossibleDependency)
    assert [value for value in values if not isinstance(value, Exception)] == [*range(7), *range(8, 20)]


def test_a_direct_call_is_for_its_engine_only(client):
    assert client[1].apply_sync(trained, 5) == ("1", 5)
    with pytest.raises(ImpossibleDependency, match="engine 0 cannot run it: trained depends on has_gpu"):
        client[0].apply_sync(trained, 5)
    with pytest.raises(CompositeError):
        client[:].apply_sync(trained, 5)


def test_retries_are_for_errors(client):
    def f():
        if not has_gpu():
            raise UnmetDependency("no GPU here")
        raise OSError("the GPU is broken")

    view = client.load_balanced_view().set_flags(retries=1)
    with pytest.raises(OSError, match="the GPU is broken"):
        view.apply_sync(f)


def test_helpers_are_there_too(client):
    def helper(x):
        return x + 1

    @require(helper, "math", limit=3)
    def f(x):
        return helper(x) + math.ceil(limit)  # noqa: F821 - they are there

    assert client.submit(f, 1).result() == 5
    client[:].apply_sync(f, 1)
    assert client[2].pull("helper(1) + math.ceil(limit)", block=True) == 5


def test_an_engine_that_was_restarted_is_asked_again(cluster, client):
    view = client.load_balanced_view([2])

    @depend(lambda: "HERE" in os.environ)
    def f():
        return os.environ["HERE"]

    with pytest.raises(ImpossibleDependency):
        view.apply_sync(f)
    slow = client[0].apply_async(time.sleep, 30)
    both = client.load_balanced_view([0, 2]).apply_async(f)  # 2 says no, so it is to run on 0, after what runs there
    wait_until(lambda: client.status()["engines"][0]["tasks"] == 2, "engine 2 to say no")
    client.register_setup("import os; os.environ['HERE'] = 'yes'")
    client.restart([2])
    assert both.result(10) == "yes"
    slow.cancel()
    client.clear_setup()


# ------------------------------------------------------------------------------------------------------ resources


def hold(seconds):
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


async def hold_awaiting(seconds):
    began = time.time()
    await asyncio.sleep(seconds)
    return began, time.time()


def at_once(spans) -> int:
    """Return how many of these times overlap at most."""
    events = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("function", [hold, hold_awaiting])
def test_no_more_is_taken_than_there_is(cluster, client, function):
    view = client.load_balanced_view().set_flags(resources={"licence": 1})
    one_by_one = client.load_balanced_view().set_flags(resources={"mem": 1})
    results = [view.apply_async(function, 0.05) for _ in range(5)]
    singles = [one_by_one.apply_async(function, 0.03) for _ in range(3)]
    assert at_once([result.result(20) for result in results]) == 2
    assert at_once([result.result(20) for result in singles]) == 1
    assert at_once(view.map_sync(function, [0.02] * 8)) == 2
    assert client.status()["hosts"][0]["in_use"] == {}


def test_the_status_shows_them(cluster, client):
    view = client.load_balanced_view().set_flags(resources={"licence": 1.5})
    result = view.apply_async(time.sleep, 30)
    wait_until(lambda: client.status()["hosts"][0]["in_use"] == {"licence": 1.5}, "the task to be given out")
    assert "licence 1.5 of 2, mem 0 of 1.5" in show.status(cluster.status())
    result.cancel()
    wait_until(lambda: not client.status()["hosts"][0]["in_use"], "it to be free again")


def test_more_than_there_is_is_refused(client):
    view = client.load_balanced_view().set_flags(resources={"licence": 3})
    with pytest.raises(TaskRefused, match=r"takes licence=3, which no host can give: .* offers licence=2 mem=1\.5"):
        view.apply_sync(me)
    with pytest.raises(TaskRefused, match="it takes gpu=1"):
        view.set_flags(resources={"gpu": 1}).map_sync(me, [1])


# -------------------------------------------------------------------------------------------------------- threads


def told():
    """Return what the environment says of threads, and how many OpenBLAS has."""
    import ctypes

    import numpy as np

    (library,) = Path(np.__file__).parents[1].glob("numpy.libs/*openblas*")
    count = ctypes.CDLL(library).scipy_openblas_get_num_threads64_()
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"), count


@pytest.fixture
def cores(monkeypatch):
    """What the libraries would have of themselves; nothing is said by this environment."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return len(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the libraries are found as on Linux")
def test_engines_share_the_cores(cores):
    cluster = Cluster(n=1)
    with cluster as client:
        assert client[0].apply_sync(told) == (str(cores), str(cores), cores)
        cluster.scale(cores + 1)
        assert client[cores].apply_sync(told) == ("1", "1", 1)
        assert [engine["threads"] for engine in cluster.status()["engines"]] == [cores, *[1] * cores]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the libraries are found as on Linux")
def test_the_number_is_there_before_a_preloaded_numpy(cores):
    with Cluster(n=1, threads=1, preload="numpy") as client:
        assert client[0].apply_sync(told) == ("1", "1", 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the libraries are found as on Linux")
def test_what_the_user_has_set_is_left_alone(cores, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    with Cluster(n=1, fork=False) as client:
        assert client[0].apply_sync(told) == (str(cores), "1", 1)
