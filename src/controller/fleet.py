"""Engines and nannies: who is there, and who is to be started, stopped or replaced.

An engine id keeps its place: when its process ends, the nanny of its host starts another under the same id, with a
higher incarnation. A process that ends before it is ready is tried again with growing pauses, and given up after a few.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from ..ids import EngineId, Incarnation, Peer
from ..wire.messages import (
    VERSION,
    DeathCertificate,
    EngineExited,
    Exit,
    Result,
    StartEngines,
    Status,
    StopEngine,
)
from . import lines, outcomes, pools, pulls, resources, setups
from .journal.ledger import Heard, NannyGone
from .records import Engine, EngineState, TaskState

if TYPE_CHECKING:
    from .pools import Pool
    from .records import Nanny, Task
    from .state import State

SETTLE_S = 0.02
"""After an engine's end is known, how long to wait for what it had sent before. Only the quality of the account depends
on it: a result that comes later finds its task settled, and is dropped."""

TRIES = 3
"""How many processes of an engine may end before they are ready until the engine is given up."""

PAUSE_S = 0.25
"""Pause before the second try; it doubles each time."""


def ready_ids(state: State) -> list[int]:
    """Return the ids of the engines that are ready, in order."""
    return sorted(e.id for e in state.engines.values() if e.state is EngineState.READY and not e.retiring)


# ------------------------------------------------------------------------------------------------------ arrivals


def version_sentence(who: str, version: int) -> str:
    """Return why a peer of another version is refused."""
    return (
        f"this {who} speaks version {version} of the protocol and the controller version {VERSION}; "
        "install the same version of enginery on both sides"
    )


def add_engines(state: State, nanny: Nanny, count: int) -> list[EngineId]:
    """Have a nanny start engines under the lowest ids that are free; return these."""
    ids: list[EngineId] = []
    candidate = 0
    while len(ids) < count:
        if candidate not in state.engines:
            engine_id = EngineId(candidate)
            engine = Engine(engine_id, nanny.peer, nanny.host, state.gone.pop(engine_id, 0))
            state.engines[engine_id] = engine
            nanny.engines.add(engine_id)
            expect(state, engine)
            ids.append(engine_id)
        candidate += 1
    if ids:
        start(state, nanny.peer, [(i, state.engines[i].incarnation) for i in ids])
    return ids


def start(state: State, peer: Peer, engines: list[tuple[int, int]]) -> None:
    """Have a nanny start these engine processes: `(engine, incarnation)` each."""
    nanny = state.nannies.get(peer)
    state.outbox.say(peer, StartEngines(engines, len(nanny.engines) if nanny is not None else 0))


def expect(state: State, engine: Engine) -> None:
    """An incarnation of an engine is to come: know it by its sockets, and tell the clients."""
    state.engine_peers[engine.peer] = engine
    state.engine_peers[engine.control] = engine
    state.announce(engine)


# ------------------------------------------------------------------------------------------------------ ends


def on_engine_exited(state: State, peer: Peer, message: EngineExited, now: float) -> None:
    """A nanny reports the end of an engine process."""
    certificate = message.certificate
    engine = state.engines.get(certificate.engine)
    if engine is None or engine.nanny != peer or engine.incarnation != certificate.incarnation:
        return
    begin_end(state, engine, certificate, now)


def begin_end(state: State, engine: Engine, certificate: DeathCertificate, now: float) -> None:
    """An engine's process has ended: settle its tasks when all that it had sent has come."""
    if engine.state in (EngineState.DYING, EngineState.FAILED):
        return
    if engine.state is EngineState.STARTING:
        engine.failures += 1
    engine.state = EngineState.DYING
    state.touch(engine)
    state.announce(engine)
    state.at(now + SETTLE_S, _finish_end, state, engine, certificate)


def _finish_end(state: State, engine: Engine, certificate: DeathCertificate, now: float) -> None:
    """All that the process had sent has come: settle its tasks, then replace it or let its id go."""
    del state.engine_peers[engine.peer], state.engine_peers[engine.control]
    state.heard.pop(engine.peer, None)
    state.note(Heard(engine.peer, 0))
    reason = engine.reason or certificate.reason
    named = msgspec.structs.replace(certificate, pid=engine.pid or certificate.pid, reason=reason)
    setup = setups.ended_in(engine, certificate)
    if setup:  # it has not started for good
        engine.failures += 1
        reason = f"{reason} in its set-up {setup}"
    outcomes.settle(state, engine, named)
    nanny = state.nannies.get(engine.nanny)
    if engine.retiring or nanny is None or state.stopping:
        _remove(state, engine, reason)
    elif engine.failures >= TRIES:
        engine.state = EngineState.FAILED
        state.keep(engine)
        engine.reason = f"{reason}; {certificate.last_output}".rstrip("; ")
        refuse_direct(state, engine, f"engine {engine.id} could not be started: {engine.reason}")
        _refuse_pools(state)
    else:
        engine.renew()
        expect(state, engine)
        pause = PAUSE_S * 2 ** (engine.failures - 1) if engine.failures else 0.0
        if pause:
            state.at(now + pause, _start, state, engine, engine.incarnation)
        else:
            start(state, engine.nanny, [engine.key])
    state.fleet_changed = True


def _start(state: State, engine: Engine, incarnation: Incarnation, _now: float) -> None:
    if engine.incarnation == incarnation and engine.nanny in state.nannies and not engine.retiring:
        start(state, engine.nanny, [engine.key])


