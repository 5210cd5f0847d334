"""The controller's core: everything it decides, as a machine without input, output or clock.

Drive it like this (see `server.turn`):

```
core.receive(sender, message, frames, now)   # something was said
core.lost(peer, now)                         # a message could not be sent: someone cannot be reached
core.tick(now)                               # a deadline has come
core.deadline() -> float | None              # when to call tick at the latest
core.take() -> Turn                          # place what is ready; entries to commit, then messages to send
```

Reactions only change the books; placement runs once, in `take`, however many messages came.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..streams import Verdict
from ..wire.messages import (
    Ack,
    Answer,
    AskEngine,
    Cancel,
    ClearSetup,
    ClientHello,
    ControlHello,
    Done,
    EngineExited,
    EngineHello,
    Farewell,
    Fetch,
    Fetched,
    Find,
    Forget,
    GivenBack,
    Goodbye,
    Holding,
    NannyHello,
    Need,
    Numbered,
    ObjectsQuery,
    Outputs,
    Ping,
    Pong,
    Pulled,
    Purge,
    Put,
    Query,
    QueueQuery,
    Recall,
    Recalled,
    Refused,
    Release,
    Reply,
    Restart,
    Resume,
    Retire,
    Running,
    Scale,
    Shutdown,
    Signal,
    Started,
    StatusQuery,
    StoreLeft,
    StoreSeen,
    Submit,
    Unpulled,
    Vanished,
    WaitEngines,
)
from . import (
    asking,
    dependents,
    fetches,
    fleet,
    handles,
    intake,
    memory,
    objects,
    outcomes,
    placement,
    pulls,
    questions,
    requests,
    sessions,
    setups,
    stock,
    stopping,
    taking,
)
from .journal import dump, restore
from .journal.ledger import CONTROLLER, Books, FunctionLeft, Summary
from .outbox import Turn
from .records import EngineState
from .state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from ..ids import Peer
    from .records import Client, Engine

log = logging.getLogger("enginery.controller")

PROBE_S = 5.0
"""How often everybody hears from us in any case: it tells them that we live, and us who cannot be reached."""


class Core:
    """The controller without its sockets."""

    def __init__(
        self, cluster: str, pid: int, now: float, state: State | None = None, *, memory_limit: int = 0
    ) -> None:
        """Begin with empty books, or with those of an earlier controller (`restore`). With a `memory_limit`, clients
        hold back beyond so many bytes.
        """
        self.state = State(cluster) if state is None else state
        self.state.pid = pid
        self.state.memory_limit = memory_limit
        self.state.started = now
        self.state.at(now + PROBE_S, self._probe)

    # ------------------------------------------------------------------------------------------------ in

    def receive(self, sender: Peer, message: msgspec.Struct, frames: Sequence[Any], now: float) -> None:
        """Take a message. Whatever it says, it harms nobody but its sender."""
        state = self.state
        engine = state.engine_peers.get(sender)
        if engine is not None:
            if isinstance(message, Numbered) and not self._is_next(sender, engine, message):
                return
            match message:
                case Done():
                    outcomes.on_done(state, engine, message, frames)
                case Outputs():
                    outcomes.on_outputs(state, engine, message)
                case GivenBack():
                    taking.on_given_back(state, engine, message, now)
                case Answer():
                    asking.on_answer(state, engine, message)
                case Started():
                    stopping.on_started(state, engine, message.task, now)
                case EngineHello():
                    sessions.on_engine_hello(state, sender, message, now)
                case Holding():
                    sessions.on_holding(state, engine, message, now)
                case ControlHello():
                    sessions.on_control_hello(state, engine, now)
                case Goodbye() | Ping():
                    pass
                case _:
                    self._refuse(sender, f"an engine does not send {type(message).__name__}")
            return
        client = state.client_peers.get(sender)
        if client is not None:
            if client.away_since is not None and not isinstance(message, ClientHello | Goodbye):
                state.outbox.say(sender, Resume())  # it has not noticed that its connection was broken
            if isinstance(message, Numbered) and not self._is_next(sender, client, message):
                return
            match message:
                case Submit():
                    if state.stopping:
                        return  # it has been told
                    if sum(task.frames for task in message.tasks) != len(frames):
                        self._refuse(sender, "the frames of a Submit do not match its tasks")
                        return
                    intake.on_submit(state, client, message, frames)
                case Cancel():
                    if message.after <= client.incoming.have:
                        stopping.on_cancel(state, client, message, now)
                    else:
                        state.outbox.say(sender, Resume())  # what it wants to stop may be in what is missing
                case Forget():
                    intake.on_forget(state, client, message)
                case Put():
                    handles.on_put(state, client, message)
                case Release():
                    handles.on_release(state, client, message)
                case Ping():
                    state.outbox.say(sender, Pong())
                case Ack():
                    intake.on_ack(state, client, message.have)
                case ClientHello():
                    intake.on_client_hello(state, sender, message)
                case Goodbye():
                    intake.on_goodbye(state, client, message, now)
                case Scale():
                    requests.on_scale(state, sender, message)
                case Retire():
                    requests.on_retire(state, sender, message)
                case Restart():
                    requests.on_restart(state, sender, message)
                case Signal():
                    requests.on_signal(state, sender, message)
                case WaitEngines():
                    requests.on_wait_engines(state, sender, message)
                case ClearSetup():
                    state.reply(sender, message.request, setups.clear(state))
                case StatusQuery():
                    state.reply(sender, message.request, questions.status(state, now))
                case ObjectsQuery():
                    stock.on_objects_query(state, sender, message, now)
                case AskEngine():
                    asking.on_ask(state, sender, message, now)
                case Find():
                    fetches.on_find(state, sender, message)
                case Fetch():
                    fetches.on_fetch(state, sender, message)
                case Purge():
                    fetches.on_purge(state, sender, message)
                case Query():
                    fetches.on_query(state, sender, message)
                case Recall():
                    fetches.on_recall(state, sender, message)
                case QueueQuery():
                    questions.on_queue_query(state, sender, message)
                case Shutdown():
                    state.reply(sender, message.request, True)
                    self.stop("the cluster was stopped")
                case _:
                    self._refuse(sender, f"a client does not send {type(message).__name__}")
            return
        nanny = state.nannies.get(sender)
        if nanny is not None:
            if nanny.away_since is not None and not isinstance(message, NannyHello):
                state.outbox.say(sender, Resume())
            match message:
                case EngineExited():
                    fleet.on_engine_exited(state, sender, message, now)
                case Shutdown():
                    self.stop("the cluster was stopped")
                case Goodbye():
                    fleet.nanny_lost(state, nanny, "its host left the cluster", now)
                case Ping():
                    state.outbox.say(sender, Pong())
                case NannyHello():
                    sessions.on_nanny_hello(state, sender, message)
                case Running():
                    sessions.on_running(state, nanny, message, now)
                case StoreLeft():
                    handles.on_store_left(state, nanny, message, now)
                case Need():
                    pulls.on_need(state, nanny, message, now)
                case Pulled():
                    pulls.on_pulled(state, nanny, message)
                case Unpulled():
                    pulls.on_unpulled(state, nanny, message, now)
                case Vanished():
                    pulls.on_vanished(state, nanny, message, now)
                case StoreSeen():
                    stock.on_store_seen(state, nanny, message)
                case _:
                    self._refuse(sender, f"a nanny does not send {type(message).__name__}")
            return
        match message:
            case ClientHello():
                intake.on_client_hello(state, sender, message)
            case NannyHello():
                sessions.on_nanny_hello(state, sender, message)
            case Goodbye() | Ping() | Ack():
                pass
            case EngineHello():
                sessions.on_engine_hello(state, sender, message, now)
            case ControlHello():
                pass  # of an engine that is not expected: its EngineHello will be refused
            case EngineExited() | Running() | StoreLeft() | Need() | Pulled() | Unpulled() | Vanished() | StoreSeen():
                # A nanny that we do not know (any more) has not noticed that its connection was broken, and what it
                # has to say was on its way before its hello. It will tell all of it again.
                state.outbox.say(sender, Resume())
            case Done() | Outputs() | GivenBack() | Started() | Holding() | Answer():
                log.debug("dropped a %s of %r, which is over", type(message).__name__, sender)
            case _:
                self._refuse(sender, f"{type(message).__name__} before hello")

    def malformed(self, sender: Peer, text: str) -> None:
        """Take note that something came that is no message of ours."""
        self._refuse(sender, f"malformed message: {text}")

    def _refuse(self, sender: Peer, sentence: str) -> None:
        log.warning("refused a message of %r: %s", sender, sentence)
        self.state.outbox.say(sender, Refused(sentence))

    def _is_next(self, sender: Peer, side: Client | Engine, message: Numbered) -> bool:
        """Return whether a numbered message is to be taken; if one before it is missing, ask for it."""
        verdict = side.incoming.judge(message.seq)
        if verdict is Verdict.TAKE:
            self.state.heard[sender] = side
            return True
        if verdict is Verdict.GAP:
            self.state.outbox.say(sender, Resume())
        return False

    def lost(self, peer: Peer, now: float) -> None:
        """Take note that a peer cannot be reached: what was sent to it may be lost. It will say its hello again."""
        state = self.state
        client = state.client_peers.get(peer)
        if client is not None:
            intake.away(state, client, now)
        elif peer in state.nannies:
            sessions.nanny_away(state, state.nannies[peer], now)
        elif peer in state.engine_peers:
            sessions.engine_away(state, state.engine_peers[peer], now)

    def looked_up(self, message: Fetched | Reply, frames: Sequence[Any]) -> None:
        """Take the journal's answer to a question of ours."""
        dependents.on_results(self.state, message, frames)

    def answered(self, peer: Peer, message: msgspec.Struct, frames: Sequence[Any]) -> bool:
        """Take the journal's answer to a question; return False if it is for a client, and can be sent as it is."""
        if peer == CONTROLLER and isinstance(message, Fetched | Reply):
            self.looked_up(message, frames)
        elif isinstance(message, Fetched | Recalled) and handles.names_objects(message):
            handles.hand_out(self.state, peer, message, frames)
        else:
            return False
        return True

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.state.run_timers(now)

    def deadline(self) -> float | None:
        """Return when to call `tick` at the latest."""
        return self.state.next_timer()

    def _probe(self, now: float) -> None:
        state = self.state
        for client in state.clients.values():
            if client.away_since is None:
                intake.ack(state, client)
                state.outbox.say(client.peer, Pong())
        for engine in state.engines.values():
            sessions.ack(state, engine)
            if engine.state is EngineState.READY:
                state.outbox.say(engine.peer, Pong())
        for peer in state.nannies:
            state.outbox.say(peer, Pong())
        handles.expire(state, now)
        state.at(now + PROBE_S, self._probe)

    def stop(self, reason: str) -> None:
        """Say farewell to everybody. When the next turn is sent, the controller may end."""
        state = self.state
        if state.stopping:
            return
        state.stopping = True
        for waiter in state.waiters:
            state.reply(waiter.peer, waiter.request, error=reason)
        state.waiters = []
        farewell = Farewell(reason)
        for client in state.clients.values():
            if client.away_since is None:
                state.outbox.answer(client.peer, farewell)
        for engine in state.engines.values():
            if engine.pid:
                state.outbox.answer(engine.control, farewell)
        for peer in state.nannies:
            state.outbox.answer(peer, farewell)

    # ------------------------------------------------------------------------------------------------ out

    def take(self) -> Turn:
        """Place what is ready and return what there is to commit and to send."""
        state = self.state
        if not state.graph.is_settled:
            dependents.settle(state)
        if not state.stopping:
            placement.place(state)
            taking.take_back(state)
            if state.retiring:
                fleet.let_retired_go(state)
        requests.answer_waiters(state)
        self._forget_dropped()
        objects.sweep(state)
        state.flush_news()
        sessions.ack_engines(state)
        intake.ack_clients(state)
        if state.holding:
            memory.release(state)
        lookups = fetches.take_lookups(state)
        messages = state.outbox.take()  # this has something to write down, too
        return Turn(state.take_entries(), messages, lookups, memory.is_calm(state))

    def summary(self) -> Summary:
        """Return the books in short, for the journal: it stands for all moves of earlier turns. After `take`."""
        return restore.summary(self.state)

    def books(self) -> Books:
        """Return the books in full, for a journal that begins anew: they stand for all entries so far. After `take`."""
        return dump.books(self.state)

    def _forget_dropped(self) -> None:
        """Tell engines which functions nobody needs any more."""
        dropped = [d for d in self.state.functions.dropped if d not in self.state.functions.entries]
        self.state.functions.dropped.clear()
        if not dropped:
            return
        for digest in dropped:
            self.state.note(FunctionLeft(digest, 0))
        for engine in self.state.engines.values():
            mine = [digest for digest in dropped if digest in engine.known]
            if mine and engine.pid:
                engine.known.difference_update(mine)
                self.state.outbox.say(engine.peer, Forget(mine))
