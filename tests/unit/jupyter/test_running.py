"""Ctrl-C while a cell runs on engines, with results and engines of paper."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest
from enginery.errors import RemoteError
from enginery.jupyter import running
from enginery.jupyter.running import GOES_ON, Interrupted, follow
from enginery.wire import messages as m


class Paper:
    """A result of four engines, and its client and link: what is asked of them is noted."""

    def __init__(self, interruptions=1, stubborn=()):
        self.interruptions = interruptions
        self.stubborn = set(stubborn)
        self.ended = {}
        self.asked = []
        self.errors = []
        self._link = self._client = self
        self.now = 0.0

    def done(self):
        return len(self.ended) == 4

    def _wait_done(self, seconds):
        self.now += seconds
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt
        return self.done()

    def _stop(self):
        self.ended = {engine: True for engine in range(4) if engine not in self.stubborn}
        self.errors = [CancelledError() for _ in self.ended]

    def cancel(self, tasks, *, grace_s, interrupt):
        self.asked.append((tasks, grace_s, interrupt))
        self._stop()

    def request(self, *message):
        self.asked.append(message)
        self._stop()

    def _open_tasks(self):
        return [7, 8, 9, 10]

    def _engines(self):
        return (0, 1, 2, 3)

    def _ended_engines(self):
        return list(self.ended.items())

    def _errors(self):
        return self.errors

    def _log(self):
        return ()

    _handed_over = 0
    progress = 0

    def _total(self):
        return 4


@pytest.fixture(autouse=True)
def paper_clock(monkeypatch):
    """Time passes by waiting."""
    monkeypatch.setattr(running, "STOPPING_S", 0.0)


def test_an_interruption_stops_the_tasks():
    result = Paper()
    with pytest.raises(Interrupted, match=r"^stopped on the engines$") as caught:
        follow(result, result)
    assert result.asked == [([7, 8, 9, 10], None, True)]
    assert caught.value._render_traceback_() == ["KeyboardInterrupt: stopped on the engines"]
    assert isinstance(caught.value, KeyboardInterrupt)


def test_engines_that_run_on_are_named():
    with pytest.raises(Interrupted) as caught:
        follow(Paper(stubborn=[1, 3]), result := Paper(stubborn=[1, 3]))
    assert str(caught.value) == (
        "engines 1,3 have not stopped yet, and will when the call that keeps Python busy returns; "
        "client.restart([1, 3]) ends it now"
    )
    assert result.asked
    with pytest.raises(Interrupted, match=r"engine 2 has not stopped yet, .* client\.restart\(\[2\]\)"):
        follow(None, Paper(stubborn=[2]))


def test_a_second_interruption_returns_at_once():
    with pytest.raises(Interrupted, match="engines 0-3 have not stopped yet"):
        follow(None, Paper(interruptions=2, stubborn=range(4)))


def test_another_signal_goes_to_the_engines_that_run():
    result = Paper()
    result.ended = {2: False}
    with pytest.raises(Interrupted, match="stopped on the engines"):
        follow(result, result, signal="SIGTERM")
    assert result.asked == [(m.Signal, 15, [0, 1, 3])]


def test_waiting_for_an_earlier_cell_can_be_ended_without_stopping_it():
    result = Paper()
    with pytest.raises(Interrupted) as caught:
        follow(result, result, signal=None)
    assert str(caught.value) == GOES_ON
    assert not result.asked


def test_errors_of_engines_are_told():
    result = Paper()
    result._errors = lambda: [CancelledError(), RemoteError("ValueError", "early", engine=2)]
    with pytest.raises(Interrupted) as caught:
        follow(result, result)
    text = caught.value._render_traceback_()
    assert text[0] == "[engine 2] ValueError: early"
    assert text[-1] == "KeyboardInterrupt: stopped on the engines"
