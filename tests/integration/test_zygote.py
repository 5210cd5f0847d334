"""The fork server with small programs in place of engines."""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from enginery.nanny.children import Children, Exited, Failed, Key, Lost, Ready, Started

from helpers import wait_until

PROGRAM = """
import json, os, subprocess, sys, time

STATE = []

def prepare(preload):
    STATE.append(os.getpid())
    for name in preload:
        __import__(name)

def run(setup):
    kind = setup["kind"]
    if kind == "exit":
        os._exit(setup["code"])
    if kind == "say":
        print("said", setup["kind"], len(STATE), os.getpid() == os.getpgid(0), flush=True)
        os.write(2, b"raw\\n")
        os._exit(0)
    if kind == "fail":
        raise ValueError("no good")
    if kind == "family":
        child = subprocess.Popen(["sleep", "1000"])
        with open(setup["file"] + ".part", "w") as file:
            file.write(str(child.pid))
        os.rename(setup["file"] + ".part", setup["file"])
    if kind == "random":
        import random
        print(random.random(), sys.modules["numpy"].random.random(), flush=True)
        os._exit(0)
    time.sleep(1000)

if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
"""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def zygote(tmp_path, monkeypatch):
    """Make zygotes of the program above, with a lifeline each."""
    (tmp_path / "program_under_test.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = []

    def make(*, fork=True, preload=(), prepare="program_under_test:prepare", run="program_under_test:run"):
        lifeline, held = os.pipe()
        made.append((Children(fork=fork, preload=preload, lifeline=lifeline, prepare=prepare, run=run), lifeline, held))
        return made[-1][0]

    make.made = made
    yield make
    for children, lifeline, held in made:
        children.close()
        os.close(lifeline)
        with contextlib.suppress(OSError):
            os.close(held)


def await_event(children, kind, timeout_s=15.0):
    """Return the next event of a kind; others before it are put away."""
    deadline = time.monotonic() + timeout_s
    seen = children.__dict__.setdefault("seen", [])
    while True:
        for i, event in enumerate(seen):
            if isinstance(event, kind):
                del seen[i]
                return event
        assert time.monotonic() < deadline, f"no {kind.__name__}; seen {seen}"
        select.select([children.fileno()], [], [], 0.1)
        seen.extend(children.events())


def await_end(children):
    """Return which child has ended next, and how."""
    event = await_event(children, Exited)
    return event.key, event.status


def start(children, key, **setup):
    """Start a child; return the read end of its output."""
    read, write = os.pipe()
    children.start(key, setup, write)
    return read


def all_of(fd):
    with os.fdopen(fd, "rb") as file:
        return file.read().decode()


A, B = Key(0, 1), Key(1, 7)


@pytest.mark.parametrize("fork", [True, False])
def test_a_child_runs_with_its_output_in_its_own_group(zygote, fork):
    children = zygote(fork=fork)
    output = start(children, B, kind="say")  # asked for before the template is ready
    assert await_event(children, Ready) == Ready()
    started = await_event(children, Started)
    assert started.key == B
    assert await_end(children) == (B, 0)
    # Prepared once in the template that was forked, and not at all in a fresh process.
    assert all_of(output) == f"said say {int(fork)} True\nraw\n"


def test_ends_are_reported_at_once_with_their_status(zygote):
    children = zygote()
    os.close(start(children, A, kind="exit", code=3))
    assert await_end(children) == (A, 3)
    os.close(start(children, B, kind="sleep"))
    await_event(children, Started)
    pid = await_event(children, Started).pid
    begun = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert await_end(children) == (B, -9)
    assert time.monotonic() - begun < 1.0  # milliseconds on a quiet machine


def test_an_exception_is_in_the_output(zygote):
    children = zygote()
    output = start(children, A, kind="fail")
    assert await_end(children) == (A, 1)
    assert "ValueError: no good" in all_of(output)


def test_signals_reach_the_child_and_only_if_it_lives(zygote):
    children = zygote()
    os.close(start(children, A, kind="sleep"))
    await_event(children, Started)
    children.signal(B, signal.SIGKILL)  # there is no such child
    children.signal(A, signal.SIGTERM)
    assert await_end(children) == (A, -signal.SIGTERM)
    children.signal(A, signal.SIGTERM)
    os.close(start(children, B, kind="exit", code=0))
    assert await_end(children) == (B, 0)


def family(children, key, path):
    os.close(start(children, key, kind="family", file=str(path)))
    pid = await_event(children, Started).pid
    wait_until(path.exists, "the child has a child")
    return pid, int(path.read_text())


def test_what_a_child_has_started_ends_with_it(zygote, tmp_path):
    children = zygote()
    pid, grandchild = family(children, A, tmp_path / "pid")
    os.kill(pid, signal.SIGKILL)
    assert await_end(children) == (A, -9)
    wait_until(lambda: not is_alive(grandchild), "the grandchild is gone")


@pytest.mark.parametrize("fork", [True, False])
def test_everything_ends_when_the_zygote_is_closed(zygote, tmp_path, fork):
    children = zygote(fork=fork)
    pid, grandchild = family(children, A, tmp_path / "pid")
    children.close()
    assert not is_alive(pid)
    wait_until(lambda: not is_alive(grandchild), "the grandchild is gone")


def test_everything_ends_when_the_lifeline_does(zygote, tmp_path):
    children = zygote()
    pid, grandchild = family(children, A, tmp_path / "pid")
    os.close(zygote.made[0][2])
    assert await_event(children, Lost) == Lost(0)
    wait_until(lambda: not is_alive(pid) and not is_alive(grandchild), "all are gone")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux only")
def test_children_die_with_the_zygote(zygote):
    children = zygote()
    os.close(start(children, A, kind="sleep"))
    pid = await_event(children, Started).pid
    children.process.kill()
    assert await_event(children, Lost) == Lost(-9)
    wait_until(lambda: not is_alive(pid), "the child is gone")


def test_a_module_that_is_not_there(zygote):
    children = zygote(preload=["no_such_module"])
    output = start(children, A, kind="sleep")
    sentence = "the engines' template could not be made: ModuleNotFoundError: No module named 'no_such_module'"
    assert await_event(children, Failed) == Failed(sentence)
    assert await_event(children, Lost) == Lost(1)
    assert all_of(output) == ""  # closed, not kept for a child that never comes


def test_many_at_once(zygote):
    children = zygote()
    keys = [Key(i, 1) for i in range(100)]
    for key in keys:
        os.close(start(children, key, kind="exit", code=key.engine))
    ended = [await_end(children) for _ in keys]
    assert sorted(ended) == [(key, key.engine) for key in keys]


def test_children_have_random_numbers_of_their_own(zygote, monkeypatch):
    pytest.importorskip("numpy")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    children = zygote(preload=["numpy"])
    outputs = [start(children, key, kind="random") for key in (A, B)]
    for _ in outputs:
        await_event(children, Exited)
    first, second = (all_of(output).split() for output in outputs)
    assert first[0] != second[0]
    assert first[1] != second[1]
