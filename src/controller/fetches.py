"""Clients that ask for tasks by id or label, whoever submitted them, and when.

What to say is in the journal, which is looked at in its own time (`archive`). Here is decided when: at once, or when
all the tasks have ended. Nothing of this is written down: a client that is not answered asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..ids import TaskId, show_task
from . import handles
from .journal.ledger import Lookup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..ids import Peer
    from ..wire.messages import Fetch, Find, Purge, Query, Recall
    from .state import State

NO_JOURNAL = (
    "this cluster has no journal, so nothing is kept of its tasks but for the client that submitted them; "
    'start it without "--no-journal" (in Python: journal=True)'
)


class Fetching:
    """A client's question, to be put to the journal when none of its tasks is open any more."""

    __slots__ = ("lookup", "open")

    def __init__(self, lookup: Lookup, open_: set[int]) -> None:
        self.lookup = lookup
        self.open = open_


def on_find(state: State, peer: Peer, message: Find) -> None:
    """A client wants to know which tasks there are."""
    _look_up(state, Lookup(peer, message))


def on_fetch(state: State, peer: Peer, message: Fetch) -> None:
    """A client wants to know what became of tasks."""
    open_ = _open(state, message.tasks)
    fetching = Fetching(Lookup(peer, message), open_)
    if not open_ or not state.durable:
        _look_up(state, fetching.lookup)
    for root in open_:
        state.sought.setdefault(root, {})[peer, message.request] = fetching  # if it asks again, for the first time


def on_purge(state: State, peer: Peer, message: Purge) -> None:
    """A client wants tasks forgotten."""
    open_ = _open(state, message.tasks or ())
    if open_:
        sentence = f"task {show_task(TaskId(min(open_)))} has not ended; cancel it first, or wait for it"
        state.reply(peer, message.request, error=sentence)
    else:
        handles.purge(state, message.tasks)
        _look_up(state, Lookup(peer, message))


def on_query(state: State, peer: Peer, message: Query) -> None:
    """A client wants records of tasks."""
    where: dict[int, int] = {}
    if message.places:
        engines = state.engines.values()
        where = {task.root: engine.id for engine in engines for task in engine.assigned.values()}
    _look_up(state, Lookup(peer, message, where))


def on_recall(state: State, peer: Peer, message: Recall) -> None:
    """A client wants to have what was submitted."""
    _look_up(state, Lookup(peer, message))


def _look_up(state: State, lookup: Lookup) -> None:
    if not state.durable or state.journal_failure:
        state.reply(lookup.peer, lookup.message.request, error=state.journal_failure or NO_JOURNAL)
    elif lookup.peer in state.client_peers:
        state.lookups.append(lookup)


def take_lookups(state: State) -> list[Lookup]:
    """Return what the journal is to be asked, after what it is given to write in this turn."""
    if state.told:
        told, state.told = state.told, set()
        for root in told - _open(state, told):
            for fetching in state.sought.pop(root).values():
                fetching.open.discard(root)
                if not fetching.open:
                    _look_up(state, fetching.lookup)
    lookups, state.lookups = state.lookups, []
    return lookups


def _open(state: State, roots: Iterable[int]) -> set[int]:
    """Return those of the tasks that have not ended."""
    return set(filter(state.is_open, roots))
