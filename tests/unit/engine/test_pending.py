"""Coroutine tasks: several that have begun, on one loop."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from enginery.engine.runner import Runner
from enginery.errors import UnmetDependency
from enginery.recorder import COROUTINES, NO_TASK, OVER
from enginery.wire import messages as m

from engine_fakes import FakeEngine, value


class Bench(FakeEngine):
    """An engine whose loop is run by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = Runner(self.parts)

    def begin(self, function, *args, announce=False):
        call = self.call(function, *args, announce=announce)
        self.functions.entries[call.function].awaits = True
        self.books.add([call])
        self.runner.run_queue()
        return call.id

    def run_until(self, condition):
        for _ in range(1000):
            if condition():
                return
            self.coroutines.loop.turn()
        raise AssertionError("it never comes to that")

    def finish(self, *tasks):
        self.run_until(lambda: {result.id for result in self.results()} >= set(tasks))
        return [next(result for result in self.results() if result.id == task) for task in tasks]


@pytest.fixture
def bench():
    before = signal.getsignal(signal.SIGINT)
    bench = Bench()
    bench.current.install()
    yield bench
    for awaited in bench.current.awaited.values():
        awaited.future.cancel()
    bench.run_until(lambda: not bench.current.awaited)
    bench.coroutines.loop.close()
    signal.signal(signal.SIGINT, before)


async def forever():
    await asyncio.Event().wait()


def test_several_run_at_once_and_end_in_their_own_order(bench):
    events = []

    async def wait(number, until):
        events.append(number)
        while len(events) < until:  # noqa: ASYNC110 - the order is what is tested
            await asyncio.sleep(0)
        events.append(-number)
        return number

    one, two, three = (bench.begin(wait, number, until) for number, until in ((1, 5), (2, 4), (3, 3)))
    assert bench.results() == []
    assert [value(result) for result in bench.finish(one, two, three)] == [1, 2, 3]
    assert events == [1, 2, 3, -3, -2, -1]
    assert [result.id for result in bench.results()] == [three, two, one]
    assert bench.current.awaited == {}


def test_they_are_on_record_while_they_run_and_afterwards(bench):
    running = bench.begin(forever)
    over = bench.begin(asyncio.sleep, 0)
    assert bench.coroutine_slots[:3] == [running, over, NO_TASK]
    assert min(bench.coroutine_since[:2]) > 0
    bench.finish(over)
    assert bench.coroutine_slots[:3] == [running, over, NO_TASK]
    assert bench.coroutine_since[0] > 0
    assert bench.coroutine_since[1] == OVER


def test_the_slot_that_was_left_first_is_used_first(bench):
    for _ in range(COROUTINES + 3):
        bench.finish(bench.begin(asyncio.sleep, 0))
    assert bench.coroutine_slots[:4] == [65, 66, 67, 4]


def test_more_than_there_are_slots_wait(bench):
    events = []

    async def wait(number):
        events.append(number)
        while len(events) < COROUTINES:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        return len(events)

    for number in range(COROUTINES + 5):
        bench.begin(wait, number)
    assert len(bench.current.awaited) <= COROUTINES
    bench.run_until(lambda: not bench.current.awaited)
    assert sorted(events) == [*range(COROUTINES + 5)]


def test_what_each_prints_is_counted_for_it(bench):
    async def talk(n):
        for i in range(n):
            bench.output.write("stdout" if i % 2 else "stderr", "x")
            await asyncio.sleep(0)

    def say():
        bench.output.write("stdout", "plain")

    one, two = bench.begin(talk, 3), bench.begin(talk, 1)
    [plain] = bench.run(bench.call(say))
    assert plain.outputs == 1
    assert [result.outputs for result in bench.finish(one, two)] == [3, 1]
    records = bench.output.take()
    assert [(record.task, record.kind) for record in records if record.task == one] == [
        (one, "stderr"),
        (one, "stdout"),
        (one, "stderr"),
    ]


def test_errors_and_what_is_no_coroutine(bench):
    async def fail():
        raise LookupError("nothing")

    def not_one(x):
        return x + 1

    def fails_at_once():
        raise KeyError

    tasks = [bench.begin(fail), bench.begin(not_one, 1), bench.begin(fails_at_once)]
    failed, plain, at_once = bench.finish(*tasks)
    assert isinstance(value(failed), LookupError)
    assert value(plain) == 2
    assert isinstance(value(at_once), KeyError)
    assert bench.current.awaited == {}


