"""Coroutines on engines: what a cell leaves on the loop, and coroutine functions as tasks."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from enginery import EngineDied, RemoteError, SerializationError, TaskTimeout

from helpers import wait_until


def test_a_background_task_goes_on_between_cells(client):
    view = client[0]
    code = """
import asyncio
ticks = []
async def tick():
    while len(ticks) < 20:
        await asyncio.sleep(0.005)
        ticks.append(len(ticks))
ticking = asyncio.create_task(tick())
"""
    view.execute(code).get()
    wait_until(lambda: view.pull("len(ticks)", block=True) == 20, "the ticks")  # calls and waits between them
    assert view.execute("await ticking; ticking.done()", silent=False).get().text == "True"
    assert view.apply_sync(lambda: 5) == 5


def test_a_cell_awaits_what_an_earlier_one_has_begun(client):
    view = client[0]
    view.execute("import asyncio\nsoon = asyncio.create_task(asyncio.sleep(0.05, 'done'))").get()
    assert view.execute("await soon", silent=False).get().text == "'done'"
    view.execute("late = asyncio.get_running_loop().run_in_executor(None, lambda: 7)").get()
    assert view.execute("await late", silent=False).get().text == "7"


def test_what_a_background_task_prints_reaches_its_cell(client):
    view = client[0]
    said = view.execute(
        """
import asyncio
async def talk():
    await asyncio.sleep(0.05)
    print("late")
talking = asyncio.create_task(talk())
""",
        silent=False,
    )
    said.get()
    view.execute("await talking").get()
    wait_until(lambda: "late" in str(said.stdout), "what was printed late")


def test_what_fails_in_the_background_does_no_harm(client):
    view = client[0]
    view.execute("""
import asyncio
async def fail(error):
    raise error
