"""Whole clusters of real processes: the `cluster` command, `Cluster`, and what is left when something dies."""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from enginery import config, leftovers, rendezvous, security
from enginery.cluster.cluster import Cluster
from enginery.cluster.control import Control
from enginery.errors import ClusterError, ClusterExists, EngineDied, NoClusterError

from helpers import assert_nothing_left, command, processes, wait_until


@pytest.fixture
def stopping(runtime):
    """A runtime directory whose clusters are stopped at the end of the test, whatever its outcome."""
    yield runtime
    command("stop", "--all")
    for pid in processes(runtime):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def good(*args, **environment):
    """Run a command that must succeed; return what it printed."""
    done = command(*args, **environment)
    assert done.returncode == 0, f"{args}: {done.stderr}{done.stdout}"
    return done.stdout


def bad(*args, **environment):
    """Run a command that must fail with one sentence; return the sentence."""
    done = command(*args, **environment)
    assert done.returncode == 1, f"{args}: {done.stdout}"
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def engine_pids(name=None):
    with Control(rendezvous.find(name)) as control:
        return {engine["id"]: engine["pid"] for engine in control.status()["engines"]}


def is_alive(pid):
    return leftovers.start_time(pid) is not None


# ------------------------------------------------------------------------------------------------- the life of one


def test_start_look_stop(stopping):
    said = good("start", "-n", "3").splitlines()
    assert re.fullmatch(r"cluster default: 3 engines ready in \d+\.\d\d s", said[0])
    assert said[1:] == ["  connect  enginery.Client()", "  stop     cluster stop"]
    assert "cluster default: 3 of 3 engines ready" in good("status")
    assert "running" in good("list")
    assert len(processes(stopping)) == 6  # nanny, zygote, controller, engines
    assert good("stop") == "cluster default is stopped\n"
    assert_nothing_left(stopping, timeout_s=0)


def test_files_are_private_and_hold_no_keys_on_a_unix_socket(stopping):
    good("start", "-n", "1")
    for path in (stopping / "default").rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0 or path.is_socket() or path.is_symlink(), path
    connection = config.load(stopping / "default" / "client.json", config.Connection)
    assert connection.address == f"ipc://{stopping}/default/controller.sock"
    assert connection.secret_key is None


def test_two_side_by_side(stopping):
    good("start", "-n", "1", "--name", "one")
    good("start", "-n", "2", "--name", "two")
    assert "1 of 1 engines ready" in good("status", "one")
    assert "2 of 2 engines ready" in good("status", "--name", "two")
    assert "2 clusters are running (one, two)" in bad("status")
    assert "2 of 2 engines ready" in good("status", ENGINERY_CLUSTER="two")
    good("stop", "one")
    assert "2 of 2 engines ready" in good("status")
    good("start", "-n", "1", "--name", "one")
    assert sorted(good("stop", "--all").splitlines()) == ["cluster one is stopped", "cluster two is stopped"]
    assert_nothing_left(stopping, timeout_s=0)


def test_the_same_name_twice(stopping):
    good("start", "-n", "1")
    before = engine_pids()
    assert "cluster default is running already" in bad("start", "-n", "1")
    with pytest.raises(ClusterExists):
        Cluster(1, name="default").start()
    assert engine_pids() == before


def test_many_starts_of_one_name_at_once(stopping):
    starts = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "enginery", "start", "-n", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[1] for process in starts]
    assert sorted(process.returncode for process in starts) == [0, 1, 1, 1]
    assert sum("cluster default is running already" in text for text in said) == 3, said
    assert len(processes(stopping)) == 4


def test_scale_and_restart(stopping):
    good("start", "-n", "2")
    before = engine_pids()
    assert good("scale", "-n", "4") == "cluster default: 4 engines\n"
    grown = engine_pids()
    assert sorted(grown) == [0, 1, 2, 3]
    assert {i: grown[i] for i in before} == before
    assert good("scale", "-n", "1") == "cluster default: 1 engine\n"
    assert engine_pids() == {0: before[0]}
    wait_until(lambda: not any(is_alive(pid) for i, pid in grown.items() if i), "the engines have gone")
    good("scale", "-n", "3")
    grown = engine_pids()
    assert good("restart", "0", "2") == "cluster default: 2 engines restarted\n"
    after = engine_pids()
    assert after[1] == grown[1]
    assert after[0] != grown[0]
    assert after[2] != grown[2]
    good("restart")
    assert not set(engine_pids().values()) & set(after.values())
    assert "there is no engine 7" in bad("restart", "7")


