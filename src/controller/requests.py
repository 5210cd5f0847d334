"""What clients ask of the engines as a whole: another number of them, fresh ones, signals, and to be told when.

An answer that depends on engines coming or going is given by a `Waiter`. Whatever changes an engine's state raises
`State.fleet_changed`; the waiters are looked through once in the turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ids import EngineId, Incarnation, Peer
from ..wire.messages import Restart, Retire, Scale, Signal, StopEngine, WaitEngines
from . import fleet
from .records import Engine, EngineState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import State


class Waiter:
    """Somebody who waits for engines: answered with `value()` when `ready()`, or with the error of `trouble()`."""

    __slots__ = ("peer", "ready", "request", "trouble", "value")

    def __init__(
        self,
        peer: Peer,
        request: int,
        ready: Callable[[], bool],
        value: Callable[[], object],
        trouble: Callable[[], str],
    ) -> None:
        self.peer = peer
        self.request = request
        self.ready = ready
        self.value = value
        self.trouble = trouble


def on_scale(state: State, peer: Peer, message: Scale) -> None:
    """A client wants another number of engines."""
    if message.n < 0:
        state.reply(peer, message.request, error=f"an engine count cannot be {message.n}")
        return
    present = sorted(e.id for e in state.engines.values() if not e.retiring)
    surplus = present[message.n :]
    for engine_id in surplus:
        fleet.retire(state, state.engines[engine_id])
    missing = message.n - len(present)
    if missing > 0:
        nannies = sorted(state.nannies.values(), key=lambda n: (len(n.engines) / max(1, n.cores), n.host))
        if not nannies:
            state.reply(peer, message.request, error="no host is there to start engines on")
            return
        fleet.add_engines(state, nannies[0], missing)

    # Also those that were to come or go already: the request may be asked again.
    leaving = [engine for engine in state.engines.values() if engine.retiring and missing <= 0]
    settled = (EngineState.READY, EngineState.FAILED)
    coming = [e for _, e in sorted(state.engines.items()) if not e.retiring and e.state not in settled]

    def ready() -> bool:
        return not any(_is_there(state, e) for e in leaving) and all(e.state is EngineState.READY for e in coming)

    wait(state, Waiter(peer, message.request, ready, lambda: fleet.ready_ids(state), lambda: _trouble(state, coming)))


def on_retire(state: State, peer: Peer, message: Retire) -> None:
    """A client wants some engines stopped for good."""
    leaving: list[Engine] = []
    for engine_id, incarnation in message.engines:
        engine = state.engines.get(EngineId(engine_id))
        if engine is None:
            continue  # it is gone: the request may be asked again
        if engine.incarnation > incarnation:
            sentence = (
                f"engine {engine_id} was replaced by a fresh one before it could be stopped; ask again to stop that"
            )
            state.reply(peer, message.request, error=sentence)
            return
        leaving.append(engine)
    for engine in leaving:
        if not engine.retiring:
            fleet.retire(state, engine)
    ids = [engine_id for engine_id, _ in message.engines]

    def ready() -> bool:
        return not any(_is_there(state, engine) for engine in leaving)

    wait(state, Waiter(peer, message.request, ready, lambda: ids, lambda: ""))


def on_restart(state: State, peer: Peer, message: Restart) -> None:
    """A client wants fresh engines under the same ids."""
    ids = sorted(state.engines) if message.engines is None else sorted(set(message.engines))
    unknown = [i for i in ids if i not in state.engines]
    if unknown:
        state.reply(peer, message.request, error=fleet.no_such_engine(state, unknown))
        return
    engines = [state.engines[i] for i in ids]
    before = {engine.id: engine.incarnation for engine in engines}
    before.update({EngineId(i): Incarnation(meant) for i, meant in message.incarnations if i in before})
    for engine in engines:
        if engine.incarnation > before[engine.id] and engine.state is not EngineState.FAILED:
            continue  # it has been replaced since
        if engine.state is EngineState.FAILED:
            engine.failures = 0
            engine.renew()
            fleet.expect(state, engine)
            fleet.start(state, engine.nanny, [engine.key])
        elif engine.is_running:
            fleet.kill(state, engine, "was restarted as asked")
        else:
            before[engine.id] = Incarnation(engine.incarnation - 1)  # a fresh one is on its way already

    def there() -> list[Engine]:
        return [engine for engine in engines if _is_there(state, engine)]

    def ready() -> bool:
        return all(e.incarnation > before[e.id] and e.state is EngineState.READY for e in there())

    wait(state, Waiter(peer, message.request, ready, lambda: ids, lambda: _trouble(state, there())))


def on_signal(state: State, peer: Peer, message: Signal) -> None:
    """A client wants a signal sent to engine processes."""
    ids = sorted(state.engines) if message.engines is None else message.engines
    unknown = [i for i in ids if i not in state.engines]
    if unknown:
        state.reply(peer, message.request, error=fleet.no_such_engine(state, unknown))
        return
    for engine_id in ids:
        engine = state.engines[engine_id]
        if engine.is_running:
            state.outbox.say(engine.nanny, StopEngine(engine.id, engine.incarnation, message.signal))
    state.reply(peer, message.request, ids)


def on_wait_engines(state: State, peer: Peer, message: WaitEngines) -> None:
    """A client wants to know when engines are ready."""
    wanted = message.n

    def staying() -> list[Engine]:
        return [engine for engine in state.engines.values() if not engine.retiring]

    def ready() -> bool:
        if wanted is None:
            return bool(staying()) and all(e.state is EngineState.READY for e in staying())
        return len(fleet.ready_ids(state)) >= wanted

    def trouble() -> str:
        hopeful = sum(e.state is not EngineState.FAILED for e in staying())
        return "" if wanted is not None and hopeful >= wanted else _trouble(state, staying())

    wait(state, Waiter(peer, message.request, ready, lambda: fleet.ready_ids(state), trouble))


def _is_there(state: State, engine: Engine) -> bool:
    return state.engines.get(engine.id) is engine


def _trouble(state: State, engines: list[Engine]) -> str:
    """Return why these engines will not all be ready, as far as we know; empty if they may."""
    for engine in engines:
        if not _is_there(state, engine):
            return fleet.gone_sentence(engine)
    failed = [engine for engine in engines if engine.state is EngineState.FAILED]
    if not failed:
        return ""
    reasons = "; ".join(f"engine {engine.id}: {engine.reason}" for engine in failed[:3])
    return f"{len(failed)} of {len(engines)} engines could not be started: {reasons}"


def wait(state: State, waiter: Waiter) -> None:
    """Have it answered when the time has come, which may be in this turn."""
    state.waiters.append(waiter)
    state.fleet_changed = True


def answer_waiters(state: State) -> None:
    """Answer those whose wait is over, if an engine's state has changed or somebody has come to wait."""
    if not state.fleet_changed:
        return
    state.fleet_changed = False
    left = []
    for waiter in state.waiters:
        if waiter.ready():
            state.reply(waiter.peer, waiter.request, waiter.value())
        elif sentence := waiter.trouble():
            state.reply(waiter.peer, waiter.request, error=sentence)
        else:
            left.append(waiter)
    state.waiters = left
