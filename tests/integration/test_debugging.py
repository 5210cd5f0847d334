"""Debuggers and subshells of front ends, on engines that work: who is stopped, what is seen, and who may connect."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from enginery.errors import RemoteError

from front_ends import WAIT_S, FrontEnd, attached, hang
from helpers import wait_until


@pytest.fixture(scope="module")
def engine(client):
    view = client[0]
    yield view
    view.unbind_kernel()


class Debugger:
    """The debugger of a front end, as JupyterLab uses it."""

    def __init__(self, front):
        self.front = front
        self.numbers = itertools.count(1)
        self.ask("initialize", clientID="t", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        self.ask("attach")
        self.ask("configurationDone")

    def ask(self, name, **arguments):
        request = {"type": "request", "seq": next(self.numbers), "command": name, "arguments": arguments}
        reply = self.front.ask("debug_request", **request)
        assert reply["success"], reply
        return reply.get("body", {})

    def break_at(self, path, *lines):
        breakpoints = [{"line": line} for line in lines]
        self.ask("setBreakpoints", source={"path": str(path)}, breakpoints=breakpoints, sourceModified=False)

    def stopped(self):
        """Return the thread and the frame that it is stopped in."""
        event = self.front.until("debug_event", lambda content: content["event"] == "stopped")
        thread = event["body"]["threadId"]
        return thread, self.ask("stackTrace", threadId=thread)["stackFrames"][0]

    def variables(self, frame):
        (scope,) = [s for s in self.ask("scopes", frameId=frame["id"])["scopes"] if s["name"] == "Locals"]
        found = self.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        return {variable["name"]: variable["value"] for variable in found}


@pytest.fixture(scope="module")
def front(engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "earlier.py").write_text("def double(x):\n    y = 2 * x\n    return y\n")
    engine.execute(f"import sys; sys.path.insert(0, {str(folder)!r}); import earlier", block=True)
    with attached(engine) as front:
        front.earlier = folder / "earlier.py"
        front.debugger = Debugger(front)
        yield front
        front.debugger.ask("disconnect", restart=False, terminateDebuggee=False)


def double():
    import earlier

    return earlier.double(21)


def test_a_module_that_was_imported_before_anybody_attached(engine, front):
    debugger = front.debugger
    debugger.break_at(front.earlier, 3)
    result = engine.apply_async(double)
    thread, frame = debugger.stopped()
    try:
        assert (frame["name"], frame["line"], debugger.variables(frame)["y"]) == ("double", 3, "42")
        assert not result.done()
    finally:
        debugger.break_at(front.earlier)
        debugger.ask("continue", threadId=thread)
    assert result.get(WAIT_S) == 42


def of_a_client(x):
    y = x + 1
    return y * 2


def test_a_function_that_was_sent_with_its_task(engine, front):
    debugger, line = front.debugger, of_a_client.__code__.co_firstlineno + 2
    debugger.break_at(__file__, line)
    result = engine.apply_async(of_a_client, 1)
    thread, frame = debugger.stopped()
    try:
        assert (frame["name"], frame["line"], debugger.variables(frame)["y"]) == ("of_a_client", line, "2")
    finally:
        debugger.break_at(__file__)
        debugger.ask("continue", threadId=thread)
    assert result.get(WAIT_S) == 4


def test_a_cell_of_a_front_end(engine, front):
    debugger, code = front.debugger, "before = 1\nafter = before + 1\nafter"
    path = debugger.ask("dumpCell", code=code)["sourcePath"]
    debugger.break_at(path, 3)
    number = front.client.execute(code)
    thread, frame = debugger.stopped()
    try:
        assert frame["line"] == 3
    finally:
        debugger.break_at(path)
        debugger.ask("continue", threadId=thread)
    while (reply := front.client.get_shell_msg(timeout=WAIT_S))["parent_header"]["msg_id"] != number:
        pass
    assert reply["content"]["status"] == "ok"
    assert engine["after"] == 2


def test_the_engine_answers_while_its_task_is_stopped(engine, front, client):
    debugger = front.debugger
    debugger.break_at(front.earlier, 2)
    result = engine.apply_async(double)
    thread, _ = debugger.stopped()
    try:
        path = engine.bind_kernel()  # the control thread is asked
        assert Path(path).exists()
        later = engine.apply_async(abs, -1)
        assert client.cancel(later), "what has not started can be withdrawn"
    finally:
        debugger.break_at(front.earlier)
        debugger.ask("continue", threadId=thread)
    assert result.get(WAIT_S) == 42


def test_nobody_else_may_connect_to_the_debugger(engine, front):
    """The adapter listens on ports of the loopback interface, and looks whose its connections are."""
    pid = engine.apply_sync(os.getpid)
    assert psutil.Process(pid).net_connections("tcp"), "the engine debugs"
    adapters = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "debugadapter.py" in " ".join(process.info["cmdline"] or ())
    ]
    ports = [c.laddr for adapter in adapters for c in adapter.net_connections("tcp") if c.status == "LISTEN"]
    assert ports
    assert all(address.ip == "127.0.0.1" for address in ports)
    if os.getuid() != 0:
        return  # only root can be somebody else
    for address in ports:
        code = (
            f"import os, socket; os.setuid(65534); s = socket.socket(); s.connect({tuple(address)}); print(s.recv(1))"
        )
        tried = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        assert tried.stdout == "b''\n" or "reset" in tried.stderr, tried


# ------------------------------------------------------------------------------------------------------- subshells


def test_a_subshell_sees_the_variables_while_a_task_hangs(client):
    """Attached while the task runs: what the subshell prints is for its front end, and not for the task's client."""
    view = client[1]
    view["seen"] = "by a subshell"
    result = view.apply_async(hang)
    wait_until(lambda: "hangs" in result.stdout, "the task runs")
    front = FrontEnd(view.bind_kernel(), is_busy=True)
    try:
        subshell = front.ask("create_subshell_request")["subshell_id"]
        request = {"code": "print(seen)", "silent": False, "store_history": False, "user_expressions": {}}
        message = front.client.session.msg("execute_request", request | {"allow_stdin": False, "stop_on_error": True})
        message["header"]["subshell_id"] = subshell
        wait_until(lambda: iopub_is_connected(front), "the front end hears")
        front.client.shell_channel.send(message)
        assert front.until("stream")["text"] == "by a subshell\n"
        reply = front.client.get_shell_msg(timeout=WAIT_S)
        assert reply["content"]["status"] == "ok"
        assert not result.done()
        front.ask("interrupt_request")
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            result.get(WAIT_S)
        assert result.stdout == "hangs\n"
    finally:
        front.client.stop_channels()
        view.unbind_kernel()


