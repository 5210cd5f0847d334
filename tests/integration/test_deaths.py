"""What is told of an engine's end, by the error and by the log, when real processes die in real ways."""

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from enginery import Client
from enginery.errors import EngineDied

from helpers import command, processes, wait_until

MB = 1 << 20


def break_down(how):
    """End this process: by a signal, an exit code, or a mistake in C."""
    if how == "null":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif isinstance(how, signal.Signals):
        os.kill(os.getpid(), how)
        time.sleep(60)
    else:
        os._exit(how)


def death_of(client, function, *args, timeout_s=30.0):
    """Return the error of a task that ends its engine (engine 0)."""
    with pytest.raises(EngineDied) as caught:
        client[0].apply_async(function, *args).result(timeout=timeout_s)
    return caught.value


def log_of(*cluster):
    done = command("logs", *cluster)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kill_from_outside(client, cluster):
    before = time.time()
    error = death_of(client, break_down, signal.SIGKILL)
    assert (error.engine, error.exit_code, error.running) == (0, -signal.SIGKILL, True)
    assert error.reason == "killed by signal 9 (SIGKILL)", "nothing else is claimed"
    assert before - 1 < error.since <= error.ended < time.time() + 1
    assert error.peak_bytes > 10 * MB
    assert str(error).splitlines()[0] == f"engine 0 (pid {error.pid}) {error.reason} while it ran the task"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("null", "killed by signal 11 (SIGSEGV)"),
        ("abort", "killed by signal 6 (SIGABRT)"),
        (signal.SIGBUS, f"killed by signal {int(signal.SIGBUS)} (SIGBUS)"),
        (signal.SIGFPE, f"killed by signal {int(signal.SIGFPE)} (SIGFPE)"),
    ],
)
def test_a_crash_comes_with_the_python_stack_of_the_task(client, how, reason):
    def the_task(how):
        os.write(1, b"about to break\n")
        break_down(how)

    error = death_of(client, the_task, how)
    assert error.reason == reason
    before, header, *stack = error.last_output.splitlines()
    assert before == "about to break"
    assert header.startswith("Fatal Python error: ")
    assert stack[0].startswith("Current thread")
    calls = [line.rpartition(" in ")[2] for line in stack[1:]]
    assert calls[-2:] == ["break_down", "the_task"], f"and nothing of the engine's own: {stack}"


def test_the_stack_of_a_crash_among_many_threads_and_modules(client):
    def crowded():
        for i in range(30):
            threading.Thread(target=threading.Event().wait, daemon=True, name=f"idle {i}").start()
        ctypes.string_at(0)

    error = death_of(client, crowded)
    assert "in crowded" in error.last_output.splitlines()[-1]


def test_an_exit_code(client):
    error = death_of(client, break_down, 3)
    assert (error.exit_code, error.reason) == (3, "exited with code 3")


def test_the_log_has_the_same_account(client, cluster):
    error = death_of(client, break_down, "null")
    lines = wait_until(lambda: account_in(log_of("--name", cluster.name), error.pid), "the end is in the log")
    assert lines[0].endswith(f"{error.reason} while it ran task {error.task}")
    assert any("the call had run since" in line for line in lines)
    assert any("Fatal Python error: Segmentation fault" in line for line in lines)
    # And what is asked for is called so.
    pid = client[0].apply_sync(os.getpid)
    client.send_signal("KILL", targets=0)
    lines = wait_until(lambda: account_in(log_of("--name", cluster.name), pid), "the end is in the log")
    assert "killed by signal 9 (SIGKILL) on request after it had run task" in lines[0]


def account_in(log, pid):
    """Return the lines about the end of a process: one, and its details."""
    lines = [line for line in log.splitlines() if line.startswith("[nanny]")]
    first = next((i for i, line in enumerate(lines) if f"(pid {pid})" in line), None)
    if first is None:
        return []
    details = []
    for line in lines[first + 1 :]:
        if not line.startswith("[nanny]   "):
            break
        details.append(line)
    return [lines[first], *details]


def test_the_memory_curve_is_there_if_the_engine_lived_long_enough(client):
    def hold(seconds):
        kept = b"x" * (150 * MB)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return kept

    for seconds in (2.2, 4.4, 8.8, 17.6):  # it is measured every 2 s, by a nanny that may be kept from it
        error = death_of(client, hold, seconds)
        if error.memory_curve and error.memory_curve[-1][1] > 150 * MB:
            break
    agos = [ago for ago, _ in error.memory_curve]
    assert agos == sorted(agos, reverse=True)
    assert 0 <= agos[-1] < seconds
    assert error.memory_bytes == error.memory_curve[-1][1] > 150 * MB
    assert error.peak_bytes >= error.memory_bytes
    assert error.ended - error.since >= seconds - 0.1
    assert "before the end" in str(error)


# ------------------------------------------------------------------------------------------------- lack of memory


LIMIT = 400 * MB

CGROUPS = {  # where a memory cgroup is made, and which file limits it
    Path("/sys/fs/cgroup/memory"): ("memory.limit_in_bytes", "memory.swappiness"),
    Path("/sys/fs/cgroup"): ("memory.max", "memory.swap.max"),
}


@pytest.fixture
def limited():
    """A memory cgroup of `LIMIT` bytes, if this machine lets us have one."""
    refusals = []
    for root, (limit, swap) in CGROUPS.items():
        group = root / f"enginery-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            refusals.append(f"{root}: {error.strerror}")
            continue
        try:
            if not (group / limit).exists():
                refusals.append(f"{root}: its children have no {limit}")
                continue
            with contextlib.suppress(OSError):  # there may be no swap to keep them from
                (group / swap).write_text("0")
            (group / limit).write_text(str(LIMIT))
            yield group
            wait_until(lambda left=group / "cgroup.procs": not left.read_text(), "the cgroup is empty")
            return
        except OSError as error:
            refusals.append(f"{root}: {error.strerror}")
        finally:
            group.rmdir()
    pytest.skip(f"no memory cgroup can be made here ({'; '.join(refusals)}), so nobody can be killed for its sake")


def test_a_kill_by_the_kernel_for_lack_of_memory_is_called_so(runtime, limited):
    def swallow():
        kept = []
        while True:
            kept.append(b"x" * (50 * MB))

    begin = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
    start = [sys.executable, "-P", "-m", "enginery", "start", "-n", "1"]
    try:
        subprocess.run(["sh", "-c", begin, limited, *start], check=True, timeout=60, capture_output=True)
        with Client() as client:
            error = death_of(client, swallow)
            assert error.exit_code == -signal.SIGKILL
            assert error.reason.startswith("killed by signal 9 (SIGKILL), likely by the kernel for lack of memory (")
            assert LIMIT / 2 < error.peak_bytes < 2 * LIMIT
            assert "for lack of memory" in account_in(log_of(), error.pid)[0]
            # And the next one is not, just because there was one before.
            again = death_of(client, break_down, signal.SIGKILL)
            assert again.reason == "killed by signal 9 (SIGKILL)"
    finally:
        command("stop", "--all")
        for pid in processes(runtime):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