tasks = [asyncio.create_task(fail(error)) for error in (LookupError(), SystemExit(3), KeyboardInterrupt())]
asyncio.get_running_loop().call_soon(lambda: 1 / 0)
""").get()
    with pytest.raises(LookupError):
        view.execute("await tasks[0]").get()
    assert view.apply_sync(lambda: 5) == 5


async def nap(seconds, value=None):
    import asyncio

    await asyncio.sleep(seconds)
    return value


def test_many_run_at_once(client):
    began = time.monotonic()
    futures = [client.submit(nap, 0.5, i) for i in range(100)]
    assert [future.result() for future in futures] == list(range(100))
    assert time.monotonic() - began < 2.5  # 17 s one after another on three engines
    assert {future.engine_id for future in futures} == {0, 1, 2}
    for future in futures:
        assert 0.4 < (future.completed - future.started).total_seconds() < 2


def test_more_than_an_engine_takes_at_once_wait_their_turn(client):
    futures = [client[0].apply_async(nap, 0.1, i) for i in range(150)]
    assert [future.get() for future in futures] == list(range(150))


def test_the_items_of_a_map_run_at_once(client):
    began = time.monotonic()
    assert client.map(nap, [0.3] * 30, range(30)).get() == [*range(30)]
    assert client[:].map(nap, [0.3] * 30, range(30)).get() == [*range(30)]
    assert time.monotonic() - began < 3  # 6 s if each engine took them one after another

    async def fail_some(x):
        if x % 3:
            raise LookupError(x)
        return x

    found = client.map(fail_some, range(9), return_exceptions=True).get()
    assert [x if isinstance(x, int) else str(x) for x in found] == [0, "1", "2", 3, "4", "5", 6, "7", "8"]
    assert client.map(nap, [0.01] * 10, range(10), chunksize=5).get() == [*range(10)]  # in batches, one after another


def test_plain_tasks_run_between(client):
    held = client[0].apply_async(nap, 30)
    assert [client[0].apply_sync(abs, -i) for i in range(20)] == list(range(20))
    assert client[0].map_sync(abs, range(100)) == list(range(100))
    assert not held.done()
    assert held.cancel()


def test_those_of_a_direct_view_begin_in_order(client):
    async def note(number):
        import asyncio
        import sys

        begun = sys.__dict__.setdefault("begun_here", [])
        begun.append(number)
        await asyncio.sleep(0.1 * (4 - number))
        return list(begun)

    futures = [client[1].apply_async(note, number) for number in range(4)]
    assert futures[3].get() == [0, 1, 2, 3]
    assert not futures[0].done()
    assert futures[0].get() == [0, 1, 2, 3]


def test_errors_come_through(client):
    async def fail(number):
        import asyncio

        await asyncio.sleep(0.01)
        if number == 1:
            raise LookupError("nothing")
        if number == 2:
            raise SystemExit(3)
        return threading.Lock() if number == 3 else number

    futures = [client[0].apply_async(fail, number) for number in range(5)]
    assert futures[0].get() == 0
    with pytest.raises(LookupError, match="nothing"):
        futures[1].get()
    with pytest.raises(RemoteError) as caught:
        futures[2].get()
    assert caught.value.ename == "SystemExit"
    with pytest.raises(SerializationError, match=r"the result of fail is a _thread\.lock"):
        futures[3].get()
    assert futures[4].get() == 4


def test_any_coroutine_function_counts(client):
    class Callable:
        async def __call__(self, x):
            return x + 1

        async def method(self, x):
            return x + 2

    assert client.submit(functools.partial(nap, 0, value=5)).result() == 5
    assert client.submit(Callable(), 1).result() == 2
    assert client.submit(Callable().method, 1).result() == 3
    assert client.map(nap, [0.01] * 5, range(5)).get() == [*range(5)]


def write(path, text):
    with Path(path).open("a") as file:
        file.write(text)


def times(path):
    return len(Path(path).read_text().splitlines())


def test_one_of_many_is_cancelled(client, tmp_path):
    async def mark(path):
        import asyncio

        try:
            write(path, "begun\n")
            await asyncio.sleep(30)
        finally:
            write(path, "cleaned up\n")

    path = tmp_path / "mark"
    others = [client[0].apply_async(nap, 0.5, i) for i in range(5)]
    wanted = client[0].apply_async(mark, str(path))
    wait_until(path.exists, "its beginning")
    assert wanted.cancel()
    with pytest.raises(CancelledError):
        wanted.get()
    assert path.read_text() == "begun\ncleaned up\n"
    assert [other.get() for other in others] == [*range(5)]


def test_a_step_that_runs_away_is_interrupted_and_others_go_on(client, tmp_path):
    async def spin(path):
        write(path, "begun")
        while True:
            pass

    others = [client[0].apply_async(nap, 0.3, i) for i in range(5)]
    wanted = client[0].apply_async(spin, str(tmp_path / "spin"))
    wait_until((tmp_path / "spin").exists, "its beginning")
    assert wanted.cancel()
    assert [other.get() for other in others] == [*range(5)]


def test_an_interrupt_from_outside_reaches_all_that_wait(client):
    pid = client[2].apply_sync(os.getpid)
    futures = [client[2].apply_async(nap, 30) for _ in range(3)]
    assert client[2].apply_sync(abs, -1) == 1  # they have begun
    os.kill(pid, signal.SIGINT)
    for future in futures:
        with pytest.raises(RemoteError) as caught:
            future.get(timeout=10)
        assert caught.value.ename == "KeyboardInterrupt"
    assert client[2].apply_sync(os.getpid) == pid


def test_a_storm_of_interrupts_loses_neither_an_engine_nor_a_result(client):
    async def busy(seconds):
        import asyncio
        import time

        for _ in range(10):
            until = time.monotonic() + seconds / 20
            while time.monotonic() < until:
                pass
            await asyncio.sleep(seconds / 20)
        return "done"

    view = client[2]
    pid = view.apply_sync(os.getpid)
    endings = []
    for _ in range(10):
        futures = [view.apply_async(busy, 0.004) for _ in range(15)]
        futures += [view.apply_async(time.sleep, 0.001) for _ in range(5)]
        for future in futures[::4]:
            client.cancel(future)
        os.kill(pid, signal.SIGINT)
        for future in futures:
            error = future.exception(timeout=20) if not future.cancelled() else None
            endings.append("cancelled" if future.cancelled() else getattr(error, "ename", error))
    assert set(endings) <= {"cancelled", "KeyboardInterrupt", None}
    assert None in endings
    assert view.apply_sync(os.getpid) == pid
    assert view.apply_async(busy, 0.001).get() == "done"


def test_time_limits_are_for_each(client):
    view = client.load_balanced_view()
    view.timeout = 0.2
    others = [client.submit(nap, 0.6, i) for i in range(5)]
    with pytest.raises(TaskTimeout):
        view.apply_async(nap, 30).get()
    assert [other.result() for other in others] == [*range(5)]


def test_output_belongs_to_the_task_that_prints(client):
    async def talk(number):
        import asyncio

        for _ in range(3):
            print(f"I am {number}")
            await asyncio.sleep(0.01)
            await asyncio.to_thread(print, f"a thread of {number}")

    def plain():
        print("plain")

    futures = [client[0].apply_async(talk, number) for number in range(10)]
    calls = [client[0].apply_async(plain) for _ in range(10)]
    for number, future in enumerate(futures):
        future.get()
        said = future.stdout.splitlines()
        assert said == [f"I am {number}", f"a thread of {number}"] * 3
    for call in calls:
        call.get()
        assert call.stdout == "plain\n"


def test_an_engine_that_dies_takes_all_that_had_begun_with_it(client, tmp_path):
    async def begin(path, again):
        import asyncio

        write(path, "begun\n")
        await asyncio.sleep(30 if not again or times(path) == 1 else 0.01)
        return os.getpid()

    def hold(path):
        write(path, "begun")
        time.sleep(30)

    engine = client[1]
    pid = engine.apply_sync(os.getpid)
    lost = [engine.apply_async(begin, str(tmp_path / f"lost{i}"), False) for i in range(5)]
    balanced = client.load_balanced_view(targets=[1])
    balanced.retries = 1
    again = [balanced.apply_async(begin, str(tmp_path / f"again{i}"), True) for i in range(3)]
    wait_until(lambda: len([*tmp_path.iterdir()]) == 8, "all of them to begin")
    blocking = engine.apply_async(hold, str(tmp_path / "hold"))
    after = engine.apply_async(begin, str(tmp_path / "after"), False)
    wait_until((tmp_path / "hold").exists, "a plain call to begin")
    os.kill(pid, signal.SIGKILL)
    for future in lost:
        error = future.exception(timeout=20)
        assert isinstance(error, EngineDied)
        assert error.running
        assert 0 < time.time() - error.since < 20
    with pytest.raises(EngineDied):
        blocking.get(timeout=20)
    assert pid not in [future.get(timeout=20) for future in again]
    wait_until((tmp_path / "after").exists, "what had not begun to run on the fresh engine")
    assert after.cancel()
    assert [times(path) for path in sorted(tmp_path.glob("lost*"))] == [1] * 5  # nothing runs twice
    assert [times(path) for path in sorted(tmp_path.glob("again*"))] == [2] * 3
