"""Processes that stand still for a while (SIGSTOP), as under a debugger or on a host that swaps, and then go on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from enginery import Client
from enginery.cluster.cluster import Cluster

from helpers import command, wait_until

PAUSE_S = 3.0


@contextlib.contextmanager
def stopped(pid):
    """Have a process stand still; it goes on afterwards, whatever happens."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: state_of(pid) == "T", "it is stopped")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def once(folder, i):
    """Note a run, so that a second one of the same would show."""
    fd = os.open(f"{folder}/{i}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    time.sleep(0.005)
    return i


def ran_twice(folder):
    return [path.name for path in folder.iterdir() if path.stat().st_size > 1]


def engine(client, number):
    return client.status()["engines"][number]


def test_an_engine_that_is_stopped_delays_what_it_has_and_nothing_else(client, tmp_path):
    pids = client[:].apply_sync(os.getpid)
    futures = [client.submit(once, tmp_path, i) for i in range(600)]
    wait_until(lambda: futures[50].done(), "they are under way")
    with stopped(pids[0]):
        # What the others have, and what nobody has yet, is done
        wait_until(lambda: client.status()["tasks"]["waiting"] == 0, "nothing waits")
        wait_until(lambda: engine(client, 1)["tasks"] == engine(client, 2)["tasks"] == 0, "the others have done all")
        stuck = [future for future in futures if not future.done()]
        assert len(stuck) == engine(client, 0)["tasks"]
        assert len(stuck) < 100, "it had no more than its window"
        # What it has cannot be taken back: it does not answer, and is shown so
        wait_until(lambda: "has not answered for" in engine(client, 0)["reason"], "it is shown")
        assert client.submit(once, tmp_path, "more").result(10) == "more"
    assert [future.result(30) for future in futures] == list(range(600))
    assert client[:].apply_sync(os.getpid) == pids
    assert engine(client, 0)["reason"] == ""
    assert not ran_twice(tmp_path)


def test_cancel_with_grace_frees_what_a_stopped_engine_has(client):
    pids = client[:].apply_sync(os.getpid)
    retried = client.load_balanced_view(targets=[0]).set_flags(retries=1)
    with stopped(pids[0]):
        futures = [client[0].apply_async(time.sleep, 0) for _ in range(3)]
        moved = retried.apply_async(os.getpid)
        wait_until(lambda: engine(client, 0)["tasks"], "it has been given something")
        assert not futures[0].cancel(), "without grace it can only be asked"
        assert futures[1].cancel(grace_s=0.2)
        assert moved.result(20) not in pids
    client.wait_for_engines(3, timeout=20)
    assert engine(client, 0)["pid"] != pids[0]


def test_a_nanny_that_is_stopped_delays_deaths_and_starts_only(cluster, client, tmp_path):
    (host,) = client.status()["hosts"]
    pids = client[:].apply_sync(os.getpid)
    with stopped(host["pid"]):
        # Tasks do not pass it
        assert client.map(once, [tmp_path] * 200, range(200)).get(30) == list(range(200))
        dying = client[0].apply_async(os._exit, 3)
        after = client[0].apply_async(os.getpid)
        wait_until(lambda: state_of_any(pids[0]) in ("Z", ""), "the engine is dead")
        assert not dying.done(), "nobody has heard of it"
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > PAUSE_S or dying.done(), "a while has passed")
        assert not dying.done()
    assert "exited with code 3" in str(dying.exception(10))
    assert after.result(20) not in pids
    client.wait_for_engines(3, timeout=20)
    assert not ran_twice(tmp_path)


def state_of_any(pid):
    try:
        return state_of(pid)
    except OSError:
        return ""


def test_a_zygote_that_is_stopped_delays_starts_only(cluster, client):
    from enginery import leftovers, rendezvous

    folder = rendezvous.cluster_dir(cluster.name)
    (zygote,) = [pid for role, pid in leftovers.noted_processes(folder) if role == "zygote"]
    with stopped(zygote):
        assert client.map(abs, range(-100, 0)).get(30) == list(range(100, 0, -1))
        scaling = client.submit(abs, -1)
        assert scaling.result(10) == 1
    client.wait_for_engines(3, timeout=20)


def test_a_controller_that_is_stopped_delays_everything_and_loses_nothing(client, tmp_path):
    pid = client.status()["controller_pid"]
    running = client.submit(time.sleep, 0.5)
    futures = [client.submit(once, tmp_path, i) for i in range(500)]
    items = client.map(once, [tmp_path] * 500, range(500, 1000))
    wait_until(lambda: futures[20].done(), "they are under way")
    with stopped(pid):
        more = [client.submit(once, tmp_path, i) for i in range(1000, 1100)]
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > PAUSE_S, "it has stood still")
        assert not more[-1].done()
    assert [future.result(30) for future in futures + more] == [*range(500), *range(1000, 1100)]
    assert items.get(30) == list(range(500, 1000))
    assert running.result(10) is None
    assert client.status()["controller_pid"] == pid
    assert not ran_twice(tmp_path)


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """Have nannies call a controller hung soon; SIGUSR1 has a controller wait for a lock that it has itself."""
    folder = tmp_path / "impatient"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import signal, sys, threading\n"
        "if 'enginery.nanny.app' in sys.orig_argv:\n"
        "    from enginery.nanny import watch\n"
        "    watch.HUNG_S = 3.0\n"
        "if 'enginery.controller.app' in sys.orig_argv:\n"
        "    from enginery.controller import core\n"
        "    core.PROBE_S = 0.5\n"
        "    lock = threading.Lock()\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: (lock.acquire(), lock.acquire()))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGUSR1], ids=["stopped", "deadlocked"])
