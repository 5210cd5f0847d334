"""Maps of every kind on a cluster of real processes: lazily, with seeds, as an executor, in asyncio."""

import asyncio
import functools
import io
import itertools
import os
import random
import signal
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pandas as pd
import pytest
from enginery import EngineDied
from tqdm import tqdm
from tqdm.asyncio import tqdm as async_tqdm

from helpers import wait_until


def children(seed, count):
    return np.random.SeedSequence(seed).spawn(count)


def serial(seed, count):
    """Return what `draw` draws for each item, computed here."""
    return [(i, np.random.default_rng(child).random()) for i, child in enumerate(children(seed, count))]


def draw(i, rng):
    return i, rng.random()


def draw_globally(i):
    return i, random.random(), np.random.random()  # noqa: NPY002 - the global state is what is tested


async def draw_later(i, rng):
    await asyncio.sleep(0.001)
    return i, rng.random()


# ------------------------------------------------------------------------------------------------ inputs


def test_arrays_are_iterated_over_on_the_engines_as_python_would(client):
    def look(x):
        return type(x).__name__, getattr(x, "shape", None), float(np.sum(x))

    table = np.arange(60_000.0).reshape(2000, 30)
    assert client.map(look, table).get(20) == [look(row) for row in table]
    assert client.map(look, table[:, 0]).get(20) == [look(x) for x in table[:, 0]]
    assert client.map(look, table.T).get(20) == [look(x) for x in table.T]
    assert client[:].map_sync(look, table[:7]) == [look(row) for row in table[:7]]
    days = np.array(["2026-11-25"] * 3000, dtype="M8[D]")
    assert client.map(lambda day: day + 1, days).get(20) == [np.datetime64("2026-11-26")] * 3000
    assert client.map(lambda x, y: x + y, np.arange(1000), range(1000)).get(20) == list(range(0, 2000, 2))


def test_an_array_may_be_changed_after_the_call(client):
    array = np.arange(200_000.0)
    result = client.map(float, array)
    array[:] = -1
    assert result.get(20) == list(range(200_000))


def test_pandas_inputs_are_iterated_over_as_python_would(client):
    frame = pd.DataFrame({"a": [1, 2], "b": [3.5, 4.5]})
    assert client.map(str.upper, frame).get(10) == ["A", "B"]
    assert client.map(lambda x: (type(x).__name__, x), frame["b"]).get(10) == [("float", 3.5), ("float", 4.5)]
    assert client.map(lambda row: row.a + row.b, frame.itertuples(index=False)).get(10) == [4.5, 6.5]


def test_cancelling_a_map_keeps_what_has_ended(client, tmp_path):
    def item(i):
        if i >= 3:
            (tmp_path / str(i)).touch()
            time.sleep(20)
        return i

    result = client.map(item, range(40), chunksize=1)
    wait_until(lambda: result.progress >= 3 and len(list(tmp_path.iterdir())) >= 3, "some have ended, others run")
    assert result.cancel()
    assert result[:3] == [0, 1, 2]
    values = result.get(return_exceptions=True)
    assert values[:3] == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) <= 6
    assert isinstance(values[39], CancelledError)


# ------------------------------------------------------------------------------------------------ seeds


def test_seeded_items_draw_the_same_on_any_engines_and_in_any_batches(client):
    expected = serial(42, 100)
    for chunksize in ("auto", 1, 7, 100):
        assert client.map(draw, range(100), seed=42, chunksize=chunksize).get(10) == expected
        assert list(client.imap(draw, range(100), seed=42, chunksize=chunksize)) == expected
    for targets in ([0], [1, 2]):
        view = client.load_balanced_view(targets)
        assert view.map_sync(draw, np.arange(100), seed=42) == expected
        assert sorted(view.imap(draw, iter(range(100)), seed=42, ordered=False)) == expected
        assert client[targets].map_sync(draw, range(100), seed=42) == expected
    assert client.map(draw, range(100), seed=[4, 2]).get(10) == serial([4, 2], 100)
    assert client.map(functools.partial(draw), range(9), seed=np.random.SeedSequence(42)).get(10) == expected[:9]
    assert client.map(draw_later, range(100), seed=42).get(10) == expected
    assert client.map(draw, range(100), seed=43).get(10) != expected


