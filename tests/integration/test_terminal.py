"""`%px` in a terminal's IPython, and output of results in scripts."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time

import pytest

import helpers

START = """
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(colors="nocolor")
from enginery import Client
client = Client()
shell.user_ns["client"] = client
run = shell.run_cell
"""


def program(code, timeout_s=60.0):
    """Run a program; return what it printed, and to stderr."""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, check=True, env=os.environ
    )
    return process.stdout, process.stderr


def test_lines_as_they_come_in_a_terminal(cluster, client):
    client.restart()
    out, err = program(
        START
        + r"""
run("%px print('hi'); 6 * 7")
run("%%px -t 0\nimport sys\nprint('bad', file=sys.stderr)\nprint('half', end='')")
run("%px -t 1 1 / 0")
run("%autopx")
run("here = 'engine'\nprint(here)")
run("%autopx")
run("print('here' in globals())")
run("%px --no-stream print('end')")
"""
    )
    lines = out.splitlines()
    assert sorted(lines[:6]) == [*(f"Out[{i}:1]: 42" for i in range(3)), *(f"[stdout:{i}] hi" for i in range(3))]
    assert "[stdout:0] half" in lines
    assert "[stderr:0] bad" in err.splitlines()
    assert "[engine 1] ZeroDivisionError: division by zero" in out
    assert all(f"[stdout:{i}] engine" in lines for i in range(3))
    assert "False" in lines
    assert lines[-1] == "[stdout:0-2] end"
    assert "\x1b" not in out + err
    assert "\r" not in out + err


def test_ctrl_c_in_a_terminal(cluster):
    out, _ = program(
        START
        + r"""
import os, signal, threading, time
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
run("%px import time; print('sleeps', flush=True); time.sleep(60)")
print("took", time.monotonic() - began)
run("%px print('next')")
"""
    )
    assert "KeyboardInterrupt: stopped on the engines" in out
    assert float(re.search(r"took ([\d.]+)", out)[1]) < 3.0
    assert sorted(line for line in out.splitlines() if "next" in line) == [f"[stdout:{i}] next" for i in range(3)]


def test_output_of_results_in_a_script(cluster):
    out, err = program(r"""
import sys, time
from enginery import Client
client = Client()
code = "import time\nfor i in range(3):\n    print('step', i)\n    time.sleep(0.1)\ni"
result = client[:].execute(code, silent=False)
with result.stream_output():
    result.wait()
print("---")
result.display_outputs()
print("---")
result.display_outputs("engine")
try:
    result.display_outputs("colour")
except ValueError as error:
    print(error)
print(result.wait_interactive(), "IPython" in sys.modules, "ipykernel" in sys.modules)
""")
    streamed, by_type, by_engine = out.split("---\n")
    assert sorted(line for line in streamed.splitlines() if "step" in line) == [
        f"[stdout:{engine}] step {i}" for engine in range(3) for i in range(3)
    ]
    assert by_type.startswith("[stdout:0-2]\nstep 0\nstep 1\nstep 2\nOut[0")
    assert by_engine.startswith("[stdout:0]\nstep 0\nstep 1\nstep 2\nOut[0:")
    assert "groupby is one of type, engine, order, not 'colour'" in by_engine
    assert by_engine.endswith("True False False\n")
    assert not err


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_progress_bar_on_a_terminal(cluster):
    code = """
import time
from enginery import Client
client = Client()
print(client.map(time.sleep, [0.2] * 9).wait_interactive(interval=0.1))
"""
    main, other = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=other, env=os.environ)
    os.close(other)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            part = os.read(main, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.communicate(timeout=10)[0] == b"True\n"
    states = [int(done) for done in re.findall(rb"(\d+)/9 items", shown)]
    assert states[-1] == 9
    assert states == sorted(states)
    helpers.wait_until(lambda: process.poll() == 0, "the program has ended")
