"""Who holds objects, as clients and hosts come, say so, and go: handles, and results that are kept.

Each time that a client is sent a result with an object, that is a *handle* to the object, which it gives back when
it has let go of the result; so is each object that it has made itself and `Put`. A client that has ended holds nothing
any more; what it was sent and has not confirmed, and what its tasks still come to, is *kept* for whoever asks by id, as
long as the journal keeps results, and as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..ids import Peer, TaskId, show_task
from ..wire.messages import Fetched, Recalled, Results, Status
from ..wire.parts import with_frames
from . import objects
from .journal.ledger import ClientEnded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..wire.messages import ObjectInfo, Put, Release, Result, Running, StoreLeft
    from .records import Client, Nanny
    from .state import State

ORPHAN_S = 10.0
"""How long after the end of its maker an object may be spoken of for the first time: what its maker had to say of it
may still be on its way."""

LEFT_S = 0.5
"""A client that has left its store is taken to have ended when nothing has come from it for so long: what it had said
before, tasks that need what it holds above all, comes on another way."""

ARGUMENTS_GONE = (
    "what was among its arguments (an object) was released when the last who held it let go of it; "
    "call it again with the value itself (`client.put` keeps one for several calls)"
)


def released(info: ObjectInfo) -> str:
    """Return what became of the value of a task."""
    return (
        f"its value ({info.nbytes:,} bytes) was released when its client let go of it, or when the cluster stopped; "
        "to have it again, submit the task again (`resubmit`)"
    )


def on_put(state: State, client: Client, message: Put) -> None:
    """A client has made objects."""
    for info in message.objects:
        state.objects.give_handle(client.no, info)
    if client.ended:
        _expect_end(state, client)


def on_release(state: State, client: Client, message: Release) -> None:
    """A client lets go of objects."""
    for id_ in message.objects:
        state.objects.take_handle(client.no, id_)


def deliver(state: State, client: Client | None, result: Result) -> None:
    """A result that refers to objects goes to a client; None: to nobody."""
    node = state.graph.nodes.get(result.id)
    if node is not None and node.parts[result.lo][0] is result:
        state.objects.wait(result.id, result.objects)
    for info in result.objects:
        if client is None:
            state.objects.enter(info)
        elif client.peer and not client.ended:
            state.objects.give_handle(client.no, info)
        else:
            _keep(state, result.id, info)


def _keep(state: State, root: int, info: ObjectInfo) -> None:
    if not state.durable:
        state.objects.enter(info)  # nobody can ask for it
        return
    state.objects.keep(root, info, state.now)
    while state.objects.kept_bytes > state.keep_bytes:
        _, first, id_ = state.objects.kept.popleft()
        state.objects.discard(first, id_)


def client_ended(state: State, client: Client) -> None:
    """The process of a client has ended, or the client leaves: it holds nothing any more."""
    if client.ended:
        state.objects.take_handles(client.no)
        return
    client.ended = True
    state.note(ClientEnded(client.no))
    for result in (*_unconfirmed(client), *client.results):
        for info in result.objects if result.id not in client.purged else ():
            if state.objects.has_handle(client.no, info.id):  # else it had it, and has let go of it
                _keep(state, result.id, info)
    state.objects.take_handles(client.no)


def _unconfirmed(client: Client) -> Iterator[Result]:
    """Yield the results that a client was sent and has not confirmed."""
    for message, _ in client.outgoing.since(client.outgoing.confirmed):
        if isinstance(message, Results):
            yield from message.results


def on_store_left(state: State, nanny: Nanny, message: StoreLeft, now: float) -> None:
    """A process has ended, or has left its store."""
    client = state.client_peers.get(Peer(message.peer))
    if client is not None:
        _expect_end(state, client)
    orphaned(state, nanny, message.objects, now)


def _expect_end(state: State, client: Client) -> None:
    state.at(state.now + LEFT_S, _end_if_quiet, state, client, client.incoming.have)


def _end_if_quiet(state: State, client: Client, have: int, _now: float) -> None:
    """A client has left its store, and we had so much from it then."""
    if client.incoming.have > have:
        _expect_end(state, client)
    elif state.clients.get(client.no) is client:
        client_ended(state, client)


def on_stock(state: State, nanny: Nanny, message: Running, now: float) -> None:
    """A nanny that is back says what its store has: the truth. What it has and the books do not know was dropped while
    it was away; or nobody has spoken of it yet, who may still do so. What was made since it was welcomed is not in it.
    """
    if nanny.store is None:
        return
    store, books = nanny.store.store, state.objects
    there = {info.id for info in message.objects}
    for id_ in nanny.stock - there:
        books.vanished(store, id_)
    nanny.stock = set()
    unknown = [id_ for id_ in there if not books.arrived(store, id_)]
    objects.drop(state, store, [id_ for id_ in unknown if id_ in books.dropped])
    orphaned(state, nanny, message.orphans, now)


def orphaned(state: State, nanny: Nanny, ids: list[bytes], now: float) -> None:
    """The makers of these objects have ended: those of which nobody speaks are dropped."""
    if ids and nanny.store is not None:
        state.at(now + ORPHAN_S, _drop_orphans, state, nanny.store.store, ids)


def _drop_orphans(state: State, store: bytes, ids: list[bytes], _now: float) -> None:
    objects.drop(state, store, [id_ for id_ in ids if id_ not in state.objects.entries])


# ------------------------------------------------------------------------------------------- what the journal has kept


def hand_out(state: State, peer: Peer, message: Fetched | Recalled, frames: Sequence[Any]) -> None:
    """The journal has the answer to a client's question, in which objects are named: give it handles to those that are
    still there, and tell it of the others.
    """
    client = state.client_peers.get(peer)
    if client is None or client.away_since is not None:
        return  # it asks again, should it come back
    if isinstance(message, Recalled):
        gone = next((task for task in message.tasks if not state.objects.is_there(task.objects)), None)
        if gone is not None:
            sentence = f"task {show_task(TaskId(gone.id))} cannot be submitted again, as {ARGUMENTS_GONE}"
            state.reply(peer, message.request, error=sentence)
            return
        state.outbox.say(peer, message, frames)
        return
    results: list[Result] = []
    left: list[Any] = []
    for result, parts in with_frames(message.results, frames):
        gone_ = next((info for info in result.objects if info.id not in state.objects.entries), None)
        if gone_ is None:
            results.append(result)
            left += parts
            if not client.ended:
                for info in result.objects:
                    state.objects.give_handle(client.no, info)
        else:
            sentence = released(gone_)
            results.append(
                msgspec.structs.replace(result, status=Status.UNKNOWN, payload=sentence.encode(), frames=0, objects=())
            )
    state.outbox.say(peer, msgspec.structs.replace(message, results=results), left)


def names_objects(message: msgspec.Struct) -> bool:
    """Return whether the journal's answer to a client names objects."""
    match message:
        case Fetched(results=results):
            return any(result.objects for result in results)
        case Recalled(tasks=tasks):
            return any(task.objects for task in tasks)
    return False


def purge(state: State, roots: Iterable[int] | None) -> None:
    """Results of these tasks (None: of all that have ended) are not kept any more."""
    wanted = None if roots is None else set(roots)
    for _, root, id_ in state.objects.kept:
        if root in wanted if wanted is not None else not state.is_open(root):
            state.objects.discard(root, id_)
    for client in state.clients.values():  # should it end, what it has not confirmed is not kept
        told = (result.id for result in _unconfirmed(client) if result.objects)
        client.purged = {root for root in told if wanted is None or root in wanted or root in client.purged}


def expire(state: State, now: float) -> None:
    """Let go of results that were kept for as long as the journal keeps them."""
    kept = state.objects.kept
    while kept and kept[0][0] < now - state.keep_s:
        _, root, id_ = kept.popleft()
        state.objects.discard(root, id_)
