"""The journal: it writes everything in order, at once or in its thread, says what is durable, and survives a disk that
fails.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from enginery.controller.journal import ledger as l
from enginery.controller.journal import writer as journal_module
from enginery.controller.journal.store import IN_MEMORY, Store, open_store
from enginery.controller.journal.writer import Journal, Keep
from enginery.wire import messages as m

import helpers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEEP = Keep(3600.0, 1 << 30)


class FakeStore:
    """Notes what it is told to write, and waits before each commit while `gate` is shut."""

    def __init__(self):
        self.commits = []
        self.expired = []
        self.suspended = self.closed = 0
        self.unwritable = ""
        self.probed = []
        self.books = []
        self.checkpoints = []
        self.threads = []
        self.moved = 0
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def commit(self, entries, summary=None):
        self.waiting.set()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.commits.append((list(entries), summary))
        self.threads.append(threading.current_thread())

    def checkpoint(self):
        self.checkpoints.append(threading.current_thread())

    def expire(self, seconds, nbytes):
        self.expired.append((seconds, nbytes))

    def suspend(self):
        self.suspended += 1

    def probe(self, nbytes):
        self.probed.append(nbytes)
        if self.error is not None:
            raise self.error

    def resume(self, books):
        if self.error is not None:
            raise self.error
        self.books.append(books)

    def close(self):
        self.closed += 1


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture(autouse=True)
def nothing_at_once(request, monkeypatch) -> None:
    """Have everything written by the journal's thread, but where a test is about the other way."""
    if "at_once" not in request.fixturenames:
        monkeypatch.setattr(journal_module, "AT_ONCE_BYTES", -1)


@pytest.fixture
def at_once(monkeypatch) -> None:
    """Have what is little written at once; on a busy machine nothing is quick, so everything is."""
    monkeypatch.setattr(journal_module, "QUICK_S", 20.0)


@pytest.fixture
def journal(store) -> Iterator[Journal]:
    journal = Journal(store, KEEP)
    yield journal
    store.gate.set()
    journal.close()


def heard(n):
    return l.Heard(b"c1", n)


def wait_for(journal, ticket):
    helpers.wait_until(lambda: journal.done >= ticket, f"ticket {ticket} is durable")


def is_readable(journal):
    return bool(select.select([journal.fd], [], [], 0)[0])


def shut(journal, store):
    """Have the thread wait in a commit; return its ticket."""
    store.gate.clear()
    store.waiting.clear()
    ticket = journal.submit([heard(0)])
    assert store.waiting.wait(20)
    return ticket


def test_tickets_are_counted_and_reached_in_order(journal, store):
    assert [journal.submit([heard(n)]) for n in (1, 2, 3)] == [1, 2, 3]
    wait_for(journal, 3)
    assert [entry for entries, _ in store.commits for entry in entries] == [heard(1), heard(2), heard(3)]
    assert journal.failure == ""


def test_what_is_durable_can_be_waited_for(journal):
    journal.submit([heard(1)])
    assert select.select([journal.fd], [], [], 20)[0]
    assert journal.done == 1
    journal.acknowledge()
    assert not is_readable(journal)
    journal.acknowledge()


def test_nothing_is_durable_before_it_is_written(journal, store):
    ticket = shut(journal, store)
    assert journal.done == ticket - 1
    assert not is_readable(journal)
    store.gate.set()
    wait_for(journal, ticket)


def test_what_gathers_while_one_is_written_is_written_together(journal, store):
    shut(journal, store)
    last = [journal.submit([heard(n)]) for n in (1, 2, 3)][-1]
    store.gate.set()
    wait_for(journal, last)
    assert [entries for entries, _ in store.commits] == [[heard(0)], [heard(1), heard(2), heard(3)]]


def test_a_summary_is_of_the_books_after_its_own_entries_and_before_later_ones(journal, store):
    shut(journal, store)
    first, second = l.Summary([], [1]), l.Summary([], [2])
    journal.submit([heard(1)])
    journal.submit([heard(2)], first)
    journal.submit([heard(3)])
    journal.submit([], second)
    last = journal.submit([heard(4)])
    store.gate.set()
    wait_for(journal, last)
    assert store.commits[1:] == [
        ([heard(1), heard(2)], first),
        ([heard(3)], second),
        ([heard(4)], None),
    ]


