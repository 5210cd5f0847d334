from __future__ import annotations

import threading

import pytest
from enginery.engine.runner import ASKED_MAX
from enginery.errors import SerializationError, UnmetDependency
from enginery.recorder import AFTER_LAST, NO_TASK
from enginery.serialize import dumps
from enginery.wire import messages as m

from engine_fakes import FakeEngine, value


@pytest.fixture
def engine():
    return FakeEngine()


def run(engine, *calls):
    return engine.run(*calls)


def quick(x=0):
    return x


def test_values_and_errors(engine):
    def fail():
        raise LookupError("nothing")

    def leave():
        raise SystemExit(3)

    calls = [engine.call(quick, i) for i in range(3)] + [engine.call(fail), engine.call(leave), engine.call(quick, "s")]
    results = run(engine, *calls)
    assert [result.id for result in results] == [call.id for call in calls]
    assert [value(result) for result in results[:3]] == [0, 1, 2]
    assert isinstance(value(results[3]), LookupError)
    assert value(results[4]).ename == "SystemExit"
    assert value(results[5]) == "s"
    assert {result.engine for result in results} == {5}
    assert engine.current.task == NO_TASK
    assert list(engine.slots) == [calls[-1].id, AFTER_LAST]  # on record until the next begins
    assert not engine.current.armed


def test_the_recorder_and_the_window_while_user_code_runs(engine):
    seen = []
    call = engine.call(lambda: seen.append((engine.slots[0], engine.current.task, engine.current.armed)))
    run(engine, call)
    assert seen == [(call.id, call.id, True)]
    assert engine.since[0] > 0


def test_quick_calls_are_collected(engine):
    calls = [engine.call(quick, i, estimate_s=1e-6) for i in range(50)]
    run(engine, *calls)
    assert engine.link.sent == []
    assert len(engine.outbox.results) == 50
    assert engine.waker.woken == 1  # the control thread looks after them once something is pending


def test_results_are_sent_every_two_milliseconds(engine):
    def work():
        engine.clock.sleep(0.0003)

    run(engine, *(engine.call(work, estimate_s=1e-6) for i in range(20)))
    assert [len(message.results) for message in engine.link.sent] == [7, 7]
    assert len(engine.outbox.results) == 6


@pytest.mark.parametrize("estimate_s", [None, 1.0])
def test_what_is_ready_is_sent_before_a_long_or_unknown_call(engine, estimate_s):
    pending = []

    def slow():
        pending.append(engine.link.pending)

    run(engine, engine.call(quick, estimate_s=1e-6), engine.call(slow, estimate_s=estimate_s))
    assert pending == [False]
    assert engine.waker.woken == 0


def test_an_announced_call_is_announced_after_what_is_ready(engine):
    first, second = engine.call(quick, estimate_s=1e-6), engine.call(quick, announce=True)
    run(engine, first, second)
    assert isinstance(engine.link.sent[0], m.Done)
    assert engine.link.sent[1] == m.Started(second.id)


def test_output_is_counted(engine):
    def talk(n):
        for i in range(n):
            engine.output.write("stdout" if i % 2 else "stderr", "x")

    results = run(engine, engine.call(talk, 3), engine.call(quick), engine.call(talk, 1))
    assert [result.outputs for result in results] == [3, 0, 1]


def test_a_result_that_cannot_be_pickled_names_the_culprit(engine):
    def bad():
        return {"x": [threading.Lock()]}

    engine.functions.build_in(b"bad", bad)
    engine.functions.entries[b"bad"].name = "bad"
    payload, _ = dumps(((), {}))
    [result] = run(engine, m.Call(1, b"bad", payload))
    error = value(result)
    assert isinstance(error, SerializationError)
    assert str(error) == "the result of bad: item ['x'][0] is a _thread.lock"


def test_arguments_that_cannot_be_unpickled(engine):
    [result] = run(engine, m.Call(1, engine.name(quick), b"\x80\x05cno_such_module\nf\n."))
    error = value(result)
    assert isinstance(error, ModuleNotFoundError)
    assert "while the arguments were unpickled" in error.__notes__[0]


def test_a_call_without_its_function_is_asked_for_anew(engine):
    """A message that brought the function was lost with a connection, and the hello is not out yet."""
    call = engine.call(quick, 2)
    entry = engine.functions.entries.pop(call.function)
    assert not run(engine, call)
    assert engine.link.lost_touch
    assert engine.waker.woken
    assert engine.current.task == NO_TASK
    assert engine.books.holding(1, []).calls == []
    engine.functions.entries[call.function] = entry
    [result] = run(engine, call)
    assert value(result) == 2


def test_an_unknown_function_is_refused_when_asking_does_not_help(engine):
    call = m.Call(1, b"\x01\x02", b"")
    for _ in range(ASKED_MAX):
        assert not run(engine, call)
    [result] = run(engine, call)
    assert result.status == m.Status.REFUSED
    assert result.payload == b"engine 5 was not given the function 0102"
    assert engine.current.task == NO_TASK


def test_large_buffers_go_along(engine):
    numpy = pytest.importorskip("numpy")
    [result] = run(engine, engine.call(numpy.zeros, 10_000))
    assert result.frames == 1
    results, frames = engine.outbox.take()
    assert results == [result]
    assert frames[0].nbytes == 80_000


def test_an_interrupt_that_came_before_the_code_is_not_lost(engine):
    ran = []

    def arrive():
        ran.append("first")

    call = engine.call(arrive)

    class Target(list):
        """Slots that, when the task is recorded (just before its code), let an interrupt arrive."""

        def __setitem__(self, index, item):
            super().__setitem__(index, item)
            if index == 0 and item == call.id:
                engine.current.target = call.id

    slots = Target(engine.slots)
    object.__setattr__(engine.parts, "slots", slots)
    [result] = run(engine, call)
    assert ran == []
    assert value(result).ename == "KeyboardInterrupt"
    assert engine.current.target == NO_TASK


def test_what_is_not_there_is_no_error(engine):
    def choosy():
        raise UnmetDependency("no GPU here")

    [result] = run(engine, engine.call(choosy))
    assert (result.status, result.payload) == (m.Status.UNMET, b"no GPU here")
    assert engine.current.task == NO_TASK
