"""What engines say about tasks: results, output, and what is to be made of their silence when they have died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..ids import TaskId, client_of
from ..recorder import AFTER_LAST, OVER
from ..wire.codec import encode
from ..wire.messages import DeathCertificate, Done, Output, Outputs, Result, Status
from . import pools, setups
from .records import TaskState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Engine, Task
    from .state import State

POISON = 3
"""A task that has ended so many engines is not given to another, whatever its `retries`: it would end them all."""


def on_done(state: State, engine: Engine, message: Done, frames: Sequence[Any]) -> None:
    """An engine reports results. The first branch is the inner loop of the controller's receiving side."""
    assigned, tasks, clients = engine.assigned, state.tasks, state.clients
    entries, stops, sought, nodes = state.functions.entries, state.stops, state.sought, state.graph.nodes
    at = 0
    if frames:
        engine.owes_ack = True  # they may be large
    if engine.in_setup:
        engine.in_setup = setups.is_under_way(engine)
    in_setup = engine.in_setup or engine.coroutines > 0 or bool(engine.pinned)  # then all take the long way
    freed_s = 0.0
    begun = engine.begun
    digest, calls, total_s = b"", 0, 0.0  # a run of results of one function
    freed = 0
    go_on = 0
    for result in message.results:
        task = assigned.get(result.id)
        parts: Sequence[Any] = ()
        if result.frames:
            parts = frames[at : at + result.frames]
            at += result.frames
        if task is None:
            if result.objects:
                state.objects.hear(result.objects)
            go_on += 1
            continue  # settled otherwise meanwhile
        if task.order > begun:  # noqa: PLR1730 - calling max() costs more, for every task
            begun = task.order
        result.engine = engine.id
        if result.status == Status.OK and not (
            task.hi
            or task.attempt
            or stops
            or sought
            or in_setup
            or task.objects
            or result.objects
            or (nodes and task.id in nodes)
        ):
            del assigned[task.id], tasks[task.id]
            task.state = TaskState.ENDED
            freed_s += task.cost_s
            if task.function != digest:
                if calls:
                    entry = entries[digest]
                    entry.observe(total_s, calls)
                    if entry.lacking:
                        entry.lacking.discard(engine.key)
                    state.functions.release(digest, calls)
                digest, calls, total_s = task.function, 0, 0.0
            calls += 1
            total_s += result.duration
            client = clients.get(task.client) or state.receiver_of(task)
            nbytes = task.weight or len(task.payload)
            freed += nbytes
            if client is not None:
                client.unfinished -= 1
                client.held_bytes -= nbytes
                client.results.append(result)
                if parts:
                    client.frames.extend(parts)
                state.outbox.to_client(client)
            state.finished += 1
        else:
            engine.load_s -= freed_s  # these may look at the load
            freed_s = 0.0
            if result.objects:
                state.objects.hear(result.objects)
            if task.hi:
                _on_items(state, engine, task, result, parts)
            else:
                _on_call(state, engine, task, result, parts)
            go_on += task.state != TaskState.ENDED
    if calls:
        entry = entries[digest]
        entry.observe(total_s, calls)
        if entry.lacking:
            entry.lacking.discard(engine.key)
        state.functions.release(digest, calls)
    state.held_bytes -= freed
    engine.load_s -= freed_s
    engine.begun = begun
    engine.finished += len(message.results) - go_on
    state.touch(engine)


def _on_call(state: State, engine: Engine, task: Task, result: Result, frames: Sequence[Any]) -> None:
    """A plain call has ended."""
    state.unassign(engine, task)
    entry = state.functions.entries[task.function]
    stop = state.stops.get(task.id)
    if result.status == Status.OK:
        entry.observe(result.duration, 1)
        if entry.lacking:
            entry.lacking.discard(engine.key)
    elif stop is not None:
        result, frames = _stopped(result, stop.status, stop.sentence), ()
    elif result.status == Status.UNMET:
        if _elsewhere(state, engine, task, result):
            state.drop(task)
            return
    elif result.status == Status.ERROR and task.attempt < task.options.retries:
        _try_again(state, task, task.lo, task.hi)
        state.drop(task)
        return
    if task.options.setup is not None:
        setups.on_ended(state, engine, task, result)
    state.end(task, result, frames)


def _stopped(result: Result, status: Status, sentence: str) -> Result:
    """Return the result of user code that ended by our interrupt."""
    result.status, result.payload, result.frames, result.objects = status, sentence.encode(), 0, ()
    return result


