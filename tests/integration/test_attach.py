"""Jupyter front ends on engines: real clients of Jupyter's protocol, on engines that idle, work or hang."""

from __future__ import annotations

import os
import pty
import re
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from enginery.errors import ClusterError, RemoteError

from front_ends import WAIT_S, FrontEnd, attached, hang
from helpers import command, wait_until


@pytest.fixture(scope="module")
def engine(client):
    view = client[0]
    yield view
    view.unbind_kernel()


@pytest.fixture(scope="module")
def front(engine):
    with attached(engine) as front_end:
        yield front_end


def process(view):
    return psutil.Process(view.apply_sync(os.getpid))


# ------------------------------------------------------------------------------------------------------- variables


def test_a_front_end_shares_the_variables_of_the_tasks(engine, front):
    engine["x"] = 41
    status, shown = front.run("x += 1; print('it is', x); x")
    assert (status, shown) == ("ok", {"stdout": "it is 42\n", "execute_result": {"text/plain": "42"}})
    assert engine["x"] == 42


def test_two_front_ends_at_once(engine, front):
    with attached(engine) as second:
        front.run("shared = 'of both'")
        assert second.run("shared")[1]["execute_result"] == {"text/plain": "'of both'"}


def test_what_a_task_shows_goes_to_its_client_and_not_to_front_ends(engine, front):
    result = engine.apply_async(print, "for the client")
    result.get(WAIT_S)
    assert result.stdout == "for the client\n"
    assert front.run("print('for the front end')")[1] == {"stdout": "for the front end\n"}


def test_output_of_subprocesses_of_a_cell(front):
    assert front.run("!echo from a shell")[1]["stdout"].strip() == "from a shell"
    assert front.run("import os; os.system('echo from C'); None")[1]["stdout"] == "from C\n"


def test_tracebacks_figures_and_await(front):
    status, shown = front.run("1 / 0")
    assert (status, shown["error"]) == ("error", "ZeroDivisionError")
    assert front.run("import asyncio; await asyncio.sleep(0.01); 'awaited'")[1]["execute_result"] == {
        "text/plain": "'awaited'"
    }
    _, shown = front.run("import matplotlib.pyplot as plt; plt.plot([1, 2]);")
    assert "image/png" in shown["display_data"]


# ------------------------------------------------------------------------------------------------------- requests


def test_completion_inspection_history_and_completeness(engine, front):
    engine["a_long_name"] = [1, 2]
    front.run("'for the history'")
    assert "a_long_name" in front.shell("complete", code="a_long")["matches"]
    assert "list" in front.shell("inspect", code="a_long_name", cursor_pos=3)["data"]["text/plain"]
    history = front.shell("history", hist_access_type="tail", n=1)["history"]
    assert [line[2] for line in history] == ["'for the history'"]
    found = front.shell("history", hist_access_type="search", pattern="*the hist*", n=5, raw=True)["history"]
    assert found[-1][2] == "'for the history'"
    assert front.shell("is_complete", code="for i in x:")["status"] == "incomplete"
    assert front.shell("kernel_info")["language_info"]["name"] == "python"
    assert front.shell("comm_info")["comms"] == {}


def test_input_asks_the_front_end(engine, front):
    hook = lambda message: front.client.input(f"Ada ({message['content']['prompt']})")
    status, _ = front.run("name = input('who?')", allow_stdin=True, stdin_hook=hook)
    assert (status, engine["name"]) == ("ok", "Ada (who?)")
    with pytest.raises(EOFError, match="cluster console"):
        engine.apply_sync(input)


# ------------------------------------------------------------------------------------------------------- interrupts


def test_an_interrupt_stops_the_cell_and_nothing_else(engine, front):
    number = front.client.execute("print('begun'); import time; time.sleep(600)", stop_on_error=False)
    front.until("stream", lambda content: "begun" in content["text"])
    assert front.ask("interrupt_request")["status"] == "ok"
    reply = front.client.get_shell_msg(timeout=WAIT_S)
    assert reply["parent_header"]["msg_id"] == number
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert front.run("'goes on'")[0] == "ok"
    front.ask("interrupt_request")  # of nothing
    assert engine.apply_sync(abs, -1) == 1