def test_a_summary_is_wanted_when_there_were_many_moves_and_none_is_under_way(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "SUMMARY_AFTER", 10)
    store.moved = 10
    assert not journal.wants_summary()
    store.moved = 11
    assert journal.wants_summary()
    # The next when there were as many as were in the last, and some
    shut(journal, store)
    last = journal.submit([], l.Summary([l.Returned([1])] * 20, [1, 2, 3]))
    store.moved = 1000
    assert not journal.wants_summary(), "one is under way"
    store.gate.set()
    wait_for(journal, last)
    store.moved = 33
    assert not journal.wants_summary()
    store.moved = 34
    assert journal.wants_summary()


def test_it_is_full_while_too_much_waits(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "BACKLOG_MAX", 10_000)
    shut(journal, store)
    assert not journal.is_full()
    task = m.Task(1, b"f", bytes(3000), 1)
    journal.submit([l.Submitted(1, m.Submit([], [], [task]), [bytes(3000)])])
    assert not journal.is_full()
    last = journal.submit([l.Delivered(1, m.Results([m.Result(1, 0, b"", 1)]), [memoryview(bytes(4000))])])
    assert journal.is_full()
    store.gate.set()
    wait_for(journal, last)
    helpers.wait_until(lambda: not journal.is_full(), "there is room again")


def test_results_count_by_their_payloads_too(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "BACKLOG_MAX", 10_000)
    shut(journal, store)
    journal.submit([l.Delivered(1, m.Results([m.Result(1, 0, bytes(20_000))]))])
    assert journal.is_full()


def test_functions_count_too(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "BACKLOG_MAX", 10_000)
    shut(journal, store)
    journal.submit([l.FunctionCame(b"f", 1, bytes(20_000))])
    assert journal.is_full()


def test_old_results_expire_from_time_to_time(store, monkeypatch):
    monkeypatch.setattr(journal_module, "EXPIRE_EVERY_S", 0.01)
    journal = Journal(store, KEEP)
    helpers.wait_until(lambda: len(store.expired) > 1, "it looks for what is too old, with nothing to write")
    journal.submit([heard(1)])
    wait_for(journal, 1)
    count = len(store.expired)
    helpers.wait_until(lambda: len(store.expired) > count, "and goes on")
    assert set(store.expired) == {KEEP}
    journal.close()


def test_closing_writes_what_waits(store):
    journal = Journal(store, KEEP)
    shut(journal, store)
    last = journal.submit([heard(1)])
    closing = threading.Thread(target=journal.close)
    closing.start()
    store.gate.set()
    closing.join(20)
    assert not closing.is_alive()
    assert journal.done == last
    assert [entry for entries, _ in store.commits for entry in entries] == [heard(0), heard(1)]
    assert store.closed == 1
    assert not journal._thread.is_alive()
    journal.acknowledge()  # by a loop that sends what has waited for the last commit


# ------------------------------------------------------------------------------------------------------ at once


def by_whom(store, journal):
    """Return who made the commits so far."""
    who = {threading.current_thread(): "loop", journal._thread: "thread"}
    return [who[thread] for thread in store.threads]


def settle(journal):
    """Wait until the thread has nothing more to do."""
    wait_for(journal, journal._ticket)
    helpers.wait_until(lambda: not journal._busy.locked(), "the store is free")


@pytest.mark.usefixtures("at_once")
def test_what_is_little_is_durable_at_once(journal, store):
    for n in (1, 2, 3):
        assert journal.submit([heard(n)]) == n
        assert journal.done == n
        assert len(store.commits) == n
    assert by_whom(store, journal) == ["loop"] * 3
    assert not is_readable(journal)
    assert not journal.is_full()


@pytest.mark.usefixtures("at_once")
def test_what_is_large_and_a_summary_are_for_the_thread(journal, store):
    large = l.FunctionCame(b"f", 1, bytes(journal_module.AT_ONCE_BYTES))
    wait_for(journal, journal.submit([large]))
    settle(journal)
    wait_for(journal, journal.submit([heard(1)], l.Summary([], [])))
    assert by_whom(store, journal) == ["thread"] * 2


