"""Reading what a controller needs to go on from the journal's file."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import msgspec

from ...wire.messages import Outputs, Results, Submit
from . import ledger as l
from .restore import ended_by

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_moves = msgspec.msgpack.Decoder(list[l.Move])
_submit = msgspec.msgpack.Decoder(Submit)
_results = msgspec.msgpack.Decoder(Results | Outputs)
_holders = msgspec.msgpack.Decoder(tuple[list[bytes], list[tuple[int, int]], list[int]])
_frames = msgspec.msgpack.Decoder(list[bytes])


def load(db: sqlite3.Connection, summed: int) -> l.Saved:
    """Return everything that a controller needs to go on, but for the results of tasks that others need. Results up to
    the row `summed` have been dealt with.
    """
    execute = db.execute
    moves = [move for (blob,) in execute("SELECT moves FROM moves ORDER BY id") for move in _moves.decode(blob)]
    ended: list[tuple[int, int, int]] = []
    for (blob,) in execute("SELECT message FROM delivered WHERE results AND id > ? ORDER BY id", (summed,)):
        ended.extend(ended_by(_results.decode(blob)))  # type: ignore[arg-type] # `results` says which it is
    clients, acked, gone_clients = [], {}, set[int]()
    for no, peer, name, pid, host, cancel, patience_s, have, over in execute("SELECT * FROM clients ORDER BY no"):
        clients.append(l.ClientCame(no, peer, name, pid, host, bool(cancel), patience_s))
        acked[no] = have
        if over:
            gone_clients.add(no)
    unheard = [
        l.Delivered(client, _results.decode(message), _frames.decode(frames) if frames else ())
        for client, message, frames in execute(
            "SELECT client, message, frames FROM delivered JOIN clients ON no = client WHERE seq > acked"
            " ORDER BY delivered.id"
        )
    ]
    submitted = list(_open_submissions(db))
    return l.Saved(
        clients,
        dict(execute("SELECT * FROM heard").fetchall()),
        acked,
        dict(execute("SELECT digest, pickled FROM functions WHERE unused IS NULL").fetchall()),
        execute("SELECT * FROM owners").fetchall(),
        [
            l.NannyIs._make((*row, bool(head), offers, store))
            for *row, head, offers, store in execute("SELECT * FROM nannies")
        ],
        [
            l.EngineIs._make((*row, bool(retiring), reason))
            for *row, retiring, reason in execute("SELECT * FROM engines ORDER BY id")
        ],
        [l.EngineGone._make(row) for row in execute("SELECT * FROM gone")],
        submitted,
        ended,
        moves,
        unheard,
        [l.SetupCame._make(row) for row in execute("SELECT * FROM setups ORDER BY no")],
        (),
        tuple(
            l.ObjectIs(id_, nbytes, *_holders.decode(holders))
            for id_, nbytes, holders in execute("SELECT id, nbytes, holders FROM objects WHERE gone IS NULL")
        ),
        tuple(id_ for (id_,) in execute("SELECT id FROM objects WHERE gone IS NOT NULL ORDER BY gone")),
        frozenset(gone_clients),
    )


def _open_submissions(db: sqlite3.Connection) -> Iterator[tuple[l.Submitted, frozenset[int] | None]]:
    rows = db.execute("SELECT client, message, frames, open FROM submitted WHERE ended = 0 ORDER BY id")
    for client, message, frames, open_ in rows:
        known: frozenset[int] | None = None
        if open_ is not None:
            ids = array("q")
            ids.frombytes(open_)
            known = frozenset(ids)
        parts = _frames.decode(frames) if frames else []
        yield l.Submitted(client, _submit.decode(message), parts), known
