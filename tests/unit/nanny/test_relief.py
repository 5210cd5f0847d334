"""An engine's own pipes: left alone while it reads, read in its place when they are full and it does not."""

from __future__ import annotations

import os

import pytest
from enginery.nanny.relief import LOOK_S, RELIEF_S, Pipes


class Bench:
    """Pipes, and the engine's end of the first one."""

    def __init__(self, folder):
        self.kept = b""
        self.count = 0
        self.now = 100.0
        self.pipes = Pipes(folder / "0.1.rec", self.keep, lambda: self.count)
        self.engine = os.open(self.pipes.paths[0], os.O_RDWR | os.O_NONBLOCK)

    def keep(self, data):
        self.kept += data

    def look(self, times=1):
        for _ in range(times):
            self.now += self.pipes.look_s
            self.pipes.look(self.now)

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
    bench.look(5)
    assert not bench.kept
    assert os.read(bench.engine, 100) == b"a line\n"


def test_a_full_pipe_is_emptied_if_the_engine_does_not_read(bench):
    written = bench.fill()
    bench.look()
    assert not bench.kept
    assert bench.pipes.look_s == LOOK_S
    bench.look()
    assert len(bench.kept) == written
    assert bench.pipes.look_s == RELIEF_S
    bench.fill()
    bench.look()
    assert len(bench.kept) == 2 * written
    os.write(bench.engine, b"for the engine")
    bench.look(200)
    assert len(bench.kept) == 2 * written
    assert bench.pipes.look_s == LOOK_S
    bench.fill()
    bench.look()
    assert len(bench.kept) == 2 * written


def test_a_full_pipe_is_left_to_an_engine_that_reads(bench):
    bench.fill()
    for _ in range(5):
        bench.look()
        bench.count += 1
    assert bench.pipes.look_s == LOOK_S
    assert not bench.kept


def test_relief_ends_when_the_engine_reads_again(bench):
    bench.fill()
    bench.look(2)
    kept = len(bench.kept)
    bench.count += 1
    bench.fill()
    bench.look()
    assert bench.pipes.look_s == LOOK_S
    assert len(bench.kept) == kept


def test_looks_that_come_too_soon_do_not_count(bench):
    bench.fill()
    for _ in range(3):
        bench.pipes.look(bench.now)
    assert not bench.kept


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
