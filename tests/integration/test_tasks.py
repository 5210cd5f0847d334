"""What a user does and what can go wrong meanwhile, on a cluster of real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, as_completed
from pathlib import Path

import numpy as np
import pytest
from enginery import Cluster, CompositeError, EngineDied, RemoteError, SerializationError, TaskRefused, TaskTimeout

from helpers import wait_until


def engines_of(client):
    return {engine["id"]: engine for engine in client.status()["engines"]}


def assert_idle(client):
    wait_until(lambda: client.status()["tasks"]["assigned"] == 0, "all engines are free")


def slowly(x, seconds=0.02):
    time.sleep(seconds)
    return x


def mark_and_wait(path, seconds):
    """Say that the task runs, in a file, then go on for a long time."""
    path.write_text("x")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


def mark_and_spin(path, seconds):
    """The same, swallowing every interrupt."""
    path.write_text("x")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            pass


def wait_running(path):
    wait_until(lambda: path.exists() and path.read_text(), f"{path} was written")


# ------------------------------------------------------------------------------------------------ work


def test_submitted_calls_answer_with_their_own_values(client):
    futures = [client.submit(lambda a, b=0: (a, b), i, b=-i) for i in range(500)]
    assert [f.result(10) for f in futures] == [(i, -i) for i in range(500)]


def test_map_keeps_order_however_long_items_take(client):
    def late_first(i):
        time.sleep(0.05 if i < 4 else 0.0)
        return i * i

    assert client.map(late_first, range(200)).get(20) == [i * i for i in range(200)]


def test_map_over_several_sequences_and_a_generator(client):
    assert client.map(lambda a, b: a + b, (i for i in range(50)), range(50)).get(10) == [2 * i for i in range(50)]
    assert client.map(abs, []).get(10) == []


def test_one_bad_item_fails_alone(client):
    results = client.map(lambda x: 1 / x, [1, 2, 0, 4], return_exceptions=True).get(10)
    assert results[:2] == [1, 0.5]
    assert results[3] == 0.25
    assert isinstance(results[2], ZeroDivisionError)
    assert isinstance(results[2], RemoteError)
    with pytest.raises(ZeroDivisionError):
        client.map(lambda x: 1 / x, [1, 2, 0, 4]).get(10)


def test_captured_state_is_as_of_the_call(client):
    values = [1]
    first = client.submit(lambda: list(values))
    values.append(2)
    second = client.submit(lambda: list(values))
    assert (first.result(10), second.result(10)) == ([1], [1, 2])


def test_arrays_travel_at_any_depth_and_arrive_writable(client):
    def change(nested):
        nested["a"][0] += 1
        return nested

    mine = {"a": np.zeros(100_000), "b": [np.arange(3)]}
    back = client.submit(change, mine).result(10)
    back["a"][1] = 5
    assert (back["a"][0], back["a"][1], mine["a"][0]) == (1, 5, 0)


def test_views_address_engines(client):
    everyone = client[:]
    pids = everyone.apply_sync(os.getpid)
    assert len(set(pids)) == len(client) == 3
    assert client[1].apply_sync(os.getpid) == pids[1]
    assert client[[2, 0]].apply_sync(os.getpid) == [pids[2], pids[0]]
    everyone.push({"x": 7}, block=True)
    client[1]["x"] = 8
    assert everyone["x"] == [7, 8, 7]
    everyone.scatter("part", np.arange(10), block=True)
    assert everyone.gather("part", block=True).tolist() == list(range(10))


def test_execute_runs_through_the_shell_and_brings_output_back(client):
    reply = client[0].execute("print('seen'); import sys; print('bad', file=sys.stderr); 6 * 7", silent=False)
    assert reply.wait(20)
    assert (reply.stdout, reply.stderr) == ("seen\n", "bad\n")
    assert "42" in repr(reply.get())
    client[0].execute("answer = 42", block=True)
    assert client[0]["answer"] == 42
    with pytest.raises(ZeroDivisionError):
        client[0].execute("1/0", block=True)


def test_output_belongs_to_its_task_and_is_complete_when_the_result_is_there(client):
    def talk(i):
        for n in range(50):
            print(i, n)

    futures = [client.submit(talk, i) for i in range(20)]
    for i, future in enumerate(futures):
        future.result(10)
        assert future.stdout == "".join(f"{i} {n}\n" for n in range(50))


def test_futures_work_with_the_standard_library_and_asyncio(client):
    assert sorted(f.result() for f in as_completed([client.submit(slowly, i) for i in range(5)], timeout=10)) == [
        *range(5)
    ]

    async def ask():
        return await asyncio.gather(*[client.submit(slowly, i) for i in range(5)])

    assert asyncio.run(ask()) == [*range(5)]


def test_many_threads_may_submit(client):
    sums = []

    def work(k):
        sums.append(sum(f.result(20) for f in [client.submit(lambda x: x, k) for _ in range(200)]) == 200 * k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sums == [True] * 4


def test_a_long_task_traps_no_short_ones(client):
    """Short tasks assigned behind a long one are taken back and run elsewhere."""
    client.submit(slowly, 0, 0.001).result(10)  # the function is thought to be quick
    long = client.submit(slowly, 0, 8)
    futures = [client.submit(slowly, i, 0.001) for i in range(300)]
    assert [f.result(6) for f in futures] == list(range(300))
    assert not long.done()
    assert long.cancel()


def test_a_slow_item_traps_no_other_items(client):
    def slow_first(i):
        time.sleep(3 if i == 0 else 0.001)
        return i

    began = time.monotonic()
    results = client.map(slow_first, range(900), ordered=False)
    others = [next(results_iterator) for results_iterator in [iter(results)] for _ in range(899)]
    assert time.monotonic() - began < 2.9
    assert sorted(others) == list(range(1, 900))


# ------------------------------------------------------------------------------------------------ refusals


def test_an_unpicklable_argument_names_the_culprit(client):
    class Config:
        def __init__(self):
            self.lock = threading.Lock()

    def f(cfg):
        return cfg

    with pytest.raises(SerializationError, match=r"argument 'cfg' of .*f.*attribute \.lock is a _thread\.lock"):
        client.submit(f, Config())
    with pytest.raises(SerializationError, match="item 2"):
        client.map(str, [1, 2, threading.Lock()])


def test_an_unpicklable_result_fails_its_task_only(client):
    with pytest.raises(SerializationError, match=r"_thread\.lock"):
        client.submit(threading.Lock).result(10)
    results = client.map(lambda x: threading.Lock() if x == 1 else x, range(3), return_exceptions=True).get(10)
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], SerializationError)


def test_an_engine_that_is_not_there(client):
    with pytest.raises(IndexError, match="there is no engine 99; there are: 0, 1, 2"):
        client[99]


def test_an_exception_of_a_type_that_cannot_be_rebuilt_is_named(client):
    def fail():
        class StrangeError(Exception):
            def __init__(self, a, b):
                super().__init__("odd")

        raise StrangeError(1, 2)

    with pytest.raises(RemoteError) as caught:
        client.submit(fail).result(10)
    assert caught.value.ename == "StrangeError"
    assert "raise StrangeError(1, 2)" in caught.value.traceback


def test_several_failures_come_as_one_group(client):
    with pytest.raises(CompositeError) as caught:
        client[:].apply_sync(lambda: 1 / 0)
    assert len(caught.value.exceptions) == 3
    assert all(isinstance(error, ZeroDivisionError) for error in caught.value.exceptions)


# ------------------------------------------------------------------------------------------------ stopping


def test_cancel_of_a_waiting_task_is_immediate_and_it_never_runs(client, tmp_path):
    blockers = [client.submit(slowly, 0, 1.0) for _ in range(6)]
    waiting = client.submit(mark_and_wait, tmp_path / "ran", 0)
    assert waiting.cancel()
    assert waiting.cancelled()
    with pytest.raises(CancelledError):
        waiting.result(1)
    for blocker in blockers:
        blocker.result(10)
    assert_idle(client)
    assert not (tmp_path / "ran").exists()


def test_cancel_of_a_running_task_stops_it(client, tmp_path):
    running = client.submit(mark_and_wait, tmp_path / "ran", 60)
    wait_running(tmp_path / "ran")
    assert running.cancel()
    assert running.cancelled()
    assert_idle(client)


def import_and_wait(folder, seconds):
    import sys

    sys.path.insert(0, str(folder))
    try:
        import slowly_made
    finally:
        sys.path.remove(str(folder))
    time.sleep(seconds)
    return slowly_made.state


def test_cancel_does_not_leave_half_a_module(client, tmp_path):
    """A module is imported whole, and its import goes on after a cancel; then the task is stopped."""
    code = f"import pathlib, time; pathlib.Path({str(tmp_path / 'ran')!r}).write_text('yes'); state = 'half'"
    (tmp_path / "slowly_made.py").write_text(f"{code}\ntime.sleep(0.5)\nstate = 'whole'\n")
    view = client[0]
    running = view.apply_async(import_and_wait, tmp_path, 60)
    wait_running(tmp_path / "ran")
    assert running.cancel()
    (tmp_path / "slowly_made.py").unlink()
    assert view.apply_sync(import_and_wait, tmp_path, 0) == "whole"


def test_cancel_without_leave_to_kill_says_false_when_the_task_cannot_be_stopped(client, tmp_path):
    deaf = client.submit(mark_and_spin, tmp_path / "ran", 4)
    wait_running(tmp_path / "ran")
    assert not deaf.cancel()
    assert deaf.result(10) is None


def test_cancel_with_grace_kills_what_does_not_listen(client, tmp_path):
    before = client[:].apply_sync(os.getpid)
    deaf = client.submit(mark_and_spin, tmp_path / "ran", 60)
    wait_running(tmp_path / "ran")
    assert deaf.cancel(grace_s=0.2)
    assert deaf.cancelled()
    client.wait_for_engines(3, timeout=10)
    after = client[:].apply_sync(os.getpid)
    assert len(set(before) & set(after)) == 2


def test_cancel_of_a_map_stops_all_its_items(client):
    result = client.map(slowly, range(1000))
    wait_until(lambda: result.progress > 3, "some items are done")
    assert result.cancel()
    assert_idle(client)
    assert client.submit(abs, -1).result(10) == 1


def test_abort_of_a_map_withdraws_what_has_not_begun(client):
    result = client.map(slowly, range(1000), return_exceptions=True)
    wait_until(lambda: result.progress > 3, "some items are done")
    result.abort()
    values = result.get(10)
    withdrawn = sum(isinstance(value, CancelledError) for value in values)
    assert withdrawn > 900
    assert sum(value == i for i, value in enumerate(values)) == 1000 - withdrawn  # what ran was left alone
    assert_idle(client)


def test_an_interrupt_hits_its_task_only(client):
    for _ in range(5):
        running = client.submit(slowly, 1, 30)
        following = [client.submit(slowly, i, 0.01) for i in range(30)]
        wait_until(following[5].done, "others run")
        running.cancel()
        assert [f.result(10) for f in following] == list(range(30))


def test_a_time_limit_ends_the_task_and_frees_the_engine(client, tmp_path):
    limited = client.load_balanced_view().set_flags(timeout=0.3)
    began = time.monotonic()
    with pytest.raises(TaskTimeout, match=r"limit of 0\.3 s"):
        limited.apply_sync(slowly, 0, 60)
    assert time.monotonic() - began < 3
    with pytest.raises(TimeoutError):
        limited.apply_sync(mark_and_spin, tmp_path / "deaf", 60)  # its engine is killed
    client.wait_for_engines(3, timeout=10)
    assert_idle(client)


# ------------------------------------------------------------------------------------------------ deaths


def test_kill_of_an_engine_mid_map_loses_the_running_item_and_names_it(client):
    result = client.map(slowly, range(300), return_exceptions=True)
    wait_until(lambda: result.progress > 20, "the map is under way")
    os.kill(engines_of(client)[1]["pid"], signal.SIGKILL)
    values = result.get(30)
    lost = [i for i, value in enumerate(values) if isinstance(value, EngineDied)]
    assert len(lost) <= 1  # none, if it was killed between two items
    assert [value for i, value in enumerate(values) if i not in lost] == [i for i in range(300) if i not in lost]
    for i in lost:
        assert values[i].item == i
        assert "SIGKILL" in str(values[i])
        assert f"item {i}" in str(values[i])
    client.wait_for_engines(3, timeout=10)


def test_an_item_that_kills_its_engine_is_the_only_one_lost(client):
    def deadly(i):
        time.sleep(0.002)
        if i == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    values = client.map(deadly, range(120), return_exceptions=True).get(30)
    assert [i for i, value in enumerate(values) if isinstance(value, Exception)] == [40]
    assert values[40].item == 40


def test_nothing_runs_twice_when_engines_are_killed(client, tmp_path):
    """Quick tasks, individually submitted, engines killed at random: each ran once or is called lost."""

    def once(i, folder=str(tmp_path)):
        fd = os.open(f"{folder}/{i}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"x")
        os.close(fd)
        return i

    for round_ in range(4):
        futures = [client.submit(once, 10_000 * round_ + i) for i in range(3000)]
        wait_until(lambda futures=futures: sum(f.done() for f in futures[::50]) > 5, "tasks are under way")
        os.kill(engines_of(client)[round_ % 3]["pid"], signal.SIGKILL)
        for i, future in enumerate(futures):
            error = future.exception(30)
            if error is None:
                assert future.result() == 10_000 * round_ + i
            else:
                assert isinstance(error, EngineDied)
                assert error.engine == round_ % 3
    doubled = [path.name for path in tmp_path.iterdir() if path.stat().st_size > 1]
    assert not doubled


def test_retries_run_the_task_again_on_another_engine(client, tmp_path):
    def die_once(path):
        if not path.exists():
            path.write_text("x")
            os._exit(3)
        return "done"

    with pytest.raises(EngineDied, match="exited with code 3"):
        client.submit(die_once, tmp_path / "a").result(10)
    assert client.load_balanced_view().set_flags(retries=1).apply_sync(die_once, tmp_path / "b") == "done"
    client.wait_for_engines(3, timeout=10)


def test_the_death_is_known_at_once(client, tmp_path):
    def hang(place):
        Path(place).touch()
        time.sleep(60)

    delays = []
    for round_ in range(3):
        client.wait_for_engines(3, timeout=10)
        pid = client[0].apply_sync(os.getpid)
        place = tmp_path / str(round_)
        future = client[0].apply_async(hang, str(place))
        wait_until(place.exists, "it runs")
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert isinstance(future.exception(10), EngineDied)
        delays.append(time.monotonic() - began)
    client.wait_for_engines(3, timeout=10)
    assert min(delays) < 0.5  # benchmarks/engine_death.py has the figure; this only sees that nobody polls


def test_subprocesses_of_a_killed_engine_end_too(client):
    child = client[2].apply_sync(lambda: subprocess.Popen(["sleep", "1000"]).pid)
    os.kill(engines_of(client)[2]["pid"], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the engine's subprocess is gone")
    client.wait_for_engines(3, timeout=10)


# ------------------------------------------------------------------------------------------------ clients, clusters


def test_a_killed_client_harms_nobody(cluster, client):
    program = (
        "import os, sys, time\nfrom enginery import Client\n"
        "client = Client(sys.argv[1])\n"
        "futures = [client.submit(time.sleep, 0.01) for _ in range(2000)]\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program, cluster.name], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "ready\n"
    futures = [client.submit(slowly, i, 0.001) for i in range(20)]
    other.kill()
    other.wait(10)
    other.stdout.close()
    began = time.monotonic()
    assert [f.result(30) for f in futures] == list(range(20))
    assert time.monotonic() - began < 4  # the other's 20 s of work do not come first
    wait_until(lambda: client.status()["tasks"]["assigned"] == 0, "its tasks went on to their end", 40)


def test_scaling_under_load_loses_nothing():
    with Cluster(n=2) as client:
        result = client.map(slowly, range(300))
        assert client.scale(4, timeout=20) == [0, 1, 2, 3]
        assert client.scale(1, timeout=20) == [0]
        assert result.get(30) == list(range(300))
        with pytest.raises((IndexError, TaskRefused)):
            client[3].apply_sync(os.getpid)


def test_when_the_cluster_stops_every_wait_ends():
    from enginery import ControllerLost

    with Cluster(n=1) as client:
        future = client.submit(time.sleep, 60)
        queued = [client.submit(abs, i) for i in range(10)]
        threading.Timer(0.3, client.shutdown, kwargs={"hub": True}).start()
        with pytest.raises(ControllerLost):
            future.result(10)
        for other in queued:
            assert isinstance(other.exception(10), ControllerLost)
        with pytest.raises(ControllerLost):
            client.submit(abs, 1)


def test_when_the_controller_is_killed_and_there_is_no_journal_every_wait_ends():
    from enginery import ControllerLost

    with Cluster(n=1, journal=False) as client:
        future = client.submit(time.sleep, 60)
        os.kill(client.status()["controller_pid"], signal.SIGKILL)
        assert isinstance(future.exception(20), ControllerLost)


def test_when_the_controller_is_killed_nothing_is_lost_and_work_goes_on(tmp_path):
    begun = tmp_path / "begun"

    def run_long(i):
        with begun.open("a") as file:
            file.write(f"{i}\n")
        time.sleep(1)

    with Cluster(n=2) as client:
        running = [client.submit(run_long, i) for i in range(2)]
        wait_until(lambda: begun.exists() and len(begun.read_text().split()) == 2, "both run")
        futures = [client.submit(lambda i=i: (time.sleep(0.005), i)[1]) for i in range(100)]
        items = client.map(lambda i: (time.sleep(0.002), -i)[1], range(200))
        for _ in range(3):
            pid = client.status()["controller_pid"]
            os.kill(pid, signal.SIGKILL)
            assert client.status()["controller_pid"] != pid
        assert [future.result(30) for future in futures] == list(range(100))
        assert items.get(30) == [-i for i in range(200)]
        assert all(future.result(30) is None for future in running)
        assert sorted(begun.read_text().split()) == ["0", "1"], "they ran on, and were not run again"


def test_when_the_nanny_is_killed_too_every_wait_ends():
    from enginery import ControllerLost

    with Cluster(n=1) as client:
        future = client.submit(time.sleep, 60)
        status = client.status()
        os.kill(status["hosts"][0]["pid"], signal.SIGKILL)
        os.kill(status["controller_pid"], signal.SIGKILL)
        assert isinstance(future.exception(10), ControllerLost)
