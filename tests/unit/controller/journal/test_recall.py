"""What was submitted, asked of the journal; and functions, kept as long as what used them."""

from __future__ import annotations

import time

import pytest
from enginery.controller.journal import ledger as l
from enginery.controller.journal import recall as recall_module
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.store import IN_MEMORY, Store, open_store
from enginery.ids import ClientNo, first_task_id
from enginery.wire import messages as m

FIRST = first_task_id(ClientNo(1))
CAME = l.FunctionCame(b"f", 1, b"pickle")
LEFT = [l.FunctionLeft(b"f", 1), l.FunctionLeft(b"f", 0)]


@pytest.fixture
def store():
    store = Store(IN_MEMORY)
    store.begin("one")
    return store


def submitted(*tasks, frames=(), **options):
    return l.Submitted(1, m.Submit([], [m.Options(**options)], list(tasks)), frames)


def task(n=0, function=b"f", payload=b"arguments", **more):
    return m.Task(FIRST + n, function, payload, **more)


def recall(store, *ids):
    """Ask, until the first answer; return message and frames."""
    steps = Archive(store).answer(m.Recall(1, [FIRST + n for n in ids]), {})
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def functions(store):
    return [digest for (digest,) in store.db.execute("SELECT digest FROM functions ORDER BY digest")]


def test_tasks_are_recalled_as_they_were_submitted(store):
    store.commit([CAME, submitted(task(), task(1, frames=2), task(2, frames=1), frames=[b"a", b"b", b"c"], label="x")])
    store.commit([submitted(task(3, items=4), retries=2)])
    message, frames = recall(store, 3, 2, 0)
    assert message.functions == [m.Function(b"f", b"pickle")]
    assert [(t.id - FIRST, t.items, t.frames, t.payload) for t in message.tasks] == [
        (3, 4, 0, b"arguments"),
        (2, 0, 1, b"arguments"),
        (0, 0, 0, b"arguments"),
    ]
    assert [message.options[t.options] for t in message.tasks] == [
        m.Options(retries=2),
        m.Options(label="x"),
        m.Options(label="x"),
    ]
    assert len(message.options) == 2
    assert list(frames) == [b"c"]
    assert message.left == []


def test_copies_of_a_call_are_one_again(store):
    store.commit(
        [submitted(task(0, b"!execute", copies=4, frames=1), frames=[b"a"], targets=(5, 6, 7, 8), ordered=True)]
    )
    message, frames = recall(store, 0, 1, 2, 3)
    assert [(t.id - FIRST, t.copies) for t in message.tasks] == [(0, 4)]
    assert message.options[0].targets == (5, 6, 7, 8)
    assert (list(frames), message.functions) == ([b"a"], [])
    message, frames = recall(store, 2, 3, 0)
    assert [(t.copies, message.options[t.options].targets) for t in message.tasks] == [(2, (7, 8)), (1, (5,))]
    assert list(frames) == [b"a", b"a"]


def test_an_answer_has_an_end(store, monkeypatch):
    monkeypatch.setattr(recall_module, "ANSWER_BYTES", 80)
    store.commit([CAME, submitted(*(task(n) for n in range(4)))])
    message, _ = recall(store, 0, 1, 2, 3)
    assert (len(message.tasks), message.left) == (1, [FIRST + 1, FIRST + 2, FIRST + 3])
    message, _ = recall(store, 3)
    assert (len(message.tasks), message.left) == (1, [])


def test_what_cannot_be_recalled_is_named(store):
    large = task(1, payload=l.LOST_PAYLOAD)
    store.commit([CAME, submitted(task(0), large, task(2, b"g"))])
    assert recall(store, 0, 9)[0].error == "task 1-9 is not known any more"
    assert recall(store, 0, 1)[0].error == (
        "task 1-1 cannot be submitted again, as its arguments were too large for the journal"
    )
    assert recall(store, 2)[0].error == "task 1-2 cannot be submitted again, as its function is not kept any more"


def test_a_function_is_kept_for_what_used_it_but_is_none_of_the_books(store):
    store.commit([CAME, submitted(task()), *LEFT])
    assert store.load().functions == {}
    assert recall(store, 0)[0].functions == [m.Function(b"f", b"pickle")]
    store.commit([CAME])
    assert store.load().functions == {b"f": b"pickle"}, "it is named again"


def test_it_is_kept_for_the_next_life(tmp_path):
    store = open_store(tmp_path / "journal")
    store.begin("one")
    store.commit([CAME, submitted(task())])
    store.close()
    store = open_store(tmp_path / "journal")
    store.begin("two")
    assert store.load().functions == {}
    assert recall(store, 0)[0].functions == [m.Function(b"f", b"pickle")]
    store.close()


def test_it_goes_with_what_used_it(store):
    store.commit([CAME, l.FunctionCame(b"g", 1, b"other"), submitted(task()), *LEFT], l.Summary([], []))
    store.expire(1e6, 1 << 30)
    assert functions(store) == [b"f", b"g"]
    time.sleep(0.002)
    store.expire(0.001, 1 << 30)
    assert functions(store) == [b"g"], "which is in use"


def test_its_bytes_count(store):
    store.commit([l.FunctionCame(b"f", 1, b"p" * 1000), submitted(task()), *LEFT], l.Summary([], []))
    store.expire(1e6, 1100)
    assert functions(store) == [b"f"]
    store.expire(1e6, 900)
    assert functions(store) == []


def test_it_goes_when_all_is_purged(store):
    store.commit([CAME, submitted(task()), submitted(task(1)), *LEFT], l.Summary([], []))
    purge(store, [FIRST + 1])
    assert functions(store) == [b"f"]
    purge(store, None)
    assert functions(store) == []


def test_what_comes_after_a_purge_may_have_the_numbers_of_what_is_gone(store):
    """SQLite gives out again the number of a row that was the last; what it needed must not be in the way."""
    store.commit([CAME, submitted(task(1, needs=(FIRST,))), *LEFT], l.Summary([], []))
    purge(store, None)
    store.commit([submitted(task(3, needs=(FIRST + 2,)))])
    assert store.db.execute("SELECT first, last FROM needs").fetchall()[-1] == (FIRST + 2, FIRST + 2)


def purge(store, tasks):
    with pytest.raises(StopIteration):
        next(Archive(store).answer(m.Purge(1, tasks), {}))


def test_a_journal_that_begins_anew_keeps_them(tmp_path):
    store = open_store(tmp_path / "journal")
    store.begin("one")
    store.commit([CAME, submitted(task()), *LEFT])
    store.suspend()
    store.resume(l.Books(1, 1, [l.FunctionCame(b"g", 1, b"other")], [], l.Summary([], [])))
    assert store.load().functions == {b"g": b"other"}
    assert functions(store) == [b"f", b"g"]
    store.close()
