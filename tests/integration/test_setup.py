"""Set-up that every engine has, tasks that kill engines, and stopping for certain: on clusters of real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from enginery import Cluster, CompositeError, EngineDied
from enginery.client.results.futures import GOES_ON
from enginery.cluster.control import Control

from helpers import wait_until


def kill_engine(client, engine=0):
    """Kill an engine; return when another has taken its place."""
    before = next(e for e in client.status()["engines"] if e["id"] == engine)
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: state_of(client, engine)["incarnation"] > before["incarnation"], "the engine is replaced")


def kill_controller(client):
    """Kill the controller; return when another has taken over."""
    before = client.status()["controller_pid"]
    os.kill(before, signal.SIGKILL)
    assert client.status()["controller_pid"] != before


def state_of(client, engine=0):
    return client.status()["engines"][engine]


@pytest.fixture
def own():
    """A client of a cluster of its own, with 2 engines."""
    with Cluster(n=2) as client:
        yield client


CODE = """
ran = globals().get("ran", [])
ran.append(("code", 0))
"""


def test_set_up_is_had_by_every_engine_whatever_becomes_of_the_first(own):
    assert len(own.register_setup(CODE).get(timeout=10)) == 2
    own[:].execute("ran.append(('own', 0))", block=True)
    own.register_setup(CODE).get(timeout=10)
    own.register_setup("%config Application.log_level = 30\nran.append(('magic', 0))").get(timeout=10)
    expected = [("code", 0), ("magic", 0)]
    kill_engine(own)
    assert own[0]["ran"] == expected
    assert own[1]["ran"] == [("code", 0), ("own", 0), *expected]
    with Control(own._link.connection) as control:
        control.restart(None, 20)
    assert own[:]["ran"] == [expected] * 2
    own.scale(4, timeout=20)
    assert own[:]["ran"] == [expected] * 4
    kill_controller(own)
    assert own[:]["ran"] == [expected] * 4
    for engine in (0, 3):
        kill_engine(own, engine)
    assert own[:]["ran"] == [expected] * 4
    assert own.status()["setup"] == ['ran = globals().get("ran", [])', "%config Application.log_level = 30"]
    own.clear_setup()
    kill_engine(own)
    with pytest.raises(NameError):
        own[0]["ran"]
    assert own.status()["tasks"]["assigned"] == 0


def test_functions_and_their_arguments(own, tmp_path):
    async def note(path, *, text):
        await asyncio.sleep(0)
        with path.open("a") as file:
            file.write(text)
        return os.getpid()

    pids = own.register_setup(note, tmp_path / "notes", text="x").get(timeout=10)
    assert pids == own[:].apply_sync(os.getpid)
    assert (tmp_path / "notes").read_text() == "xx"
    kill_engine(own)
    own[0].apply_sync(os.getpid)
    assert (tmp_path / "notes").read_text() == "xxx"


def test_set_up_that_fails_is_shown_and_tasks_go_on(own, tmp_path):
    with pytest.raises(CompositeError, match="ModuleNotFoundError"):
        own.register_setup("import no_such_thing").get(timeout=10)
    own.register_setup(f"import pathlib\nassert not pathlib.Path({str(tmp_path)!r}, 'bad').exists()").get(timeout=10)
    (tmp_path / "bad").touch()
    kill_engine(own)
    assert own[0].apply_sync(abs, -1) == 1
    assert "import pathlib: AssertionError" in state_of(own, 0)["setup"]
    assert state_of(own, 1)["setup"].startswith("failed: import no_such_thing: ModuleNotFoundError: No module named")
    own.clear_setup()
    assert [engine["setup"] for engine in own.status()["engines"]] == ["", ""]


def test_an_engine_that_its_set_up_kills_is_given_up(own, tmp_path):
    def die_if(path):
        import faulthandler

        if path.exists():
            faulthandler._sigsegv()

    own.register_setup(die_if, tmp_path / "now").get(timeout=10)
    (tmp_path / "now").touch()
    os.kill(state_of(own)["pid"], signal.SIGKILL)
    wait_until(lambda: state_of(own)["state"] == "failed", "the engine is given up", 30)
    assert state_of(own)["reason"].startswith("killed by signal 11 (SIGSEGV) in its set-up die_if")
    assert own.map(abs, [-1, -2]).get(timeout=10) == [1, 2]
    (tmp_path / "now").unlink()
    with Control(own._link.connection) as control:
        control.restart([0], 20)
    wait_until(lambda: len(own) == 2, "the client has heard of it")
    assert own[0].apply_sync(abs, -1) == 1


# ------------------------------------------------------------------------------------------------ tasks that kill


def crash(x):
    import faulthandler

    if x == 3:
        faulthandler._sigsegv()
    return x


def test_a_task_that_crashes_its_engine_is_stopped_whatever_its_retries(own):
    view = own.load_balanced_view()
    view.set_flags(retries=1000)
    bad, good = view.apply_async(crash, 3), view.map_async(crash, range(20))
    error = bad.exception(60)
    assert isinstance(error, EngineDied)
    assert len(error.history) == 2
    assert all("killed by signal 11 (SIGSEGV)" in text for text in error.history)
    values = good.get(60, return_exceptions=True)
    assert isinstance(values[3], EngineDied)
    assert (values[3].item, len(values[3].history)) == (3, 2)
    assert values[:3] + values[4:] == [x for x in range(20) if x != 3]
    wait_until(lambda: [e["state"] for e in own.status()["engines"]] == ["ready"] * 2, "both engines are there")
    assert max(e["incarnation"] for e in own.status()["engines"]) <= 7


def test_a_task_that_crashes_is_counted_by_the_next_controller_too(own, tmp_path):
    def crash_slowly(path):
        import faulthandler
        import time

        with path.open("a") as file:
            file.write("x")
        deadline = time.monotonic() + 30
        while len(path.read_text()) == 2 and not path.with_name("go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        faulthandler._sigsegv()

    view = own.load_balanced_view()
    view.set_flags(retries=1000)
    future = view.apply_async(crash_slowly, tmp_path / "runs")
    wait_until(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").read_text() == "xx", "it runs again")
    kill_controller(own)
    (tmp_path / "go").touch()
    error = future.exception(60)
    assert isinstance(error, EngineDied)
    assert len(error.history) == 2
    assert (tmp_path / "runs").read_text() == "xxx"


# ------------------------------------------------------------------------------------------------ stopping


def swallow(path, times, seconds=30):
    """Say that it runs; swallow so many interrupts."""
    import time

    deadline = time.monotonic() + seconds
    caught = 0
    path.write_text("x")
    while caught <= times and time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            caught += 1
            if caught > times:
                raise
    return caught


def wait_for(path):
    wait_until(path.exists, f"{path} was written")


def test_code_that_swallows_an_interrupt_is_interrupted_again(own, tmp_path):
    pids = own[:].apply_sync(os.getpid)
    future = own.submit(swallow, tmp_path / "once", 1)
    wait_for(tmp_path / "once")
    assert future.cancel()
    future = own.submit(swallow, tmp_path / "more", 2)
    wait_for(tmp_path / "more")
    assert future.cancel(grace_s=20)
    assert future.status == "cancelled"
    assert own[:].apply_sync(os.getpid) == pids, "no engine had to be killed"
    assert own.map(abs, range(-100, 0)).get(10) == list(range(100, 0, -1))


def test_an_item_that_swallows_an_interrupt_is_interrupted_again(own, tmp_path):
    pids = own[:].apply_sync(os.getpid)
    result = own.map(lambda x: swallow(tmp_path / str(x), 1), range(6))
    wait_for(tmp_path / "0")
    assert result.cancel(grace_s=20)
    assert own[:].apply_sync(os.getpid) == pids


def test_a_coroutine_that_swallows_its_end_is_struck_the_next_time(own, tmp_path):
    async def stay(path):
        import asyncio

        path.write_text("x")
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    pids = own[:].apply_sync(os.getpid)
    future = own.submit(stay, tmp_path / "ran")
    wait_for(tmp_path / "ran")
    assert future.cancel(grace_s=20)
    assert own[:].apply_sync(os.getpid) == pids


def test_what_listens_to_no_interrupt_is_gone_when_cancel_returns(own, tmp_path):
    future = own.submit(swallow, tmp_path / "never", 1000)
    wait_for(tmp_path / "never")
    engine = next(e for e in own.status()["engines"] if e["tasks"])
    assert future.cancel(grace_s=1.2)
    assert future.status == "cancelled"
    told = state_of(own, engine["id"])
    assert told["incarnation"] == engine["incarnation"] + 1
    assert own[engine["id"]].apply_sync(os.getpid) != engine["pid"]


def test_a_cancel_under_way_while_the_controller_dies(own, tmp_path):
    future = own.submit(swallow, tmp_path / "never", 1000)
    wait_for(tmp_path / "never")
    threading.Timer(0.5, os.kill, (own.status()["controller_pid"], signal.SIGKILL)).start()
    assert future.cancel(grace_s=2)
    assert future.status == "cancelled"
    assert own.map(abs, range(-10, 0)).get(20) == list(range(10, 0, -1))


def test_ctrl_c_says_that_the_tasks_go_on(own):
    program = """
import os, signal, sys, threading, time
from enginery import Client

def interrupt():
    while not (future._waiting and future._waiting.condition._waiters):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

client = Client(sys.argv[1])
future = client.submit(time.sleep, 2)
threading.Thread(target=interrupt, daemon=True).start()
future.result()
"""
    path = str(Path(os.environ["ENGINERY_RUNTIME_DIR"]) / own.cluster_name / "client.json")
    done = subprocess.run([sys.executable, "-P", "-c", program, path], capture_output=True, text=True, timeout=30)
    assert done.stderr.rstrip().endswith(GOES_ON)
