"""The journal's file: an SQLite database in WAL mode, one transaction for the entries of one or several turns.

Messages are kept as they are, a row each, however many tasks they speak of: a row a task would cost more than the task.
What was submitted and what has ended, the *moves* between, and small tables of clients, functions, engines, nannies.

Tables grow with every turn, and shrink in two ways. `put_summary` replaces all moves by the few that describe the books
as they are now, and notes which submissions have ended. `expire` deletes ended submissions and results, the oldest
first, beyond an age or a total size.

`synchronous=NORMAL`: whatever happens to the processes, what was committed is there; when the whole machine loses its
power, the last moments may be missing, and the file is whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

import msgspec

from ..wire.messages import Outputs, Result, Results, Status, Submit, Task
from . import ledger as l
from .restore import ended_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger("enginery.controller")

SCHEMA = 2
"""Raise it when a table or an entry changes: an older file is then set aside, not misread."""

IN_MEMORY = ":memory:"
"""As the path: a store without a file, for tests."""

VALUE_MAX = 64 << 20
"""Arguments and results of a task beyond this many bytes are not written down. If the controller dies while it has
them, their task ends with a sentence that says so."""

ROW_MAX = 512 << 20
"""The same of those values of a message that do not fit into so many bytes together: SQLite takes no row of 1 GB."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clients (no INTEGER PRIMARY KEY, peer BLOB, name TEXT, pid INT, host TEXT, cancel INT,
    acked INT DEFAULT 0);
