"""What there is of objects, where, and who holds it: from the books, and from what the stores themselves say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..wire.messages import ObjectsQuery, StoreQuery
from ..wire.objects import InStore, store_of
from ..wire.stock import Hold, ObjectRecord, Place, Stock, StoreRecord
from . import pulls
from .requests import Waiter, wait

if TYPE_CHECKING:
    from ..ids import Peer
    from ..wire.messages import StoreSeen
    from .objects import Held
    from .records import Nanny
    from .state import State

ANSWER_S = 1.0
"""How long the stores have to answer."""

TASKS_SHOWN = 10
"""So many tasks are named of each object."""


class Stocktaking:
    """A question of a client, until the stores have answered."""

    def __init__(self, state: State, wanted: list[bytes] | None) -> None:
        self.number = state.next_request()
        self.asked: dict[bytes, Peer] = {}
        """Stores, and the nannies that were asked."""
        self.seen: dict[bytes, StoreSeen] = {}
        self.late = False
        self._state = state
        self._wanted = None if wanted is None else set(wanted)

    def give_up(self, _now: float) -> None:
        """Too much time has passed."""
        self._state.inquiries.pop(self.number, None)
        self.late = self._state.fleet_changed = True

    def is_over(self) -> bool:
        """Whether all have answered who still can."""
        nannies = self._state.nannies
        over = self.late or all(store in self.seen or peer not in nannies for store, peer in self.asked.items())
        if over:
            self._state.inquiries.pop(self.number, None)
        return over

    def value(self) -> Stock:
        """Return the answer."""
        state, wanted = self._state, self._wanted
        found: dict[bytes, dict[bytes, InStore]] = {}
        for store, seen in self.seen.items():
            for there in seen.objects:
                if there.id not in state.objects.dropped:
                    found.setdefault(there.id, {})[store] = there
                elif there.engines or there.pids:  # the store may not have heard yet that it is dropped
                    found.setdefault(there.id, {})[store] = msgspec.structs.replace(there, place="mapped")
        ids = sorted({*state.objects.entries, *found} if wanted is None else wanted & {*state.objects.entries, *found})
        return Stock([_record(state, id_, found.get(id_, {})) for id_ in ids], self._stores())

    def _stores(self) -> list[StoreRecord]:
        records = []
        for host, store, count, nbytes in _by_host(self._state):
            seen = self.seen.get(store)
            if seen is None:
                records.append(StoreRecord(host, count, nbytes, answered=False))
            else:
                used = seen.memory_bytes, seen.disk_bytes, seen.limit_bytes
                records.append(StoreRecord(host, count, nbytes, True, *used))
        return records


def on_objects_query(state: State, peer: Peer, message: ObjectsQuery, now: float) -> None:
    """A client wants to know what there is."""
    taking = Stocktaking(state, message.objects)
    for store, nanny_peer in state.objects.stores.items():
        nanny = state.nannies.get(nanny_peer)
        if nanny is not None and nanny.away_since is None:
            taking.asked[store] = nanny_peer
            state.outbox.say(nanny_peer, StoreQuery(taking.number))
    state.inquiries[taking.number] = taking
    state.at(now + ANSWER_S, taking.give_up)
    wait(state, Waiter(peer, message.request, taking.is_over, taking.value, lambda: ""))


def on_store_seen(state: State, nanny: Nanny, message: StoreSeen) -> None:
    """A store says what it has. What comes too late is dropped."""
    taking = state.inquiries.get(message.request)
    if taking is not None and nanny.store is not None:
        taking.seen[nanny.store.store] = message
        state.fleet_changed = True


def summary(state: State) -> dict[str, Any]:
    """Return what `status` says of objects, from the books alone."""
    entries = state.objects.entries.values()
    return {
        "count": len(entries),
        "nbytes": sum(held.info.nbytes for held in entries),
        "lost": sum(not held.stores for held in entries),
        "hosts": [{"host": host, "count": count, "nbytes": nbytes} for host, _, count, nbytes in _by_host(state)],
    }


def _by_host(state: State) -> list[tuple[str, bytes, int, int]]:
    """Return how much each store has: host, store, how many objects, how many bytes."""
    counts = {store: [0, 0] for store in state.objects.stores}
    for held in state.objects.entries.values():
        for store in held.stores:
            if store in counts:
                counts[store][0] += 1
                counts[store][1] += held.info.nbytes
    return sorted((pulls.host_of(state, store), store, count, nbytes) for store, (count, nbytes) in counts.items())


def _record(state: State, id_: bytes, there: dict[bytes, InStore]) -> ObjectRecord:
    held = state.objects.entries.get(id_)
    places = [
        Place(pulls.host_of(state, store), seen.place, seen.engines, seen.pids) for store, seen in sorted(there.items())
    ]
    made_at = pulls.host_of(state, store_of(id_))
    if held is None:
        return ObjectRecord(id_, max(seen.nbytes for seen in there.values()), made_at, places)
    places += [Place(pulls.host_of(state, store), "there") for store in sorted(held.stores) if store not in there]
    coming = [store for store in state.pulls.stores(id_) if store not in there and store not in held.stores]
    places += [Place(pulls.host_of(state, store), "coming") for store in coming]
    return ObjectRecord(
        id_,
        held.info.nbytes,
        made_at,
        places,
        _handles(state, held),
        _tasks(state, held),
        len(held.tasks),
        sorted(held.nodes),
        sorted(held.kept),
        [setup.name for setup in state.setups if setup.no in held.setups],
    )


def _handles(state: State, held: Held) -> list[Hold]:
    holds = []
    for no, count in sorted(held.handles.items()):
        client = state.clients.get(no)
        holds.append(Hold(no, *("gone", 0) if client is None else (client.name, client.pid), count))
    return holds


def _tasks(state: State, held: Held) -> list[tuple[int, str]]:
    tasks = (state.tasks[id_] for id_ in sorted(held.tasks)[:TASKS_SHOWN] if id_ in state.tasks)
    return list(dict.fromkeys((task.root, task.options.label or "") for task in tasks))
