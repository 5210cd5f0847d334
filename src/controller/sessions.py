"""Engines and nannies that arrive, and that come back after a connection or a controller has broken.

Who comes back says what it has, and that is the truth: an engine says which calls it holds (`Holding`), a nanny which
processes it runs and how those that ended have ended. What the books say beyond that never arrived, and is said again;
what they do not know of is ended. Until it has spoken, an engine is `AWAY`: it is given nothing.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from ..wire.messages import (
    VERSION,
    Ack,
    DeathCertificate,
    EngineHello,
    EngineWelcome,
    Holding,
    NannyHello,
    NannyWelcome,
    Refused,
    Running,
    StopEngine,
    TakeBack,
)
from . import fleet, handles, pulls, setups, stopping, taking
from .journal.ledger import NannyIs
from .records import Engine, EngineState, Nanny

if TYPE_CHECKING:
    from ..ids import Peer
    from ..wire.messages import Source
    from .state import State

ENGINE_AWAY_S = 30.0
"""An engine that does not come back within this time, and whose end nobody has reported, is killed, so that its tasks
are settled."""

NANNY_AWAY_S = 60.0
"""A nanny that does not come back within this time is lost, and its host with it."""

ACK_EVERY = 16
"""An engine is told what has come from it with its next calls, at once if that may be large, after so many messages, or
when clients are probed. Until then it keeps what it has sent."""


# ------------------------------------------------------------------------------------------------------ engines


def on_engine_hello(state: State, peer: Peer, message: EngineHello, now: float) -> None:
    """An engine process is ready for work, or back. It is not before its control socket has been heard of, which is
    connected first, but on a way of its own: what was said to that before would be lost.
    """
    engine = state.engine_peers.get(peer)
    if message.version != VERSION:
        state.outbox.say(peer, Refused(fleet.version_sentence("engine", message.version)))
        return
    if engine is None or engine.peer != peer or engine.state is EngineState.DYING:
        state.outbox.say(peer, Refused(f"no engine {message.engine}.{message.incarnation} is expected to start"))
        return
    fresh = engine.state is EngineState.STARTING
    if fresh and not engine.has_control:
        engine.hello = message
        return
    engine.pid = message.pid
    engine.host = message.host or engine.host
    engine.threads = message.threads
    engine.acked = engine.incoming.have
    engine.session = 0 if fresh else state.next_request()
    state.outbox.say(peer, EngineWelcome(engine.acked, engine.session))
    if fresh:
        _ready(state, engine, fresh=True)
    else:
        engine_away(state, engine, now)


def on_control_hello(state: State, engine: Engine, now: float) -> None:
    """An engine's control socket is connected."""
    engine.has_control = True
    hello, engine.hello = engine.hello, None
    if hello is not None:
        on_engine_hello(state, engine.peer, hello, now)


def _ready(state: State, engine: Engine, *, fresh: bool = False) -> None:
    engine.state = EngineState.READY
    setups.give(state, engine, fresh=fresh)
    if not setups.is_under_way(engine):
        engine.failures = 0
    state.announce(engine)
    state.touch(engine)
    state.fleet_changed = True


def engine_away(state: State, engine: Engine, now: float) -> None:
    """What an engine was sent may be lost: give it nothing until it has said what it has."""
    if engine.state is EngineState.READY:
        engine.state = EngineState.AWAY
        state.announce(engine)
        state.touch(engine)
        state.fleet_changed = True
        expect_back(state, engine, now)


def expect_back(state: State, engine: Engine, now: float) -> None:
    """An engine is away: see to it that this ends."""
    engine.version += 1
    state.at(now + ENGINE_AWAY_S, _kill_if_away, state, engine, engine.incarnation)


def _kill_if_away(state: State, engine: Engine, incarnation: int, _now: float) -> None:
    if engine.incarnation == incarnation and engine.state is EngineState.AWAY and engine.nanny in state.nannies:
        fleet.kill(state, engine, "killed because its connection was lost")


def on_holding(state: State, engine: Engine, message: Holding, now: float) -> None:
    """An engine says what it has to do. All results of what it has done came before."""
    if engine.state is not EngineState.AWAY or message.session != engine.session:
        return
    coroutines = dict(message.coroutines)
    held = {*message.calls, *coroutines}
    if message.running is not None:
        held.add(message.running)
    unknown = [task_id for task_id in message.calls if task_id not in engine.assigned]
    if unknown:
        state.outbox.say(engine.control, TakeBack(state.next_request(), unknown))
    missing = [task for task in engine.assigned.values() if task.id not in held]
    for task in missing:
        state.unassign(engine, task)
    running = None if message.running is None else engine.assigned.get(message.running)
    if running is not None and running.lo <= message.hi < running.hi:  # it has given up its tail, unheard
        missing.append(taking.split(state, engine, running, message.hi))
    taking.back_to_queue(state, missing)
    engine.known = set(message.functions)
    engine.taking, engine.withdrawals, engine.dismissed, engine.asked_at = 0, {}, False, None
    to_stop = [task_id for task_id in engine.assigned if task_id in state.stops]
    if to_stop:  # the question, or the interrupt that followed, may be lost
        stopping.ask_back(state, engine, to_stop)
    _ready(state, engine)
    if running is not None and running.id in engine.assigned:
        stopping.on_started(state, engine, running.id, now, message.elapsed_s)
    for task_id, elapsed_s in coroutines.items():
        stopping.on_started(state, engine, task_id, now, elapsed_s)


