from __future__ import annotations

import asyncio

import pytest
from enginery.engine.coroutines import Coroutines
from enginery.engine.current import Current


@pytest.fixture
def runner():
    current = Current()
    current.task = 5
    runner = Coroutines(current)
    yield runner
    runner._loop.close()


def test_coroutine_functions_become_plain_ones(runner):
    async def f(x):
        await asyncio.sleep(0)
        return x + 1

    class Callable:
        async def __call__(self, x):
            return x + 2

    assert runner.adapt(f)(1) == 2
    assert runner.adapt(Callable())(1) == 3
    assert runner.adapt(abs) is abs
    assert runner.adapt(Callable) is Callable


def test_the_loop_lives_on(runner):
    async def loop():
        return asyncio.get_running_loop()

    assert runner.run(loop()) is runner.run(loop())


def test_an_interrupted_coroutine_is_cancelled_and_ends(runner):
    events = []

    async def wait():
        try:
            await asyncio.sleep(30)
        finally:
            events.append("cleaned up")

    async def interrupted():
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(strike, task)
        await wait()

    def strike(_task):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(interrupted())
    assert events == ["cleaned up"]
    assert runner.run(asyncio.sleep(0, "fine")) == "fine"


def test_errors_come_through(runner):
    async def fail():
        raise LookupError

    with pytest.raises(LookupError):
        runner.run(fail())
