"""How much the controller holds for its clients, and who is to hold back.

What counts: tasks that have not ended (payload, frames, and what the books of each take), and results and output that
a client has not confirmed. It is kept by sums, where these come and go. A task weighs on all, results on those that do
not fetch them.

A client holds back (`Hold`) that has more here than `SHARE` times what is free of the limit, and goes on at half of
that. So one client alone gets most of the memory, several greedy ones the same each, and there is always room left for
another: nobody's million tasks keep out the one task of somebody else. A client with little here (`LEAST_BYTES`) is
never held. Beyond the limit come only what was on its way when a client was told to hold back, which is what it may
leave unconfirmed (`room`), and that little of each.

**Nobody waits for ever.** A client that is held has tasks or results here.

- Its results are taken in by its I/O thread, which never waits; confirming them frees memory. One that does not confirm
  weighs on itself alone, and one that is away holds up nobody: what it is owed came of tasks that were let in.
- Tasks end, or their client cancels them, which needs no room: only submitting waits. They need engines, and what they
  wait for are other tasks, which are here before them: none waits for one that is held back. An engine may itself be in
  a task that submits others, and with all engines so, a wait for room would wait for its own end. So a client in an
  engine's process is never held, and waits for nothing (`Welcome.room` is 0).
- A user's thread that submits without end, and would release what its tasks wait for only afterwards, waits for itself.
  That is in its program, and Ctrl-C ends it: what was not submitted is not half submitted.

Whether somebody is held is nowhere written down: a controller that takes over says it in its welcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ids import CONTROLLER_NO
from ..wire.messages import Hold, Outputs, Results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.messages import Numbered, Output, Result
    from .records import Client, Task
    from .state import State

TASK_BYTES = 350
"""What a waiting task takes besides its payload: measured, with what the allocator adds (`benchmarks/queued.py`)."""

RESULT_BYTES = 250
"""The same for a result, or output, on its way."""

FRAME_BYTES = 300
"""The same for a frame."""

SHARE = 8
"""A client is held that has more than so many times what is free."""

LEAST_BYTES = 1 << 18
"""One that has no more than this, or a hundredth of the limit, is not."""

FLOOD_TASKS = 20_000
"""So many tasks at a time take memory that is worth giving back,"""

EBB = 8
"""when there are so many times fewer,"""

EBB_S = 2.0
"""and after so long: then their results are confirmed,"""

EBBS = 3
"""or some time later: it is done again so often at the most, while some are not."""

ROOMS = 4
"""A client may leave a part of the limit unconfirmed: one of so many."""

ACK_BYTES = 1 << 20
"""A client is told at once that we have what it said when that was so much, or an eighth of what it may leave
unconfirmed."""


# ----------------------------------------------------------------------------------------------------------- weights


def weigh_frames(frames: Sequence[Any]) -> int:
    """Return what frames take."""
    return sum(map(_nbytes_of, frames)) + FRAME_BYTES * len(frames)


def _nbytes_of(frame: Any) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


def weigh(payload: bytes, frames: Sequence[Any], copies: int = 1) -> int:
    """Return what a task takes besides its place in the books, of several that share what they have."""
    return max(1, (len(payload) + weigh_frames(frames)) // max(1, copies))


def weight_of(task: Task) -> int:
    """Return what a task takes besides its place in the books."""
    return task.weight or len(task.payload)


def weigh_results(results: Sequence[Result], frames: Sequence[Any]) -> int:
    """Return what results take until their client has confirmed them."""
    payloads = sum([len(result.payload) for result in results])
    return payloads + RESULT_BYTES * len(results) + (weigh_frames(frames) if frames else 0)


def weigh_outputs(records: Sequence[Output]) -> int:
    """Return what output takes until its client has confirmed it."""
    return sum([_weigh_data(record.data) for record in records]) + RESULT_BYTES * len(records)


def _weigh_data(data: Any) -> int:
    """Return what some MessagePack value takes, roughly."""
    total, left = 0, [data]
    while left:
        value = left.pop()
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        total += 50
    return total


def weigh_message(message: Numbered, frames: Sequence[Any]) -> int:
    """Return what a message to a client takes until it is confirmed."""
    match message:
        case Results():
            return weigh_results(message.results, frames)
        case Outputs():
            return weigh_outputs(message.records)
    return 0


# ------------------------------------------------------------------------------------------------------- the account


def enter(state: State, client: Client, nbytes: int) -> None:
    """Tasks of a client have come that take so much besides their places."""
    state.held_bytes += nbytes
    client.held_bytes += nbytes


def leave(state: State, task: Task) -> None:
    """A task of a client has ended, with all its pieces."""
    nbytes = weight_of(task)
    state.held_bytes -= nbytes
    client = state.clients.get(task.client)
    if client is not None:
        client.held_bytes -= nbytes


def weigh_again(state: State, task: Task) -> None:
    """A task has got other arguments: values that were still to come are among them."""
    client = state.clients.get(task.client)
    before, task.weight = weight_of(task), weigh(task.payload, task.frames)
    state.held_bytes += task.weight - before
    if client is not None:
        client.held_bytes += task.weight - before


def count(state: State) -> tuple[int, dict[int, int]]:
    """Return what all tasks take besides their places, and those of each client: looking at all of them."""
    total, of_client = 0, dict.fromkeys(state.clients, 0)
    seen: set[int] = set()
    for task in state.tasks.values():
        if task.root not in seen and task.client != CONTROLLER_NO:
            seen.add(task.root)
            total += weight_of(task)
            if task.client in of_client:
                of_client[task.client] += weight_of(task)
    return total, of_client


def restored(state: State) -> None:
    """The tasks of an earlier controller are in the books."""
    state.held_bytes, of_client = count(state)
    for no, nbytes in of_client.items():
        state.clients[no].held_bytes = nbytes


def check(state: State) -> None:
    """Assert that the sums are right."""
    total, of_client = count(state)
    assert state.held_bytes == total, f"tasks are said to take {state.held_bytes} bytes, and take {total}"
    for no, nbytes in of_client.items():
        assert state.clients[no].held_bytes == nbytes, f"those of client {no}"
    assert state.holding <= state.clients.keys()


def used(state: State) -> int:
    """Return what all tasks take, about."""
    return state.held_bytes + TASK_BYTES * len(state.tasks)


# ------------------------------------------------------------------------------------------------------------- floods


def is_calm(state: State) -> bool:
    """Return whether a flood of tasks is over, its results confirmed too."""
    open_ = len(state.tasks)
    if open_ > state.peak:
        state.peak = open_
    elif state.peak > FLOOD_TASKS and open_ * EBB < state.peak:
        state.peak = open_
        state.at(state.now + EBB_S, _calm, state, EBBS)
    calm, state.calm = state.calm, False
    return calm


def _calm(state: State, again: int, now: float) -> None:
    state.tasks = dict(state.tasks)  # one that was large stays so
    state.compact_open()
    state.calm = True
    if again and any(len(client.outgoing) for client in state.clients.values()):
        state.at(now + EBB_S, _calm, state, again - 1)


# -------------------------------------------------------------------------------------------------------- holding back


def welcome(state: State, client: Client) -> tuple[int, bool]:
    """Return how much a client may leave unconfirmed, and whether it is to hold back: it has said its hello."""
    client.is_engine = any(
        engine.pid == client.pid and engine.host == client.host for engine in state.engines.values() if client.pid
    )
    state.holding.discard(client.no)
    if not state.memory_limit or client.is_engine:
        return 0, False
    if _is_beyond(state, client, SHARE):
        state.holding.add(client.no)
    return _room(state), client.no in state.holding


def _room(state: State) -> int:
    return max(LEAST_BYTES, state.memory_limit // ROOMS)


def came(state: State, client: Client, nbytes: int) -> None:
    """A message with tasks has come from a client: it may wait to hear that, having sent much."""
    client.unacked += nbytes
    if client.unacked >= min(ACK_BYTES, _room(state) // 8):
        client.unacked = 0
        client.owes_ack = True


def look(state: State, client: Client) -> None:
    """Something came from a client: have it hold back, if it has too much here."""
    if not state.memory_limit or client.is_engine or client.no in state.holding or client.away_since is not None:
        return
    if _is_beyond(state, client, SHARE):
        state.holding.add(client.no)
        state.outbox.say(client.peer, Hold(on=True))


def release(state: State) -> None:
    """Have those go on who need not hold back any more."""
    for no in list(state.holding):
        client = state.clients.get(no)
        if client is None or client.away_since is not None:
            state.holding.discard(no)  # if it comes back, its welcome says how it is then
        elif not _is_beyond(state, client, SHARE / 2):
            state.holding.discard(no)
            state.outbox.say(client.peer, Hold(on=False))


def _is_beyond(state: State, client: Client, share: float) -> bool:
    """Return whether a client has more here than so many times what is free (as if what it did not fetch weighed on
    all).
    """
    owed = client.outgoing.nbytes
    mine = client.held_bytes + TASK_BYTES * client.unfinished + owed
    free = state.memory_limit - used(state) - owed
    return mine > max(share * free, min(LEAST_BYTES, state.memory_limit // 100))
