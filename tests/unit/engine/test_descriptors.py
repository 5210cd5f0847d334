"""Catching descriptors 1 and 2. Each test is a process of its own: they are what pytest writes to."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PROLOGUE = """
import ctypes, os, subprocess, sys, threading
from enginery.engine.current import Current
from enginery.engine.descriptors import Descriptors, keep_logs
from enginery.engine.output import OutputBuffer, TaskStream, log_fds
from enginery.recorder import NO_TASK

current = Current()
current.task = 7
output = OutputBuffer(current, [7, 0])
sys.stdout = TaskStream(output, "stdout", 1)
keep_logs()
count = [0]
caught = output.descriptors = Descriptors(output, None, count)

def texts():
    if caught.ready(0) or caught.reading:
        caught.read()
    output.finish()
    return [(record.kind, record.data) for record in output.take()]

def check(found, expected):
    if found != expected:
        os.write(log_fds[2], repr(found).encode())
        os._exit(1)
"""


def run(program: str) -> str:
    """Run it after the prologue; return what its log had."""
    code = PROLOGUE + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_c_and_subprocesses_write_is_output_in_order():
    log = run("""
        libc = ctypes.CDLL(None)
        print("a")
        os.system("echo b")
        print("c")
        libc.puts(b"d")
        os.write(2, b"e\\n")
        subprocess.run(["echo", "f"])
        libc.printf(b"g")
        caught.flush()
        check(texts(), [("stdout", "a\\nb\\nc\\nd\\nf\\ng"), ("stderr", "e\\n")])
        check(current.outputs, 2)
    """)
    assert log == "b\nd\nf\ng"


def test_a_character_may_come_in_two_parts_and_ends_with_the_task():
    run("""
        os.write(1, b"\\xc3")
        caught.read()
        os.write(1, b"\\xa9 \\xc3")
        check(texts(), [("stdout", "\\xe9 \\ufffd")])
        os.write(1, b"\\xa9")
        check(texts(), [("stdout", "\\ufffd")])
    """)


def test_without_a_task_it_goes_to_the_log_and_to_who_asked():
    log = run("""
        current.task = NO_TASK
        os.write(1, b"nobody's")
        check(texts(), [])
        heard = []
        output.stray = lambda stream, text: heard.append((stream, text))
        os.write(1, b" again")
        check(texts(), [])
        check(heard, [("stdout", " again")])
        sys.stdout.write("python's")
        check(heard, [("stdout", " again"), ("stdout", "python's")])
        output.stray = None
        print(" and python's", end="")
    """)
    assert log == "nobody's again and python's"


def test_a_torrent_is_read_in_portions_and_the_end_of_a_task_waits_for_none():
    run("""
        torrent = subprocess.Popen(["yes"])
        while count[0] < 3:
            caught.read()
        texts()
        torrent.kill()
        torrent.wait()
    """)


def test_whoever_reads_is_waited_for():
    run("""
        def read(hold, entered):
            add = output.add
            def slow(stream, text):
                entered.set()
                hold.wait(10)
                add(stream, text)
            output.add = slow
            caught.read()

        hold, entered = threading.Event(), threading.Event()
        os.write(1, b"text")
        thread = threading.Thread(target=read, args=(hold, entered))
        thread.start()
        entered.wait(10)
        check(bool(caught.ready(0)), False)
        check(caught.reading, True)
        threading.Timer(0.05, hold.set).start()
        check(texts(), [("stdout", "text")])
        thread.join()
        check(caught.reading, False)
    """)


def test_a_copy_leaves_the_reading_to_the_engine():
    run("""
        if os.fork() == 0:
            output.detached = True
            caught.forget()
            print("copy", flush=True)
            caught.read()
            os._exit(0)
        check(os.wait()[1], 0)
        check(texts(), [("stdout", "copy\\n")])
    """)


def test_a_log_that_nobody_reads_stops_no_task():
    run("""
        read_end, log_fds[1] = os.pipe()
        text = "x" * 50_000
        for _ in range(5):
            os.write(1, text.encode())
            check(texts(), [("stdout", text)])
        check(50_000 <= len(os.read(read_end, 1 << 20)) <= 1 << 16, True)
        os.write(1, b"read again")
        texts()
        check(os.read(read_end, 100), b"read again")
    """)
