"""The journal's files: opened, and put out of the way when nobody may go on from them.

```
default.journal              the journal
default.journal.suspended    it, while it misses something because the disk was full: its results are true, its books
                             are not
default.journal.broken       one that could not be read, or was of another version
```
Each may have a `-wal` and a `-shm` beside it, which belong to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

IN_MEMORY = ":memory:"
"""As the path: a database without a file, for tests."""

FULL = "the disk is full"

ROOM_BYTES = 64 << 10
"""With less room, nothing can be written."""


class SchemaError(Exception):
    """The file is of another version."""


class Transaction:
    """All or nothing."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def __enter__(self) -> None:
        self._cursor.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._cursor.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        else:
            self._rollback()

    def _rollback(self) -> None:
        if self._cursor.connection.in_transaction:
            self._cursor.execute("ROLLBACK")


def connect(path: Path | str, tables: str, schema: int) -> sqlite3.Connection:
    """Return a connection to a file, which is made if missing, that has these tables."""
    if str(path) != IN_MEMORY:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # for our eyes only
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        db.execute("PRAGMA page_size=4096")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # one would come at the end of any commit: see `Store.checkpoint`
        db.execute("PRAGMA journal_size_limit=67108864")
        db.executescript(tables)
        row = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None:
            db.execute("INSERT INTO meta VALUES ('schema', ?)", (schema,))
        elif row[0] != schema:
            raise SchemaError(f"{path} was written by another version of enginery")
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path | str) -> sqlite3.Connection:
    """Return a connection to a file that cannot be written, because there is no space; nor can one beside it."""
    how = "mode=ro" if exists(f"{path}-wal") else "immutable=1"
    return sqlite3.connect(f"{Path(path).as_uri()}?{how}", uri=True, isolation_level=None, check_same_thread=False)


def finish(db: sqlite3.Connection) -> None:
    """Close a file so that it is all there is, and can be moved at once."""
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


def exists(path: Path | str) -> bool:
    """Return whether there is a file, with something in it."""
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False


def suspended(path: Path | str) -> Path | str:
    """Return where a journal is while it misses something."""
    return path if str(path) == IN_MEMORY else Path(f"{path}.suspended")


def set_aside(path: Path | str) -> None:
    """Rename a journal that cannot be used, for people to look at."""
    move(path, f"{path}.broken")


def move(path: Path | str, target: Path | str) -> None:
    """Rename a journal, with what belongs to it. It needs no space."""
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.unlink(f"{target}{suffix}")  # noqa: PTH108 - of one that is not there any more
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(OSError):
            os.replace(f"{path}{suffix}", f"{target}{suffix}")  # noqa: PTH105 - names, not places


def is_full(error: BaseException, path: Path | str) -> bool:
    """Return whether it is for lack of space that something was not written."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", 0)
    return code == sqlite3.SQLITE_FULL or (code & 0xFF == sqlite3.SQLITE_IOERR and not _has_room(path))


def _has_room(path: Path | str) -> bool:
    try:
        there = os.statvfs(Path(path).parent)
    except OSError:
        return True
    return there.f_bavail * there.f_frsize >= ROOM_BYTES