def test_a_controller_that_hangs_is_replaced_and_nothing_is_lost(runtime, tmp_path, how):
    ran = tmp_path / "ran"
    ran.mkdir()
    with Cluster(n=2) as client:
        pid = client.status()["controller_pid"]
        pids = client[:].apply_sync(os.getpid)
        began = time.monotonic()
        # One that has nothing to do does not hang
        wait_until(lambda: time.monotonic() - began > 4.0, "a while has passed")
        assert client.status()["controller_pid"] == pid
        futures = [client.submit(once, ran, i) for i in range(100)]
        wait_until(lambda: futures[20].done(), "they are under way")
        os.kill(pid, how)
        futures += [client.submit(once, ran, i) for i in range(100, 150)]
        assert [future.result(60) for future in futures] == list(range(150))
        assert client.status()["controller_pid"] != pid
        assert client[:].apply_sync(os.getpid) == pids
        assert "has not moved for 3 s: it is killed" in command("logs").stdout
    assert not ran_twice(ran)


READER = """
import sys, time
from enginery import Client
client = Client(sys.argv[1])
def blob(i):
    return bytes([i % 256]) * 100_000
print("ready", flush=True)
values = client.map(blob, range(400))
futures = [client.submit(blob, i) for i in range(200)]
begun = next(iter(values))
print("begun", flush=True)
assert [value[:1] + value[-1:] for value in values] == [bytes([i % 256]) * 2 for i in range(400)]
assert [future.result(60)[0] for future in futures] == [i % 256 for i in range(200)]
print("done", client.status()["controller_pid"], flush=True)
"""


@pytest.fixture
def reader(cluster):
    process = subprocess.Popen(
        [sys.executable, "-c", READER, cluster.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.communicate()


def test_a_client_that_is_stopped_while_results_stream_to_it_gets_all_of_them(cluster, client, reader):
    pid = client.status()["controller_pid"]
    assert reader.stdout.readline() == "ready\n"
    assert reader.stdout.readline() == "begun\n"
    with stopped(reader.pid):
        # Its 60 MB wait in the controller, which serves others meanwhile
        wait_until(
            lambda: sum(client.status()["tasks"][key] for key in ("waiting", "assigned")) == 0, "all has run", 60
        )
        assert client.map(abs, range(-100, 0)).get(10) == list(range(100, 0, -1))
    out, err = reader.communicate(timeout=60)
    assert out == f"done {pid}\n", err
    assert reader.returncode == 0, err


def test_a_client_that_reads_slowly_gets_everything_in_order(client):
    values = client.map(lambda i: bytes([i]) * 200_000, range(100))
    seen = []
    for value in values:
        seen.append(value[0])
        if len(seen) % 20 == 0:
            began = time.monotonic()
            wait_until(lambda began=began: time.monotonic() - began > 0.2, "it dawdles")
    assert seen == list(range(100))


def test_everything_stopped_at_once_goes_on(runtime):
    assert command("start", "-n", "2").returncode == 0
    try:
        with Client() as client:
            status = client.status()
            pids = [status["controller_pid"], status["hosts"][0]["pid"], *client[:].apply_sync(os.getpid)]
            futures = [client.submit(lambda i=i: (time.sleep(0.01), i)[1]) for i in range(300)]
            with contextlib.ExitStack() as stack:
                for pid in pids:
                    stack.enter_context(stopped(pid))
                began = time.monotonic()
                wait_until(lambda: time.monotonic() - began > PAUSE_S, "all stand still")
            assert [future.result(30) for future in futures] == list(range(300))
            assert client[:].apply_sync(os.getpid) == pids[2:]
    finally:
        command("stop", "--all")


def test_a_cluster_whose_processes_are_stopped_can_be_stopped_for_good(runtime):
    with Cluster(n=2) as client:
        status = client.status()
        pids = [status["controller_pid"], *client[:].apply_sync(os.getpid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert not [pid for pid in pids if state_of_any(pid) not in ("Z", "")]


# ------------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_time_of_day_that_jumps_ends_no_task_and_loses_none(monkeypatch, hours):
    real, shift = time.time, 3600.0 * hours

    def jump():
        time.time = lambda: real() + shift
        time.sleep(2.0)
        return "done"

    with Cluster(n=1) as client:
        limited = client.load_balanced_view().set_flags(timeout=60.0)
        future = limited.apply_async(jump)
        wait_until(lambda: engine(client, 0)["tasks"], "it runs")
        monkeypatch.setattr(time, "time", lambda: real() + shift)
        futures = [client.submit(abs, -i) for i in range(100)]
        os.kill(client.status()["controller_pid"], signal.SIGKILL)  # the next one asks how long it has run
        assert future.result(30) == "done"
        assert [other.result(30) for other in futures] == list(range(100))
        monkeypatch.setattr(time, "time", real)
        assert limited.apply_sync(abs, -1) == 1
