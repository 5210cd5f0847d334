"""A network between hosts that is cut, and heals: two network namespaces of this host, joined by a cable.

The cluster is on this side of the cable; clients and engines on the other.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from enginery import Client
from enginery.errors import EngineDied

from helpers import command, processes, wait_until
from networks import Nannies, network

SHORT_S = 3.0
"""A cut that TCP outlasts."""


@pytest.fixture(scope="module")
def cable():
    with network(1) as made:
        yield made


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Have everybody notice a cut within a second."""
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'enginery.controller.app' in sys.orig_argv:\n"
        "    from enginery.controller import core, sessions\n"
        "    core.PROBE_S = 0.5\n"
        "    sessions.NANNY_AWAY_S = float(os.environ.get('TEST_AWAY_S', '20'))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("ENGINERY_HEARTBEAT_S", "0.25")


@pytest.fixture
def start(cable, runtime):
    """What starts a cluster at this end of the cable; all of it is gone at the end of the test."""

    def start(engines):
        done = command("start", "-n", str(engines), "--listen", cable.address)
        assert done.returncode == 0, done.stderr
        return runtime / "default"

    try:
        yield start
    finally:
        command("stop", "--all")
        for pid in processes(runtime):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def once(folder, i, seconds=0.01):
    """Note a run, so that a second one of the same would show."""
    fd = os.open(f"{folder}/{i}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    print("task", i)
    time.sleep(seconds)
    return i


def ran(folder):
    """Return the numbers of those that ran, once each."""
    twice = [path.name for path in folder.iterdir() if path.stat().st_size > 1]
    assert not twice
    return {int(path.name) for path in folder.iterdir()}


def pause():
    """Let the cut last."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > SHORT_S, "a while has passed")


# ------------------------------------------------------------------------------------------------------ clients


CLIENT = """
import os, sys, time
from enginery import Client
folder = sys.argv[2]
def once(i):
    fd = os.open(f"{folder}/{i}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    print("task", i)
    time.sleep(0.01)
    return i
with Client(sys.argv[1]) as client:
    futures = [client.submit(once, i) for i in range(300)]
    values = iter(client.map(once, range(300, 900)))
    seen = [next(values)]
    print("begun", flush=True)
    seen += [value for value in values]
    more = [client.submit(once, i) for i in range(900, 1000)]
    assert seen == list(range(300, 900)), seen
    assert [future.result(60) for future in futures + more] == [*range(300), *range(900, 1000)]
    assert [future.stdout for future in futures] == [f"task {i}\\n" for i in range(300)]
    print("done", flush=True)
"""


@pytest.fixture
def far_client(cable, start, tmp_path):
    """What starts a client on the other side of a cluster of 2 engines, which then waits for 1000 tasks."""
    folder = tmp_path / "ran"
    folder.mkdir()
    started = []

    def begin():
        directory = start(2)
        config = tmp_path / "client.json"  # a copy, as on another host: nothing beside it tells of the cluster's end
        shutil.copy(directory / "client.json", config)
        program = [sys.executable, "-c", CLIENT, str(config), str(folder)]
        process = cable.start(0, *program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        said = process.stdout.readline()
        assert said == "begun\n", process.communicate()
        return process, folder

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def assert_all_came(process, folder):
    out, err = process.communicate(timeout=90)
    assert (out, process.returncode) == ("done\n", 0), err
    assert ran(folder) == set(range(1000))


def away(client):
    others = [other for other in client.status()["clients"] if other["pid"] != os.getpid()]
    return [other["away"] for other in others] == [True]


def test_a_short_cut_between_client_and_controller_is_a_pause(cable, far_client):
    process, folder = far_client()
    with cable.cut(0):
        pause()
    assert_all_came(process, folder)


@pytest.mark.usefixtures("quick")
def test_what_a_client_missed_while_it_was_cut_off_comes_when_the_network_heals(cable, far_client):
    process, folder = far_client()
    with Client("default") as client:
        with cable.cut(0):
            wait_until(lambda: away(client), "its absence is noticed")
            # Its tasks go on
            wait_until(lambda: client.status()["tasks"]["waiting"] == 0, "they have run", 30)
        assert_all_came(process, folder)


@pytest.mark.usefixtures("quick")
def test_a_client_that_slept_longer_than_its_connection_lived_gets_all_when_it_wakes(cable, far_client):
    """A laptop: its clock stands still, and what the other side says of the dead connection never arrives."""
    process, folder = far_client()
    with Client("default") as client:
        process.send_signal(signal.SIGSTOP)
        with cable.cut(0):
            wait_until(lambda: away(client), "its absence is noticed")
        process.send_signal(signal.SIGCONT)
        assert_all_came(process, folder)


@pytest.mark.usefixtures("quick")
def test_a_controller_that_dies_while_the_network_is_cut_is_found_again(cable, far_client):
    process, folder = far_client()
    with Client("default") as client, cable.cut(0):
        os.kill(client.status()["controller_pid"], signal.SIGKILL)
        wait_until(lambda: client.status()["tasks"]["waiting"] == 0, "its tasks have run", 30)
    assert_all_came(process, folder)


# ------------------------------------------------------------------------------------------------------ engines


@pytest.fixture
def join(cable):
    """What has engines of the other side join the cluster; they are gone at the end of the test."""
    nannies = Nannies()
    try:
        yield partial(nannies.join, partial(cable.start, 0))
        nannies.stop()
    finally:
        nannies.kill()


def states(client):
    return [engine["state"] for engine in client.status()["engines"]]


def test_engines_of_another_host_work_too_and_end_with_the_cluster(start, join, tmp_path):
    directory = start(1)
    nanny = join(directory, 2)
    with Client("default") as client:
        assert client.wait_for_engines(3, timeout=20)
        assert client.map(once, [tmp_path] * 300, range(300)).get(30) == list(range(300))
        assert len({client[i].apply_sync(os.getppid) for i in range(3)}) == 2, "two zygotes"
        assert [host["engines"] for host in client.status()["hosts"]] == [[0], [1, 2]]
        running = client[1].apply_async(time.sleep, 60)
        wait_until(lambda: client.status()["engines"][1]["tasks"], "it runs")
        nanny.terminate()
        nanny.wait(15)
        with pytest.raises(EngineDied, match="its host left the cluster"):
            running.result(10)
        wait_until(lambda: states(client) == ["ready"], "its engines have left")
        again = join(directory, 1)
        assert client.wait_for_engines(2, timeout=20)
    assert command("stop").returncode == 0
    assert again.wait(15) == 0, "it has heard the farewell"


def test_a_short_cut_between_engines_and_controller_delays_their_results_only(cable, start, join, tmp_path):
    directory = start(1)
    join(directory, 2)
    with Client("default") as client:
        client.wait_for_engines(3, timeout=20)
        pids = client[:].apply_sync(os.getpid)
        futures = [client.submit(once, tmp_path, i) for i in range(500)]
        running = client[1].apply_async(once, tmp_path, 1000, 1.0)
        items = client.map(once, [tmp_path] * 300, range(500, 800))
        wait_until(lambda: futures[100].done(), "they are under way")
        with cable.cut(0):
            pause()
            assert client[0].apply_sync(os.getpid) == pids[0], "this side goes on"
        assert [future.result(60) for future in futures] == list(range(500))
        assert items.get(60) == list(range(500, 800))
        assert running.result(60) == 1000
        assert client[:].apply_sync(os.getpid) == pids
        assert [future.stdout for future in futures] == [f"task {i}\n" for i in range(500)]
    assert ran(tmp_path) == {*range(800), 1000}


@pytest.mark.usefixtures("quick")
def test_engines_that_are_cut_off_for_a_while_are_away_and_come_back_with_all_they_did(cable, start, join, tmp_path):
    folder = tmp_path / "ran"
    folder.mkdir()
    directory = start(1)
    join(directory, 2)
    with Client("default") as client:
        client.wait_for_engines(3, timeout=20)
        pids = client[:].apply_sync(os.getpid)
        futures = [client.submit(once, folder, i) for i in range(600)]
        running = client[1].apply_async(once, folder, 1000, 1.5)
        wait_until(lambda: futures[100].done(), "they are under way")
        with cable.cut(0):
            wait_until(lambda: states(client) == ["ready", "away", "away"], "their absence is noticed")
            assert client.submit(once, folder, 2000).result(30) == 2000
        assert [future.result(60) for future in futures] == list(range(600))
        assert running.result(60) == 1000
        wait_until(lambda: states(client) == ["ready"] * 3, "they are back")
        assert client[:].apply_sync(os.getpid) == pids
    assert ran(folder) == {*range(600), 1000, 2000}


@pytest.mark.usefixtures("quick")
def test_a_host_that_is_cut_off_for_too_long_is_lost_and_begins_anew_when_it_is_back(
    cable, start, join, tmp_path, monkeypatch
):
    monkeypatch.setenv("TEST_AWAY_S", "3")
    folder = tmp_path / "ran"
    folder.mkdir()
    directory = start(1)
    join(directory, 2)
    with Client("default") as client:
        client.wait_for_engines(3, timeout=20)
        pids = client[:].apply_sync(os.getpid)
        lost = client[1].apply_async(once, folder, 1000, 600.0)
        on_either = client.load_balanced_view(targets=[0, 2])
        blocker = client[0].apply_async(time.sleep, 0.5)
        moved = on_either.set_flags(retries=1).apply_async(lambda: (time.sleep(1.0), os.getpid())[1])
        wait_until(lambda: [e["tasks"] for e in client.status()["engines"]] == [1, 1, 1], "all are busy")
        with cable.cut(0):
            # Then they are given up, and what may run again does so on this side
            with pytest.raises(EngineDied, match="its host is lost"):
                lost.result(30)
            assert moved.result(30) == pids[0]
            assert blocker.result(30) is None
            wait_until(lambda: states(client) == ["ready"], "only ours are left")
            assert client.map(once, [folder] * 100, range(100)).get(30) == list(range(100))
            assert all(Path(f"/proc/{pid}").exists() for pid in pids), "they do not know"
        # And when it is back, its processes are ended, and others come
        client.wait_for_engines(3, timeout=30)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids[1:]), "the old ones are gone")
        fresh = client[:].apply_sync(os.getpid)
        assert fresh[0] == pids[0]
        assert not set(fresh[1:]) & set(pids)
        assert client.map(once, [folder] * 200, range(100, 300)).get(30) == list(range(100, 300))
    assert ran(folder) == {*range(300), 1000}


@pytest.mark.usefixtures("quick")
def test_a_host_whose_engines_are_back_before_its_nanny_begins_anew_too(cable, start, join, monkeypatch):
    """They are refused and end; so the first that is heard again of a host that was given up is their ends."""
    monkeypatch.setenv("TEST_AWAY_S", "2")
    directory = start(1)
    nanny = join(directory, 2)
    with Client("default") as client:
        client.wait_for_engines(3, timeout=20)
        pids = client[1, 2].apply_sync(os.getpid)
        with cable.cut(0):
            wait_until(lambda: states(client) == ["ready"], "they are given up", 30)
            nanny.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its engines have ended", 30)
        finally:
            nanny.send_signal(signal.SIGCONT)
        client.wait_for_engines(3, timeout=30)
        assert nanny.poll() is None, "it is the same"
        assert not set(client[1, 2].apply_sync(os.getpid)) & set(pids)


def test_a_host_whose_cluster_is_gone_without_a_word_is_not_left_with_its_engines(start, join, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'enginery.nanny.app' in sys.orig_argv:\n"
        "    from enginery.nanny import core\n"
        "    core.GONE_S = 7.0\n"  # more than between two signs of life
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    directory = start(1)
    nanny = join(directory, 1)
    with Client("default") as client:
        client.wait_for_engines(2, timeout=20)
        status = client.status()
        assert re.fullmatch(r"tcp://.*", client._link.connection.address)
        os.kill(status["hosts"][0]["pid"], signal.SIGKILL)
        os.kill(status["controller_pid"], signal.SIGKILL)
    assert nanny.wait(30) == 0
    assert command("clean").returncode == 0
