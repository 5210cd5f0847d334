"""Engines' output: into the log, and the last of it kept."""

import os
from pathlib import Path

from enginery.nanny import output as o


def make(tmp_path):
    return o.EngineOutput(tmp_path / "engine-0.log")


def test_output_goes_to_the_log_and_the_last_lines_are_kept(tmp_path):
    out = make(tmp_path)
    text = "".join(f"line {i}\n" for i in range(100))
    os.write(out.write_end, text.encode())
    os.close(out.write_end)
    out.read()
    assert not out.is_open
    assert (tmp_path / "engine-0.log").read_text() == text
    assert out.last().splitlines() == [f"line {i}" for i in range(80, 100)]


def crash_of(tmp_path, *parts):
    """Return what is quoted of output that comes in these parts."""
    out = make(tmp_path)
    for part in parts:
        os.write(out.write_end, part.encode())
        out.read()
    os.close(out.write_end)
    out.read()
    return out.last().splitlines()


def stack(name, *calls):
    return "\n".join([f"{name} 0x00007fc8 (most recent call first):", *(f'  File "{call}"' for call in calls)]) + "\n\n"


HEADER = "Fatal Python error: Segmentation fault\n\n"
CALLER = Path(o.__file__).parents[1] / "engine" / "runner.py"
EXTENSIONS = "Extension modules: " + ", ".join(f"package.module{i}" for i in range(1000)) + " (total: 1000)\n"


def test_of_a_crash_the_stack_of_the_guilty_thread_is_kept(tmp_path):
    before = "".join(f"before {i}\n" for i in range(50))
    others = "".join(stack("Thread", "threading.py", "control.py") for _ in range(300))
    guilty = stack("Current thread", "ctypes.py", "script.py", CALLER, "app.py", "zygote.py")
    account = [
        *(f"before {i}" for i in range(45, 50)),
        "Fatal Python error: Segmentation fault",
        "Current thread 0x00007fc8 (most recent call first):",
        '  File "ctypes.py"',
        '  File "script.py"',
    ]
    assert crash_of(tmp_path, before + HEADER + others + guilty + EXTENSIONS) == account
    assert crash_of(tmp_path, before + HEADER[:9], HEADER[9:], others, guilty, EXTENSIONS) == account


def test_a_crash_in_the_engine_itself_is_kept_whole(tmp_path):
    last = crash_of(tmp_path, HEADER + stack("Current thread", CALLER, "app.py"))
    assert last[-2:] == [f'  File "{CALLER}"', '  File "app.py"']


def test_of_a_deep_stack_both_ends_are_kept(tmp_path):
    last = crash_of(tmp_path, HEADER + stack("Current thread", *range(100)))
    assert len(last) == o.CRASH_LINES + 1
    assert last[2] == '  File "0"'
    assert last[-o.OUTERMOST - 1 :] == ["  ... 62 more calls", *(f'  File "{i}"' for i in range(90, 100))]


def test_a_crash_of_no_thread_of_pythons_is_kept_from_its_beginning(tmp_path):
    last = crash_of(tmp_path, HEADER + stack("Thread", *range(100)))
    assert last[0] == HEADER.strip()
    assert len(last) == o.CRASH_LINES


def test_the_last_of_several_crashes_is_kept(tmp_path):
    last = crash_of(tmp_path, HEADER + stack("Current thread", "child.py"), HEADER + stack("Current thread", "own.py"))
    assert last[-1] == '  File "own.py"'


def test_what_only_looked_like_a_crash_is_forgotten(tmp_path):
    out = make(tmp_path)
    os.write(out.write_end, HEADER.encode())
    out.read()
    for _ in range(10):
        os.write(out.write_end, b"x" * 9999 + b"\n")
        out.read()
    os.write(out.write_end, b"the end\n")
    os.close(out.write_end)
    out.read()
    assert out.last().endswith("the end")
    assert len(out.last()) <= o.LAST_BYTES
    assert not out._crash


def test_nothing_there_yet(tmp_path):
    out = make(tmp_path)
    out.read()
    assert out.is_open
    assert out.last() == ""
    os.close(out.write_end)
    out.close()
    assert not (tmp_path / "engine-0.log").exists()


def test_bytes_that_are_no_text(tmp_path):
    out = make(tmp_path)
    os.write(out.write_end, b"\xff\xfe ok\n")
    os.close(out.write_end)
    out.read()
    assert out.last().endswith("ok")


def test_a_log_that_cannot_be_written_costs_only_the_log(tmp_path):
    out = o.EngineOutput(tmp_path / "missing" / "engine-0.log")
    os.write(out.write_end, b"hello\n")
    os.close(out.write_end)
    out.read()
    assert out.last() == "hello"


def test_a_long_log_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(o, "LOG_MAX", 100)
    out = make(tmp_path)
    for i in range(3):
        os.write(out.write_end, f"{i}".encode() * 101)
        out.read()
    os.write(out.write_end, b"end")
    os.close(out.write_end)
    out.read()
    assert (tmp_path / "engine-0.old").read_text() == "2" * 101
    assert (tmp_path / "engine-0.log").read_text() == "end"


def test_a_torrent_is_read_in_portions(tmp_path):
    out = make(tmp_path)
    os.write(out.write_end, b"x" * 1000)
    out.read(reads=1)
    assert out.is_open
    assert len(out.last()) == 1000
    os.close(out.write_end)
    out.close()


def test_what_a_dead_engine_had_not_read_is_quoted_before_its_crash(tmp_path):
    out = make(tmp_path)
    os.write(out.write_end, ("before\n" + HEADER + stack("Current thread", "script.py")).encode())
    os.close(out.write_end)
    out.read()
    out.add_unread(b"assertion failed\n")
    assert out.last().splitlines()[:3] == ["before", "assertion failed", HEADER.strip()]
    assert out.last().endswith('File "script.py"')
    assert (tmp_path / "engine-0.log").read_text().endswith("assertion failed\n")


def test_what_a_dead_engine_had_not_read_is_quoted_last(tmp_path):
    out = make(tmp_path)
    os.write(out.write_end, b"read\n")
    os.close(out.write_end)
    out.read()
    out.add_unread(b"unread\n")
    assert out.last().splitlines() == ["read", "unread"]