def _remove(state: State, engine: Engine, reason: str) -> None:
    """An engine id goes for good; nothing can be addressed to it any more."""
    del state.engines[engine.id]
    state.gone[engine.id] = engine.incarnation
    state.keep(engine)
    state.retiring.discard(engine.id)
    state.idle.discard(engine.id)
    state.laden.discard(engine.id)
    state.direct_ready.discard(engine.id)
    nanny = state.nannies.get(engine.nanny)
    if nanny is not None:
        nanny.engines.discard(engine.id)
    engine.reason = reason or "it was stopped"
    refuse_direct(state, engine, gone_sentence(engine))
    _refuse_pools(state)


def gone_sentence(engine: Engine) -> str:
    """Return what to say of an engine whose id was let go."""
    return f"engine {engine.id} is not there any more: {engine.reason}"


def refuse_direct(state: State, engine: Engine, sentence: str) -> None:
    """End the tasks that wait for one engine, which will not come."""
    waiting = [task for task in engine.direct if task.state == TaskState.WAITING]
    waiting += lines.take_line(state, engine)
    engine.direct.clear()
    for task in waiting:
        task.state = TaskState.ENDED
        state.refuse(task, sentence)


def _refuse_pools(state: State) -> None:
    """End the tasks that wait for engines none of which will come."""
    for pool, queue in list(state.pools.items()):
        if pools.is_hopeless(state, pool):
            for task in list(queue):
                task.state = TaskState.ENDED
                queue.withdraw(task)
                give_up(state, task, pool)
            del state.pools[pool]


def give_up(state: State, task: Task, pool: Pool) -> None:
    """End a task that no engine can serve."""
    if task.unmet is not None:
        sentence = pools.in_words(task.unmet)
        state.end(task, Result(task.id, Status.UNMET, sentence.encode(), lo=task.lo, hi=task.hi))
    else:
        state.refuse(task, why_hopeless(state, pool))


def why_hopeless(state: State, pool: Pool) -> str:
    """Return why no engine can serve tasks of a pool."""
    if pool.targets is not None and not any(can_serve(state, target) for target in pool.targets):
        return why_not(state, pool.targets)
    return resources.why_not_offered(state, pool.resources)


def can_serve(state: State, engine_id: int) -> bool:
    """Return whether this engine is there, or will be, to run what is addressed to it."""
    engine = state.engines.get(engine_id)
    return engine is not None and engine.state is not EngineState.FAILED and not engine.retiring


def why_not(state: State, targets: tuple[int, ...]) -> str:
    """Return why none of these engines can serve."""
    for engine in (state.engines[t] for t in targets if t in state.engines):
        if engine.retiring:
            return f"engine {engine.id} is being stopped"
        return f"engine {engine.id} could not be started: {engine.reason}"
    return no_such_engine(state, list(targets))


def nanny_lost(state: State, nanny: Nanny, reason: str, now: float) -> None:
    """A host is gone, and its engines with it."""
    del state.nannies[nanny.peer]
    if nanny.store is not None:
        state.objects.store_lost(nanny.store.store)
        pulls.store_lost(state, nanny.store.store, now)
    state.note(NannyGone(nanny.peer))
    for engine_id in sorted(nanny.engines):
        engine = state.engines.get(engine_id)
        if engine is None:
            continue
        if engine.state is EngineState.FAILED:
            _remove(state, engine, reason)
        else:
            certificate = DeathCertificate(engine.id, engine.incarnation, engine.pid, None, reason)
            begin_end(state, engine, certificate, now)
    _refuse_pools(state)
    state.fleet_changed = True


def kill(state: State, engine: Engine, reason: str) -> None:
    """End an engine's process for sure; it will be replaced unless it is retiring."""
    engine.reason = reason
    engine.killed = True
    state.keep(engine)
    state.outbox.say(engine.nanny, StopEngine(engine.id, engine.incarnation, signal.SIGKILL))


# ------------------------------------------------------------------------------------------------------ leaving


def retire(state: State, engine: Engine) -> None:
    """Have an engine end as soon as it has nothing to do."""
    engine.retiring = True
    state.retiring.add(engine.id)
    if engine.state is EngineState.FAILED:
        _remove(state, engine, "")
        return
    state.touch(engine)
    state.announce(engine)
    refuse_direct(state, engine, f"engine {engine.id} is being stopped")
    _refuse_pools(state)
    if engine.state is EngineState.STARTING:
        kill(state, engine, "was stopped as asked")  # it may take long to be ready, or pause between two tries


def _let_go(state: State, engine: Engine) -> None:
    if engine.state is EngineState.READY and not engine.assigned and not engine.dismissed:
        engine.dismissed = True
        engine.reason = "was stopped as asked"
        state.outbox.say(engine.control, Exit())


def let_retired_go(state: State) -> None:
    """End the retiring engines that have become idle, as soon as they are (or have become ready only to be told so)."""
    for engine_id in state.retiring:
        _let_go(state, state.engines[engine_id])


def no_such_engine(state: State, unknown: list[int]) -> str:
    """Return the sentence for engine ids that are not there."""
    there = ", ".join(map(str, sorted(state.engines))) or "none"
    return f"there is no engine {', '.join(map(str, unknown))}; there are: {there}"