def test_fresh_processes(stopping):
    good("start", "-n", "2", "--no-fork")
    assert "2 of 2 engines ready" in good("status")
    assert sum("-m enginery.engine.app {" in line for line in processes(stopping).values()) == 2
    good("stop")
    assert_nothing_left(stopping, timeout_s=0)


def test_logs(stopping):
    good("start", "-n", "2")
    assert "[nanny] " in good("logs")
    pid = engine_pids()[1]
    with Path(f"/proc/{pid}/fd/1").open("w") as file:  # what C code or a child of the engine would do
        file.write("from below\n")
    wait_until(lambda: "[engine 1] from below\n" in good("logs"), "the line is in the log")
    assert good("logs", "1").endswith("from below\n")
    follower = subprocess.Popen(
        [sys.executable, "-P", "-m", "enginery", "logs", "-f"], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        first = follower.stdout.readline()
        assert first.startswith("[nanny] ")
        good("stop")
        rest = follower.stdout.read()  # not `communicate`, which misses what `readline` has read ahead
        assert "[engine 1] from below" in first + rest
        assert follower.wait(timeout=15) == 0
    finally:
        follower.kill()
        follower.stdout.close()


def test_foreground(stopping):
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "enginery", "start", "-n", "1", "--foreground"],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        assert process.stdout.readline().startswith("cluster default: 1 engine ready")
        assert "1 of 1 engines ready" in good("status")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=15)
        assert rest.endswith("cluster default is stopped\n")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    assert_nothing_left(stopping)


def test_nobody_keeps_the_callers_output_open(stopping):
    done = subprocess.run(  # ends only when every holder of the pipe has closed it
        [sys.executable, "-P", "-m", "enginery", "start", "-n", "1"], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0


# ------------------------------------------------------------------------------------------------------------- death


def test_nothing_outlives_a_killed_nanny(stopping):
    good("start", "-n", "3")
    info = rendezvous.info(stopping / "default")
    os.kill(info.pid, signal.SIGKILL)
    wait_until(lambda: not processes(stopping), "every process of the cluster has gone", timeout_s=5)
    assert "cluster default is not running any more" in bad("status", "default")
    assert "dead" in good("list")
    assert good("clean").startswith("cluster default: cleared")
    assert_nothing_left(stopping, timeout_s=0)


def test_fresh_processes_do_not_outlive_a_killed_nanny(stopping):
    good("start", "-n", "2", "--no-fork")
    os.kill(rendezvous.info(stopping / "default").pid, signal.SIGKILL)
    wait_until(lambda: not processes(stopping), "every process of the cluster has gone", timeout_s=5)
    good("clean")


def test_left_overs_of_a_crash_are_cleared_by_the_next_start(stopping):
    name = "crashed"
    folder = stopping / name
    stray = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={})
    unrelated = subprocess.Popen(["sleep", "1000"], env={})
    try:
        good("start", "-n", "1", "--name", name)
        nanny = rendezvous.info(folder).pid
        assert nanny > 0
        os.kill(nanny, signal.SIGKILL)
        wait_until(lambda: not processes(stopping), "every process of the cluster has gone", timeout_s=5)
        leftovers.note_process(folder, "engine-0", stray.pid)
        with (folder / "processes").open("a") as file:
            file.write(f"engine-1 {unrelated.pid} 12345\n")  # an older process of that number
        rubbish = [place / "rubbish" for place in leftovers.objects(folder)]
        assert len(rubbish) == 2
        for path in rubbish:
            path.write_text("x")
        (folder / "engines" / "rubbish.rec").write_text("x")
        good("start", "-n", "1", "--name", name)
        stray.wait(timeout=10)
        assert unrelated.poll() is None
        assert not any(path.exists() for path in rubbish)
        assert not (folder / "engines" / "rubbish.rec").exists()
        assert "1 process, 2 objects, its files" in good("logs", "--name", name)
    finally:
        for process in (stray, unrelated):
            process.kill()
            process.wait()


def test_a_killed_engine_is_replaced(stopping):
    good("start", "-n", "2")
    before = engine_pids()
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: engine_pids()[1] not in (0, before[1]), "another engine 1 is there")
    assert engine_pids()[0] == before[0]
    with Control(rendezvous.find()) as control:
        control.wait_engines(15)


