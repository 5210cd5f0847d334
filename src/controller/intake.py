"""What clients say about themselves and their tasks: hello, submissions, goodbye."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..ids import ClientNo, first_task_id
from ..wire.messages import (
    VERSION,
    Ack,
    Cancel,
    ClientHello,
    Forget,
    Goodbye,
    Options,
    Refused,
    Result,
    Status,
    Submit,
    Welcome,
)
from ..wire.parts import is_coroutine
from . import dependents, fleet, handles, homes, lines, memory, pools, setups, stopping
from .journal.ledger import Acked, ClientCame, ClientEnded, ClientLeft, FunctionCame, FunctionLeft, Submitted
from .records import Client, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..ids import Peer
    from ..wire.messages import Task as Wanted
    from .state import State

KEEP_S = 24 * 3600.0
"""How long what a client is owed is kept in memory for its return: a laptop may sleep over night."""

VANISHED_S = 30.0
"""How long a client that wants its tasks cancelled when it vanishes may be away before they are, if it does not say."""

ACK_EVERY = 16
"""A client is told what has come from it with its results, at once if that may be large, after so many messages, or
when it is probed. Until then it keeps what it has sent."""


def on_client_hello(state: State, peer: Peer, message: ClientHello) -> None:
    """A client arrives, or is back after a connection broke: what it has missed is sent again."""
    if message.version != VERSION:
        state.outbox.say(peer, Refused(fleet.version_sentence("client", message.version)))
        return
    client = state.client_peers.get(peer)
    if client is None and message.welcomed:
        sentence = "it does not know this client: it was restarted without its journal, or the client was away too long"
        state.outbox.say(peer, Refused(sentence))
        return
    if client is None:
        client = Client(state.next_client_no(), peer, message.name, message.pid, message.host)
        client.cancel_on_exit = message.cancel_on_exit
        client.patience_s = message.patience_s
        enter_client(state, client)
        cancels, patience_s = message.cancel_on_exit, message.patience_s
        state.note(ClientCame(client.no, peer, message.name, message.pid, message.host, cancels, patience_s))
    client.away_since = None
    if client.ended:
        client.ended = False  # it had only left its store, and what it is sent from now on, it holds
        state.note(ClientEnded(client.no, ended=False))
    client.acked = client.incoming.have
    engines = [engine.info() for _, engine in sorted(state.engines.items())]
    store = next((nanny.store for nanny in state.nannies.values() if nanny.head), None)
    if store is not None and not store.address:
        store = None  # it serves no others
    room, hold = memory.welcome(state, client)
    welcome = Welcome(
        client.no, state.cluster, state.pid, engines, client.acked, state.durable, store, room=room, hold=hold
    )
    state.outbox.say(peer, welcome)
    on_ack(state, client, message.have)
    for missed, frames in client.outgoing.after(message.have):
        state.outbox.say(peer, missed, frames)


def enter_client(state: State, client: Client) -> None:
    """Have a client in the books."""
    state.clients[client.no] = client
    state.client_peers[client.peer] = client


def on_ack(state: State, client: Client, have: int) -> None:
    """A client has our messages up to that number."""
    if state.graph.missing or state.graph.partial:
        dependents.look(state)
    client.outgoing.acked(have)
    if client.unheard is not None:
        client.unheard.acked(have)
    if have:
        state.note(Acked(client.no, have))


def ack_clients(state: State) -> None:
    """Tell clients what has come from them, if it is much and they have not been told with results; and to hold back,
    if it is too much.
    """
    for side in state.heard.values():
        if isinstance(side, Client):
            memory.look(state, side)
            if side.owes_ack or side.incoming.have - side.acked >= ACK_EVERY:
                ack(state, side)


def ack(state: State, client: Client) -> None:
    """Tell a client what has come from it, if it has not been told."""
    client.owes_ack = False
    if client.acked < client.incoming.have and client.away_since is None:
        client.acked = client.incoming.have
        state.outbox.say(client.peer, Ack(client.acked))


def away(state: State, client: Client, now: float) -> None:
    """A client cannot be reached: keep what it is owed for a while."""
    if client.away_since is None:
        client.away_since = now
        state.at(now + KEEP_S, _give_up, state, client, KEEP_S)
        if client.cancel_on_exit:
            patience_s = VANISHED_S if client.patience_s is None else client.patience_s
            state.at(now + patience_s, _give_up, state, client, patience_s)


def _give_up(state: State, client: Client, after_s: float, now: float) -> None:
    if state.clients.get(client.no) is not client or client.away_since is None:
        return
    if now - client.away_since >= after_s - 1e-6:
        on_goodbye(state, client, Goodbye(client.cancel_on_exit), now)


def on_goodbye(state: State, client: Client, message: Goodbye, now: float) -> None:
    """A client leaves; its tasks go on unless it wants them cancelled."""
    mine: list[int] = []
    if message.cancel:
        mine += [root for root, task in state.tasks.items() if task.client == client.no and task.root == root]
        mine += [root for root in state.pieces if root not in state.tasks and state.owner_of(root) == client.no]
    _forget_client(state, client)  # first: nothing need be sent to it any more
    if mine:
        stopping.on_cancel(state, client, Cancel(0, mine, grace_s=stopping.PATIENCE_S), now)


def _forget_client(state: State, client: Client) -> None:
    handles.client_ended(state, client)
    state.clients.pop(client.no, None)
    state.client_peers.pop(client.peer, None)
    state.holding.discard(client.no)
    if state.graph.missing or state.graph.partial:
        dependents.look(state)
    client.outgoing.clear()
    state.note(ClientLeft(client.no))
    for digest in client.digests:
        _disown(state, client, digest)


def _disown(state: State, client: Client, digest: bytes) -> None:
    state.functions.disown(digest, client.no)
    state.note(FunctionLeft(digest, client.no))


def on_forget(state: State, client: Client, message: Forget) -> None:
    """A client will not name these functions again without sending them again."""
    for digest in message.digests:
        client.digests.discard(digest)
        _disown(state, client, digest)


def on_submit(state: State, client: Client, message: Submit, frames: Sequence[Any]) -> None:
    """A client submits tasks. The loop's fast branch serves those that any engine may run."""
    for function in message.functions:
        known = function.digest in state.functions.entries
        state.functions.add(function.digest, function.pickled, client.no)
        client.digests.add(function.digest)
        state.note(FunctionCame(function.digest, client.no, b"" if known else function.pickled))
    state.note(Submitted(client.no, message, frames))
    client.owes_ack |= bool(frames)
    tasks, functions = state.tasks, state.functions
    options_list, no = message.options, client.no
    first, beyond = first_task_id(no), first_task_id(ClientNo(no + 1))
    default = Options()
    digest, entry = b"", None
    run_options, is_plain = default, True  # a run of tasks with the same options
    batch: list[Task] = []
    batch_options = default
    held = 0
    at = 0
    for submitted in message.tasks:
        options = options_list[submitted.options] if submitted.options < len(options_list) else default
        parts: Sequence[Any] = ()
        if submitted.frames:
            parts = frames[at : at + submitted.frames]
            at += submitted.frames
        if submitted.id in tasks:
            continue  # said twice
        if not first <= submitted.id < beyond:
            _refuse_unborn(state, client, submitted, "its id is not one of its client's")
            continue
        if submitted.function != digest or entry is None:
            digest = submitted.function
            entry = functions.find(digest)
        if entry is None:
            sentence = "its function is not known to the controller"
            _refuse_unborn(state, client, submitted, sentence)
            continue
        if options is not run_options:
            run_options = options
            is_plain = options.targets is None and not (
                options.ordered or options.resources or options.after or options.follow
            )
        if not is_plain or submitted.needs or submitted.objects:
            if submitted.objects:
                client.owes_ack = True  # until it is told, it gives nothing back
                if batch:  # they may wait in the same queue
                    state.common.push_many(client, batch_options.priority, batch)
                    batch = []
            _submit_special(state, client, submitted, options, parts)
            continue
        task = Task(submitted.id, no, digest, submitted.payload, options, parts, submitted.id, 0, submitted.items)
        if parts:
            task.weight = memory.weigh(task.payload, parts)
            held += task.weight
        else:
            held += len(task.payload)
        tasks[task.id] = task
        entry.unfinished += 1
        client.unfinished += 1
        if options is not batch_options:
            if batch:
                state.common.push_many(client, batch_options.priority, batch)
                batch = []
            batch_options = options
        if task.is_coroutine:
            state.coroutines.push(client, task)
            continue
        batch.append(task)
    if batch:
        state.common.push_many(client, batch_options.priority, batch)
    memory.enter(state, client, held)
    memory.came(state, client, held + memory.TASK_BYTES * len(message.tasks))


