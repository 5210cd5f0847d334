"""Set-up: calls that every engine has run before anything else, those that are there and those to come.

A client that registers set-up has it run itself on the engines that it knows, as tasks for them (`Options.setup`). What
is registered is kept, in order, each call once. An engine that starts is given all of it at once, before anything else:
as tasks of our own, or, where a client's registration waits for it still, as that task. An engine runs its calls in the
order in which it was given them; so nothing runs there without its set-up.

Set-up that fails is a warning and is shown with the engine; tasks go on. Set-up that ends the engine's process is a
start that failed (`fleet`), and after a few the engine is given up.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

from ..ids import CONTROLLER_NO
from ..wire.messages import Call, Options, Status
from .journal.ledger import SetupCall, SetupCame, SetupsCleared
from .records import EngineState, Setup, Task, TaskState

if TYPE_CHECKING:
    from ..wire.messages import DeathCertificate, Output, Result
    from ..wire.messages import Task as Wanted
    from .records import Engine
    from .state import State

log = logging.getLogger("enginery.controller")

SETUP = b"!setup"
"""The operation. It says how it went in an `Output` of kind `setup`: an error in a sentence, or nothing."""

REPORT = "setup"

MAX_BYTES = 64 << 20
"""Set-up is kept in memory and in the journal, and sent to every engine that starts."""


def keep(state: State, submitted: Wanted, options: Options) -> str:
    """Take note of set-up that a client registers and has run on some engines, and have the others run it.

    Return why that cannot be; empty if it can.
    """
    if submitted.function != SETUP or submitted.frames or options.targets is None or not options.ordered:
        return f"set-up is a call of {SETUP.decode()} for certain engines, without buffers of its own"
    if len(submitted.payload) > MAX_BYTES:
        return (
            f"set-up of {len(submitted.payload) >> 20} MB is too large to be kept ({MAX_BYTES >> 20} MB at most); "
            "have it load its data from a file"
        )
    if any(setup.payload == submitted.payload for setup in state.setups):
        return ""
    no = state.setups[-1].no + 1 if state.setups else 1
    setup = Setup(no, options.setup or "", submitted.payload, submitted.objects)
    enter(state, setup)
    state.note(came(setup))
    for engine in state.engines.values():
        if engine.is_running and not engine.retiring and engine.id not in options.targets:
            engine.direct.append(_call(state, setup, engine))  # the client has not heard of it
            state.touch(engine)
    return ""


def enter(state: State, setup: Setup) -> None:
    """Have set-up in the books."""
    state.setups.append(setup)
    for info in setup.objects:
        state.objects.enter(info).setups.add(setup.no)


def came(setup: Setup) -> SetupCame:
    """Return what is to be written down of set-up."""
    return SetupCame(setup.no, setup.name, setup.payload, msgspec.msgpack.encode(setup.objects))


def clear(state: State) -> int:
    """Forget all set-up; return how many calls that were."""
    count = len(state.setups)
    for setup in state.setups:
        for info in setup.objects:
            state.objects.entries[info.id].setups.discard(setup.no)
            state.objects.touch(info.id)
    state.setups.clear()
    state.note(SetupsCleared())
    for engine in state.engines.values():
        engine.setup_failures.clear()
        state.keep(engine)
        for task in engine.direct:
            if task.client == CONTROLLER_NO and task.state == TaskState.WAITING:
                task.state = TaskState.ENDED
                state.drop(task)
    return count


def _call(state: State, setup: Setup, engine: Engine) -> Task:
    """Make a task of our own."""
    id_ = state.next_piece_id()
    task = make(id_, setup, engine.id)
    entry = state.functions.find(SETUP)
    assert entry is not None, "it is built in"
    entry.unfinished += 1
    state.tasks[id_] = task
    state.objects.hold(task)
    state.note(SetupCall(id_, setup.no, engine.id))
    return task


def make(id_: int, setup: Setup, engine: int) -> Task:
    """Return a task that is set-up for an engine, not in the books."""
    options = Options(targets=(engine,), ordered=True, setup=setup.name)
    return Task(id_, CONTROLLER_NO, SETUP, setup.payload, options, root=id_, objects=setup.objects)


def give(state: State, engine: Engine, *, fresh: bool) -> None:
    """An engine is ready. Give it the set-up that it lacks, at once, whatever its window: nothing may come before it.

    A fresh engine lacks all. One that is back lacks what it was given and never got, which is at the front again.
    """
    waiting = [task for task in engine.direct if task.state == TaskState.WAITING]
    if fresh:
        mine = {task.payload: task for task in reversed(waiting) if task.options.setup is not None}
        calls = [mine.get(setup.payload) or _call(state, setup, engine) for setup in state.setups]
    else:
        order = {setup.payload: place for place, setup in enumerate(state.setups)}
        calls = list(takewhile(lambda task: task.options.setup is not None, waiting))
        calls.sort(key=lambda task: order.get(task.payload, len(order)))
    if not calls:
        return
    engine.in_setup = True
    given = {task.id for task in calls}
    engine.direct = deque(task for task in waiting if task.id not in given)
    work = state.outbox.work_for(engine)
    for task in calls:
        engine.given = task.order = engine.given + 1
        task.state, task.engine, task.cost_s = TaskState.ASSIGNED, engine.id, state.estimate_s(task)
        engine.load_s += task.cost_s
        engine.assigned[task.id] = task
        work.calls.append(Call(task.id, task.function, task.payload, fixed=True))


def is_under_way(engine: Engine) -> bool:
    """Return whether an engine has set-up to run, or runs it."""
    return any(task.options.setup is not None for task in engine.assigned.values())


def on_report(engine: Engine, task: Task, record: Output) -> None:
    """An engine says how set-up went there."""
    _note(engine, task, str(record.data))


def on_ended(state: State, engine: Engine, task: Task, result: Result) -> None:
    """Set-up has ended, and is off the engine's books. After the last, the engine has started for good."""
    if result.status != Status.OK and not result.outputs:
        _note(engine, task, "it could not be called")
    if engine.failures and not is_under_way(engine):
        engine.failures = 0
        state.keep(engine)


def _note(engine: Engine, task: Task, error: str) -> None:
    if error:
        engine.setup_failures[task.payload] = f"{task.options.setup}: {error}"
        log.warning("engine %d: its set-up %s failed: %s", engine.id, task.options.setup, error)
    else:
        engine.setup_failures.pop(task.payload, None)


def ended_in(engine: Engine, certificate: DeathCertificate) -> str:
    """Return the name of the set-up in which an engine's process ended by itself; empty if it was not in any."""
    task = None if certificate.task is None else engine.assigned.get(certificate.task)
    if task is None or engine.killed or certificate.exit_code is None:
        return ""
    return task.options.setup or ""


def show(engine: Engine) -> str:
    """Return what there is to tell people of an engine's set-up; empty if it is as it should be."""
    if engine.setup_failures:
        return "failed: " + "; ".join(engine.setup_failures.values())
    return "running" if engine.state is EngineState.READY and is_under_way(engine) else ""