def test_a_killed_zygote_is_replaced_and_so_are_its_engines(stopping):
    good("start", "-n", "2")
    before = engine_pids()
    (zygote,) = [pid for role, pid in leftovers.noted_processes(stopping / "default") if role == "zygote"]
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in before.values()), "the engines have gone", timeout_s=5)
    wait_until(lambda: all(p not in (0, before[i]) for i, p in engine_pids().items()), "there are others")
    with Control(rendezvous.find()) as control:
        control.wait_engines(15)
    good("stop")
    assert_nothing_left(stopping, timeout_s=0)


def test_a_death_certificate_says_what_is_known(stopping):
    def die():
        os.write(2, b"about to break\n")
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)

    with Cluster(n=1) as client:
        pid = client[0].apply_sync(os.getpid)
        with pytest.raises(EngineDied) as caught:
            client[0].apply_async(die).result(timeout=15)
        error = caught.value
        assert (error.engine, error.pid, error.exit_code) == (0, pid, -signal.SIGSEGV)
        assert "killed by signal 11 (SIGSEGV)" in error.reason
        assert "about to break" in error.last_output
        assert error.running


def test_an_engine_that_is_busy_or_will_not_listen_does_not_hold_up_a_stop(stopping):
    def deaf():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"], start_new_session=False)
        Path(os.environ["ENGINERY_RUNTIME_DIR"], "busy").write_text(str(child.pid))
        while True:
            time.sleep(60)

    cluster = Cluster(n=2)
    client = cluster.start().connect()
    client[0].apply_async(deaf)
    busy = stopping / "busy"
    wait_until(lambda: busy.exists() and busy.read_text(), "the engine is busy")
    child = int(busy.read_text())
    begun = time.monotonic()
    cluster.stop()
    assert time.monotonic() - begun < 2.0  # half a second on a quiet machine
    assert not is_alive(child)
    busy.unlink()
    assert_nothing_left(stopping, timeout_s=0)


def test_without_its_controller_and_a_journal_a_cluster_ends_and_says_why(stopping):
    good("start", "-n", "2", "--no-journal")
    with Control(rendezvous.find()) as control:
        pid = control.status()["controller_pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes(stopping), "every process of the cluster has gone", timeout_s=5)
    assert "the controller has ended (killed by signal 9 (SIGKILL))" in good("logs", "--name", "default")
    good("clean")
    assert_nothing_left(stopping, timeout_s=0)


def test_a_nanny_that_hangs_is_stopped_too(stopping, monkeypatch):
    monkeypatch.setattr("enginery.cluster.local.STOP_S", 0.3)
    from enginery.cluster import local

    good("start", "-n", "1")
    os.kill(rendezvous.info(stopping / "default").pid, signal.SIGSTOP)
    local.stop(stopping / "default")
    assert_nothing_left(stopping)


# ------------------------------------------------------------------------------------------------------- from Python


def test_cluster_step_by_step(stopping):
    cluster = Cluster(n=2, name="mine")
    assert repr(cluster) == "<Cluster mine: 2 engines, not running>"
    with pytest.raises(ClusterError, match="is not started"):
        cluster.status()
    assert cluster.start() is cluster
    assert cluster.start() is cluster
    assert cluster.is_running
    assert [engine["state"] for engine in cluster.status()["engines"]] == ["ready", "ready"]
    assert cluster.scale(3) == [0, 1, 2]
    assert cluster.restart(1) == [1]
    assert cluster.restart() == [0, 1, 2]
    first = cluster.connect()
    assert cluster.connect() is first
    first.close()
    assert cluster.connect().ids == [0, 1, 2], "another client, as that one is of no more use"
    begun = time.monotonic()
    cluster.stop()
    assert time.monotonic() - begun < 2.0
    assert_nothing_left(stopping, timeout_s=0)
    cluster.stop()
    assert not cluster.is_running
    cluster.start()
    assert cluster.is_running
    cluster.stop()


def test_cluster_as_a_context(stopping):
    with Cluster(n=2) as client:
        assert client.ids == [0, 1]
    assert_nothing_left(stopping, timeout_s=0)


def test_cluster_as_an_async_context(stopping):
    async def main():
        async with Cluster(n=2) as client:
            return client.ids

    assert asyncio.run(main()) == [0, 1]
    assert_nothing_left(stopping, timeout_s=0)


def test_clusters_without_names_do_not_meet(stopping):
    one, two = Cluster(1), Cluster(1)
    assert one.name != two.name
    one.start()
    two.start()
    assert len(rendezvous.list_clusters()) == 2
    one.stop()
    two.stop()


@pytest.mark.parametrize("n", [0, -1])
def test_counts_below_one(n):
    with pytest.raises(ClusterError, match=f"an engine count must be at least 1, not {n}"):
        Cluster(n=n)


OWNER = """
import os, sys, time
from enginery.cluster.cluster import Cluster
cluster = Cluster(n=2).start()
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(1000)  # a child that outlives the owner, and holds copies of what it had
print("started", flush=True)
if sys.argv[1] != "exit":
    time.sleep(1000)
"""


@pytest.mark.parametrize("how", ["kill", "fork", "exit"])
def test_a_cluster_ends_with_its_owner(stopping, how):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert owner.stdout.readline() == "started\n"
        if how != "exit":
            owner.kill()
        owner.wait(timeout=15)
        wait_until(lambda: not rendezvous.list_clusters(), "the cluster is gone", timeout_s=5)
        left = [line for line in processes(stopping).values() if "enginery." in line and "Cluster(" not in line]
        assert not left
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(owner.pid, signal.SIGKILL)
        owner.wait()
        owner.stdout.close()


def test_an_interrupted_start_leaves_nothing(stopping):
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "enginery", "start", "-n", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list(stopping.iterdir()), "the nanny is at work")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 1
    assert_nothing_left(stopping)