def _refuse_unborn(state: State, client: Client, submitted: Wanted, sentence: str) -> None:
    """Answer a task that never enters the books."""
    state.objects.hear(submitted.objects)
    for copy in range(max(1, submitted.copies)):
        client.results.append(Result(submitted.id + copy, Status.REFUSED, sentence.encode(), hi=submitted.items))
    state.outbox.to_client(client)


def _submit_special(state: State, client: Client, submitted: Wanted, options: Options, frames: Sequence[Any]) -> None:
    """Enter a task that depends on others, or has objects, or takes resources, or is for certain engines: one for each
    in turn (a direct view), or one for any of them.
    """
    targets = options.targets or ()
    if any(info.id in state.objects.dropped for info in submitted.objects):
        _refuse_unborn(state, client, submitted, handles.ARGUMENTS_GONE)
        return
    state.objects.hear(submitted.objects)  # there may be no engine for any of it
    if options.setup is not None and (sentence := setups.keep(state, submitted, options)):
        _refuse_unborn(state, client, submitted, sentence)
        return
    if not targets and options.setup is None and (options.targets is not None or options.ordered):
        _refuse_unborn(state, client, submitted, "it is addressed to no engine")
        return
    if options.ordered and options.resources:
        _refuse_unborn(state, client, submitted, "what is addressed to each of its engines takes no resources")
        return
    if not options.ordered:
        pool = pools.pool_for(options, coroutines=is_coroutine(submitted.function, submitted.items))
        if pool is not None and pools.is_hopeless(state, pool):
            _refuse_unborn(state, client, submitted, fleet.why_hopeless(state, pool))
            return
        task = _enter(state, client, submitted, options, frames, task_id=submitted.id)
        if submitted.needs or options.after or options.follow:
            _depend(state, task, submitted.needs)
        else:
            homes.enqueue(state, client, task)
        return
    for copy, target in enumerate(targets):
        task_id = submitted.id + copy
        if task_id in state.tasks:
            continue  # said twice
        if not fleet.can_serve(state, target):
            sentence = fleet.why_not(state, (target,))
            client.results.append(Result(task_id, Status.REFUSED, sentence.encode(), hi=submitted.items))
            state.outbox.to_client(client)
            continue
        engine = state.engines[target]
        mine = options if len(targets) == 1 else msgspec.structs.replace(options, targets=(target,))
        task = _enter(state, client, submitted, mine, frames, task_id=task_id)
        if submitted.needs or options.after or options.follow:
            _depend(state, task, submitted.needs)
        elif state.graph.lines and lines.is_held_up(state, task):
            lines.line_up(state, task)
        else:
            engine.direct.append(task)
            state.touch(engine)


def _depend(state: State, task: Task, needs: tuple[int, ...]) -> None:
    """Have a task of the books wait for others."""
    try:
        dependents.enter(state, task, needs)
    except ValueError as error:
        state.refuse(task, f"what it was given of the values it needs cannot be read: {error}")


def _enter(
    state: State, client: Client, submitted: Wanted, options: Options, frames: Sequence[Any], *, task_id: int
) -> Task:
    task = Task(task_id, client.no, submitted.function, submitted.payload, options, frames, task_id, 0, submitted.items)
    task.weight = memory.weigh(task.payload, frames, submitted.copies)
    memory.enter(state, client, task.weight)
    state.tasks[task_id] = task
    if submitted.objects:
        task.objects = submitted.objects
        state.objects.hold(task)
    state.functions.entries[task.function].unfinished += 1
    client.unfinished += 1
    return task
