"""A short drill of a real cluster, and that whatever it stops goes on, and whatever it starts ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from enginery import leftovers, rendezvous
from enginery.drill import leavings, schedule
from enginery.drill.faults import Faults
from enginery.drill.schedule import Fault

from helpers import command, processes, wait_until


@pytest.fixture
def folder(monkeypatch):
    """Where drills have their files, which must be gone at the end of the test. Its name is short: paths of sockets
    have a limit, and a drill looks for another place otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="end-", dir="/tmp") as name:
        path = Path(name)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setenv("ENGINERY_STATE_DIR", str(path / "not-to-be-used"))
        yield path
        assert not list(path.iterdir())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost(folder, seed):
    """Everything that can be hurt is hurt once, the controller too; every task is accounted for."""
    done = command("drill", "--minutes", "0.5", "--seed", str(seed), "-n", "3", "--tasks", "12000", timeout_s=110)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"drill {seed}: 3 engines, 0.5 min, 12 kinds of faults"
    assert (
        lines[-1]
        == "all is accounted for: nothing is lost without a reason, nothing hangs, nothing ran twice, nothing is left"
    )
    table = {line.strip()[: line.strip().find("  ")]: line.split()[-2:] for line in lines}
    submitted, done_ = (int(table[name][0].replace(",", "")) for name in ("submitted", "done"))
    assert 0.9 * submitted < done_ < submitted
    faults = re.findall(r"(\d+) ([a-z]+-[a-z]+|freeze|cut)", lines[-2])
    assert {kind for _, kind in faults} == set(schedule.NAMES)
    assert all(int(count) > 0 for count, _ in faults), lines[-2]


def test_a_drill_that_is_ended_leaves_nothing(folder):
    drill = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "enginery",
            "drill",
            "--minutes",
            "5",
            "--faults",
            "nanny,client-stop,engine-stop",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        runtime = wait_until(lambda: next(folder.glob("enginery-drill-*/run"), None), "the drill has a folder")
        wait_until(lambda: stopped(processes(runtime)), "something is stopped", 60.0)
    finally:
        drill.terminate()
        said = drill.communicate(timeout=30)[0]
    assert drill.returncode == 1, said
    wait_until(lambda: not processes(runtime), f"no process is left, of {processes(runtime)}")


def stopped(pids):
    return [pid for pid in pids if state(pid) == "T"]


def state(pid):
    """Return the state of a process as the kernel calls it; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture
def sleepers(tmp_path):
    """Processes that are on the list of a cluster's, as its engines."""
    started = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    for i, process in enumerate(started):
        leftovers.note_process(tmp_path, f"engine-{i}", process.pid)
    yield started
    for process in started:
        process.kill()
        process.wait()


def faults_of(tmp_path, *schedule):
    return Faults(1, schedule, directory=tmp_path, crew=None, proxies=[])


def test_what_was_stopped_goes_on_in_time(tmp_path, sleepers):
    faults = faults_of(tmp_path, Fault(1.0, "engine-stop", 2.0))
    pids = [process.pid for process in sleepers]
    faults.act(0.9)
    assert faults.next_s() == 1.0
    assert not stopped(pids)
    faults.act(1.0)
    wait_until(lambda: len(stopped(pids)) == 1, "one is stopped")
    assert faults.next_s() == 3.0
    faults.act(3.0)
    wait_until(lambda: not stopped(pids), "none is stopped")
    assert faults.next_s() == float("inf")
    assert faults.done == {"engine-stop": 1}


def test_what_was_stopped_goes_on_at_the_end(tmp_path, sleepers):
    faults = faults_of(tmp_path, *[Fault(i, "engine-stop", 100.0) for i in range(10)])
    pids = [process.pid for process in sleepers]
    faults.act(10.0)
    wait_until(lambda: len(stopped(pids)) == 2, "both are stopped")
    faults.undo_all()
    wait_until(lambda: not stopped(pids), "none is stopped")


def test_a_kill(tmp_path, sleepers):
    faults = faults_of(tmp_path, Fault(0.0, "engine-term", 0.0), Fault(1.0, "engine-kill", 0.0))
    faults.act(0.0)
    wait_until(lambda: any(process.poll() for process in sleepers), "one has ended")
    faults.act(1.0)
    wait_until(lambda: all(process.poll() for process in sleepers), "the other has ended too")
    assert sorted(process.poll() for process in sleepers) == [-signal.SIGTERM, -signal.SIGKILL]
    assert faults.done == {"engine-term": 1, "engine-kill": 1}


def test_who_is_gone_is_no_victim_and_needs_no_help(tmp_path, sleepers):
    faults = faults_of(
        tmp_path, Fault(0.0, "engine-stop", 9.0), Fault(1.0, "engine-kill", 0.0), Fault(1.0, "zygote-kill", 0.0)
    )
    faults.act(0.0)
    for process in sleepers:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    faults.act(1.0)
    faults.act(9.0)
    faults.act(9.2)
    assert faults.done == {"engine-stop": 1}
    assert faults.missed == {"engine-kill": 1, "zygote-kill": 1}


def test_whatever_is_left_of_a_cluster_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(leavings, "PATIENCE_S", 0.0)
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path / "shm")
    runtime, directory = tmp_path / "run", tmp_path / "run" / "drill-1"
    for path in (runtime, tmp_path / "shm"):
        path.mkdir(mode=0o700)
    assert leavings.find(directory, runtime) == []
    directory.mkdir()
    rendezvous.objects_dir(directory).mkdir()
    stray = subprocess.Popen(["sleep", "1000"], env={**os.environ, "ENGINERY_RUNTIME_DIR": str(runtime)})
    try:
        assert leavings.find(directory, runtime) == [
            f"process {stray.pid} (sleep 1000)",
            f"objects in {rendezvous.objects_dir(directory)}",
            f"file {directory}",
        ]
    finally:
        stray.kill()
        stray.wait()
