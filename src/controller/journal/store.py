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
import sqlite3
import time
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import COUNT_BITS, MAX_TASK
from ...wire.messages import Results, Submit
from ..objects import DROPPED_S
from . import bounds, disk, dump
from . import ledger as l
from .disk import IN_MEMORY, SchemaError, Transaction
from .loading import load
from .needs import needs_of, results_needed
from .spans import spans
from .tables import OF_A_LIFE, SCHEMA, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

log = logging.getLogger("enginery.controller")

_encode = msgspec.msgpack.Encoder().encode
_submit = msgspec.msgpack.Decoder(Submit)

_MOVES = (l.Assigned, l.Returned, l.Piece, l.Whole, l.Stopped, l.SetupCall, l.Killed, l.Lacked)


class Store:
    """A journal's file, open. For one thread at a time. Errors of the disk come out as `sqlite3.Error`."""

    def __init__(self, path: Path | str, *, unwritable: str = "", void: bool = False) -> None:
        """Open the file. It is `unwritable` for a reason, and can only be read; `void`: not even its books."""
        self.path = path
        self.unwritable = unwritable
        self._life = ""
        self._is_ours = not void
        """What was submitted according to the file, was so in this life."""
        if not unwritable:
            self._use(_open(path))
        else:
            there = disk.suspended(path) if void else path
            self._use(disk.connect_to_read(there) if disk.exists(there) else _open(IN_MEMORY))
        self.moved = 0
        """How many tasks the moves since the last summary speak of."""

    def _use(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cursor = db.cursor()
        """For what is written with every turn. Other `execute`s make one each, of which the connection keeps a bit."""
        self._delivered_id = max(self._last("delivered"), int(self._get("summed") or 0))
        """The last one given. None is given twice: `summed` is one of them, and its row may be gone. (SQLite can see to
        that, with AUTOINCREMENT, by changing one more page in every transaction.)"""

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, for those who look things up."""
        return self._db

    def suspend(self) -> None:
        """Close the file and put it away: it misses something from now on, and nobody may go on from it as it is. That
        needs no space.
        """
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if disk.exists(self.path):
            disk.move(self.path, disk.suspended(self.path))

    def probe(self, nbytes: int) -> None:
        """See whether so much could be written, to the file that was put away; else raise the disk's error."""
        with contextlib.closing(_open(disk.suspended(self.path))) as db:
            with Transaction(db.cursor()):
                db.execute("INSERT OR REPLACE INTO meta VALUES ('room', zeroblob(?))", (nbytes,))
            with Transaction(db.cursor()):
                db.execute("DELETE FROM meta WHERE name = 'room'")

    def resume(self, books: l.Books) -> None:
        """Have the file that was put away begin anew with these books, and be the journal again. Results that it had
        are kept.
        """
        self._use(_open(disk.suspended(self.path)))
        try:
            with self.transaction():
                self._put_books(books)
            if self.path == IN_MEMORY:
                return
            disk.finish(self._db)
        except BaseException:
            self._db.close()
            raise
        disk.move(disk.suspended(self.path), self.path)
        self._db = _open(self.path)
        self._cursor = self._db.cursor()

    def _put_books(self, books: l.Books) -> None:
        known: set[int] = set()
        if self._is_ours:  # up to when it was suspended
            for (message,) in self._db.execute("SELECT message FROM submitted WHERE ended = 0"):
                for task in _submit.decode(message).tasks:
                    known.update(range(task.id, task.id + max(1, task.copies)))
        self._begin_life(self._life, goes_on=self._is_ours)
        self._set("epoch", books.epoch)
        now = time.time()
        for entry in books.entries:
            missing = dump.without(entry, known) if isinstance(entry, l.Submitted) else entry
            if missing is not None:
                self._write(missing, now)
        self._set("last_client", books.last_client)
        self._db.execute(  # these are in the books, too
            "DELETE FROM delivered WHERE EXISTS (SELECT 1 FROM clients WHERE no = delivered.client AND acked < seq)"
        )
        for delivered in books.unheard:
            self._delivered(delivered, now)
        self._put_summary(books.summary)

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
        self._life = life
        if self.unwritable:
            return self._begin_unwritten()
        try:
            with self.transaction():
                if self._get("life") != life:
                    self._begin_life(life)
                epoch = int(self._get("epoch") or 0) + 1
                self._set("epoch", epoch)
        except sqlite3.Error as error:
            if not disk.is_full(error, self.path):
                raise
            self.unwritable = disk.FULL
            return self._begin_unwritten()
        return epoch

    def _begin_unwritten(self) -> int:
        epoch, last_client = int(self._get("epoch") or 0) + 1, self.last_client()
        self._is_ours = self._is_ours and self._get("life") == self._life
        if not self._is_ours:
            self._db.close()
            self._use(_open(IN_MEMORY))
            self._set("last_client", last_client)
        return epoch

    def _begin_life(self, life: str, *, goes_on: bool = False) -> None:
        for table in OF_A_LIFE:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        self._db.execute("UPDATE functions SET unused = ? WHERE unused IS NULL", (time.time(),))
        if not goes_on:
            self._db.execute("UPDATE submitted SET ended = ?, open = NULL WHERE ended = 0", (time.time(),))
        self._set("summed", self._last("delivered"))
        self._set("life", life)

    def last_client(self) -> int:
        """Return the highest number that a client was given."""
        return int(self._get("last_client") or 0)

    def _last(self, table: str) -> int:
        row = self._db.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - names of our own
        return int(row[0] or 0)

    def transaction(self) -> Transaction:
        """Do all of a block or nothing."""
        return Transaction(self._cursor)

    # ------------------------------------------------------------------------------------------------ writing

    def commit(self, entries: Iterable[l.Entry], summary: l.Summary | None = None) -> None:
        """Write the entries down, all or none of them; then the summary, which is of the books after them."""
        now = time.time()
        moves: list[l.Move] = []
        with self.transaction():
            for entry in entries:
                if isinstance(entry, _MOVES):
                    moves.append(entry)
                else:
                    self._write(entry, now)
            if summary is not None:
                self._put_summary(summary)
            elif moves:
                self.moved += sum(l.size_of(move) for move in moves)
                self._cursor.execute("INSERT INTO moves (moves) VALUES (?)", (_encode(moves),))

    def checkpoint(self) -> None:
        """Move what was written from SQLite's log to its place in the file; the log begins anew, else it grows."""
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, entry: l.Entry, now: float) -> None:
        # Hot ones have no positional patterns: each makes the interpreter (3.11) look up a name, and keep that.
        execute = self._cursor.execute
        match entry:
            case l.Submitted():
                self._submitted(entry, now)
            case l.Delivered():
                self._delivered(entry, now)
            case l.Heard(have=0):
                execute("DELETE FROM heard WHERE peer = ?", (entry.peer,))
            case l.Heard():
                execute("INSERT OR REPLACE INTO heard VALUES (?, ?)", (entry.peer, entry.have))
            case l.Acked():
                execute("UPDATE clients SET acked = ? WHERE no = ?", (entry.have, entry.client))
            case l.ClientCame():
                execute("INSERT OR REPLACE INTO clients VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)", entry)
                self._set("last_client", entry.no)
            case l.ClientEnded(no, ended):
                execute("UPDATE clients SET ended = ? WHERE no = ?", (ended, no))
            case l.ObjectIs(id_, nbytes, stores, handles, kept):
                holders = _encode((stores, handles, kept))
                execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, NULL)", (id_, nbytes, holders))
            case l.ObjectGone(id_):
                execute("INSERT OR REPLACE INTO objects VALUES (?, 0, NULL, ?)", (id_, now))
            case l.ClientLeft(no):
                execute("DELETE FROM heard WHERE peer = (SELECT peer FROM clients WHERE no = ?)", (no,))
                execute("DELETE FROM clients WHERE no = ?", (no,))
            case l.FunctionCame(digest, owner, pickled):
                if 0 < len(pickled) <= bounds.ROW_MAX:
                    execute("INSERT OR REPLACE INTO functions VALUES (?, ?, NULL)", (digest, pickled))
                if owner:
                    execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (digest, owner))
            case l.FunctionLeft(digest, 0):
                execute("DELETE FROM owners WHERE digest = ?", (digest,))
                execute("UPDATE functions SET unused = ? WHERE digest = ?", (now, digest))
            case l.FunctionLeft(digest, owner):
                execute("DELETE FROM owners WHERE digest = ? AND owner = ?", (digest, owner))
            case l.EngineIs():
                execute("DELETE FROM gone WHERE id = ?", (entry.id,))
                execute("INSERT OR REPLACE INTO engines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)
            case l.EngineGone(id_, incarnation):
                execute("DELETE FROM engines WHERE id = ?", (id_,))
                execute("INSERT OR REPLACE INTO gone VALUES (?, ?)", (id_, incarnation))
            case l.NannyIs():
                execute("INSERT OR REPLACE INTO nannies VALUES (?, ?, ?, ?, ?, ?, ?)", entry)
            case l.NannyGone(peer):
                execute("DELETE FROM nannies WHERE peer = ?", (peer,))
            case l.SetupCame():
                execute("INSERT OR REPLACE INTO setups VALUES (?, ?, ?, ?)", entry)
            case l.SetupsCleared():
                execute("DELETE FROM setups")
            case _:
                raise TypeError(f"{type(entry).__name__} is not something to write down")

    def _submitted(self, entry: l.Submitted, now: float) -> None:
        message, frames = bounds.submit(entry.message, entry.frames)
        tasks = message.tasks
        first = min([task.id for task in tasks], default=0)  # of lists: it takes half the time
        last = max([task.id + task.copies - 1 if task.copies > 1 else task.id for task in tasks], default=-1)
        header, body = _encode(message), _encode(frames) if frames else None
        no = self._cursor.execute(
            "INSERT INTO submitted (client, first, last, at, nbytes, message, frames) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.client, first, last, now, len(header) + len(body or b""), header, body),
        ).lastrowid
        if needs := needs_of(message):
            # In place of those of a submission that had this number and was purged: SQLite gives it out again.
            self._db.execute("INSERT OR REPLACE INTO needs VALUES (?, ?, ?)", (no, min(needs), max(needs)))
        used = {task.options for task in tasks}
        for label in {options.label for index, options in enumerate(message.options) if index in used}:
            if label is not None:
                self._db.execute("INSERT INTO labels VALUES (?, ?)", (label, no))

    def _delivered(self, entry: l.Delivered, now: float) -> None:
        message: Any = entry.message
        frames: Sequence[Any] = [bytes(frame) for frame in entry.frames]
        if isinstance(message, Results):
            message, frames = bounds.results(message, frames)
            ids = [result.id for result in message.results]
        else:
            ids = [record.task for record in message.records]
        header, body = _encode(message), _encode(frames) if frames else None
        self._delivered_id += 1
        self._cursor.execute(
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
        execute = self._cursor.execute
        execute("DELETE FROM moves")
        if summary.moves:
            execute("INSERT INTO moves (moves) VALUES (?)", (_encode(summary.moves),))
        self.moved = 0
        open_ = array("q", summary.open)
        for id_, first, last in execute("SELECT id, first, last FROM submitted WHERE ended = 0").fetchall():
            lo, hi = bisect_left(open_, first), bisect_right(open_, last)
            if lo == hi:
                execute("UPDATE submitted SET ended = ?, open = NULL WHERE id = ?", (time.time(), id_))
            elif hi - lo < last - first + 1:
                execute("UPDATE submitted SET open = ? WHERE id = ?", (open_[lo:hi].tobytes(), id_))
        self._set("summed", self._last("delivered"))

    # ------------------------------------------------------------------------------------------------ bounds

    def expire(self, keep_s: float, keep_bytes: int) -> int:
        """Delete submissions that ended before that time, and the oldest of the rest beyond so many bytes, with their
        results; return how many rows. What a client has not confirmed, and what a restart needs, stays.
        """
        db = self._db
        with self.transaction():
            db.execute("DELETE FROM needs WHERE submission NOT IN (SELECT id FROM submitted WHERE ended = 0)")
            db.execute("DELETE FROM objects WHERE gone < ?", (time.time() - DROPPED_S,))
            before = db.total_changes
            horizon, oldest = time.time() - keep_s, 0.0
            total = int(
                db.execute(
                    "SELECT (SELECT total(nbytes) FROM delivered) + (SELECT total(nbytes) FROM submitted WHERE ended)"
                    " + (SELECT total(length(pickled)) FROM functions WHERE unused)"
                ).fetchone()[0]
            )
            if total > keep_bytes:
                oldest = self._horizon(total - keep_bytes)
            gone = "ended AND (ended < ? OR at < ?)"
            ranges = db.execute(f"SELECT first, last FROM submitted WHERE {gone}", (horizon, oldest)).fetchall()  # noqa: S608 - words of our own
            if ranges:
                db.execute(f"DELETE FROM submitted WHERE {gone}", (horizon, oldest))  # noqa: S608 - the same
                db.execute("DELETE FROM labels WHERE submission NOT IN (SELECT id FROM submitted)")
            for first, last in spans(ranges):
                self.sweep(first, last)
            self._sweep("at < ?", max(horizon, oldest))  # what was in use when its submission went
            db.execute("DELETE FROM functions WHERE unused < ?", (max(horizon, oldest),))
            return db.total_changes - before

    def sweep(self, first: int = 0, last: int = MAX_TASK) -> None:
        """Delete results of these tasks whose submissions are gone, and that nobody needs any more."""
        self._sweep("first BETWEEN ? AND ? AND last >= ?", first >> COUNT_BITS << COUNT_BITS, last, first)

    def sweep_functions(self) -> None:
        """Delete functions of which nothing that is kept can be."""
        self._db.execute(
            "DELETE FROM functions WHERE unused < coalesce((SELECT at FROM submitted ORDER BY id LIMIT 1), unused + 1)"
        )

    def _sweep(self, where: str, *values: float) -> None:
        self._db.execute(
            f"DELETE FROM delivered WHERE {where} AND id <= ?"  # noqa: S608 - words of our own
            " AND NOT EXISTS (SELECT 1 FROM clients WHERE no = delivered.client AND acked < delivered.seq)"
            " AND NOT EXISTS (SELECT 1 FROM needs AS n JOIN submitted ON submitted.id = submission"
            " WHERE ended = 0 AND n.first <= delivered.last AND n.last >= delivered.first)"
            " AND NOT EXISTS (SELECT 1 FROM submitted AS s WHERE s.last >= delivered.first"
            f" AND s.first BETWEEN delivered.first >> {COUNT_BITS} << {COUNT_BITS} AND delivered.last)",
            (*values, int(self._get("summed") or 0)),
        )

    def _horizon(self, excess: int) -> float:
        """Return the time such that what is older has so many bytes."""
        rows = self._db.execute(
            "SELECT at, nbytes FROM delivered UNION ALL SELECT at, nbytes FROM submitted WHERE ended"
            " UNION ALL SELECT unused, length(pickled) FROM functions WHERE unused ORDER BY at"
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
        saved = load(self._db, int(self._get("summed") or 0))
        self.moved = sum(l.size_of(move) for move in saved.moves)
        return saved._replace(needed=results_needed(self, saved.submitted))

    def size(self) -> int:
        """Return how many bytes the file has."""
        names = ("page_count", "freelist_count", "page_size")
        pages, free, page = (int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
        return (pages - free) * page


def begin(path: Path, life: str) -> tuple[Store, int, l.Saved]:
    """Return the store of that file, how many controllers this life of the cluster has had, and what they left. What
    cannot be read is set aside.
    """
    store = open_store(path)
    try:
        return store, store.begin(life), store.load()
    except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        log.warning("set the journal %s aside, which cannot be read: %s", path, error)
        store.close()
    disk.set_aside(path)
    store = open_store(path)
    return store, store.begin(life), store.load()


def open_store(path: Path) -> Store:
    """Return the store of that file; one that cannot be read, or is of another version, is set aside first.

    If there is only one that was suspended, that is it: with its results, and no use for its books.
    """
    suspended = disk.suspended(path)
    was_suspended = not disk.exists(path) and disk.exists(suspended)
    try:
        if was_suspended:
            _disown(suspended)
            disk.move(suspended, path)
        return Store(path)
    except (sqlite3.DatabaseError, OSError, SchemaError) as error:
        if disk.is_full(error, path):
            return Store(path, unwritable=disk.FULL, void=was_suspended)
        if isinstance(error, sqlite3.OperationalError | OSError):
            raise  # no disk, no permission: a new file would fare no better
        disk.set_aside(path)
        log.warning("set the journal %s aside, which cannot be used: %s", path, error)
        return Store(path)


def _disown(path: Path | str) -> None:
    """Have no life of a cluster go on from these books."""
    db = _open(path)
    try:
        db.execute("DELETE FROM meta WHERE name = 'life'")
    finally:
        disk.finish(db)


def _open(path: Path | str) -> sqlite3.Connection:
    return disk.connect(path, TABLES, SCHEMA)
