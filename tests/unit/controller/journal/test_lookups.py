"""The journal's thread answers what is asked of it, from what was submitted before, and writes on meanwhile."""

from __future__ import annotations

import select
import sys

import pytest
from enginery.controller.journal import ledger
from enginery.controller.journal import writer as journal_module
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.store import IN_MEMORY, Store
from enginery.controller.journal.writer import Journal, Keep
from enginery.ids import ClientNo, Peer, first_task_id
from enginery.wire import messages as m

from helpers import wait_until

FIRST = first_task_id(ClientNo(1))
WAIT_MS = 10_000


@pytest.fixture
def store():
    return Store(IN_MEMORY)


@pytest.fixture
def journal(store):
    journal = Journal(store, Keep(1e6, 1 << 30))
    yield journal
    journal.close()


def submitted(count, first=FIRST, label="x"):
    tasks = [m.Task(first + i, b"f", b"arguments") for i in range(count)]
    return ledger.Submitted(1, m.Submit([], [m.Options(label=label)], tasks), ())


def delivered(count, first=FIRST):
    return ledger.Delivered(1, m.Results([m.Result(first + i, m.Status.OK, b"value") for i in range(count)]), ())


def answers(journal, count=1):
    """Wait for so many answers."""
    found = []
    poll = select.poll()
    poll.register(journal.fd, select.POLLIN)
    while len(found) < count:
        assert poll.poll(WAIT_MS), "no answer"
        journal.acknowledge()
        found += journal.take_answers()
    return found


def test_an_answer_knows_what_was_submitted_before(journal):
    journal.submit([submitted(3), delivered(3)])
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Find(1, label="x")))
    journal.look_up(ledger.Lookup(Peer(b"c2"), m.Fetch(2, [FIRST, FIRST + 2])))
    found, fetched = answers(journal, 2)
    assert found.peer == b"c1"
    assert [info.id for info in found.message.tasks] == [FIRST, FIRST + 1, FIRST + 2]
    assert fetched.peer == b"c2"
    assert [result.id for result in fetched.message.results] == [FIRST, FIRST + 2]


def test_it_writes_while_it_looks_things_up(journal, monkeypatch):
    def for_ever(self, message, engines):
        while journal.done < 2:
            yield
        return m.Found(message.request, []), ()

    monkeypatch.setattr(Archive, "answer", for_ever)
    journal.submit([submitted(1)])
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Find(1, label="x")))
    journal.submit([submitted(1, FIRST + 1)])
    assert answers(journal)[0].message == m.Found(1, [])


def test_what_cannot_be_read_is_answered_and_harms_nobody(journal, store):
    store.db.execute("INSERT INTO submitted (id, client, first, last, at, message) VALUES (1, 1, 5, 5, 0, 'nonsense')")
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Find(1, [5])))
    assert "the journal cannot be read" in answers(journal)[0].message.error
    journal.submit([submitted(1)])
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Find(2, [FIRST])))
    assert len(answers(journal)[0].message.tasks) == 1


def test_a_journal_that_cannot_be_written_says_so_to_who_asks(journal, store):
    store.db.execute("DROP TABLE submitted")
    journal.submit([submitted(1)])
    wait_until(lambda: journal.done == 1, "it has tried")
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Find(1, label="x")))
    assert answers(journal)[0].message == m.Reply(1, error=journal.failure)
    assert "cannot be written" in journal.failure


def test_a_summary_is_wanted_in_time_if_anything_has_moved(journal, monkeypatch):
    monkeypatch.setattr(journal_module, "SUMMARY_EVERY_S", -1.0)
    assert not journal.wants_summary()
    journal.submit([submitted(1), ledger.Assigned(0, [FIRST])])
    wait_until(lambda: journal.done == 1, "it is written")
    assert journal.wants_summary()
    journal.submit([], ledger.Summary([], []))
    wait_until(lambda: journal.done == 2, "it is written")
    assert not journal.wants_summary()


def test_who_asks_for_little_does_not_wait_for_who_asks_for_much(journal, monkeypatch):
    answer = Archive.answer

    def for_ever(self, message, engines):
        while isinstance(message, m.Query) and not released:
            yield
        return (yield from answer(self, message, engines))

    released = []
    monkeypatch.setattr(Archive, "answer", for_ever)
    journal.submit([submitted(3)])
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Query(1, {}, ["msg_id"])))
    journal.look_up(ledger.Lookup(Peer(b"c2"), m.Find(2, label="x")))
    assert answers(journal)[0].message.request == 2
    released.append(True)
    assert answers(journal)[0].message.request == 1


def test_threads_take_turns_more_often_only_while_something_is_looked_up(journal, monkeypatch):
    before, during = sys.getswitchinterval(), []

    def watching(self, message, engines):
        yield
        during.append(sys.getswitchinterval())
        return m.Found(message.request, []), ()

    monkeypatch.setattr(Archive, "answer", watching)
    journal.look_up(ledger.Lookup(Peer(b"c1"), m.Query(1, {}, ["msg_id"])))
    answers(journal)
    assert during == [pytest.approx(journal_module.POLITE_S)]
    assert sys.getswitchinterval() == before