def test_seeded_items_draw_the_same_from_the_global_states(client):
    first = client.map(draw_globally, range(50), seed=7).get(10)
    assert client.map(draw_globally, range(50), seed=7, chunksize=3).get(10) == first
    assert len({value for _, *values in first for value in values}) == 100
    words = children(7, 50)[10].generate_state(8)
    assert first[10][2] == np.random.RandomState(words[:4]).random_sample()
    again = [client[0].map_sync(draw_globally, range(1), seed=7) and client[0].apply_sync(draw_globally, 0)]
    again += [client[0].map_sync(draw_globally, range(1), seed=7) and client[0].apply_sync(draw_globally, 0)]
    assert again[0] != again[1]  # what comes after is as random as it was before


def test_seeded_items_draw_the_same_after_retries_and_deaths(client, tmp_path):
    def unlucky(i, rng):
        value = rng.random()
        mark = tmp_path / str(i)
        if i in (3, 20) and not mark.exists():
            mark.touch()
            if i == 3:
                raise OSError
            os.kill(os.getpid(), signal.SIGKILL)
        return i, value

    view = client.load_balanced_view().set_flags(retries=2)
    assert view.map_sync(unlucky, range(30), seed=42) == serial(42, 30)
    client.wait_for_engines(3, timeout=20)


# ------------------------------------------------------------------------------------------------ imap


def test_an_endless_input_is_read_as_results_are_consumed(client):
    read = itertools.count()
    values = client.imap(lambda x: x * x, read, max_outstanding=50)
    for consumed, value in enumerate(itertools.islice(values, 2000), 1):
        assert value == (consumed - 1) ** 2
    assert next(read) <= 2050
    values.close()


def test_engines_do_not_run_dry_while_the_consumer_is_quick(client):
    def item(_):
        began = time.time()
        time.sleep(0.02)
        return os.getpid(), began

    client.map(item, range(6), chunksize=1).get(10)
    seen = list(client.imap(item, range(60)))
    starts = {}
    for pid, began in seen:
        starts.setdefault(pid, []).append(began)
    assert len(starts) == 3
    assert all(len(times) >= 5 for times in starts.values())


def test_cancelling_an_imap_stops_what_runs(client, tmp_path):
    def item(i):
        if i:
            (tmp_path / str(i)).touch()
            time.sleep(30)

    with client.imap(item, itertools.count()) as values:
        assert next(values) is None
        wait_until(lambda: len(list(tmp_path.iterdir())) == 3, "three items run")
        assert values.cancel()
        with pytest.raises(CancelledError):
            next(values)
    assert client.submit(abs, -1).result(5) == 1


def test_an_imap_that_is_let_go_of_frees_the_engines(client, tmp_path):
    def item(i):
        if i:
            (tmp_path / str(i)).touch()
            time.sleep(30)

    for _ in client.imap(item, itertools.count()):
        wait_until(lambda: len(list(tmp_path.iterdir())) == 3, "three items run")
        break
    wait_until(lambda: not any(client.status()["tasks"][kind] for kind in ("waiting", "assigned")), "all is idle")


def test_an_item_that_kills_its_engine_fails_alone(client):
    def item(i):
        if i == 5:
            time.sleep(0.1)  # what had ended is reported meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    got = list(client.imap(item, range(20), return_exceptions=True, chunksize=5))
    assert isinstance(got[5], EngineDied)
    assert got[5].item == 5
    assert got[:5] + got[6:] == [i for i in range(20) if i != 5]
    client.wait_for_engines(3, timeout=20)


def test_an_imap_of_coroutines_has_many_of_them_under_way(client):
    async def item(i):
        await asyncio.sleep(0.1)
        return i

    began = time.monotonic()
    assert list(client.imap(item, range(120))) == list(range(120))
    assert time.monotonic() - began < 4  # one after another on each engine: 4 s