CREATE TABLE IF NOT EXISTS heard (peer BLOB PRIMARY KEY, have INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS functions (digest BLOB PRIMARY KEY, pickled BLOB);
CREATE TABLE IF NOT EXISTS owners (digest BLOB, owner INT, PRIMARY KEY (digest, owner)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nannies (peer BLOB PRIMARY KEY, host TEXT, pid INT, cores INT, head INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS engines (id INTEGER PRIMARY KEY, incarnation INT, nanny BLOB, host TEXT, pid INT,
    state TEXT, failures INT, retiring INT, reason TEXT);
CREATE TABLE IF NOT EXISTS gone (id INTEGER PRIMARY KEY, incarnation INT);
CREATE TABLE IF NOT EXISTS setups (no INTEGER PRIMARY KEY, name TEXT, payload BLOB);
CREATE TABLE IF NOT EXISTS submitted (id INTEGER PRIMARY KEY, client INT, first INT, last INT, at REAL,
    nbytes INT, ended INT DEFAULT 0, open BLOB, message BLOB, frames BLOB);
CREATE INDEX IF NOT EXISTS submitted_first ON submitted (first);
CREATE TABLE IF NOT EXISTS labels (label TEXT, first INT, last INT, at REAL);
CREATE INDEX IF NOT EXISTS labels_label ON labels (label);
CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, moves BLOB);
CREATE TABLE IF NOT EXISTS delivered (id INTEGER PRIMARY KEY, client INT, seq INT, results INT, first INT,
    last INT, at REAL, nbytes INT, message BLOB, frames BLOB);
CREATE INDEX IF NOT EXISTS delivered_first ON delivered (first, last);
"""

_encode = msgspec.msgpack.Encoder().encode
_moves = msgspec.msgpack.Decoder(list[l.Move])
_submit = msgspec.msgpack.Decoder(Submit)
_results = msgspec.msgpack.Decoder(Results | Outputs)
_frames = msgspec.msgpack.Decoder(list[bytes])

_MOVES = (l.Assigned, l.Returned, l.Piece, l.Whole, l.Stopped, l.SetupCall, l.Killed)


class Store:
    """A journal's file, open. For one thread at a time. Errors of the disk come out as `sqlite3.Error`."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        if str(path) != IN_MEMORY:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for our eyes only
        self._db = db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
        db.execute("PRAGMA page_size=4096")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # one would come at the end of any commit: see `checkpoint`
        db.execute("PRAGMA journal_size_limit=67108864")
        db.executescript(_TABLES)
        schema = self._get("schema")
        if schema is not None and schema != SCHEMA:
            db.close()
            raise SchemaError(f"{path} was written by another version of enginery")
        self._set("schema", SCHEMA)
        self.moved = 0
        """How many tasks the moves since the last summary speak of."""
        self._delivered_id = max(self._last("delivered"), int(self._get("summed") or 0))
        """The last one given. None is given twice: `summed` is one of them, and its row may be gone. (SQLite can see to
        that, with AUTOINCREMENT, by changing one more page in every transaction.)"""

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def abandon(self) -> None:
        """Close the file, and have nobody go on from it: it does not know everything any more."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        set_aside(self.path)

    def _get(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _set(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # ------------------------------------------------------------------------------------------------ lives

    def begin(self, life: str) -> int:
        """A controller starts; return how many this life of the cluster has had, this one included.

        In a new life all tasks of the earlier one that have not ended are over: nobody has them any more. Their results
        and submissions are kept for whoever asks.
        """
        with self._transaction():
            if self._get("life") != life:
                for table in (
                    "clients",
                    "heard",
                    "functions",
                    "owners",
                    "nannies",
                    "engines",
                    "gone",
                    "moves",
                    "setups",
                ):
                    self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
                self._db.execute("UPDATE submitted SET ended = 1, open = NULL WHERE ended = 0")
                self._set("summed", self._last("delivered"))
                self._set("life", life)
            epoch = int(self._get("epoch") or 0) + 1
            self._set("epoch", epoch)
        return epoch

    def last_client(self) -> int:
        """Return the highest number that a client was given."""
        return int(self._get("last_client") or 0)

    def _last(self, table: str) -> int:
        row = self._db.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - names of our own
        return int(row[0] or 0)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    # ------------------------------------------------------------------------------------------------ writing

    def commit(self, entries: Iterable[l.Entry], summary: l.Summary | None = None) -> None:
        """Write the entries down, all or none of them; then the summary, which is of the books after them."""
        now = time.time()
        moves: list[l.Move] = []
        with self._transaction():
            for entry in entries:
                if isinstance(entry, _MOVES):
                    moves.append(entry)
                else:
                    self._write(entry, now)
            if summary is not None:
                self._put_summary(summary)
            elif moves:
                self.moved += sum(_size(move) for move in moves)
                self._db.execute("INSERT INTO moves (moves) VALUES (?)", (_encode(moves),))

    def checkpoint(self) -> None:
        """Move what was written from SQLite's log to its place in the file; the log begins anew, else it grows."""
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, entry: l.Entry, now: float) -> None:
        execute = self._db.execute
        match entry:
            case l.Submitted():
                self._submitted(entry, now)
            case l.Delivered():
                self._delivered(entry, now)
            case l.Heard(peer, 0):
                execute("DELETE FROM heard WHERE peer = ?", (peer,))
            case l.Heard(peer, have):
                execute("INSERT OR REPLACE INTO heard VALUES (?, ?)", (peer, have))
            case l.Acked(client, have):
                execute("UPDATE clients SET acked = ? WHERE no = ?", (have, client))
            case l.ClientCame(no, peer, name, pid, host, cancel):
                execute(
                    "INSERT OR REPLACE INTO clients VALUES (?, ?, ?, ?, ?, ?, 0)", (no, peer, name, pid, host, cancel)
                )
                self._set("last_client", no)
            case l.ClientLeft(no):
                execute("DELETE FROM heard WHERE peer = (SELECT peer FROM clients WHERE no = ?)", (no,))
                execute("DELETE FROM clients WHERE no = ?", (no,))
            case l.FunctionCame(digest, owner, pickled):
                if 0 < len(pickled) <= ROW_MAX:
                    execute("INSERT OR REPLACE INTO functions VALUES (?, ?)", (digest, pickled))
                execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (digest, owner))
            case l.FunctionLeft(digest, 0):
                execute("DELETE FROM owners WHERE digest = ?", (digest,))
                execute("DELETE FROM functions WHERE digest = ?", (digest,))
            case l.FunctionLeft(digest, owner):
                execute("DELETE FROM owners WHERE digest = ? AND owner = ?", (digest, owner))
            case l.EngineIs():
                execute("INSERT OR REPLACE INTO engines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)
            case l.EngineGone(id_, incarnation):
                execute("DELETE FROM engines WHERE id = ?", (id_,))
                execute("INSERT OR REPLACE INTO gone VALUES (?, ?)", (id_, incarnation))
            case l.NannyIs():
                execute("INSERT OR REPLACE INTO nannies VALUES (?, ?, ?, ?, ?)", entry)
            case l.NannyGone(peer):
                execute("DELETE FROM nannies WHERE peer = ?", (peer,))
            case l.SetupCame():
                execute("INSERT OR REPLACE INTO setups VALUES (?, ?, ?)", entry)
            case l.SetupsCleared():
                execute("DELETE FROM setups")
            case _:
                raise TypeError(f"{type(entry).__name__} is not something to write down")

    def _submitted(self, entry: l.Submitted, now: float) -> None:
        message, frames = _bounded_submit(entry.message, entry.frames)
        tasks = message.tasks
        first = min([task.id for task in tasks], default=0)  # of lists: it takes half the time
        last = max([task.id + task.copies - 1 if task.copies > 1 else task.id for task in tasks], default=-1)
        header, body = _encode(message), _encode(frames) if frames else None
        self._db.execute(
            "INSERT INTO submitted (client, first, last, at, nbytes, message, frames) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.client, first, last, now, len(header) + len(body or b""), header, body),
        )
        for index, options in enumerate(message.options):
            if options.label is not None:
                mine = [task.id + max(1, task.copies) - 1 for task in tasks if task.options == index]
                firsts = [task.id for task in tasks if task.options == index]
                if mine:
                    self._db.execute(
                        "INSERT INTO labels VALUES (?, ?, ?, ?)", (options.label, min(firsts), max(mine), now)
                    )

    def _delivered(self, entry: l.Delivered, now: float) -> None:
        message: Any = entry.message
        frames: Sequence[Any] = [bytes(frame) for frame in entry.frames]
        if isinstance(message, Results):
            message, frames = _bounded_results(message, frames)
            ids = [result.id for result in message.results]
        else:
            ids = [record.task for record in message.records]
        header, body = _encode(message), _encode(frames) if frames else None
        self._delivered_id += 1
        self._db.execute(
            "INSERT INTO delivered VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._delivered_id,
                entry.client,
                message.seq,
                isinstance(message, Results),
                min(ids),
                max(ids),
                now,
                len(header) + len(body or b""),
                header,
                body,
            ),
        )

    def _put_summary(self, summary: l.Summary) -> None:
        db = self._db
        db.execute("DELETE FROM moves")
        if summary.moves:
            db.execute("INSERT INTO moves (moves) VALUES (?)", (_encode(summary.moves),))
        self.moved = 0
        open_ = array("q", summary.open)
        for id_, first, last in db.execute("SELECT id, first, last FROM submitted WHERE ended = 0").fetchall():
            lo, hi = bisect_left(open_, first), bisect_right(open_, last)
            if lo == hi:
                db.execute("UPDATE submitted SET ended = 1, open = NULL WHERE id = ?", (id_,))
            elif hi - lo < last - first + 1:
                db.execute("UPDATE submitted SET open = ? WHERE id = ?", (open_[lo:hi].tobytes(), id_))
        self._set("summed", self._last("delivered"))

    # ------------------------------------------------------------------------------------------------ bounds

    def expire(self, keep_s: float, keep_bytes: int) -> int:
        """Delete results and ended submissions that are older than that, and the oldest of the rest beyond so many
        bytes; return how many rows. What a client has not confirmed, and what a restart needs, stays.
        """
        db = self._db
        with self._transaction():
            before = db.total_changes
            horizon = time.time() - keep_s
            total = int(
                db.execute(
                    "SELECT (SELECT total(nbytes) FROM delivered) + (SELECT total(nbytes) FROM submitted WHERE ended)"
                ).fetchone()[0]
            )
            if total > keep_bytes:
                horizon = max(horizon, self._horizon(total - keep_bytes))
            summed = int(self._get("summed") or 0)
            db.execute(
                "DELETE FROM delivered WHERE at < ? AND id <= ? AND NOT EXISTS"
                " (SELECT 1 FROM clients WHERE no = delivered.client AND acked < delivered.seq)",
                (horizon, summed),
            )
            db.execute("DELETE FROM submitted WHERE at < ? AND ended", (horizon,))
            db.execute("DELETE FROM labels WHERE at < ?", (horizon,))
            return db.total_changes - before

    def _horizon(self, excess: int) -> float:
        """Return the time such that what is older has so many bytes."""
        rows = self._db.execute(
            "SELECT at, nbytes FROM delivered UNION ALL SELECT at, nbytes FROM submitted WHERE ended ORDER BY at"
        )
        horizon = 0.0
        for at, nbytes in rows:
            horizon = float(at)
            excess -= nbytes
            if excess <= 0:
                break
        return horizon + 1e-6

    # ------------------------------------------------------------------------------------------------ reading

    def load(self) -> l.Saved:
        """Return everything that a controller needs to go on."""
        execute = self._db.execute
        summed = int(self._get("summed") or 0)
        moves = [move for (blob,) in execute("SELECT moves FROM moves ORDER BY id") for move in _moves.decode(blob)]
        self.moved = sum(_size(move) for move in moves)
        ended: list[tuple[int, int, int]] = []
        for (blob,) in execute("SELECT message FROM delivered WHERE results AND id > ? ORDER BY id", (summed,)):
            ended.extend(ended_by(_results.decode(blob)))
        clients, acked = [], {}
        for no, peer, name, pid, host, cancel, have in execute("SELECT * FROM clients ORDER BY no"):
            clients.append(l.ClientCame(no, peer, name, pid, host, bool(cancel)))
            acked[no] = have
        unheard = [
            l.Delivered(client, _results.decode(message), _frames.decode(frames) if frames else ())
            for client, message, frames in execute(
                "SELECT client, message, frames FROM delivered JOIN clients ON no = client WHERE seq > acked"
                " ORDER BY delivered.id"
            )
        ]
        return l.Saved(
            clients,
            dict(execute("SELECT * FROM heard").fetchall()),
            acked,
            dict(execute("SELECT * FROM functions").fetchall()),
            execute("SELECT * FROM owners").fetchall(),
            [l.NannyIs._make((*row, bool(head))) for *row, head in execute("SELECT * FROM nannies")],
            [
                l.EngineIs._make((*row, bool(retiring), reason))
                for *row, retiring, reason in execute("SELECT * FROM engines ORDER BY id")
            ],
            [l.EngineGone._make(row) for row in execute("SELECT * FROM gone")],
            list(self._open_submissions()),
            ended,
            moves,
            unheard,
            [l.SetupCame._make(row) for row in execute("SELECT * FROM setups ORDER BY no")],
        )

    def _open_submissions(self) -> Iterator[tuple[l.Submitted, frozenset[int] | None]]:
        rows = self._db.execute("SELECT client, message, frames, open FROM submitted WHERE ended = 0 ORDER BY id")
        for client, message, frames, open_ in rows:
            known: frozenset[int] | None = None
            if open_ is not None:
                ids = array("q")
                ids.frombytes(open_)
                known = frozenset(ids)
            parts = _frames.decode(frames) if frames else []
            yield l.Submitted(client, _submit.decode(message), parts), known

    def size(self) -> int:
        """Return how many bytes the file has."""
        pages, free, page = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page


