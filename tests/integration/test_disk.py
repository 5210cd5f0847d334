"""The disk under the journal is full, or gone: what the cluster does, and what its clients are told."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from enginery import Client, ControllerLost, TaskLost
from enginery.cluster.cluster import Cluster

from helpers import assert_nothing_left, command, processes, wait_until

DISK = "64m"
"""Four times what SQLite writes before it puts its log into the file."""


@pytest.fixture
def disk(runtime, tmp_path, monkeypatch):
    """A small file system with the journals, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "enginery-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here, so no disk can be filled")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here, so none can be filled: {done.stderr.strip()}")
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(quick(tmp_path)))
    try:
        yield folder
    finally:
        command("stop", "--all")
        for pid in processes(runtime):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not processes(runtime), "the cluster is gone")
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def quick(folder):
    """Return a folder whose `sitecustomize` has the controller look for room every half second."""
    path = folder / "quick"
    path.mkdir()
    (path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'enginery.controller.app' in sys.orig_argv:\n"
        "    from enginery.controller import journal\n"
        "    journal.AGAIN_S = 0.5\n"
    )
    return path


def fill(folder):
    """Leave no room; return what fills it."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def kill_controller(client):
    pid = client.status()["controller_pid"]
    os.kill(pid, signal.SIGKILL)
    return pid


def double(x):
    time.sleep(0.002)
    return 2 * x


def test_a_full_disk_suspends_the_journal_and_nothing_else(disk):
    start = command("start", "-n", "2")
    assert start.returncode == 0, start.stderr
    with Client() as client:
        assert client.map(double, range(50)).get(30) == [2 * i for i in range(50)]
        assert client.status()["journal"] is True
        # Given a full disk
        running = client.submit(lambda: (time.sleep(4), "ran once")[1])
        filler = fill(disk)
        # Then tasks go on
        assert client.map(double, range(300)).get(30) == [2 * i for i in range(300)]
        status = wait_until(lambda: not (s := client.status())["journal"] and s, "the journal is suspended")
        assert "disk is full" in status["journal_failure"]
        assert "if the controller dies now, its tasks are lost" in command("status").stdout
        assert not (disk / "default.journal").exists(), "nobody may go on from it"
        # And when there is room, it is there again, with all that is to be done
        waiting = [client.submit(double, i) for i in range(200)]
        items = client.map(double, range(1000, 2500))
        filler.unlink()
        wait_until(lambda: client.status()["journal"], "the journal is back")
        assert ", with a journal" in command("status").stdout
        before = kill_controller(client)
        assert client.status()["controller_pid"] != before
        assert [future.result(30) for future in waiting] == [2 * i for i in range(200)]
        assert items.get(30) == [2 * i for i in range(1000, 2500)]
        assert running.result(30) == "ran once"
        assert client.submit(double, 1).result(30) == 2
    log = command("logs", "--name", "default").stdout
    assert log.count("the journal cannot be written") == 1
    assert log.count("the journal can be written again") == 1


def test_a_controller_that_dies_while_the_disk_is_full_is_replaced_but_has_lost_its_tasks(disk):
    assert command("start", "-n", "2").returncode == 0
    with Client() as client:
        client[:]["x"] = 7
        pids = client[:].apply_sync(os.getpid)
        waiting = client.submit(time.sleep, 60)
        filler = fill(disk)
        wait_until(lambda: client.submit(double, 1).result(30) and not client.status()["journal"], "it is suspended")
        kill_controller(client)
        with pytest.raises(ControllerLost, match="it was restarted without its journal"):
            waiting.result(30)
        with pytest.raises(ControllerLost):
            client.submit(double, 1)
    # Then the cluster is there for others, with fresh engines
    with Client() as other:
        other.wait_for_engines(2, timeout=20)
        fresh = other[:].apply_sync(os.getpid)
        assert not set(fresh) & set(pids)
        assert other[:].apply_sync(lambda: "x" in globals()) == [False, False]
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the old engines are gone")
        assert other.map(double, range(100)).get(30) == [2 * i for i in range(100)]
        assert other.status()["journal"] is False
        filler.unlink()
        wait_until(lambda: other.status()["journal"], "the journal is back")
        kill_controller(other)
        assert other.map(double, range(100)).get(30) == [2 * i for i in range(100)]
        assert other[:].apply_sync(os.getpid) == fresh


def test_a_controller_that_dies_before_it_has_noticed_has_lost_nothing(disk):
    assert command("start", "-n", "2").returncode == 0
    with Client() as client:
        assert client.submit(double, 1).result(30) == 2
        waiting = [client.submit(lambda i=i: (time.sleep(0.5), i)[1]) for i in range(12)]
        wait_until(lambda: client.status()["tasks"]["assigned"], "it runs")
        pid = client.status()["controller_pid"]
        os.kill(pid, signal.SIGSTOP)
        fill(disk)
        os.kill(pid, signal.SIGKILL)
        assert [future.result(30) for future in waiting] == list(range(12))
        assert client.status()["journal"] is False


# ------------------------------------------------------------------------------------------------------ no disk


def break_journal(folder, how):
    for path in folder.glob("*.journal*"):
        path.unlink()
    (path,) = {folder / "default.journal"}
    if how == "a folder in its place":
        path.mkdir()
    else:
        shutil.rmtree(folder)
        folder.write_text("no folder")


@pytest.mark.parametrize("how", ["a folder in its place", "no folder for it"])
def test_without_a_disk_the_cluster_ends_and_every_wait_with_it(runtime, tmp_path, monkeypatch, how):
    state = tmp_path / "state"
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(state))
    assert command("start", "-n", "2").returncode == 0
    with Client() as client:
        waiting = [client.submit(time.sleep, 60) for _ in range(4)]
        items = client.map(double, range(100_000))
        pid = client.status()["controller_pid"]
        break_journal(state, how)
        os.kill(pid, signal.SIGKILL)
        for future in waiting:
            with pytest.raises(ControllerLost, match="cannot use its journal"):
                future.result(30)
        with pytest.raises(ControllerLost, match="cannot use its journal"):
            items.get(30)
        with pytest.raises(ControllerLost, match="cannot use its journal"):
            client.status()
    wait_until(lambda: not processes(runtime), "no process is left")
    assert "cannot use its journal" in command("logs", "--name", "default").stdout
    assert command("clean").returncode == 0
    assert_nothing_left(runtime)


def test_a_cluster_of_a_script_says_so_too(runtime):
    cluster = Cluster(n=1)
    client = cluster.start().connect()
    waiting = client.submit(time.sleep, 60)
    journal = runtime / cluster.name / "journal"
    pid = client.status()["controller_pid"]
    for path in journal.parent.glob("journal*"):
        path.unlink()
    journal.mkdir()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ControllerLost, match="cannot use its journal"):
        waiting.result(30)
    cluster.stop()
    assert_nothing_left(runtime)


def test_results_outlive_a_kill_of_everything(runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(tmp_path / "state"))
    try:
        assert command("start", "-n", "2").returncode == 0
        with Client() as client:
            futures = [client.submit(double, i) for i in range(20)]
            assert [future.result(30) for future in futures] == [2 * i for i in range(20)]
            never = client.submit(time.sleep, 600)
            ids = [future.msg_id for future in [*futures, never]]
            wait_until(lambda: client.status()["tasks"]["assigned"], "it runs")
            for pid in processes(runtime):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert isinstance(never.exception(30), ControllerLost)
        assert command("start", "-n", "1").returncode == 0
        with Client() as client:
            assert client.get_result(ids[:-1]).get(30) == [2 * i for i in range(20)]
            with pytest.raises(TaskLost):
                client.get_result(ids[-1]).get(30)
    finally:
        command("stop", "--all")


def test_a_journal_that_was_deleted_is_missed_when_the_controller_dies(runtime, tmp_path, monkeypatch):
    state = tmp_path / "state"
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(state))
    try:
        assert command("start", "-n", "2").returncode == 0
        with Client() as client:
            pids = client[:].apply_sync(os.getpid)
            waiting = client.submit(time.sleep, 60)
            for path in state.iterdir():
                path.unlink()
            kill_controller(client)
            with pytest.raises(ControllerLost, match="it was restarted without its journal"):
                waiting.result(30)
        with Client() as other:
            other.wait_for_engines(2, timeout=20)
            assert not set(other[:].apply_sync(os.getpid)) & set(pids)
            assert other.status()["journal"]
    finally:
        command("stop", "--all")
