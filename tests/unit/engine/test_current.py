from __future__ import annotations

import os
import signal

import pytest
from enginery.engine.current import Current
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