def test_an_interrupt_of_a_front_end_stops_the_running_task(engine, front):
    result = engine.apply_async(hang)
    wait_until(lambda: "hangs" in result.stdout, "the task runs")
    front.ask("interrupt_request")
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        result.get(WAIT_S)
    assert engine.apply_sync(abs, -1) == 1


# ------------------------------------------------------------------------------------------------------- busy engines


def test_attach_to_an_engine_that_is_busy(client):
    view = client[1]
    result = view.apply_async(hang)
    wait_until(lambda: "hangs" in result.stdout, "the task runs")
    front = FrontEnd(view.bind_kernel(), is_busy=True)
    try:
        assert front.ask("kernel_info_request")["status"] == "ok"
        waiting = front.client.execute("'after the task'")
        front.ask("interrupt_request")
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            result.get(WAIT_S)
        while (reply := front.client.get_shell_msg(timeout=WAIT_S))["parent_header"]["msg_id"] != waiting:
            pass
        assert reply["content"]["status"] == "ok"
    finally:
        front.client.stop_channels()
        view.unbind_kernel()


def test_cells_get_their_turn_while_many_tasks_come(engine, front):
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            for result in [engine.apply_async(time.sleep, 0.0002) for _ in range(200)]:
                result.get(WAIT_S)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for number in range(5):
            assert front.run(f"{number} + 1")[1]["execute_result"] == {"text/plain": str(number + 1)}
    finally:
        stop.set()
        thread.join(WAIT_S)


# ------------------------------------------------------------------------------------------------------- debugger