def test_an_interrupt_cancels_exactly_one(bench):
    cleaned_up = []

    async def wait(number):
        try:
            await forever()
        finally:
            cleaned_up.append(number)

    tasks = [bench.begin(wait, number) for number in range(3)]
    bench.coroutines.loop.turn()
    with bench.books.lock:
        bench.current.aim(tasks[1])
    [result] = bench.finish(tasks[1])
    assert value(result).ename == "KeyboardInterrupt"
    assert result.status == m.Status.ERROR
    assert cleaned_up == [1]
    assert set(bench.current.awaited) == {tasks[0], tasks[2]}
    assert bench.current.target == NO_TASK


def test_an_interrupt_strikes_a_step_that_runs(bench):
    caught = []

    async def spin():
        try:
            bench.current.aim(task)
        except KeyboardInterrupt:
            caught.append("interrupt")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "went on"

    task = 1
    assert bench.begin(spin) == task
    [result] = bench.finish(task)
    assert value(result) == "went on"  # it was struck once, and not cancelled too
    assert caught == ["interrupt"]


def test_an_interrupt_in_a_step_of_another_task_waits(bench):
    async def aims(other):
        bench.current.aim(other)
        return "unharmed"

    waiting = bench.begin(forever)
    [aiming, interrupted] = bench.finish(bench.begin(aims, waiting), waiting)
    assert value(aiming) == "unharmed"
    assert value(interrupted).ename == "KeyboardInterrupt"


def test_a_signal_for_nobody_in_particular_reaches_all_that_wait(bench):
    tasks = [bench.begin(forever) for _ in range(3)]
    loop = bench.coroutines.loop
    loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
    assert {value(result).ename for result in bench.finish(*tasks)} == {"KeyboardInterrupt"}


def test_an_interrupt_that_comes_before_it_has_begun_is_kept(bench):
    ran = []

    def begins():
        ran.append("first")
        bench.current.aim(1)
        return asyncio.sleep(30)

    task = bench.begin(begins)
    [result] = bench.finish(task)
    assert value(result).ename == "KeyboardInterrupt"
    assert ran == ["first"]


def test_they_are_held_and_not_given_back(bench):
    task = bench.begin(forever)
    holding = bench.books.holding(3, [])
    assert [pair[0] for pair in holding.coroutines] == [task]
    assert holding.running is None
    assert bench.books.give_back_named([task, 77]) == ([], [77])


def test_they_get_their_turn_between_calls(bench):
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    def work():
        bench.clock.sleep(0.003)
        return len(ticks)

    bench.begin(tick)
    results = bench.run(*(bench.call(work) for _ in range(5)))
    assert [value(result) for result in results] == sorted({value(result) for result in results}), "none in between"


def test_one_that_is_announced_is_announced(bench):
    task = bench.begin(forever, announce=True)
    assert bench.link.sent == [m.Started(task)]


@pytest.mark.parametrize(("items", "expected"), [([5], [5]), (([5], [6]), [11])])
def test_the_one_item_of_a_divisible_call(bench, items, expected):
    async def add(x, y=0):
        return x + y

    call = bench.batch(add, items, 0, 1)
    bench.functions.entries[call.function].awaits = True
    bench.books.add([call])
    bench.runner.run_queue()
    [result] = bench.finish(call.id)
    assert (value(result), result.lo, result.hi) == (expected, 0, 1)


def test_several_items_are_awaited_one_after_another(bench):
    events = []

    async def note(x):
        events.append(x)
        await asyncio.sleep(0)
        events.append(-x)
        return x

    call = bench.batch(bench.coroutines.adapt(note), [1, 2])
    bench.functions.entries[call.function].awaits = True
    assert value(bench.run(call)[0]) == [1, 2]
    assert events == [1, -1, 2, -2]


def test_code_that_goes_on_when_it_is_cancelled_is_struck_the_next_time(bench):
    async def stay():
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                pass

    task = bench.begin(stay)
    bench.coroutines.loop.turn()
    for _ in range(2):
        assert bench.results() == []
        with bench.books.lock:
            bench.current.aim(task)
        for _ in range(5):
            bench.coroutines.loop.turn()
    [result] = bench.finish(task)
    assert value(result).ename == "KeyboardInterrupt"


def test_one_whose_needs_are_not_met(bench):
    async def choosy():
        await asyncio.sleep(0)
        raise UnmetDependency("no GPU here")

    [result] = bench.finish(bench.begin(choosy))
    assert (result.status, result.payload) == (m.Status.UNMET, b"no GPU here")