def ack_engines(state: State) -> None:
    """Tell engines what has come from them, if it is much and they have not been told with new calls."""
    for side in state.heard.values():
        if isinstance(side, Engine) and (side.owes_ack or side.incoming.have - side.acked >= ACK_EVERY):
            ack(state, side)


def ack(state: State, engine: Engine) -> None:
    """Tell an engine what has come from it, if it has not been told."""
    engine.owes_ack = False
    if engine.acked < engine.incoming.have and engine.state is EngineState.READY:
        engine.acked = engine.incoming.have
        state.outbox.say(engine.peer, Ack(engine.acked))


# ------------------------------------------------------------------------------------------------------ nannies


def on_nanny_hello(state: State, peer: Peer, message: NannyHello) -> None:
    """A host joins with room for some engines, or is back."""
    if message.version != VERSION:
        state.outbox.say(peer, Refused(fleet.version_sentence("nanny", message.version)))
        return
    nanny = state.nannies.get(peer)
    known = nanny is not None
    if nanny is None:
        nanny = Nanny(peer, message.host, message.pid, message.cores, head=message.head)
        nanny.wanted = message.engines
        nanny.resources = message.resources
        state.nannies[peer] = nanny
    nanny.away_since = None
    if nanny.store != message.store:
        know_store(state, nanny, message.store)
        if known:
            state.note(nanny_is(nanny))
    nanny.session = state.next_request() if known or message.welcomed else 0
    nanny.asked = {state.engines[i].key for i in nanny.engines}
    nanny.stock = state.objects.stock_of(nanny.store)
    state.outbox.say(peer, NannyWelcome(nanny.session))
    if not nanny.session:
        _join(state, nanny)


def _join(state: State, nanny: Nanny) -> None:
    wanted, nanny.wanted = nanny.wanted or 0, None
    state.note(nanny_is(nanny))
    fleet.add_engines(state, nanny, wanted)


def know_store(state: State, nanny: Nanny, store: Source | None) -> None:
    """A nanny has this store now."""
    before, nanny.store = nanny.store, store
    if before is not None and (store is None or store.store != before.store):
        state.objects.store_lost(before.store)
        pulls.store_lost(state, before.store, state.now)
    if store is not None:
        state.objects.stores[store.store] = nanny.peer


def nanny_is(nanny: Nanny) -> NannyIs:
    """Return what is to be written down of a nanny."""
    offers = msgspec.msgpack.encode(nanny.resources)
    store = msgspec.msgpack.encode(nanny.store)
    return NannyIs(nanny.peer, nanny.host, nanny.pid, nanny.cores, nanny.head, offers, store)


def on_running(state: State, nanny: Nanny, message: Running, now: float) -> None:
    """A nanny says what it runs, and how what it ran has ended. What it was asked to start since is not in it."""
    if message.session != nanny.session:
        return
    handles.on_stock(state, nanny, message, now)
    ended = {(end.engine, end.incarnation): end for end in message.ended}
    running = set(message.running)
    if nanny.wanted is not None:  # of a host that was given up, or by a controller that we know nothing of
        for number, incarnation in (*running, *ended):
            if number not in state.engines:
                state.gone[number] = max(incarnation, state.gone.get(number, 0))
        _join(state, nanny)
    pulls.store_back(state, nanny, now)
    to_start: list[tuple[int, int]] = []
    for engine_id in sorted(nanny.engines):
        engine = state.engines[engine_id]
        key = engine.key
        if engine.state in (EngineState.DYING, EngineState.FAILED) or key not in nanny.asked:
            continue
        if key in ended:
            fleet.begin_end(state, engine, ended[key], now)
        elif key in running:
            if engine.killed:
                fleet.kill(state, engine, engine.reason)
        elif engine.state is EngineState.STARTING:
            to_start.append(key)
        else:
            gone = DeathCertificate(*key, engine.pid, None, "ended while nobody looked")
            fleet.begin_end(state, engine, gone, now)
    if to_start:
        fleet.start(state, nanny.peer, to_start)
    for number, incarnation in sorted(running):
        present = state.engines.get(number)
        if present is None or present.nanny != nanny.peer or present.incarnation > incarnation:
            state.outbox.say(nanny.peer, StopEngine(number, incarnation, signal.SIGKILL))


def nanny_away(state: State, nanny: Nanny, now: float) -> None:
    """A nanny cannot be reached: wait for it a while."""
    if nanny.away_since is None:
        nanny.away_since = now
        state.at(now + NANNY_AWAY_S, _lose_if_away, state, nanny)


def _lose_if_away(state: State, nanny: Nanny, now: float) -> None:
    if state.nannies.get(nanny.peer) is not nanny or nanny.away_since is None:
        return
    if now - nanny.away_since >= NANNY_AWAY_S - 1e-6:
        fleet.nanny_lost(state, nanny, "its host is lost", now)