def open_store(path: Path) -> Store:
    """Return the store of that file; one that cannot be read, or is of another version, is set aside first."""
    try:
        return Store(path)
    except (sqlite3.DatabaseError, SchemaError) as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # no disk, no permission: a new file would fare no better
        set_aside(path)
        log.warning("set the journal %s aside, which cannot be used: %s", path, error)
        return Store(path)


def set_aside(path: Path | str) -> None:
    """Rename a store's files, so that nobody goes on from them. It needs no space."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.replace(f"{path}{suffix}", f"{path}.broken{suffix}")  # noqa: PTH105 - names, not places


class SchemaError(Exception):
    """The file is of another version."""


class _Transaction:
    """All or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        else:
            self._rollback()

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _size(move: l.Move) -> int:
    match move:
        case l.Assigned(tasks=tasks) | l.Returned(tasks=tasks):
            return len(tasks)
        case l.Whole(pieces=pieces):
            return len(pieces)
    return 1


def _bounded_submit(message: Submit, frames: Sequence[Any]) -> tuple[Submit, list[Any]]:
    """Return the message without arguments that are too large, and without the functions, which have a table."""
    kept: list[Any] = []
    if not frames and sum(len(task.payload) for task in message.tasks) <= VALUE_MAX:
        return (Submit([], message.options, message.tasks, seq=message.seq) if message.functions else message), kept
    tasks: list[Task] = []
    at, room = 0, ROW_MAX
    for task in message.tasks:
        mine: list[bytes] = []
        if task.frames:
            mine = [bytes(frame) for frame in frames[at : at + task.frames]]
            at += task.frames
        nbytes = len(task.payload) + sum(map(len, mine))
        if nbytes > min(VALUE_MAX, room):
            task = msgspec.structs.replace(task, payload=l.LOST_PAYLOAD, frames=0)  # noqa: PLW2901 - what stands for it
            mine, nbytes = [], 0
        room -= nbytes
        kept += mine
        tasks.append(task)
    return Submit([], message.options, tasks, seq=message.seq), kept


def _bounded_results(message: Results, frames: Sequence[bytes]) -> tuple[Results, list[bytes]]:
    """Return the message with a sentence in place of each result that is too large."""
    if sum(map(len, frames)) + sum(len(result.payload) for result in message.results) <= VALUE_MAX:
        return message, list(frames)
    kept: list[bytes] = []
    results: list[Result] = []
    at, room = 0, ROW_MAX
    for result in message.results:
        mine = frames[at : at + result.frames]
        at += result.frames
        nbytes = len(result.payload) + sum(map(len, mine))
        if nbytes > min(VALUE_MAX, room):
            sentence = (
                f"its result of {nbytes >> 20} MB was too large for the journal, and has died with the controller"
            )
            result = msgspec.structs.replace(result, status=Status.UNKNOWN, payload=sentence.encode(), frames=0)  # noqa: PLW2901
            mine, nbytes = [], 0
        room -= nbytes
        kept += mine
        results.append(result)
    return Results(results, message.ack, seq=message.seq), kept
