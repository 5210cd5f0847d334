"""Stopping tasks: because their client cancels them, or because their time is up.

A waiting task is withdrawn at once. An assigned one is asked back from its engine; if it has begun, it is interrupted,
again and again, since code may catch that; if it still has not ended when its grace is over, its engine is killed and
replaced. A cancel is answered when each of its tasks has ended, or was found running and may not be stopped: what the
answer names can run no more, and its engine is free, or another is on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ids import Peer, TaskId, show_task
from ..wire.messages import Cancel, Interrupt, Result, Status, TakeBack
from . import fleet, lines
from .journal.ledger import Stopped
from .records import TaskState

if TYPE_CHECKING:
    from .records import Client, Engine, Task
    from .state import State

PATIENCE_S = 2.0
"""How long a cancel that may not kill waits for an interrupt to do its work before it answers without that task."""

AGAIN_S = 1.0
"""A task that has been interrupted and has not ended so long after is interrupted again."""

TIMEOUT_GRACE_S = 2.0
"""How long a task may take to end after the interrupt at its time limit, before its engine is killed."""


class CancelRequest:
    """A client's question, to be answered when all its tasks are settled."""

    __slots__ = ("open", "peer", "request", "spared", "stopped")

    def __init__(self, peer: Peer, request: int) -> None:
        self.peer = peer
        self.request = request
        self.open: dict[int, int] = {}
        """Tasks (as the client knows them) and how many of their pieces are not settled."""
        self.stopped: set[int] = set()
        """Tasks of which a piece was stopped."""
        self.spared: set[int] = set()
        """Tasks of which a piece runs on."""

    def settle(self, state: State, root: int, *, stopped: bool) -> None:
        """One piece of a task is settled; answer if it was the last of all."""
        left = self.open.get(root, 0) - 1
        if left < 0:
            return
        if stopped:
            self.stopped.add(root)
        if left:
            self.open[root] = left
        else:
            del self.open[root]
        self.answer_if_settled(state)

    def answer_if_settled(self, state: State) -> None:
        """Send the answer when nothing is open, unless who asked has left."""
        if not self.open and self.peer in state.client_peers:
            state.reply(self.peer, self.request, sorted(self.stopped - self.spared))


class Stop:
    """An assigned task (or piece) that is to end: why, how hard, and who wants to know."""

    __slots__ = ("grace_s", "interrupt", "repeated", "requests", "sentence", "status", "until")

    def __init__(self, status: Status, sentence: str, grace_s: float | None, *, interrupt: bool) -> None:
        self.status = status
        self.sentence = sentence
        self.grace_s = grace_s
        self.interrupt = interrupt
        self.requests: list[CancelRequest] = []
        self.until = 0.0
        """Until when interrupts are repeated."""
        self.repeated: set[int] = set()
        """The tasks (a stop passes to pieces that are split off) whose interrupts are repeated."""

    def hurry(self, now: float, grace_s: float | None) -> None:
        """It is wanted (again) that the task ends within its grace."""
        self.until = max(self.until, now + (PATIENCE_S if grace_s is None else grace_s))

    def move(self, tasks: list[int]) -> Stopped:
        """Return what is to be written down of it."""
        return Stopped(tasks, int(self.status), self.sentence, self.grace_s, self.interrupt)

    def result(self, task: Task) -> Result:
        """Return the result of a task that was stopped."""
        return Result(task.id, self.status, self.sentence.encode(), engine=task.engine, lo=task.lo, hi=task.hi)

    def inherited(self, root: int) -> None:
        """A piece was split off the task: it is to be stopped too."""
        for request in self.requests:
            if root in request.open:
                request.open[root] += 1

    def ended(self, state: State, task: Task, status: int | None) -> None:
        """The task has ended, in this way (None: it was divided up entirely)."""
        for request in self.requests:
            request.settle(state, task.root, stopped=status == Status.CANCELLED)


def on_cancel(state: State, client: Client, message: Cancel, now: float) -> None:
    """A client wants tasks stopped."""
    request = CancelRequest(client.peer, message.request)
    asked: dict[int, list[int]] = {}
    waiting: list[Task] = []
    for root in dict.fromkeys(message.tasks):
        pieces = state.pieces.get(root) or ({root} if root in state.tasks else set())
        tasks = [task for id_ in sorted(pieces) if (task := state.tasks[id_]).client == client.no]
        if tasks:
            request.open[root] = len(tasks)
        for task in tasks:
            if task.state != TaskState.ASSIGNED:
                waiting.append(task)
            else:
                stop = state.stops.get(task.id)
                if stop is None:
                    sentence = "cancelled while it ran"
                    stop = Stop(Status.CANCELLED, sentence, message.grace_s, interrupt=message.interrupt)
                    state.stops[task.id] = stop
                else:
                    stop.interrupt |= message.interrupt
                    stop.grace_s = message.grace_s if stop.grace_s is None else stop.grace_s
                stop.hurry(now, message.grace_s)
                stop.requests.append(request)
                state.note(stop.move([task.id]))
                asked.setdefault(task.engine, []).append(task.id)
    for task in waiting:
        leave_queue(state, task)
        state.end(task, Result(task.id, Status.CANCELLED, b"cancelled before it started", lo=task.lo, hi=task.hi))
        request.settle(state, task.root, stopped=True)
    for engine_id, ids in asked.items():
        engine = state.engines[engine_id]
        ask_back(state, engine, ids)
        if message.grace_s is not None:
            state.at(now + message.grace_s, _kill, state, engine.id, engine.incarnation, ids)
        else:
            state.at(now + PATIENCE_S, _give_up, state, request)
    if not waiting:
        request.answer_if_settled(state)


