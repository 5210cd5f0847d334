"""Taking unstarted work back from busy engines when others are idle, so that a long task traps nothing behind it.

The engine decides what it can still give: it alone knows what it has begun. We ask its control thread, which answers
while user code runs; what is given back waits again, at the front, and placement gives it to whoever is free.
"""

from __future__ import annotations

from itertools import dropwhile
from typing import TYPE_CHECKING

from ..wire.messages import GivenBack, TakeBack
from . import pools, stopping
from .records import TaskState
from .state import WINDOW_S

if TYPE_CHECKING:
    from .records import Engine, Task
    from .state import State

WORTH_S = 0.003
"""An engine with less load than this is left alone: asking and moving would take as long."""

AGAIN_S = 0.01
"""When nothing could be given back, ask again after this."""

LOOK_S = 0.01
"""An engine that was left alone for its little load, and of which nothing is heard for so long, is not what it seemed:
its load is an estimate, and what it runs may go on for hours."""


def take_back(state: State) -> None:
    """Ask the most loaded engines for unstarted work if others are idle and nothing waits for those."""
    if not state.rebalance:
        return
    state.rebalance = False
    if not state.idle or state.common.waiting or len(state.idle) == len(state.engines):
        return
    idle = state.idle
    victims: list[tuple[float, int, list[int] | None]] = []
    light: list[tuple[Engine, int]] = []
    willing: pools.Willing = {}
    for engine_id in state.laden:
        engine = state.engines[engine_id]
        if engine.taking:
            continue
        worth, named = _can_give(state, engine, idle, willing)
        if not worth:
            continue
        if engine.load_s >= WORTH_S:
            victims.append((-engine.load_s, engine.id, named))
        else:
            light.append((engine, engine.version))
    if light and not state.looking:
        state.looking = True
        state.at(state.now + LOOK_S, _look_closer, state, light)
    victims.sort(key=lambda victim: victim[:2])
    for _, engine_id, named in victims[: len(idle)]:
        engine = state.engines[engine_id]
        engine.taking = state.next_request()
        engine.asked_at = state.now if engine.asked_at is None else engine.asked_at
        state.outbox.say(engine.control, TakeBack(engine.taking, named))


def _can_give(state: State, engine: Engine, idle: set[int], willing: pools.Willing) -> tuple[bool, list[int] | None]:
    """Return whether an engine seems to hold work that an idle one could do and, for work that not every engine may
    have, which: the engine gives back such calls only by name.
    """
    tasks = dropwhile(lambda task: task.is_coroutine, engine.assigned.values())  # those have begun
    running = next(tasks, None)
    if running is None:
        return False, None
    pinned = engine.pinned
    if running.hi - running.lo > 1 and running.options.targets is None and running.id not in pinned:
        return True, None
    named: list[int] = []
    for task in tasks:
        if pinned and task.id in pinned:
            if pools.has_taker(state, task, engine, idle, willing):
                named.append(task.id)
            continue
        targets = task.options.targets
        if targets is None:
            return True, None
        if not task.options.ordered and not idle.isdisjoint(targets):
            named.append(task.id)
    return bool(named), named[len(named) // 2 :]


def on_given_back(state: State, engine: Engine, message: GivenBack, now: float) -> None:
    """An engine gave back what it could (perhaps nothing)."""
    if message.session != engine.session:
        return  # it tells, or has told, what it has since it gave that back
    returned: list[Task] = []
    for task_id in message.calls:
        task = engine.assigned.get(task_id)
        if task is not None:
            state.unassign(engine, task)
            returned.append(task)
    for task_id, new_hi in message.tails:
        task = engine.assigned.get(task_id)
        if task is not None and task.lo <= new_hi < task.hi:
            returned.append(split(state, engine, task, new_hi))
    back_to_queue(state, returned)
    if message.request == engine.taking:
        engine.taking = 0
        if not returned and state.idle:
            state.at(now + AGAIN_S, _ask_again, state)
    else:
        stopping.on_answer(state, engine, message.request, now)
    if not engine.taking and not engine.withdrawals:
        engine.asked_at = None
    state.touch(engine)
    state.rebalance = True if returned else state.rebalance


def back_to_queue(state: State, returned: list[Task]) -> None:
    """Tasks that an engine does not have any more wait again, the oldest at the very front, or end if they are to."""
    for task in sorted(returned, key=lambda task: (task.root, task.lo), reverse=True):
        if task.id in state.stops:
            stopping.withdraw(state, task)
        else:
            state.enqueue_again(task)


def _ask_again(state: State, _now: float) -> None:
    state.rebalance = True


def _look_closer(state: State, light: list[tuple[Engine, int]], _now: float) -> None:
    """Correct the load of the engines that did not get on since, though they had little to do."""
    state.looking = False
    for engine, version in light:
        if engine.version == version:
            running = engine.find_running()
            if running is None:
                continue
            engine.load_s += WINDOW_S - running.cost_s
            running.cost_s = WINDOW_S
            state.touch(engine)
    state.rebalance = True


def split(state: State, engine: Engine, task: Task, new_hi: int) -> Task:
    """Make a task of its own from the items `new_hi <= i < hi`, which the engine will not run."""
    piece = state.split_off(task, new_hi, task.hi)
    piece.state, piece.engine = TaskState.WAITING, -1
    engine.coroutines -= task.is_coroutine
    task.hi = new_hi
    engine.coroutines += task.is_coroutine  # (if the first of its items is all that is left)
    if task.lo == task.hi:  # everything it still had was given back
        state.unassign(engine, task)
        state.drop(task)
    else:
        engine.load_s -= task.cost_s
        task.cost_s = state.estimate_s(task)
        engine.load_s += task.cost_s
    return piece
