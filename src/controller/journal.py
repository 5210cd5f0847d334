"""The journal: it writes down what a turn decided, and tells when that is durable.

What is little is written at once, in the loop's thread, as long as the disk is quick: to wake another thread and to be
woken by it takes several times as long. Everything else is for the journal's own thread, while the loop goes on:

```
 loop:    turn 7 ── submit(entries) ──► queue                 ┌► what waited for 7 may leave
          turn 8 ── submit(entries) ──► queue                 │
 thread:               take all there is ──► one transaction ─┴► fd becomes readable, `done` is 8
```

Whatever gathers while a transaction is written goes into the next one together, so a slow disk makes transactions
larger, not many. While too much waits (`is_full`), the loop listens to nobody. The thread also does what takes long
now and then: it moves what was written from SQLite's log to its place (`Store.checkpoint`), and deletes what is old.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from ..wire.messages import Outputs, Results
from . import ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .store import Store

log = logging.getLogger("enginery.controller")

AT_ONCE_BYTES = 8 << 10
"""What a turn may weigh to be written at once. It takes some 50 us; more would keep the loop from its next turn."""

QUICK_S = 0.001
"""While the last transaction took longer, the loop does not wait for the disk."""

CHECKPOINT_BYTES = 16 << 20
"""A checkpoint is due when about so much was written since the last one. It takes some 10 ms."""

COMMIT_BYTES = 20 << 10
"""What a transaction writes besides payloads, roughly: the pages that it changes, whole."""

BACKLOG_MAX = 64 << 20
"""Bytes that may wait to be written before the loop stops to listen."""

SUMMARY_AFTER = 50_000
"""A summary is worth writing when the moves since the last one speak of so many tasks, and of as many as were in it."""

EXPIRE_EVERY_S = 60.0

ENTRY_BYTES = 200
"""What an entry weighs besides its payloads, roughly."""


class Keep(NamedTuple):
    """How long results are kept, and how many bytes at the most."""

    seconds: float
    nbytes: int


class _Batch(NamedTuple):
    ticket: int
    entries: Sequence[ledger.Entry]
    summary: ledger.Summary | None
    nbytes: int


class Journal:
    """Writes to a store, at once or in a thread of its own. All methods are for the loop's thread."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self.done = 0
        """The last ticket whose entries are durable."""
        self.failure = ""
        """Why nothing is written any more."""
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when `done` has changed; -1 when closed."""
        self._store = store
        self._keep = keep
        self._ticket = 0
        self._written = 0
        self._queued = 0
        self._summed = 0
        self._summary = 0
        """Ticket of the last summary."""
        self._logged = 0
        """About how many bytes were written since the last checkpoint."""
        self._took_s = 0.0
        """How long the last transaction took."""
        self._busy = threading.Lock()
        """Held by whoever uses the store."""
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def submit(self, entries: Sequence[ledger.Entry], summary: ledger.Summary | None = None) -> int:
        """Have entries written; return the ticket that `done` has reached or will reach."""
        self._ticket += 1
        nbytes = sum(map(_nbytes, entries))
        if summary is None and nbytes <= AT_ONCE_BYTES and self._at_once(entries, nbytes):
            return self._ticket
        self._queued += nbytes
        if summary is not None:
            self._summed = len(summary.moves) + len(summary.open)
            self._summary = self._ticket
        self._queue.put(_Batch(self._ticket, entries, summary, nbytes))
        return self._ticket

    def _at_once(self, entries: Sequence[ledger.Entry], nbytes: int) -> bool:
        """Write the entries of the last ticket here and now, and return whether that was done: nothing waits before
        them, the store is free and no checkpoint due, and the disk was quick when last seen.
        """
        if self.done + 1 != self._ticket or self._took_s > QUICK_S or self._logged > CHECKPOINT_BYTES:
            return False
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._commit(entries, nbytes)
        finally:
            self._busy.release()
        self.done = self._ticket
        if self.failure:
            os.write(self.fd, _ONE)  # the loop is to look
        return True

    def wants_summary(self) -> bool:
        """Return whether it is time for one."""
        due = self._store.moved > SUMMARY_AFTER + self._summed
        return due and self.done >= self._summary and not self.failure

    def is_full(self) -> bool:
        """Return whether too much waits."""
        return self._queued - self._written > BACKLOG_MAX

    def acknowledge(self) -> None:
        """Take note that `done` was looked at."""
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 8)

    def close(self) -> None:
        """Write what waits, and close the file; `done` is true to the end."""
        self._queue.put(None)
        self._thread.join()
        with contextlib.suppress(sqlite3.Error):
            self._store.close()
        os.close(self.fd)
        self.fd = -1

    # ------------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        expired = time.monotonic()
        while True:
            batches, ended = self._take()
            with self._busy:
                if batches:
                    self._write(batches)
                    self._written += sum(batch.nbytes for batch in batches)
                    self.done = batches[-1].ticket
                    os.write(self.fd, _ONE)
                if ended:
                    return
                if self._logged > CHECKPOINT_BYTES:
                    self._logged = 0
                    self._guard(self._store.checkpoint)
                if time.monotonic() - expired >= EXPIRE_EVERY_S:
                    expired = time.monotonic()
                    self._guard(partial(self._store.expire, *self._keep))

    def _take(self) -> tuple[list[_Batch], bool]:
        """Wait for something to write, and return all there is; whether that is the end of it."""
        batches: list[_Batch] = []
        try:
            batch = self._queue.get(timeout=EXPIRE_EVERY_S)
            while batch is not None:
                batches.append(batch)
                batch = self._queue.get_nowait()
        except Empty:
            return batches, False
        return batches, True

    def _write(self, batches: list[_Batch]) -> None:
        entries: list[ledger.Entry] = []
        nbytes = 0
        for batch in batches:
            entries += batch.entries
            nbytes += batch.nbytes
            if batch.summary is not None:
                self._commit(entries, nbytes, batch.summary)
                entries, nbytes = [], 0
        if entries:
            self._commit(entries, nbytes)

    def _commit(self, entries: Sequence[ledger.Entry], nbytes: int, summary: ledger.Summary | None = None) -> None:
        self._logged += nbytes + COMMIT_BYTES
        began = time.monotonic()
        self._guard(partial(self._store.commit, entries, summary))
        self._took_s = time.monotonic() - began

    def _guard(self, write: Callable[[], object]) -> None:
        """Write, unless that has failed before."""
        if self.failure:
            return
        try:
            write()
        except Exception as error:  # also a bug of ours: whoever waits for a ticket must not wait for ever
            self.failure = f"the journal cannot be written ({error}); the cluster goes on without one"
            log.error("%s: if the controller dies now, its tasks are lost", self.failure)
            self._store.abandon()


_ONE = (1).to_bytes(8, "little")


def _nbytes(entry: ledger.Entry) -> int:
    match entry:
        case ledger.Submitted(_, message, frames):
            payloads = sum(len(task.payload) for task in message.tasks)
            return payloads + sum(map(len, frames)) + ENTRY_BYTES * len(message.tasks)
        case ledger.Delivered(_, Results(results=results), frames):
            payloads = sum(len(result.payload) for result in results)
            return payloads + sum(map(len, frames)) + ENTRY_BYTES * len(results)
        case ledger.Delivered(_, Outputs(records=records), _):
            return sum(ENTRY_BYTES + (len(record.data) if isinstance(record.data, str) else 0) for record in records)
        case ledger.FunctionCame():
            return len(entry.pickled) + ENTRY_BYTES
        case ledger.SetupCame():
            return len(entry.payload) + ENTRY_BYTES
    return ENTRY_BYTES
