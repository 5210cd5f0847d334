"""The journal's thread: it writes down what a turn decided while the loop goes on, and tells when that is durable.

```
 loop:    turn 7 ── submit(entries) ──► queue                 ┌► what waited for 7 may leave
          turn 8 ── submit(entries) ──► queue                 │
 thread:               take all there is ──► one transaction ─┴► fd becomes readable, `done` is 8
```

Whatever gathers while a transaction is written goes into the next one together, so a slow disk makes transactions
larger, not many. While too much waits (`is_full`), the loop listens to nobody.
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
    """Writes to a store in a thread of its own. All methods are for the loop's thread."""

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
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def submit(self, entries: Sequence[ledger.Entry], summary: ledger.Summary | None = None) -> int:
        """Have entries written; return the ticket that `done` will reach."""
        self._ticket += 1
        nbytes = sum(map(_nbytes, entries))
        self._queued += nbytes
        if summary is not None:
            self._summed = len(summary.moves) + len(summary.open)
            self._summary = self._ticket
        self._queue.put(_Batch(self._ticket, entries, summary, nbytes))
        return self._ticket

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
            if batches:
                self._write(batches)
                self._written += sum(batch.nbytes for batch in batches)
                self.done = batches[-1].ticket
                os.write(self.fd, _ONE)
            if ended:
                return
            if time.monotonic() - expired >= EXPIRE_EVERY_S and not self.failure:
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
        for batch in batches:
            entries += batch.entries
            if batch.summary is not None:
                self._guard(partial(self._store.commit, entries, batch.summary))
                entries = []
        if entries:
            self._guard(partial(self._store.commit, entries))

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