def _on_items(state: State, engine: Engine, task: Task, result: Result, frames: Sequence[Any]) -> None:
    """A run of items of a divisible call has ended."""
    lo, hi = result.lo, result.hi
    if not task.lo <= lo < hi <= task.hi:
        return  # not what this engine was asked for (any more)
    entry = state.functions.entries[task.function]
    stop = state.stops.get(task.id)
    again = False
    if result.status == Status.UNMET:
        if stop is not None:
            result, frames = _stopped(result, stop.status, stop.sentence), ()
        else:
            again = _elsewhere(state, engine, task, result)
    else:
        entry.observe(result.duration, hi - lo)
        if entry.lacking:
            entry.lacking.discard(engine.key)
    if result.status == Status.ERROR:
        if stop is not None:
            result, frames = _stopped(result, stop.status, stop.sentence), ()
        elif task.attempt < task.options.retries:
            again = True
            _try_again(state, task, lo, hi)
    _account_items(task, lo, hi)
    engine.load_s -= task.cost_s
    if task.lo < task.hi:
        task.cost_s = state.estimate_s(task)
        engine.load_s += task.cost_s
        if not again:
            state.deliver(task, result, frames)
        if state.idle:
            state.rebalance = True  # its tail may be worth more elsewhere now that we know more
        return
    task.cost_s = 0.0
    state.unassign(engine, task)
    if again:
        state.drop(task)
    else:
        state.end(task, result, frames)


def _account_items(task: Task, lo: int, hi: int) -> None:
    """Note that these items are reported. They come in order but when one socket of the engine overtakes the other."""
    if lo != task.lo:
        task.early = [*(task.early or ()), (lo, hi)]
        return
    task.lo = hi
    while task.early:
        following = next((run for run in task.early if run[0] == task.lo), None)
        if following is None:
            return
        task.early.remove(following)
        task.lo = following[1]


def _try_again(state: State, task: Task, lo: int, hi: int) -> None:
    """Have a call, or these items of it, run again: as a piece with an id of its own, because the same engine may get
    it, whose flight recorder must not be taken to speak of this attempt when it speaks of the last.
    """
    state.enqueue_again(state.split_off(task, lo, hi, attempt=task.attempt + 1))


def _elsewhere(state: State, engine: Engine, task: Task, result: Result) -> bool:
    """What a call, or these items of it, needs is not on this engine. Have it run where that may be, as a piece with an
    id of its own (see `_try_again`); if there is no such engine, say so in the result, and return False.
    """
    sentence = result.payload.decode(errors="replace")
    if task.options.ordered:
        result.payload = f"engine {engine.id} cannot run it: {sentence}".encode()
        return False
    state.functions.entries[task.function].lacking.add(engine.key)
    unmet = pools.lacked(engine, task, sentence)
    pool = pools.pool_of(task, unmet)
    if pool is not None and pools.is_hopeless(state, pool):
        result.payload = pools.in_words(unmet).encode()
        return False
    state.enqueue_again(state.split_off(task, result.lo, result.hi, unmet=unmet))
    return True


# ------------------------------------------------------------------------------------------------------ output


def on_outputs(state: State, engine: Engine, message: Outputs) -> None:
    """Tasks printed or displayed something. It comes before the results that count it, on the same way."""
    for record in message.records:
        task = engine.assigned.get(record.task)
        if task is None:
            _on_late_output(state, engine, record)
            continue
        record.task = task.root
        record.engine = engine.id
        client = state.receiver_of(task)
        if record.kind == setups.REPORT and task.options.setup is not None:
            setups.on_report(engine, task, record)
        elif client is not None:
            client.outputs.append(record)
            state.outbox.to_client(client)


def _on_late_output(state: State, engine: Engine, record: Output) -> None:
    """A thread that has outlived its task printed something. The client may still care: it is told, if it is there.

    No result counts it, so it is not numbered, nor written down. It is not told of a task that is elsewhere by now, and
    whose output there counts; nor of a piece, since whose it was is forgotten.
    """
    if record.task in state.tasks or record.kind == setups.REPORT:
        return
    client = state.clients.get(client_of(TaskId(record.task)))
    if client is not None and client.peer and client.away_since is None:
        record.engine = engine.id
        state.outbox.answer(client.peer, Outputs([record]))  # after the result, if that is of this turn


# ------------------------------------------------------------------------------------------------------ death


