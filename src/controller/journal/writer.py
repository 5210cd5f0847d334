"""The journal: it writes down what a turn decided, and tells when that is durable.

What is little is written at once, in the loop's thread, as long as the disk is quick: to wake another thread and to be
woken by it takes several times as long. Everything else, and everything after a failure, is for the journal's own
thread, while the loop goes on:

```
 loop:    turn 7 ── submit(entries) ──► queue                 ┌► what waited for 7 may leave
          turn 8 ── submit(entries) ──► queue                 │
 thread:               take all there is ──► one transaction ─┴► fd becomes readable, `done` is 8
```

Whatever gathers while a transaction is written goes into the next one together, so a slow disk makes transactions
larger, not many. While too much waits (`is_full`), the loop listens to nobody. The thread also does what takes long
now and then: it moves what was written from SQLite's log to its place (`Store.checkpoint`), and deletes what is old.

When the disk takes no more, the cluster goes on without a journal (`failure`), and the thread looks every `AGAIN_S`
whether there is room again. If so it asks for the whole of the books (`wants_books`), and the journal begins anew.

The same thread answers what is asked of the journal (`archive`), a little at a time, from what was written before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from ...transport import WAKE, open_wake_up
from ...wire.messages import Outputs, Reply, Results
from ..outbox import Envelope
from . import ledger
from .archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .archive import Answer
    from .store import Store

log = logging.getLogger("enginery.controller")

AT_ONCE_BYTES = 8 << 10
"""What a turn may weigh to be written at once. It takes some 50 us; more would keep the loop from its next turn."""

QUICK_S = 0.001
"""While the last transaction took longer, the loop does not wait for the disk."""

CHECKPOINT_BYTES = 16 << 20
"""A checkpoint is due when about so much was written since the last one. It takes some 10 ms."""

SWITCH_S = sys.getswitchinterval()

POLITE_S = 0.0002
"""While something is looked up, which may take seconds, the loop's thread waits so long for the interpreter at the most
each time that it wants it, which is several times a turn."""

COMMIT_BYTES = 20 << 10
"""What a transaction writes besides payloads, roughly: the pages that it changes, whole."""

BACKLOG_MAX = 64 << 20
"""Bytes that may wait to be written before the loop stops to listen."""

SUMMARY_AFTER = 50_000
"""A summary is worth writing when the moves since the last one speak of so many tasks, and of as many as were in it."""

SUMMARY_EVERY_S = 600.0
"""A summary is made after so long too, if it is cheap: without, nothing is known to have ended, and nothing expires."""

EXPIRE_EVERY_S = 60.0

AGAIN_S = 10.0
"""How often to look whether a full disk has room again."""

ROOM_BYTES = 1 << 20
"""So much room there is to be at least; and more, if that was soon full again."""

SOON_S = 60.0

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
    books: ledger.Books | None = None


class Journal:
    """Writes to a store, at once or in a thread of its own. All methods are for the loop's thread."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self.done = 0
        """The last ticket whose entries are durable."""
        self.failure = ""
        """Why nothing is written at the moment; empty if all is."""
        self.wants_books = False
        """There is room again: begin anew, please."""
        self.fd, self._wake_fd = open_wake_up()
        """Readable when `done` has changed, or something is answered; -1 when closed."""
        self._store = store
        self._archive = Archive(store)
        self._keep = keep
        self._ticket = 0
        self._written = 0
        self._queued = 0
        self._summed = 0
        self._summary = 0
        """Ticket of the last summary."""
        self._again_at = 0.0
        self._room = ROOM_BYTES
        self._resumed_at = 0.0
        self._summary_at = time.monotonic()
        self._logged = 0
        """About how many bytes were written since the last checkpoint."""
        self._took_s = 0.0
        """How long the last transaction took."""
        self._busy = threading.Lock()
        """Held by whoever uses the store."""
        if store.unwritable:
            self._suspend(store.unwritable)
        self._queue: SimpleQueue[_Batch | ledger.Lookup | None] = SimpleQueue()
        self._asked: deque[tuple[ledger.Lookup, Generator[None, None, Answer]]] = deque()
        """What is being looked up, in turn: of the thread."""
        self._answers: deque[Envelope] = deque()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def submit(self, entries: Sequence[ledger.Entry], summary: ledger.Summary | None = None) -> int:
        """Have entries written; return the ticket that `done` has reached or will reach."""
        self._ticket += 1
        nbytes = sum(map(_nbytes, entries))
        is_little = summary is None and nbytes <= AT_ONCE_BYTES
        if is_little and not self.failure and self._at_once(entries, nbytes):
            return self._ticket
        self._queued += nbytes
        if summary is not None:
            self._summed = len(summary.moves) + len(summary.open)
            self._summary = self._ticket
            self._summary_at = time.monotonic()
        self._queue.put(_Batch(self._ticket, entries, summary, nbytes))
        return self._ticket

    def begin_anew(self, books: ledger.Books) -> int:
        """Have the books written in full, in place of all entries so far; return the ticket."""
        self.wants_books = False
        self._ticket += 1
        nbytes = sum(map(_nbytes, [*books.entries, *books.unheard]))
        self._queued += nbytes
        self._summed = len(books.summary.moves) + len(books.summary.open)
        self._summary = self._ticket
        self._summary_at = time.monotonic()
        self._queue.put(_Batch(self._ticket, (), None, nbytes, books))
        return self._ticket

    def look_up(self, lookup: ledger.Lookup) -> None:
        """Have a question answered from all that was submitted before: see `take_answers`."""
        self._queue.put(lookup)

    def take_answers(self) -> list[Envelope]:
        """Return what there is to say to those who asked."""
        return [self._answers.popleft() for _ in range(len(self._answers))]

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
            self._wake()  # the loop is to look
        return True

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is readable
            os.write(self._wake_fd, WAKE)

    def wants_summary(self) -> bool:
        """Return whether it is time for one."""
        moved = self._store.moved
        due = moved > SUMMARY_AFTER + self._summed
        if moved and not due and self._summed < SUMMARY_AFTER:
            due = time.monotonic() - self._summary_at > SUMMARY_EVERY_S
        return due and self.done >= self._summary and not self.failure

    def is_full(self) -> bool:
        """Return whether too much waits."""
        return self._queued - self._written > BACKLOG_MAX

    def acknowledge(self) -> None:
        """Take note that `done` was looked at."""
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 4096)

    def close(self) -> None:
        """Write what waits, and close the file; `done` is true to the end."""
        self._queue.put(None)
        self._thread.join()
        with contextlib.suppress(sqlite3.Error):
            self._store.close()
        for fd in {self.fd, self._wake_fd}:
            os.close(fd)
        self.fd = self._wake_fd = -1

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
                    self._wake()
                    batches.clear()  # the next may be long in coming
                if ended:
                    return
                if self.failure and not self.wants_books and time.monotonic() >= self._again_at:
                    self._look_for_room()
                if self._asked:
                    self._look(*self._asked[0])
                elif self._logged > CHECKPOINT_BYTES:
                    self._logged = 0
                    self._guard(self._store.checkpoint)
                elif time.monotonic() - expired >= EXPIRE_EVERY_S and not self.failure:
                    expired = time.monotonic()
                    self._guard(partial(self._store.expire, *self._keep))

    def _take(self) -> tuple[list[_Batch], bool]:
        """Wait for something to do, and return all there is to write; whether that is the end of it."""
        batches: list[_Batch] = []
        try:
            patience_s = AGAIN_S if self.failure else EXPIRE_EVERY_S
            todo = self._queue.get_nowait() if self._asked else self._queue.get(timeout=patience_s)
            while todo is not None:
                if isinstance(todo, _Batch):
                    batches.append(todo)
                else:
                    if not self._asked:
                        sys.setswitchinterval(POLITE_S)
                    self._asked.append((todo, self._archive.answer(todo.message, todo.engines)))
                todo = self._queue.get_nowait()
        except Empty:
            return batches, False
        return batches, True

    def _write(self, batches: list[_Batch]) -> None:
        entries: list[ledger.Entry] = []
        nbytes = 0
        for batch in batches:
            entries += batch.entries
            nbytes += batch.nbytes
            if batch.books is not None:
                entries, nbytes = [], 0
                self._resume(batch.books, batch.nbytes)
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

    def _look(self, lookup: ledger.Lookup, steps: Generator[None, None, Answer]) -> None:
        """Go on with what is being looked up."""
        answer: Answer
        try:
            if not self.failure:
                next(steps)
                self._asked.rotate(-1)  # nobody waits for one who asks for much
                return
            answer = Reply(lookup.message.request, error=self.failure), ()
        except StopIteration as end:
            answer = end.value
        except Exception as error:  # whatever is wrong with what is read, writing goes on
            log.exception("failed on a %s of %r", type(lookup.message).__name__, lookup.peer)
            answer = Reply(lookup.message.request, error=f"the journal cannot be read: {error}"), ()
        self._asked.popleft()
        if not self._asked:
            sys.setswitchinterval(SWITCH_S)
        self._answers.append(Envelope(lookup.peer, *answer))
        self._wake()

    def _guard(self, write: Callable[[], object]) -> None:
        """Write, unless nothing is written at the moment."""
        if self.failure:
            return
        try:
            write()
        except Exception as error:  # also a bug of ours: whoever waits for a ticket must not wait for ever
            self._suspend(str(error))

    def _suspend(self, why: str) -> None:
        """Go on without a journal: what is on the disk misses something from now on."""
        self.failure = f"the journal cannot be written ({why}); the cluster goes on without one"
        now = time.monotonic()
        self._again_at = now + AGAIN_S
        if self._resumed_at:
            self._room = 4 * self._room if now - self._resumed_at < SOON_S else ROOM_BYTES
        self._store.suspend()
        log.error("%s: if the controller dies now, its tasks are lost", self.failure)

    def _look_for_room(self) -> None:
        self._again_at = time.monotonic() + AGAIN_S
        try:
            self._store.probe(self._room)
        except Exception:  # as above
            log.debug("the journal can still not be written", exc_info=True)
            return
        self.wants_books = True
        self._wake()

    def _resume(self, books: ledger.Books, nbytes: int) -> None:
        """Begin anew."""
        try:
            if not self.failure:  # asked for twice, before the first was here: it begins from what is put away
                self._store.suspend()
            self._store.resume(books)
        except Exception:  # as above
            log.debug("the journal can still not be written", exc_info=True)
            self._room = max(self._room, 2 * nbytes)  # there was less than it takes
            return
        self.failure = ""
        self.wants_books = False  # said again while these were on their way
        self._resumed_at = time.monotonic()
        log.warning("the journal can be written again, and has all that is to be done")


def _nbytes(entry: ledger.Entry) -> int:
    match entry:
        case ledger.Submitted(message=message, frames=frames):
            payloads = sum(len(task.payload) for task in message.tasks)
            return payloads + sum(map(len, frames)) + ENTRY_BYTES * len(message.tasks)
        case ledger.Delivered(message=Results(results=results), frames=frames):
            payloads = sum(len(result.payload) for result in results)
            return payloads + sum(map(len, frames)) + ENTRY_BYTES * len(results)
        case ledger.Delivered(message=Outputs(records=records)):
            return sum(ENTRY_BYTES + (len(record.data) if isinstance(record.data, str) else 0) for record in records)
        case ledger.FunctionCame():
            return len(entry.pickled) + ENTRY_BYTES
        case ledger.SetupCame():
            return len(entry.payload) + ENTRY_BYTES
    return ENTRY_BYTES