def test_ctrl_c_ends_a_wait_and_harms_nothing(client):
    def item(i):
        time.sleep(0.4)
        return i

    values = client.imap(item, range(4))
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(values)
    assert list(values) == [0, 1, 2, 3]


def test_imaps_can_be_chained(client):
    doubled = client.imap(lambda x: 2 * x, itertools.count(), max_outstanding=20)
    assert list(itertools.islice(client.imap(str, doubled, max_outstanding=20), 50)) == [str(2 * i) for i in range(50)]


# ------------------------------------------------------------------------------------------------ executor


def test_an_executor_withdraws_what_has_not_started_and_leaves_what_runs(client, tmp_path):
    def item(i):
        (tmp_path / str(i)).touch()
        wait_until(lambda: (tmp_path / "go").exists(), "it may go on")
        return i

    executor = client.executor()
    futures = [executor.submit(item, i) for i in range(20)]
    wait_until(lambda: len(list(tmp_path.iterdir())) == 3, "three run")
    executor.shutdown(wait=False, cancel_futures=True)
    wait_until(lambda: sum(future.cancelled() for future in futures) == 17, "the others are withdrawn")
    (tmp_path / "go").touch()
    ran = [i for i, future in enumerate(futures) if not future.cancelled()]
    assert [futures[i].result(10) for i in ran] == ran


def test_every_call_of_a_map_is_made_though_nobody_iterates(client, tmp_path):
    with client.executor() as executor:
        executor.map(lambda i: (tmp_path / str(i)).touch(), range(10))
    assert len(list(tmp_path.iterdir())) == 10


# ------------------------------------------------------------------------------------------------ asyncio


def test_asyncio(client):
    async def main():
        assert await client.submit(pow, 2, 10) == 1024
        assert await asyncio.gather(*[client.submit(abs, -i) for i in range(20)]) == list(range(20))
        done = [await future for future in asyncio.as_completed([client.submit(abs, -i) for i in range(5)])]
        assert sorted(done) == list(range(5))
        assert await asyncio.wait_for(client.submit(abs, -3), 5) == 3
        with pytest.raises(ZeroDivisionError):
            await client.submit(lambda: 1 / 0)
        assert [value async for value in client.map(abs, range(-9, 0))] == list(range(9, 0, -1))
        assert [value async for value in client.imap(abs, range(-9, 0))] == list(range(9, 0, -1))
        assert await client.map(abs, range(-3, 0)) == [3, 2, 1]
        assert await asyncio.get_running_loop().run_in_executor(client.executor(), pow, 2, 10) == 1024
        future = client.submit(time.sleep, 30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await future
        await asyncio.wait_for(asyncio.to_thread(future.wait, 10), 10)
        assert future.cancelled()  # who gives up waiting has the task stopped
        async with client.imap(time.sleep, itertools.repeat(30)) as values:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await anext(values)

    asyncio.run(main())
    wait_until(lambda: not client.status()["tasks"]["assigned"], "all is idle")


def test_the_loop_runs_on_while_results_are_awaited(client):
    async def main():
        ticks = 0
        waiter = asyncio.ensure_future(client.submit(time.sleep, 0.2))
        while not waiter.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(main()) > 2


# ------------------------------------------------------------------------------------------------ progress


def test_progress_bars_of_tqdm(client):
    shown = io.StringIO()
    bar = tqdm(client.map(abs, range(50)), file=shown)
    assert bar.total == 50
    assert list(bar) == list(range(50))
    assert "50/50" in shown.getvalue()
    bar = tqdm(client.imap(abs, range(50)), file=shown)
    assert bar.total is None
    assert list(bar) == list(range(50))
    assert "50it" in shown.getvalue()

    async def main():
        shown = io.StringIO()
        got = [value async for value in async_tqdm(client.imap(abs, range(50)), total=50, file=shown)]
        assert got == list(range(50))
        assert "50/50" in shown.getvalue()
        got = [value async for value in async_tqdm(aiter(client.map(abs, range(50))), total=50, file=shown)]
        assert got == list(range(50))

    asyncio.run(main())
