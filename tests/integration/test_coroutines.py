"""Coroutines on engines: what a cell leaves on the loop, and coroutine functions as tasks."""

from __future__ import annotations

import pytest

from helpers import wait_until


def test_a_background_task_goes_on_between_cells(client):
    view = client[0]
    code = """
import asyncio
ticks = []
async def tick():
    while len(ticks) < 20:
        await asyncio.sleep(0.005)
        ticks.append(len(ticks))
ticking = asyncio.create_task(tick())
"""
    view.execute(code).get()
    wait_until(lambda: view.pull("len(ticks)", block=True) == 20, "the ticks")  # calls and waits between them
    assert view.execute("await ticking; ticking.done()", silent=False).get().text == "True"
    assert view.apply_sync(lambda: 5) == 5


def test_a_cell_awaits_what_an_earlier_one_has_begun(client):
    view = client[0]
    view.execute("import asyncio\nsoon = asyncio.create_task(asyncio.sleep(0.05, 'done'))").get()
    assert view.execute("await soon", silent=False).get().text == "'done'"
    view.execute("late = asyncio.get_running_loop().run_in_executor(None, lambda: 7)").get()
    assert view.execute("await late", silent=False).get().text == "7"


def test_what_fails_in_the_background_does_no_harm(client):
    view = client[0]
    view.execute("""
import asyncio
async def fail(error):
    raise error
tasks = [asyncio.create_task(fail(error)) for error in (LookupError(), SystemExit(3), KeyboardInterrupt())]
asyncio.get_running_loop().call_soon(lambda: 1 / 0)
""").get()
    with pytest.raises(LookupError):
        view.execute("await tasks[0]").get()
    assert view.apply_sync(lambda: 5) == 5