@pytest.mark.usefixtures("at_once")
def test_nothing_overtakes_what_waits(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "AT_ONCE_BYTES", -1)
    shut(journal, store)
    monkeypatch.setattr(journal_module, "AT_ONCE_BYTES", 1000)
    last = journal.submit([heard(1)])
    assert journal.done == 0
    store.gate.set()
    wait_for(journal, last)
    assert [entries for entries, _ in store.commits] == [[heard(0)], [heard(1)]]
    settle(journal)
    assert journal.submit([heard(2)]) == journal.done
    assert by_whom(store, journal) == ["thread", "thread", "loop"]


@pytest.mark.usefixtures("at_once")
def test_the_loop_does_not_wait_for_a_slow_disk_twice(journal, store, monkeypatch):
    journal.submit([heard(1)])
    monkeypatch.setattr(journal_module, "QUICK_S", -1.0)  # that took too long
    wait_for(journal, journal.submit([heard(2)]))
    settle(journal)
    monkeypatch.setattr(journal_module, "QUICK_S", 20.0)  # that did not
    assert journal.submit([heard(3)]) == journal.done
    assert by_whom(store, journal) == ["loop", "thread", "loop"]


@pytest.mark.usefixtures("at_once")
def test_the_loop_does_not_wait_for_the_thread_that_clears(store, monkeypatch):
    clearing, cleared = threading.Event(), threading.Event()

    def expire(*_):
        clearing.set()
        assert cleared.wait(20)

    monkeypatch.setattr(journal_module, "EXPIRE_EVERY_S", 0.01)
    monkeypatch.setattr(store, "expire", expire)
    journal = Journal(store, KEEP)
    assert clearing.wait(20)
    ticket = journal.submit([heard(1)])
    assert journal.done == 0
    cleared.set()
    wait_for(journal, ticket)
    assert by_whom(store, journal) == ["thread"]
    journal.close()


@pytest.mark.usefixtures("at_once")
def test_checkpoints_are_the_threads(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "CHECKPOINT_BYTES", 3 * journal_module.COMMIT_BYTES)
    for n in (1, 2, 3):
        journal.submit([heard(n)])
    assert journal.done == 3
    assert not store.checkpoints
    # When one is due, the thread is given something to do
    wait_for(journal, journal.submit([heard(4)]))
    settle(journal)
    assert by_whom(store, journal) == ["loop"] * 3 + ["thread"]
    assert store.checkpoints == [journal._thread]
    # And then it begins anew
    assert journal.submit([heard(5)]) == journal.done
    assert store.checkpoints == [journal._thread]


@pytest.mark.usefixtures("at_once")
def test_payloads_count_for_checkpoints(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "CHECKPOINT_BYTES", 150_000)
    entry = l.Delivered(1, m.Results([m.Result(1, 0, bytes(80_000))]))
    wait_for(journal, journal.submit([entry]))
    settle(journal)
    assert not store.checkpoints
    wait_for(journal, journal.submit([entry]))
    helpers.wait_until(lambda: store.checkpoints, "a checkpoint")


@pytest.mark.usefixtures("at_once")
def test_a_disk_that_fails_at_once_is_the_end_of_the_journal_too(journal, store, caplog):
    store.error = sqlite3.OperationalError("database or disk is full")
    assert journal.submit([heard(1)]) == journal.done
    assert "full" in journal.failure
    assert store.suspended == 1
    assert is_readable(journal), "the loop is to look"
    assert "if the controller dies now, its tasks are lost" in caplog.text
    store.error = None
    wait_for(journal, journal.submit([heard(2)]))
    assert store.commits == []


@pytest.mark.usefixtures("at_once")
def test_after_a_failure_at_once_the_thread_looks_for_room(journal, store, monkeypatch):
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    store.error = sqlite3.OperationalError("database or disk is full")
    journal.submit([heard(1)])
    store.error = None
    # It learns of it with what is submitted next
    journal.submit([heard(2)])
    helpers.wait_until(lambda: journal.wants_books, "there is room")


