"""The loop of the main thread: when it is needed, and what an interrupt may strike."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading

import pytest
from enginery.engine.coroutines import Coroutines
from enginery.engine.current import OF_TASK, Current
from enginery.recorder import NO_TASK


@pytest.fixture
def coroutines():
    coroutines = Coroutines(Current())
    yield coroutines
    if coroutines._loop is not None:
        coroutines._loop.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def of_task(task):
    context = contextvars.Context()
    context.run(OF_TASK.set, task)
    return context


def test_without_work_there_is_no_loop(coroutines):
    assert not coroutines.needs_loop
    assert not coroutines.wait((), 10.0)
    assert coroutines._loop is None


def test_the_loop_is_needed_while_something_is_on_it(coroutines):
    loop = coroutines.loop
    assert not coroutines.needs_loop
    future = loop.create_future()
    task = loop.create_task(asyncio.wait([future]))
    loop.turn()
    assert coroutines.needs_loop  # nothing is scheduled, but a task waits
    future.set_result(None)
    loop.finish(task)
    loop.turn()
    assert not coroutines.needs_loop


def test_it_is_needed_while_a_descriptor_is_watched(coroutines, pipe):
    loop = coroutines.loop
    loop.call_soon(loop.add_reader, pipe[0], lambda: None)
    loop.turn()
    assert coroutines.needs_loop
    loop.remove_reader(pipe[0])
    assert not coroutines.needs_loop


def test_it_is_needed_while_it_is_held(coroutines):
    assert coroutines.hold() is coroutines.loop
    assert coroutines.needs_loop
    coroutines.release()
    assert not coroutines.needs_loop


def test_waiting_ends_when_a_descriptor_can_be_read(coroutines, pipe):
    seen = []
    coroutines.hold().call_soon(seen.append, "ran")
    threading.Timer(0.02, os.write, (pipe[1], b"x")).start()
    assert coroutines.wait((pipe[0],), None)
    assert seen == ["ran"]
    assert os.read(pipe[0], 9) == b"x"


def test_waiting_ends_when_its_time_is_over(coroutines, pipe):
    coroutines.hold()
    assert coroutines.wait((pipe[0],), 0.01)


def test_a_handler_has_something_called_outside_the_loop(coroutines, pipe):
    seen = []

    def outside():
        seen.append(asyncio._get_running_loop())

    coroutines.hold().add_reader(pipe[0], lambda: (os.read(pipe[0], 9), coroutines.do(outside)))
    os.write(pipe[1], b"x")
    while not coroutines.has_work:
        assert coroutines.wait((), 10.0)
    coroutines.work()
    assert seen == [None]
    assert not coroutines.has_work


def test_another_thread_wakes_the_main_thread(coroutines):
    woken = []
    coroutines.nudge = lambda: woken.append(1)
    loop = coroutines.loop
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(int,))
    thread.start()
    thread.join()
    assert woken
    assert coroutines.needs_loop


def test_what_belongs_to_a_task_is_guarded_and_the_rest_is_not(coroutines):
    current, loop = coroutines._current, coroutines.loop
    seen = []

    def look():
        seen.append((current.step, bool(current.armed), loop.record[0]))

    loop.call_soon(look)
    loop.call_soon(look, context=of_task(7))
    loop.call_later(0, look, context=of_task(8))
    loop.call_soon_threadsafe(look, context=of_task(9))
    while len(seen) < 4:
        loop.turn()
    assert sorted(seen) == [(NO_TASK, False, NO_TASK), (7, True, 7), (8, True, 8), (9, True, 9)]
    assert (current.step, current.armed, loop.record[0]) == (NO_TASK, False, NO_TASK)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_would_end_the_loop_ends_only_what_raised_it(coroutines, error):
    loop = coroutines.loop

    async def fail():
        raise error

    task = loop.create_task(fail(), context=of_task(7))
    loop.finish(task)
    assert isinstance(task.exception(), error)
    loop.turn()


def test_a_cell_finds_the_loop_running_and_nothing_else_does(coroutines):
    async def value():
        return 5

    def cell():
        return asyncio.get_running_loop().create_task(value())

    task = coroutines.in_cell(cell)()
    assert asyncio._get_running_loop() is None
    assert coroutines.needs_loop
    loop = coroutines.loop
    loop.finish(task)
    assert task.result() == 5


def test_code_that_stops_the_loop_does_not_end_what_is_awaited(coroutines):
    async def stops():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 5

    assert coroutines.run(stops()) == 5