def test_a_breakpoint_in_a_function_that_a_task_calls(engine, front, tmp_path):
    module = tmp_path / "stepwise.py"
    module.write_text("def add(a, b):\n    total = a + b\n    doubled = 2 * total\n    return doubled\n")
    engine.execute(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import stepwise", block=True)
    calls = iter(range(1, 1000))

    def debug(name, **arguments):
        reply = front.ask("debug_request", type="request", seq=next(calls), command=name, arguments=arguments)
        assert reply["success"], reply
        return reply.get("body", {})

    debug("initialize", clientID="t", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
    debug("attach")
    debug("setBreakpoints", source={"path": str(module)}, breakpoints=[{"line": 3}], sourceModified=False)
    debug("configurationDone")
    result = engine.apply_async(call_add)
    try:
        thread = front.until("debug_event", lambda content: content["event"] == "stopped")["body"]["threadId"]
        frame = debug("stackTrace", threadId=thread)["stackFrames"][0]
        assert (frame["name"], frame["line"]) == ("add", 3)
        assert variables(debug, frame)["total"] == "5"
        debug("next", threadId=thread)
        front.until("debug_event", lambda content: content["event"] == "stopped")
        frame = debug("stackTrace", threadId=thread)["stackFrames"][0]
        assert (frame["line"], variables(debug, frame)["doubled"]) == (4, "10")
        assert not result.done()
    finally:
        debug("setBreakpoints", source={"path": str(module)}, breakpoints=[], sourceModified=False)
        debug("continue", threadId=thread)
    assert result.get(WAIT_S) == 10
    debug("disconnect", restart=False, terminateDebuggee=False)


def variables(debug, frame):
    (scope,) = [s for s in debug("scopes", frameId=frame["id"])["scopes"] if s["name"] == "Locals"]
    found = debug("variables", variablesReference=scope["variablesReference"])["variables"]
    return {variable["name"]: variable["value"] for variable in found}


def call_add():
    import stepwise

    return stepwise.add(2, 3)


# ------------------------------------------------------------------------------------------------------- coming, going


def test_nothing_is_there_until_somebody_attaches_and_nothing_afterwards(client):
    view = client[2]
    view.execute("import asyncio; await asyncio.sleep(0)", block=True)  # its event loop stays
    engine = process(view)
    before = engine.num_threads(), engine.num_fds()
    for _ in range(3):
        path = Path(view.bind_kernel())
        assert str(path) == view.bind_kernel()
        assert engine.num_threads() > before[0]
        assert not engine.net_connections("tcp"), "an attached engine has no port"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o777 == 0o700
        view.unbind_kernel()
        assert not list(path.parent.glob(f"{path.stem}*"))
    wait_until(lambda: (engine.num_threads(), engine.num_fds()) == before, "threads and descriptors are as before")


def test_a_shutdown_by_a_front_end_detaches(client):
    view = client[2]
    view["kept"] = "all"
    path = view.bind_kernel()
    front = FrontEnd(path)
    try:
        assert front.ask("shutdown_request", restart=False)["status"] == "ok"
    finally:
        front.client.stop_channels()
    wait_until(lambda: not Path(path).exists(), "the connection file is gone")
    assert view["kept"] == "all"
    with attached(view) as again:
        assert again.run("kept")[1]["execute_result"] == {"text/plain": "'all'"}
    view.unbind_kernel()


def test_an_engine_that_dies_leaves_no_kernel(client):
    view = client[2]
    path = Path(view.bind_kernel())
    client.restart([2])
    assert not list(path.parent.glob(f"{path.stem}*"))
    with attached(view) as front:
        assert front.run("1 + 1")[0] == "ok"
    view.unbind_kernel()


# ------------------------------------------------------------------------------------------------------- commands


def test_the_attach_command(cluster, client):
    shown = command("attach", "1", "--name", cluster.name)
    assert shown.returncode == 0, shown.stderr
    front = FrontEnd(shown.stdout.strip())
    try:
        client[1]["y"] = "by a task"
        assert front.run("y")[1]["execute_result"] == {"text/plain": "'by a task'"}
    finally:
        front.client.stop_channels()
    assert command("attach", "1", "--detach", "--name", cluster.name).stdout == "engine 1 is detached\n"
    assert command("attach", "1", "--detach", "--name", cluster.name).stdout == "nothing was attached to engine 1\n"
    refused = command("attach", "77", "--name", cluster.name)
    assert (refused.returncode, refused.stderr) == (1, "there is no engine 77; there are: 0, 1, 2\n")


def test_a_console_on_an_engine(cluster, client):
    """`cluster console`, typed into as people do."""
    client[1]["z"] = 20
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = [sys.executable, "-P", "-m", "enginery", "console", "1", "--name", cluster.name]
        os.environ.update(TERM="xterm", JUPYTER_CONFIG_DIR="/nonexistent", PROMPT_TOOLKIT_NO_CPR="1")
        os.execv(sys.executable, arguments)
    screen = Screen(terminal)
    try:
        screen.wait("In [")
        screen.type("z = 2 * z + 2; print('now', z)\r")
        screen.wait("now 42")
        wait_until(lambda: client[1]["z"] == 42, "the task sees what was typed")
        wait_until(lambda: asks_to_exit(screen), "the console asks whether to exit", 30)
        screen.type("y\r")
        assert wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), "the console has ended")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.close(terminal)
    assert client[1]["z"] == 42, "the engine is still there"
    client[1].unbind_kernel()


def asks_to_exit(screen):
    """Type Ctrl-D, which is lost while the console shows what came of the last cell."""
    screen.type("\x04")
    with suppress(AssertionError):
        return wait_until(lambda: "exit" in screen.read(), "the question", 2)


class Screen:
    """What a program in a terminal has written."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.text = ""
        os.set_blocking(terminal, False)

    def read(self):
        with suppress(BlockingIOError, OSError):
            self.text += os.read(self.terminal, 1 << 16).decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[@-~]|\x1b[=>78]|\x1b\][^\x07]*\x07", "", self.text)

    def wait(self, text):
        """Wait until something is written after what was waited for before."""
        wait_until(lambda: text in self.read(), f"{text!r} in {self.read()[-1000:]!r}", 30)
        self.text = ""

    def type(self, text):
        os.write(self.terminal, text.encode())


def test_an_engine_of_another_host_is_named_with_its_host(client, monkeypatch):
    from enginery.client.views import consoles

    answer = {"connection_file": "/somewhere/k.json", "host": "far-away"}
    with pytest.raises(ClusterError, match="engine 3 runs on host far-away"):
        consoles.connection_file(3, answer)
    monkeypatch.setattr(consoles.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="pip install jupyter-console"):
        client.connect_console(0)