# ------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        OSError(5, "Input/output error"),
        MemoryError("no memory"),
        ValueError("a bug of ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_disk_that_fails_suspends_the_journal_and_nothing_else(journal, store, error, caplog):
    # Given a journal that has written something
    journal.submit([heard(1)])
    wait_for(journal, 1)
    # When it cannot be written any more
    store.error = error
    shut(journal, store)
    journal.submit([heard(2)], l.Summary([], []))
    last = journal.submit([heard(3)])
    store.gate.set()
    # Then nobody waits for it
    wait_for(journal, last)
    assert str(error) in journal.failure
    assert journal.failure.startswith("the journal cannot be written (")
    assert [entries for entries, _ in store.commits] == [[heard(1)]]
    # And nobody goes on from what is in it
    assert store.suspended == 1
    assert "if the controller dies now, its tasks are lost" in caplog.text
    # And nothing is written before all is
    store.error = None
    wait_for(journal, journal.submit([heard(4)]))
    assert len(store.commits) == 1
    store.moved = 1 << 30
    assert not journal.wants_summary()


def test_a_clearing_that_fails_is_a_failure_too(store, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(journal_module, "EXPIRE_EVERY_S", 0.01)
    monkeypatch.setattr(store, "expire", fail)
    journal = Journal(store, KEEP)
    helpers.wait_until(lambda: journal.failure, "the failure is known")
    wait_for(journal, journal.submit([heard(1)]))
    assert store.suspended == 1
    journal.close()


BOOKS = l.Books(3, 7, [heard(9)], [], l.Summary([], [1, 2]))


def test_when_there_is_room_again_it_begins_anew_with_all_of_the_books(store, monkeypatch, caplog):
    # Given a journal whose disk is full
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    store.error = sqlite3.OperationalError("database or disk is full")
    journal = Journal(store, KEEP)
    wait_for(journal, journal.submit([heard(1)]))
    helpers.wait_until(lambda: len(store.probed) > 2, "it has looked again and again")
    assert not journal.wants_books
    # When there is room
    store.error = None
    helpers.wait_until(lambda: journal.wants_books, "it wants the books")
    # Then it has them written, and what comes after them
    missed = journal.submit([heard(2)])
    journal.begin_anew(BOOKS)
    wait_for(journal, journal.submit([heard(3)]))
    assert journal.done > missed
    assert not journal.failure
    assert not journal.wants_books
    assert store.books == [BOOKS]
    assert [entry for entries, _ in store.commits for entry in entries] == [heard(3)]
    assert len([record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]) == 2
    journal.close()


def test_books_that_come_twice_are_written_twice_and_nothing_is_lost(store, monkeypatch):
    """There was room, and while the books were on their way it looked once more."""
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    store.unwritable = "the disk is full"
    journal = Journal(store, KEEP)
    helpers.wait_until(lambda: journal.wants_books, "there is room")
    put_away = store.suspended
    with journal._busy:
        first = journal.begin_anew(BOOKS)
        journal.wants_books = True
        second = journal.begin_anew(BOOKS)
        journal.wants_books = True
    wait_for(journal, second)
    assert first < second
    assert store.books == [BOOKS, BOOKS]
    assert store.suspended == put_away + 1, "what is written is put away before it begins anew"
    assert not journal.failure
    assert not journal.wants_books
    journal.close()


def test_when_a_little_room_is_soon_full_again_it_waits_for_more(store, monkeypatch):
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    store.unwritable = "the disk is full"
    journal = Journal(store, KEEP)
    for times in (1, 4, 16):
        helpers.wait_until(lambda: journal.wants_books, "there is a little room")
        assert store.probed[-1] == times * journal_module.ROOM_BYTES
        wait_for(journal, journal.begin_anew(BOOKS))
        store.error = sqlite3.OperationalError("database or disk is full")
        wait_for(journal, journal.submit([heard(1)]))
        assert journal.failure
        store.error = None
    journal.close()


def test_when_there_is_less_room_than_the_books_take_it_waits_for_so_much(store, monkeypatch):
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    store.unwritable = "database or disk is full"
    journal = Journal(store, KEEP)
    assert "full" in journal.failure, "from the beginning"
    helpers.wait_until(lambda: journal.wants_books, "there is a little room")
    assert set(store.probed) == {journal_module.ROOM_BYTES}
    store.error = sqlite3.OperationalError("database or disk is full")
    large = l.Delivered(1, m.Results([m.Result(1, 0, b"")], seq=1), [bytes(1 << 20)])
    wait_for(journal, journal.begin_anew(BOOKS._replace(unheard=[large])))
    assert journal.failure
    store.error = None
    helpers.wait_until(lambda: journal.wants_books, "there is room")
    assert store.probed[-1] > 1 << 20
    wait_for(journal, journal.begin_anew(BOOKS))
    assert not journal.failure
    journal.close()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system with room for 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(small_disk):
    path = small_disk / "journal"
    store = open_store(path)
    store.begin("life")
    journal = Journal(store, KEEP)
    wait_for(journal, journal.submit([heard(1)]))
    assert journal.failure == ""
    frames = [os.urandom(1 << 20)] * 4
    entry = l.Delivered(1, m.Results([m.Result(1, 0, b"", 4)], seq=1), frames)
    wait_for(journal, journal.submit([entry]))
    assert "full" in journal.failure
    wait_for(journal, journal.submit([heard(2)]))
    journal.close()
    # The next controller does not go on from what misses something
    assert not path.exists()
    store = open_store(path)
    assert store.begin("life") == 2
    assert store.load().heard == {}
    store.close()


def fill(folder):
    """Leave no room at all."""
    path = folder / "filler"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)
    return path


def test_a_journal_that_was_whole_is_read_although_the_disk_is_full(small_disk, monkeypatch):
    path = small_disk / "journal"
    store = open_store(path)
    assert store.begin("life") == 1
    store.commit([heard(1)])
    store.close()
    filler = fill(small_disk)
    # When another controller begins
    store = open_store(path)
    # Then it goes on from there
    assert store.begin("life") == 2
    saved = store.load()
    assert saved.heard == {heard(1).peer: 1}
    assert store.last_client() == 0
    # But a third does not, since the second could not write
    journal = Journal(store, KEEP)
    assert "full" in journal.failure
    journal.close()
    store = open_store(path)
    assert store.begin("life") == 2
    assert store.load().heard == {}
    # And it begins anew when it can write
    monkeypatch.setattr(journal_module, "AGAIN_S", 0.01)
    monkeypatch.setattr(journal_module, "ROOM_BYTES", 1 << 16)
    journal = Journal(store, KEEP)
    filler.unlink()
    helpers.wait_until(lambda: journal.wants_books, "there is room")
    wait_for(journal, journal.begin_anew(BOOKS))
    assert not journal.failure
    journal.close()
    store = open_store(path)
    assert store.begin("life") == 4
    assert store.last_client() == 7
    assert store.load().heard == {heard(9).peer: 9}
    store.close()


def test_with_a_store(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    journal = Journal(store, KEEP)
    came = l.ClientCame(1, b"c1", "", 0, "", cancel_on_exit=False)
    journal.submit([came])
    last = [journal.submit([heard(n), l.Assigned(0, [n])]) for n in range(1, 100)][-1]
    wait_for(journal, last)
    reader = Store(path)
    assert reader.load().heard == {b"c1": 99}
    reader.close()
    journal.close()
    store = open_store(path)
    assert len(store.load().moves) == 99
    store.close()


def test_in_memory():
    store = Store(IN_MEMORY)
    store.begin("life")
    journal = Journal(store, KEEP)
    wait_for(journal, journal.submit([heard(1)]))
    journal.close()


def test_nothing_is_left_in_memory_of_what_was_written(at_once, tmp_path):
    store = open_store(tmp_path / "journal")
    store.begin("life")
    journal = Journal(store, KEEP)

    def write(first: int) -> None:
        """A thousand turns, and one with so much that the thread writes it, and has nothing to do thereafter."""
        for no in range(first, first + 1000):
            task = m.Task(no, b"f", b"arguments")
            entries = [
                l.Submitted(1, m.Submit([], [m.Options()], [task]), ()),
                l.Heard(b"peer", no),
                l.Assigned(0, [no]),
                l.Delivered(1, m.Results([m.Result(no, m.Status.OK, b"value")])),
                l.Acked(1, no),
            ]
            journal.submit(entries)
        tasks = [m.Task(no, b"f", b"arguments %d" % no) for no in range(5000)]
        ticket = journal.submit([l.Submitted(1, m.Submit([], [m.Options()], tasks), ())])
        del entries, task, tasks
        helpers.wait_until(lambda: journal.done == ticket, "it is written", 20)

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    write(1)
    before = blocks()
    write(10_000)
    helpers.wait_until(lambda: blocks() < before + 300, "memory is as before", 20)
    journal.close()