# --------------------------------------------------------------------------------------------------------------- TCP


def test_on_tcp_only_known_keys_are_let_in(stopping):
    good("start", "-n", "2", "--listen", "127.0.0.1")
    connection = rendezvous.find()
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", connection.address)
    with Control(connection) as control:
        assert control.wait_engines(10) == [0, 1]
    stranger = security.new_key_pair()
    fields = json.loads((stopping / "default" / "client.json").read_text())
    for change in (
        {"public_key": stranger.public, "secret_key": stranger.secret},
        {"server_key": stranger.public},
        {"server_key": None, "public_key": None, "secret_key": None},
    ):
        wrong = config.Connection(**{**fields, **change})
        with pytest.raises(NoClusterError, match="did not answer in time"):
            Control(wrong, timeout_s=0.5)
    engine = config.load(stopping / "default" / "engine.json", config.Connection)
    with pytest.raises(NoClusterError, match="did not answer in time"):  # an engine's key makes no client
        Control(engine, timeout_s=0.5)
    assert "2 of 2 engines ready" in good("status")
    secrets = [fields["secret_key"], engine.secret_key]
    for pid in processes(stopping):
        folder = Path("/proc") / str(pid)
        shown = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        assert not any(secret.encode() in shown for secret in secrets)
    for log in (stopping / "default" / "logs").iterdir():
        assert not any(secret in log.read_text() for secret in secrets)


# ------------------------------------------------------------------------------------------------------ sad sentences


def test_a_module_that_cannot_be_preloaded(stopping):
    sentence = bad("start", "-n", "1", "--preload", "json,no_such_module")
    assert "no_such_module" in sentence
    assert_nothing_left(stopping)


def test_an_address_that_is_not_ours(stopping):
    assert "cannot start cluster default: " in bad("start", "-n", "1", "--listen", "192.0.2.1")
    assert_nothing_left(stopping)


@pytest.mark.parametrize("path", ["/proc/enginery", "/dev/null", "/dev/null/below"])
def test_a_runtime_dir_that_cannot_be(path):
    sentence = bad("start", "-n", "1", ENGINERY_RUNTIME_DIR=path)
    assert path in sentence
    assert "set ENGINERY_RUNTIME_DIR to another folder" in sentence


def start_under(condition):
    """Start a cluster in a process that is under a condition."""
    return subprocess.run(
        [sys.executable, "-P", "-B", "-m", "enginery", "start", "-n", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=condition,
    )


def give_up_privilege():
    """Have file modes count for this process's program even if it is root's."""
    if os.getuid() == 0:
        capbset_drop, dac_override = 24, 1
        assert ctypes.CDLL(None).prctl(capbset_drop, dac_override) == 0


def test_a_runtime_dir_that_cannot_be_written(runtime):
    runtime.chmod(0o500)
    try:
        done = start_under(give_up_privilege)
    finally:
        runtime.chmod(0o700)
    assert done.returncode == 1
    assert done.stderr == f"cannot start cluster default: Permission denied: {runtime}/default\n"


def test_a_disk_that_takes_nothing(stopping):
    done = start_under(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert done.returncode == 1
    assert done.stderr == "cannot start cluster default: File too large\n"