def ask_back(state: State, engine: Engine, ids: list[int]) -> None:
    """Ask an engine for tasks that are to be stopped."""
    number = state.next_request()
    engine.withdrawals[number] = ids
    engine.asked_at = state.now if engine.asked_at is None else engine.asked_at
    state.outbox.say(engine.control, TakeBack(number, ids))


def leave_queue(state: State, task: Task) -> None:
    """Take a waiting task out of where it waits."""
    before, task.state = task.state, TaskState.ENDED
    if before == TaskState.BLOCKED:
        lines.leave(state, task)
    elif not task.options.ordered:
        state.queue_for(task).withdraw(task)


def withdraw(state: State, task: Task) -> None:
    """A task that is to be stopped was given back by its engine: it ends, never begun."""
    stop = state.stops[task.id]
    state.end(task, stop.result(task))


def on_answer(state: State, engine: Engine, number: int, now: float) -> None:
    """An engine said what it gave back of tasks that are to be stopped; interrupt those that have begun."""
    for task_id in engine.withdrawals.pop(number, ()):
        task, stop = state.tasks.get(task_id), state.stops.get(task_id)
        if task is None or stop is None or task.engine != engine.id or task.state != TaskState.ASSIGNED:
            continue
        if stop.interrupt:
            _interrupt(state, engine, task_id, stop, now)
        else:
            del state.stops[task_id]
            for request in stop.requests:
                request.spared.add(task.root)
                request.settle(state, task.root, stopped=False)


def _interrupt(state: State, engine: Engine, task_id: int, stop: Stop, now: float) -> None:
    """Interrupt a running task, and see to it that this is done again."""
    state.outbox.say(engine.control, Interrupt(task_id))
    if task_id not in stop.repeated:
        stop.repeated.add(task_id)
        state.at(now + AGAIN_S, _interrupt_again, state, task_id, stop, engine.incarnation)


def _interrupt_again(state: State, task_id: int, stop: Stop, incarnation: int, now: float) -> None:
    stop.repeated.discard(task_id)
    task = state.tasks.get(task_id)
    if task is None or state.stops.get(task_id) is not stop or task.state != TaskState.ASSIGNED or now >= stop.until:
        return
    engine = state.engines[task.engine]
    if engine.incarnation == incarnation:
        _interrupt(state, engine, task_id, stop, now)


def on_started(state: State, engine: Engine, task_id: int, now: float, elapsed_s: float = 0.0) -> None:
    """A task with a time limit begins, or began that long ago."""
    task = engine.assigned.get(task_id)
    if task is not None and task.options.timeout_s is not None:
        state.at(
            now + task.options.timeout_s - elapsed_s, _time_is_up, state, task_id, task.attempt, engine.incarnation
        )


def _time_is_up(state: State, task_id: int, attempt: int, incarnation: int, now: float) -> None:
    task = state.tasks.get(task_id)
    if task is None or task.state != TaskState.ASSIGNED or task.attempt != attempt or task_id in state.stops:
        return
    engine = state.engines[task.engine]
    if engine.incarnation != incarnation:
        return
    sentence = f"stopped at its time limit of {task.options.timeout_s:g} s"
    stop = state.stops[task.id] = Stop(Status.TIMEOUT, sentence, TIMEOUT_GRACE_S, interrupt=True)
    stop.hurry(now, TIMEOUT_GRACE_S)
    state.note(stop.move([task.id]))
    _interrupt(state, engine, task.id, stop, now)
    state.at(now + TIMEOUT_GRACE_S, _kill, state, engine.id, incarnation, [task.id])


def restore_stop(state: State, task: Task, stopped: Stopped) -> None:
    """An earlier controller was about to stop this task: go on with it, as soon as its engine is back."""
    status = Status(stopped.status)
    stop = Stop(status, stopped.sentence, stopped.grace_s, interrupt=stopped.interrupt)
    stop.hurry(state.now, stop.grace_s)
    state.stops[task.id] = stop
    engine = state.engines[task.engine]
    ask_back(state, engine, [task.id])
    if stop.grace_s is not None:
        state.at(state.now + stop.grace_s, _kill, state, engine.id, engine.incarnation, [task.id])


def _kill(state: State, engine_id: int, incarnation: int, ids: list[int], _now: float) -> None:
    """The grace of some tasks is over: if one still runs, end its engine."""
    engine = state.engines.get(engine_id)
    if engine is None or engine.incarnation != incarnation or not engine.is_running:
        return
    for task_id in ids:
        task = engine.assigned.get(task_id)
        if task is not None and task_id in state.stops:
            fleet.kill(state, engine, f"killed to stop task {show_task(TaskId(task.root))}")
            return


def _give_up(state: State, request: CancelRequest, _now: float) -> None:
    """The patience of a cancel that may not kill is over: answer with what was stopped."""
    if request.open:
        request.spared.update(request.open)
        request.open.clear()
        request.answer_if_settled(state)
