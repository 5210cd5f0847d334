"""Engines' output: into the log, and the last of it kept."""

import os

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


def test_of_a_crash_the_beginning_is_kept(tmp_path):
    out = make(tmp_path)
    before = [f"before {i}" for i in range(50)]
    account = ["Fatal Python error: Segmentation fault", *(f"  File {i}" for i in range(60))]
    os.write(out.write_end, "\n".join([*before, *account]).encode())
    os.close(out.write_end)
    out.read()
    assert out.last().splitlines() == before[-5:] + account[:15]


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
