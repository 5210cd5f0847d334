"""An engine's own pipes: left alone while it reads, read in its place when they are full and it does not."""

from __future__ import annotations

import os

import pytest
from enginery.nanny.relief import Pipes


class Bench:
    """Pipes, and the engine's end of the first one."""

    def __init__(self, folder):
        self.kept = b""
        self.count = 0
        self.pipes = Pipes(folder / "0.1.rec", self.keep, lambda: self.count)
        self.engine = os.open(self.pipes.paths[0], os.O_RDWR | os.O_NONBLOCK)

    def keep(self, data):
        self.kept += data

    def fill(self):
        written = 0
        try:
            while True:
                written += os.write(self.engine, b"x" * 4096)
        except BlockingIOError:
            return written


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    os.close(bench.engine)
    bench.pipes.close()
    assert not list(tmp_path.iterdir())


def test_what_is_not_full_is_left_to_the_engine(bench):
    os.write(bench.engine, b"a line\n")
    for _ in range(5):
        bench.pipes.look()
    assert not bench.pipes.relieving
    assert os.read(bench.engine, 100) == b"a line\n"


def test_a_full_pipe_is_read_if_the_engine_does_not(bench):
    written = bench.fill()
    bench.pipes.look()
    assert not bench.kept
    bench.pipes.look()
    assert bench.pipes.relieving
    assert len(bench.kept) == written
    os.write(bench.engine, b"more")
    bench.pipes.read()
    assert bench.kept.endswith(b"more")


def test_a_full_pipe_is_left_to_an_engine_that_reads(bench):
    bench.fill()
    for _ in range(5):
        bench.pipes.look()
        bench.count += 1
    assert not bench.pipes.relieving
    assert not bench.kept


@pytest.mark.parametrize("notice", ["look", "read"])
def test_relief_ends_when_the_engine_reads_again(bench, notice):
    bench.fill()
    bench.pipes.look()
    bench.pipes.look()
    bench.count += 1
    kept = len(bench.kept)
    os.write(bench.engine, b"for the engine")
    getattr(bench.pipes, notice)()
    assert not bench.pipes.relieving
    assert len(bench.kept) == kept
    bench.pipes.look()
    assert not bench.pipes.relieving


def test_what_is_left_is_drained(bench):
    os.write(bench.engine, b"last words")
    left = []
    bench.pipes.drain(left.append)
    assert left == [b"last words"]


def test_pipes_that_cannot_be_made_leave_nothing(tmp_path):
    (tmp_path / "0.1.err").touch()
    with pytest.raises(OSError):
        Pipes(tmp_path / "0.1.rec", lambda data: None, lambda: 0)
    assert not (tmp_path / "0.1.out").exists()