def iopub_is_connected(front):
    front.ask("kernel_info_request")
    return front.client.iopub_channel.msg_ready()


# ------------------------------------------------------------------------------------------- what cells start


def test_a_thread_of_a_cell_prints_to_its_front_end_while_tasks_run(client):
    view = client[2]
    with attached(view) as front:
        front.run(
            "import threading, time\n"
            "def later():\n"
            "    go.wait(60)\n"
            "    print('of the thread')\n"
            "go = threading.Event()\n"
            "thread = threading.Thread(target=later)\n"
            "thread.start()"
        )
        result = view.execute("go.set(); thread.join()", silent=False)
        result.get(WAIT_S)
        assert front.until("stream")["text"] == "of the thread\n"
        assert result.stdout == ""
    view.unbind_kernel()


def test_a_cell_that_awaits_busy_code_can_be_interrupted(client):
    view = client[2]
    with attached(view) as front:
        code = "async def busy():\n    print('begun')\n    while True:\n        pass\nawait busy()"
        number = front.client.execute(code, stop_on_error=False)
        front.until("stream", lambda content: "begun" in content["text"])
        front.ask("interrupt_request")
        while (reply := front.client.get_shell_msg(timeout=WAIT_S))["parent_header"]["msg_id"] != number:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert front.run("'goes on'")[0] == "ok"
        assert view.apply_sync(abs, -1) == 1
    view.unbind_kernel()


async def wait_for_long(seconds):
    import asyncio

    print("waits", flush=True)
    await asyncio.sleep(seconds)
    return "undisturbed"


def test_an_interrupt_leaves_coroutine_tasks_alone(client):
    view = client[2]
    with attached(view) as front:
        result = view.apply_async(wait_for_long, 4)
        wait_until(lambda: "waits" in result.stdout, "the coroutine waits")
        front.ask("interrupt_request")  # nothing runs
        code = "import asyncio; print('begun'); await asyncio.sleep(600)"
        number = front.client.execute(code, stop_on_error=False)
        front.until("stream", lambda content: "begun" in content["text"])
        front.ask("interrupt_request")
        while (reply := front.client.get_shell_msg(timeout=WAIT_S))["parent_header"]["msg_id"] != number:
            pass
        assert reply["content"]["ename"] == "CancelledError", "as in any Jupyter kernel"
        assert result.get(WAIT_S) == "undisturbed"
    view.unbind_kernel()


def test_a_storm_of_interrupts_costs_no_more_than_the_cell(client):
    """What interrupts find depends on chance; that the engine goes on, and starts each task clean, does not."""
    view = client[2]
    with attached(view) as front:
        for number in range(20):
            sent = front.client.execute("1 + 1", stop_on_error=False)
            for _ in range(3):
                front.ask("interrupt_request")
            while (reply := front.client.get_shell_msg(timeout=WAIT_S))["parent_header"]["msg_id"] != sent:
                pass
            assert reply["content"].get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
            assert view.apply_sync(abs, -number) == number
        assert front.run("'goes on'")[0] == "ok"
    view.unbind_kernel()
