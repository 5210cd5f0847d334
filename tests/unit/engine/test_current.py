from __future__ import annotations

import os
import signal
import sys
import time
import types

import pytest
from enginery.engine import runner
from enginery.engine.current import STRUCK, Current
from enginery.recorder import NO_TASK


@pytest.fixture
def current():
    before = signal.getsignal(signal.SIGINT)
    current = Current()
    current.install()
    yield current
    signal.signal(signal.SIGINT, before)


def signal_now():
    os.kill(os.getpid(), signal.SIGINT)


def test_nothing_happens_outside_user_code(current):
    current.task = 5
    for _ in range(10):
        signal_now()
    assert not current.interrupted


def test_a_signal_hits_armed_code_once(current):
    current.task = 5
    current.armed = True
    with pytest.raises(KeyboardInterrupt):
        signal_now()
    assert current.interrupted
    signal_now()
    signal_now()


def test_an_interrupt_hits_its_task(current):
    current.task = 5
    current.armed = True
    with pytest.raises(KeyboardInterrupt):
        current.aim(5)


def test_an_interrupt_for_another_task_is_not_sent(current):
    current.task = 5
    current.armed = True
    current.aim(4)
    assert current.target == NO_TASK
    current.armed = False


def test_an_interrupt_before_user_code_begins_is_kept(current):
    current.task = 5
    current.aim(5)
    assert current.target == 5
    current.armed = True
    with pytest.raises(KeyboardInterrupt):
        current.strike()


def test_a_late_interrupt_is_gone_after_settling(current):
    current.task = 5
    current.aim(5)
    current.task = NO_TASK
    current.settle()
    current.task = 6
    current.armed = True
    for _ in range(1000):
        pass
    current.armed = False
    assert not current.interrupted


def test_a_signal_meant_for_the_task_before_does_not_hit_the_next(current):
    current.task = 5
    current.target = 4
    current.armed = True
    signal_now()
    current.armed = False
    assert not current.interrupted


def swallow(current, *signals):
    """Be user code that catches what breaks in; return how often something did."""
    caught = 0
    for send in signals:
        try:
            send()
        except KeyboardInterrupt:
            caught += 1
    return caught


def test_code_that_caught_an_interrupt_is_interrupted_again(current):
    current.task = 5
    current.armed = True
    assert swallow(current, *[lambda: current.aim(5)] * 3) == 3
    assert current.armed == STRUCK


def test_only_another_interrupt_for_the_task_strikes_again(current):
    current.task = 5
    current.armed = True
    assert swallow(current, signal_now, signal_now, signal_now) == 1
    assert swallow(current, lambda: current.aim(4), signal_now) == 0
    assert swallow(current, lambda: current.aim(5), signal_now) == 1


def test_code_that_was_left_is_not_struck_again(current):
    current.task = 5
    current.armed = True
    assert swallow(current, lambda: current.aim(5)) == 1
    current.armed = False
    assert swallow(current, lambda: current.aim(5)) == 0
    current.task = NO_TASK
    current.settle()
    current.task = 6
    current.armed = True
    assert swallow(current, lambda: current.aim(5)) == 0
    assert swallow(current, signal_now, signal_now) == 1


def in_the_runner(function, *args):
    """Call a function without a frame of its own from a frame of the runner's."""
    code = compile("function(*args)", runner.__file__, "exec")
    exec(code, {"function": function, "args": args})


def test_a_frame_of_the_runner_is_struck_once(current):
    """It may be a call of a function without a frame; or user code has been left, and what was struck is unwinding."""
    pid = os.getpid()
    current.task = current.target = 5
    current.armed = True
    with pytest.raises(KeyboardInterrupt):
        in_the_runner(os.kill, pid, signal.SIGINT)
    assert not current.armed


def test_what_unwinds_into_the_runner_is_not_struck_again(current):
    current.task = 5
    current.armed = True
    assert swallow(current, lambda: current.aim(5)) == 1
    current._fresh = True  # another interrupt, whose signal comes in a moment
    in_the_runner(os.kill, os.getpid(), signal.SIGINT)
    assert current.armed == STRUCK


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A module that asks to be interrupted while it is imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "interrupted.py").write_text("import asking\nasking.now()\nstate = 'whole'\n")
    asking = types.ModuleType("asking")
    monkeypatch.setitem(sys.modules, "asking", asking)
    yield asking
    sys.modules.pop("interrupted", None)


def test_an_import_is_not_broken_into(current, package):
    current.task, current.armed = 7, True
    package.now = lambda: current.aim(7)
    import interrupted

    assert interrupted.state == "whole"
    assert current.is_aimed
    with pytest.raises(KeyboardInterrupt):
        current.aim_again()
        time.sleep(0)
    assert not current.is_aimed


def test_an_import_that_hangs_is_broken_into(current, package, monkeypatch):
    monkeypatch.setattr("enginery.engine.current.HOLD_S", 0)
    current.task, current.armed = 7, True
    package.now = lambda: current.aim(7)
    with pytest.raises(KeyboardInterrupt):
        import interrupted  # noqa: F401