def settle(state: State, engine: Engine, certificate: DeathCertificate) -> None:
    """An engine has ended and all it sent has come: decide on what it still had.

    An engine begins its calls in the order in which it was given them, and its flight recorder names the one it was in.
    So of those unreported, the ones before that had run and only their results are lost; that one was running; the ones
    after had not begun and go elsewhere, unharmed. The same follows from a result that came: should an earlier one have
    been lost on its way, its call had run (or was given back, and what said so was lost: nobody can tell). Coroutines
    go on while later calls run: those that had begun are on record too, and whether they had ended. Without a record
    (its host is lost) all may have run.
    """
    tasks = list(engine.assigned.values())
    engine.assigned = {}
    engine.coroutines = 0
    engine.pinned, engine.held = {}, {}
    engine.load_s = 0.0
    unknown = certificate.exit_code is None
    deadly = not (unknown or engine.killed)
    recorded = next((task.order for task in tasks if task.id == certificate.task), 0)
    coroutines = dict(certificate.coroutines)
    begun = max(recorded, engine.begun, *(task.order for task in tasks if task.id in coroutines))
    again: list[Task] = []
    for task in tasks:
        finished = unknown or task.order != recorded or certificate.item == AFTER_LAST
        if not unknown and task.order > begun:
            again.append(task)
        elif task.id in coroutines:
            mine = _of_coroutine(certificate, coroutines[task.id])
            _lose(state, task, mine, again, running=mine.running, deadly=deadly and _is_suspect(task, certificate))
        elif task.hi:
            item = task.hi if finished else min(max(certificate.item, task.lo), task.hi)
            guilty = deadly and _is_suspect(task, certificate)
            _settle_items(state, task, item, certificate, again, unknown=unknown, deadly=guilty)
        else:
            guilty = deadly and _is_suspect(task, certificate)
            _lose(state, task, certificate, again, running=unknown or not finished, deadly=guilty)
    for task in reversed(again):
        if task.id in state.stops:
            state.end(task, state.stops[task.id].result(task))
        else:
            state.enqueue_again(task)


def _is_suspect(task: Task, certificate: DeathCertificate) -> bool:
    """Return whether a task may have ended its engine, if it was running: its code ran, or none did but coroutines were
    waiting, for threads of theirs perhaps.
    """
    if certificate.step is not None:
        return certificate.step == task.id
    return certificate.item == AFTER_LAST or certificate.task == task.id


def _of_coroutine(certificate: DeathCertificate, since: float) -> DeathCertificate:
    """Return the certificate as it concerns one of the coroutines on record."""
    over = since == OVER
    return msgspec.structs.replace(certificate, item=AFTER_LAST if over else 0, since=since, running=not over)


def _settle_items(
    state: State,
    task: Task,
    item: int,
    certificate: DeathCertificate,
    again: list[Task],
    *,
    unknown: bool,
    deadly: bool,
) -> None:
    """Decide on the unreported items of a divisible call; the engine ended in this item (or after all: `task.hi`)."""
    reported = task.early or []
    for lo, hi in _gaps(task.lo, item, reported):
        _lose(state, state.split_off(task, lo, hi), certificate, again, running=unknown, deadly=False)
    for lo, hi in _gaps(item, min(item + 1, task.hi), reported):
        _lose(state, state.split_off(task, lo, hi), certificate, again, running=True, deadly=deadly)
    again.extend(state.split_off(task, lo, hi) for lo, hi in _gaps(item + 1, task.hi, reported))  # had not begun
    state.drop(task)


def _gaps(lo: int, hi: int, reported: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the runs within `lo <= i < hi` that are not reported."""
    gaps = []
    for begin, end in sorted(reported):
        if begin > lo and lo < hi:
            gaps.append((lo, min(begin, hi)))
        lo = max(lo, end)
    if lo < hi:
        gaps.append((lo, hi))
    return gaps


def _lose(
    state: State, task: Task, certificate: DeathCertificate, again: list[Task], *, running: bool, deadly: bool
) -> None:
    """A task (or piece) went down with its engine: another attempt if its owner allows, else its end.

    `deadly`: the engine ended by itself, so if this was running, it is the likely cause.
    """
    history = task.deaths or []
    if running and deadly:
        task.deaths = [*history, f"engine {certificate.engine} ({certificate.reason})"]
    deaths = task.deaths or []
    stop = state.stops.get(task.id)
    if stop is not None:
        state.end(task, stop.result(task))
    elif task.attempt < task.options.retries and len(deaths) < POISON:
        task.attempt += 1
        state.note_piece(task)
        again.append(task)
    else:
        mine = msgspec.structs.replace(
            certificate, task=task.root, item=task.lo, running=running, history=history, coroutines=[], step=None
        )
        state.end(task, Result(task.id, Status.LOST, encode(mine), engine=certificate.engine, lo=task.lo, hi=task.hi))
