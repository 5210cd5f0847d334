"""The books in full, as the entries that would have led to them: for a journal that has missed some and begins anew.

What `restore` makes of them are the same books. Tasks that have not ended are written down as if their clients had
submitted them only now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ids import CONTROLLER_NO
from ...wire.messages import Function, Options, Submit
from ...wire.messages import Task as Wanted
from .. import dependents, sessions, setups
from ..objects import object_is
from ..state import engine_is
from . import restore
from .ledger import (
    Acked,
    Books,
    ClientCame,
    ClientEnded,
    Delivered,
    EngineGone,
    FunctionCame,
    Heard,
    ObjectGone,
    Submitted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..records import Task
    from ..state import State
    from .ledger import Entry

BATCH_TASKS = 1000
"""Tasks in one of the messages: a row of the journal goes when the last of its tasks has ended."""


def books(state: State) -> Books:
    """Return everything that a controller would need to go on from here. Only between turns, when all is noted."""
    entries: list[Entry] = []
    unheard: list[Delivered] = []
    for client in state.clients.values():
        c = client
        entries.append(ClientCame(c.no, c.peer, c.name, c.pid, c.host, c.cancel_on_exit, c.patience_s))
        entries.append(Acked(client.no, client.outgoing.confirmed))
        if client.ended:
            entries.append(ClientEnded(client.no))
        if client.incoming.have:
            entries.append(Heard(client.peer, client.incoming.have))
        missed = client.outgoing.after(client.outgoing.confirmed)
        unheard += [Delivered(client.no, message, frames) for message, frames in missed]
    for function in state.functions.entries.values():
        if function.pickled:
            entries.append(FunctionCame(function.digest, 0, function.pickled))
        entries += [FunctionCame(function.digest, owner, b"") for owner in sorted(function.owners)]
    entries += [sessions.nanny_is(nanny) for nanny in state.nannies.values() if nanny.wanted is None]
    for engine in state.engines.values():
        entries.append(engine_is(engine))
        if engine.incoming.have:
            entries.append(Heard(engine.peer, engine.incoming.have))
    entries += [EngineGone(id_, incarnation) for id_, incarnation in state.gone.items()]
    entries += map(setups.came, state.setups)
    entries += [ObjectGone(id_) for id_ in state.objects.dropped]
    entries += map(object_is, state.objects.entries.values())
    entries += _submissions(state)
    return Books(state.epoch, state.last_client, entries, unheard, restore.summary(state))


def _submissions(state: State) -> Iterator[Submitted]:
    """Yield the tasks that have not ended, each as its client knows it, in messages of one client each."""
    roots: dict[int, Task] = {}
    for task in state.tasks.values():
        if task.client == CONTROLLER_NO:
            continue  # set-up, of which the summary tells
        other = roots.get(task.root)
        if other is None or other.hi < task.hi:  # the summary says which of its items are left
            roots[task.root] = task
    batch: list[Task] = []
    for root in sorted(roots):  # by client, that is
        task = roots[root]
        if batch and (batch[0].client != task.client or len(batch) == BATCH_TASKS):
            yield _submission(state, batch)
            batch = []
        batch.append(task)
    if batch:
        yield _submission(state, batch)


def _submission(state: State, tasks: list[Task]) -> Submitted:
    options: list[Options] = []
    places: dict[int, int] = {}
    functions: list[Function] = []  # they have entries of their own
    wanted: list[Wanted] = []
    frames: list[object] = []
    for task in tasks:
        payload, parts, needs, mine, objects = dependents.as_submitted(state, task)
        place = places.setdefault(id(mine), len(options))
        if place == len(options):
            options.append(mine)
        wanted.append(
            Wanted(task.root, task.function, payload, len(parts), place, task.hi, needs=needs, objects=objects)
        )
        frames += parts
    return Submitted(tasks[0].client, Submit(functions, options, wanted), frames)


def without(submitted: Submitted, known: set[int]) -> Submitted | None:
    """Return the message without tasks that are known; None if that leaves nothing."""
    tasks, frames, at = [], list[object](), 0
    for task in submitted.message.tasks:
        if task.id not in known:
            tasks.append(task)
            frames += submitted.frames[at : at + task.frames]
        at += task.frames
    message = Submit([], submitted.message.options, tasks)
    return Submitted(submitted.client, message, frames) if tasks else None
