"""The journal's file: what is written is read again, and what nobody needs goes."""

from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest
from enginery.controller.journal import bounds
from enginery.controller.journal import ledger as l
from enginery.controller.journal import store as store_module
from enginery.controller.journal.spans import GAP, spans
from enginery.controller.journal.store import IN_MEMORY, SchemaError, Store, begin, open_store
from enginery.ids import ClientNo, first_task_id
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = int(first_task_id(ClientNo(1)))
"""The first task of client 1."""

CAME = l.ClientCame(1, b"c1", "script", 7, "here", cancel_on_exit=True)


class Clock:
    """The time of day, for the store."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(store_module, "time", clock)
    return clock


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(IN_MEMORY)
    assert store.begin("life") == 1
    yield store
    store.close()


def submitted(*ids, client=1, payload=b"arguments", frames=(), options=None, items=0, seq=1):
    tasks = [m.Task(id_, b"f", payload, len(frames), 0, items) for id_ in ids]
    return l.Submitted(client, m.Submit([], options or [m.Options()], tasks, seq=seq), [*frames] * len(ids))


def delivered(*ids, client=1, seq=1, payload=b"value", frames=()):
    results = [m.Result(id_, 0, payload, len(frames)) for id_ in ids]
    return l.Delivered(client, m.Results(results, seq=seq), [*frames] * len(ids))


def output(text, *, client=1, seq=1):
    return l.Delivered(client, m.Outputs([m.Output(FIRST, "stdout", text)], seq=seq))


def tasks_of(saved):
    """Return the ids of the tasks that may not have ended."""
    return [
        task.id for entry, open_ in saved.submitted for task in entry.message.tasks if open_ is None or task.id in open_
    ]


# ------------------------------------------------------------------------------------------------------ round trips


def test_an_empty_store(store):
    assert store.load() == l.Saved([], {}, {}, {}, [], [], [], [], [], [], [], [], [])
    assert store.last_client() == 0


def test_clients_come_confirm_and_leave(store):
    other = l.ClientCame(2, b"c2", "", 0, "", cancel_on_exit=False)
    store.commit([CAME, other, l.Heard(b"c1", 3), l.Heard(b"c2", 4), l.Acked(1, 5), l.Heard(b"c1", 6)])
    saved = store.load()
    assert saved.clients == [CAME, other]
    assert saved.clients[0].cancel_on_exit is True
    assert saved.heard == {b"c1": 6, b"c2": 4}
    assert saved.acked == {1: 5, 2: 0}
    store.commit([l.ClientLeft(1)])
    saved = store.load()
    assert (saved.clients, saved.heard, saved.acked) == ([other], {b"c2": 4}, {2: 0})
    assert store.last_client() == 2, "its number is not given again"


def test_functions_come_and_go(store):
    store.commit([l.FunctionCame(b"f", 1, b"pickle"), l.FunctionCame(b"f", 2, b""), l.FunctionCame(b"g", 1, b"other")])
    saved = store.load()
    assert saved.functions == {b"f": b"pickle", b"g": b"other"}
    assert sorted(saved.owners) == [(b"f", 1), (b"f", 2), (b"g", 1)]
    store.commit([l.FunctionLeft(b"f", 1)])
    assert sorted(store.load().owners) == [(b"f", 2), (b"g", 1)]
    store.commit([l.FunctionLeft(b"f", 0)])
    saved = store.load()
    assert (saved.functions, saved.owners) == ({b"g": b"other"}, [(b"g", 1)])


def test_a_function_named_twice_by_one_client_is_its_once(store):
    store.commit([l.FunctionCame(b"f", 1, b"pickle")])
    store.commit([l.FunctionCame(b"f", 1, b"")])
    store.commit([l.FunctionLeft(b"f", 1)])
    assert store.load().owners == []


def test_engines_and_nannies(store):
    nanny = l.NannyIs(b"nhost.1", "host", 5, 4, head=True)
    engine = l.EngineIs(0, 1, b"nhost.1", "host", 100, "ready", 2, False, "")
    retiring = l.EngineIs(3, 7, b"nhost.1", "host", 103, "away", 0, True, "because")
    store.commit([nanny, retiring, engine])
    saved = store.load()
    assert saved.nannies == [nanny]
    assert saved.engines == [engine, retiring]
    assert (saved.nannies[0].head, saved.engines[0].retiring, saved.engines[1].retiring) == (True, False, True)
    later = engine._replace(incarnation=2, state="starting")
    store.commit([later, l.EngineGone(3, 7), l.NannyGone(b"nhost.1")])
    saved = store.load()
    assert (saved.nannies, saved.engines, saved.gone) == ([], [later], [l.EngineGone(3, 7)])
    again = retiring._replace(incarnation=8)
    store.commit([again])
    saved = store.load()
    assert (saved.engines, saved.gone) == ([later, again], []), "it is there again"


def test_what_was_submitted(store):
    options = [m.Options(), m.Options((1, 2), 3, 4, 5.0, "label", ordered=True)]
    task = m.Task(FIRST, b"f", b"arguments", 2, 1, 7, 2)
    message = m.Submit([m.Function(b"f", b"pickle")], options, [task], seq=9)
    store.commit([l.Submitted(1, message, [b"one", memoryview(b"two")])])
    ((entry, open_),) = store.load().submitted
    assert open_ is None
    assert entry.client == 1
    assert (entry.message.seq, entry.message.options, entry.message.tasks) == (9, options, [task])
    assert entry.message.functions == [], "they have a table"
    assert entry.frames == [b"one", b"two"]
    assert message.functions, "the message itself is as it was"


def test_submissions_keep_their_order(store):
    store.commit([submitted(FIRST + 5), submitted(FIRST + 1)])
    store.commit([submitted(FIRST + 3)])
    assert tasks_of(store.load()) == [FIRST + 5, FIRST + 1, FIRST + 3]


def test_what_a_client_has_not_confirmed_is_kept_for_it_in_order(store):
    store.commit([CAME])
    store.commit([output("hi", seq=1), delivered(FIRST, seq=2, frames=[b"frame"]), delivered(FIRST + 1, seq=3)])
    unheard = store.load().unheard
    assert [(entry.client, entry.message.seq, list(entry.frames)) for entry in unheard] == [
        (1, 1, []),
        (1, 2, [b"frame"]),
        (1, 3, []),
    ]
    assert unheard[0].message.records == [m.Output(FIRST, "stdout", "hi")]
    assert unheard[1].message.results == [m.Result(FIRST, 0, b"value", 1)]
    store.commit([l.Acked(1, 2)])
    assert [entry.message.seq for entry in store.load().unheard] == [3]


def test_what_is_for_nobody_is_not_owed(store):
    store.commit([CAME, delivered(FIRST, seq=0), delivered(FIRST + 1, client=9, seq=0), delivered(FIRST, seq=1)])
    assert [entry.message.seq for entry in store.load().unheard] == [1]
    store.commit([l.ClientLeft(1)])
    assert store.load().unheard == []


def test_what_has_ended(store):
    store.commit([submitted(FIRST, FIRST + 1), delivered(FIRST), output("hi")])
    items = m.Result(FIRST + 1, 0, b"", lo=3, hi=5)
    store.commit([l.Delivered(1, m.Results([items]))])
    assert store.load().ended == [(FIRST, 0, 0), (FIRST + 1, 3, 5)]


def test_moves_keep_their_order(store):
    moves = [
        l.Assigned(0, [1, 2, 3]),
        l.Returned([3, 2]),
        l.Piece(77, 1, 3, 5, 1),
        l.Whole(1, [(1, 0, 3, 0, [(1, 2)]), (77, 3, 5, 1, [])]),
    ]
    store.commit(moves[:2])
    store.commit([l.Heard(b"c1", 1), moves[2], l.Heard(b"c1", 2), moves[3]])
    assert store.load().moves == moves
    assert store.moved == 3 + 2 + 1 + 2


def test_what_is_no_entry_is_not_written(store):
    with pytest.raises(TypeError, match="Ping"):
        store.commit([CAME, m.Ping()])
    assert store.load().clients == [], "all or nothing"


def test_a_commit_that_fails_leaves_nothing(store):
    broken = l.EngineGone(1 << 70, 1)
    with pytest.raises(OverflowError):
        store.commit([CAME, l.Assigned(0, [1]), broken])
    saved = store.load()
    assert (saved.clients, saved.moves, saved.submitted) == ([], [], [])
    store.commit([CAME])
    assert store.load().clients == [CAME]


# ------------------------------------------------------------------------------------------------------ summaries


def test_a_summary_takes_the_place_of_all_moves(store):
    store.commit([submitted(FIRST, FIRST + 1), l.Assigned(0, [FIRST, FIRST + 1]), l.Returned([FIRST])])
    now = [l.Assigned(0, [FIRST + 1])]
    store.commit([l.Returned([FIRST])], l.Summary(now, [FIRST, FIRST + 1]))
    assert store.load().moves == now
    assert store.moved == 1, "they count again when they are loaded"
    store.commit([l.Assigned(1, [FIRST])])
    assert store.load().moves == [*now, l.Assigned(1, [FIRST])]


def test_a_summary_of_nothing(store):
    store.commit([submitted(FIRST), l.Assigned(0, [FIRST]), delivered(FIRST)])
    store.commit([], l.Summary([], []))
    saved = store.load()
    assert (saved.moves, saved.ended, saved.submitted) == ([], [], [])
    assert store.moved == 0


def test_a_summary_says_which_tasks_have_not_ended(store):
    store.commit([submitted(FIRST, FIRST + 1, FIRST + 2), submitted(FIRST + 3), submitted(FIRST + 4, FIRST + 5)])
    store.commit([delivered(FIRST, FIRST + 3), l.Assigned(0, [FIRST + 1])])
    store.commit([], l.Summary([], [FIRST + 1, FIRST + 2, FIRST + 4, FIRST + 5]))
    saved = store.load()
    assert tasks_of(saved) == [FIRST + 1, FIRST + 2, FIRST + 4, FIRST + 5]
    assert [open_ for _, open_ in saved.submitted] == [{FIRST + 1, FIRST + 2}, None]
    assert saved.ended == [], "known by the summary"
    # And the next, that fewer have not
    store.commit([delivered(FIRST + 1, FIRST + 4)])
    assert store.load().ended == [(FIRST + 1, 0, 0), (FIRST + 4, 0, 0)]
    store.commit([], l.Summary([], [FIRST + 2, FIRST + 5]))
    assert tasks_of(store.load()) == [FIRST + 2, FIRST + 5]
    store.commit([], l.Summary([], [FIRST + 5]))
    assert tasks_of(store.load()) == [FIRST + 5]


def test_submissions_whose_ids_are_mixed(store):
    store.commit([submitted(FIRST, FIRST + 2), submitted(FIRST + 1, FIRST + 3)])
    store.commit([], l.Summary([], [FIRST, FIRST + 3]))
    assert tasks_of(store.load()) == [FIRST, FIRST + 3]


def test_the_copies_of_a_task_are_open_one_by_one(store):
    message = m.Submit([], [m.Options((0, 1, 2), ordered=True)], [m.Task(FIRST, b"f", b"", copies=3)])
    store.commit([l.Submitted(1, message, ())])
    store.commit([], l.Summary([], [FIRST + 1]))
    ((_, open_),) = store.load().submitted
    assert open_ == {FIRST + 1}
    store.commit([], l.Summary([], []))
    assert store.load().submitted == []


# ------------------------------------------------------------------------------------------------------ bounds


def test_results_and_ended_submissions_expire_by_age(store, clock):
    store.commit([submitted(FIRST), delivered(FIRST)], l.Summary([], []))
    clock.now += 100.0
    store.commit([submitted(FIRST + 1), delivered(FIRST + 1)])
    store.commit([], l.Summary([], []))
    assert store.expire(200.0, 1 << 30) == 0
    assert store.expire(50.0, 1 << 30) == 2
    assert count(store, "delivered", "submitted") == [1, 1]
    clock.now += 100.0
    assert store.expire(50.0, 1 << 30) == 2
    assert count(store, "delivered", "submitted") == [0, 0]


def count(store, *tables):
    return [store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def test_the_oldest_expire_by_size(store, clock):
    for i in range(10):
        store.commit([submitted(FIRST + i, frames=[bytes(1000)]), delivered(FIRST + i, frames=[bytes(1000)])])
        clock.now += 1.0
    store.commit([], l.Summary([], []))
    store.expire(1e9, 7 * 1000)
    assert count(store, "delivered", "submitted") == [3, 3]
    rows = store._db.execute("SELECT first FROM delivered ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [FIRST + 7, FIRST + 8, FIRST + 9]
    store.expire(1e9, 0)
    assert count(store, "delivered", "submitted") == [0, 0]


def test_what_has_not_ended_does_not_expire(store, clock):
    store.commit([submitted(FIRST, frames=[bytes(1000)])])
    clock.now += 1e6
    assert store.expire(0.0, 0) == 0
    store.commit([], l.Summary([], [FIRST]))
    assert store.expire(0.0, 0) == 0
    assert tasks_of(store.load()) == [FIRST]


def test_what_ends_after_all_results_have_expired_has_ended(tmp_path, clock):
    store = Store(tmp_path / "journal")
    store.begin("life")
    entries = [submitted(FIRST), submitted(FIRST + 1), delivered(FIRST, client=0)]
    store.commit(entries, l.Summary([], [FIRST + 1]))
    clock.now += 100.0
    assert store.expire(10.0, 1 << 30) == 2
    store.close()
    # With the table empty, the next result is not taken for one that the summary knows of
    store = Store(tmp_path / "journal")
    store.commit([delivered(FIRST + 1, client=0)])
    assert store.load().ended == [(FIRST + 1, 0, 0)]
    store.close()


def test_what_has_ended_since_the_last_summary_does_not_expire(store, clock):
    """A restart needs it: it says that the tasks have ended."""
    store.commit([submitted(FIRST), delivered(FIRST)])
    clock.now += 1e6
    assert store.expire(0.0, 0) == 0
    assert store.load().ended == [(FIRST, 0, 0)]
    store.commit([], l.Summary([], []))
    assert store.expire(0.0, 0) == 2


def test_what_a_client_has_not_confirmed_does_not_expire(store, clock):
    store.commit([CAME, submitted(FIRST), delivered(FIRST, seq=1), delivered(FIRST + 1, seq=2)])
    store.commit([l.Acked(1, 1)], l.Summary([], []))
    clock.now += 1e6
    assert store.expire(0.0, 0) == 2, "the submission, and the result that was confirmed"
    assert [entry.message.seq for entry in store.load().unheard] == [2]
    store.commit([l.ClientLeft(1)])
    assert store.expire(0.0, 0) == 1


def test_labels_name_the_tasks_that_have_them_and_expire(store, clock):
    options = [m.Options(), m.Options(label="mine"), m.Options((0, 1), label="both", ordered=True)]
    tasks = [
        m.Task(FIRST, b"f", b"", options=0),
        m.Task(FIRST + 1, b"f", b"", options=1),
        m.Task(FIRST + 2, b"f", b"", options=1),
        m.Task(FIRST + 3, b"f", b"", options=2, copies=2),
    ]
    store.commit([l.Submitted(1, m.Submit([], options, tasks), ())])
    rows = store._db.execute("SELECT label FROM labels JOIN submitted ON id = submission ORDER BY label").fetchall()
    assert rows == [("both",), ("mine",)]
    clock.now += 100.0
    store.expire(50.0, 1 << 30)
    assert count(store, "labels") == [2], "its tasks have not ended"
    store.commit([], l.Summary([], []))
    clock.now += 100.0
    store.expire(50.0, 1 << 30)
    assert count(store, "labels") == [0]


def test_a_task_that_ran_long_is_kept_as_long_as_others(store, clock):
    store.commit([submitted(FIRST)])
    clock.now += 1000.0
    store.commit([delivered(FIRST)])
    store.commit([], l.Summary([], []))
    assert store.expire(50.0, 1 << 30) == 0
    clock.now += 100.0
    assert store.expire(50.0, 1 << 30) == 2


def test_ranges_of_ids_near_to_one_another_are_put_together():
    far, other_client = 4 + GAP, 2 << 40
    assert spans([(3, 3), (1, 2), (far, far), (other_client, other_client + 1)]) == [
        (1, 3),
        (far, far),
        (other_client, other_client + 1),
    ]


def test_options_that_no_task_has_label_nothing(store):
    store.commit([submitted(FIRST, options=[m.Options(), m.Options(label="unused")])])
    assert count(store, "labels") == [0]


def test_the_size_is_what_is_in_it(store):
    before = store.size()
    store.commit([delivered(FIRST, frames=[bytes(1 << 20)])])
    assert store.size() - before >= 1 << 20
    store.commit([], l.Summary([], []))
    store.expire(0.0, 0)
    assert store.size() - before < 1 << 19


# ------------------------------------------------------------------------------------------------------ large values


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "VALUE_MAX", 100)


@pytest.mark.usefixtures("small")
def test_arguments_that_are_too_large_are_not_written(store):
    tasks = [m.Task(FIRST, b"f", b"a", 1), m.Task(FIRST + 1, b"f", b"b", 2), m.Task(FIRST + 2, b"f", b"c", 1)]
    message = m.Submit([], [m.Options()], tasks, seq=4)
    store.commit([l.Submitted(1, message, [b"one", bytes(60), bytes(60), b"three"])])
    ((entry, _),) = store.load().submitted
    assert [(task.payload, task.frames) for task in entry.message.tasks] == [(b"a", 1), (l.LOST_PAYLOAD, 0), (b"c", 1)]
    assert entry.frames == [b"one", b"three"]
    assert entry.message.seq == 4
    assert [task.frames for task in message.tasks] == [1, 2, 1], "the message itself is as it was"


@pytest.mark.usefixtures("small")
def test_arguments_without_frames_that_are_too_large_are_not_written(store):
    store.commit([submitted(FIRST, payload=bytes(101))])
    ((entry, _),) = store.load().submitted
    assert [task.payload for task in entry.message.tasks] == [l.LOST_PAYLOAD]


@pytest.mark.usefixtures("small")
def test_results_that_are_too_large_are_told_of(store):
    results = [m.Result(FIRST, 0, b"a", 1), m.Result(FIRST + 1, 0, b"b", 1), m.Result(FIRST + 2, 0, bytes(101))]
    message = m.Results(results, 7, seq=1)
    store.commit([CAME, l.Delivered(1, message, [b"one", bytes(101)])])
    (entry,) = store.load().unheard
    assert (entry.message.seq, entry.message.ack) == (1, 7)
    kept = entry.message.results
    assert [(result.id, result.frames) for result in kept] == [(FIRST, 1), (FIRST + 1, 0), (FIRST + 2, 0)]
    assert [result.status for result in kept] == [0, m.Status.UNKNOWN, m.Status.UNKNOWN]
    assert b"too large for the journal" in kept[1].payload
    assert entry.frames == [b"one"]
    assert [result.status for result in results] == [0, 0, 0], "the message itself is as it was"


@pytest.mark.usefixtures("small")
def test_a_message_of_many_large_values_is_written_as_far_as_a_row_goes(store, monkeypatch):
    monkeypatch.setattr(bounds, "ROW_MAX", 250)
    store.commit([CAME, submitted(FIRST, FIRST + 1, FIRST + 2, payload=b"", frames=[bytes(100)])])
    ((entry, _),) = store.load().submitted
    assert [task.payload for task in entry.message.tasks] == [b"", b"", l.LOST_PAYLOAD]
    assert entry.frames == [bytes(100), bytes(100)]
    store.commit([delivered(FIRST, FIRST + 1, FIRST + 2, payload=b"", frames=[bytes(100)])])
    (entry,) = store.load().unheard
    assert [result.status for result in entry.message.results] == [0, 0, m.Status.UNKNOWN]
    assert entry.frames == [bytes(100), bytes(100)]


def test_a_function_that_is_larger_than_a_row_is_not_written(store, monkeypatch):
    monkeypatch.setattr(bounds, "ROW_MAX", 250)
    store.commit([l.FunctionCame(b"f", 1, bytes(251)), l.FunctionCame(b"g", 1, bytes(250))])
    assert list(store.load().functions) == [b"g"]


@pytest.mark.usefixtures("small")
def test_results_that_are_large_together_only_are_written(store):
    message = m.Results([m.Result(FIRST, 0, b"", 1), m.Result(FIRST + 1, 0, b"", 1)], seq=1)
    store.commit([CAME, l.Delivered(1, message, [bytes(60), bytes(60)])])
    (entry,) = store.load().unheard
    assert entry.frames == [bytes(60), bytes(60)]


# ------------------------------------------------------------------------------------------------------ lives


def test_the_next_controller_of_a_life_goes_on(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    assert store.begin("one") == 1
    store.commit([CAME, submitted(FIRST), l.Assigned(0, [FIRST])])
    store.close()
    store = open_store(path)
    assert store.begin("one") == 2
    saved = store.load()
    assert (saved.clients, tasks_of(saved), saved.moves) == ([CAME], [FIRST], [l.Assigned(0, [FIRST])])
    assert store.moved == 1
    store.close()


def test_a_new_life_begins_without_the_tasks_of_the_last_one_and_keeps_its_results(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("one")
    store.commit(
        [
            CAME,
            l.Heard(b"c1", 1),
            l.FunctionCame(b"f", 1, b"pickle"),
            l.NannyIs(b"n", "host", 1, 1, head=True),
            l.EngineIs(0, 1, b"n", "host", 1, "ready", 0, False, ""),
            submitted(FIRST, FIRST + 1),
            l.Assigned(0, [FIRST]),
            delivered(FIRST),
        ]
    )
    store.commit([], l.Summary([], [FIRST + 1]))
    store.commit([delivered(FIRST + 1)])
    store.close()
    store = open_store(path)
    assert store.begin("two") == 2
    assert store.load() == l.Saved([], {}, {}, {}, [], [], [], [], [], [], [], [], [])
    assert store.last_client() == 1, "its number is not given again"
    assert count(store, "delivered", "submitted") == [2, 1]
    assert store.expire(1e9, 0) == 4, "and the function of what is gone"
    store.close()


# ------------------------------------------------------------------------------------------------------ files


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_for_our_eyes_only(tmp_path):
    store = open_store(tmp_path / "journal")
    store.begin("life")
    store.commit([CAME])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert "journal-wal" in modes
    assert set(modes.values()) == {0o600}
    store.close()


@pytest.mark.parametrize(
    "garbage", [b"this is no database at all, and never was" * 200, b"SQLite format 3\0" + bytes(5000)]
)
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path, garbage, caplog):
    path = tmp_path / "journal"
    path.write_bytes(garbage)
    store = open_store(path)
    assert store.begin("life") == 1
    store.close()
    assert (tmp_path / "journal.broken").read_bytes() == garbage
    assert f"set the journal {path} aside" in caplog.text


def test_a_file_of_another_version_is_set_aside(tmp_path, monkeypatch, caplog):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    store.commit([CAME])
    store.close()
    monkeypatch.setattr(store_module, "SCHEMA", store_module.SCHEMA + 1)
    with pytest.raises(SchemaError, match="another version"):
        Store(path)
    store = open_store(path)
    assert store.load().clients == []
    store.close()
    assert "another version of enginery" in caplog.text
    assert "journal.broken" in files(tmp_path)


def test_what_was_written_gets_into_the_file_itself_when_it_is_told(tmp_path):
    path, copy = tmp_path / "journal", tmp_path / "copy"
    store = Store(path)
    store.begin("life")
    store.checkpoint()
    for n in range(1, 1100):  # which would do it for SQLite's own default
        store.commit([l.Heard(b"c1", n)])

    def heard_in_a_copy():
        copy.write_bytes(path.read_bytes())
        reader = Store(copy)
        try:
            return reader.load().heard
        finally:
            reader.close()

    assert heard_in_a_copy() == {}
    store.checkpoint()
    assert heard_in_a_copy() == {b"c1": 1099}
    store.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises((sqlite3.OperationalError, FileNotFoundError)):
        open_store(tmp_path / "nowhere" / "journal")


def test_nobody_goes_on_from_a_suspended_store(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    store.commit([CAME, submitted(FIRST), delivered(FIRST)])
    store.suspend()
    assert files(tmp_path) == ["journal.suspended"]
    store = open_store(path)
    assert "journal" in files(tmp_path)
    assert store.begin("life") == 2
    assert store.load().clients == []
    assert store.load().submitted == []
    assert store.last_client() == 1, "no number is given again"
    store.close()


def test_a_suspended_store_begins_anew_with_the_books(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    other = l.ClientCame(2, b"c2", "", 0, "", cancel_on_exit=False)
    store.commit([CAME, other, submitted(FIRST, FIRST + 1), delivered(FIRST, seq=4), delivered(FIRST + 7, seq=5)])
    store.suspend()
    store.probe(1000)
    new = submitted(FIRST + 2, FIRST + 3, frames=[b"buffer"])
    entries = [CAME, l.Acked(1, 4), l.Heard(b"c1", 9), submitted(FIRST + 1), new]
    store.resume(l.Books(5, 8, entries, [delivered(FIRST + 7, seq=5)], l.Summary([], [FIRST + 1, FIRST + 3])))
    assert "journal" in files(tmp_path)
    assert "journal.suspended" not in files(tmp_path)
    store.close()
    store = open_store(path)
    assert store.begin("life") == 6
    assert store.last_client() == 8
    saved = store.load()
    assert saved.clients == [CAME], "the other had left"
    assert saved.acked == {1: 4}
    assert saved.heard == {b"c1": 9}
    assert [entry.message.seq for entry in saved.unheard] == [5], "once"
    assert tasks_of(saved) == [FIRST + 1, FIRST + 3], "each once"
    assert saved.ended == []
    rows = store._db.execute("SELECT first FROM delivered ORDER BY first").fetchall()
    assert rows == [(FIRST,), (FIRST + 7,)], "older results are kept"
    store.close()


def test_books_that_cannot_be_written_leave_the_store_suspended(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    store.suspend()
    with pytest.raises(TypeError, match="not something to write down"):
        store.resume(l.Books(1, 1, ["nonsense"], [], l.Summary([], [])))
    assert "journal" not in files(tmp_path)
    store.resume(l.Books(1, 1, [CAME], [], l.Summary([], [])))
    assert store.load().clients == [CAME]
    store.close()


def test_what_was_committed_survives_a_process_that_ends_without_closing(tmp_path):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    store.commit([CAME])
    other = sqlite3.connect(path)  # as another process would see it
    assert other.execute("SELECT name FROM clients").fetchall() == [("script",)]
    other.close()
    store.close()


def test_a_file_with_a_message_that_cannot_be_read_is_set_aside(tmp_path, caplog):
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    store.commit([submitted(FIRST)])
    store._db.execute("UPDATE submitted SET message = x'c1'")
    store.close()
    store, epoch, saved = begin(path, "life")
    assert (epoch, saved.submitted) == (1, [])
    assert "cannot be read" in caplog.text
    store.close()
    assert (tmp_path / "journal.broken").exists()
    store, epoch, _ = begin(path, "life")
    assert epoch == 2
    store.close()


def test_a_power_failure_costs_the_last_moments_only(tmp_path):
    """What of SQLite's log has reached the platter is its beginning; nothing else is certain."""
    path = tmp_path / "journal"
    store = open_store(path)
    store.begin("life")
    for seq in range(1, 41):
        store.commit([CAME, l.Heard(b"c1", seq), submitted(FIRST + seq, seq=seq, payload=b"x" * 500)])
    log = (tmp_path / "journal-wal").read_bytes()
    assert log
    seen = set()
    for cut in range(0, len(log) + 1, max(1, len(log) // 60)):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "journal").write_bytes(path.read_bytes())
        (folder / "journal-wal").write_bytes(log[:cut])
        survivor = open_store(folder / "journal")
        survivor.begin("life")
        saved = survivor.load()
        heard = saved.heard.get(b"c1", 0)
        assert tasks_of(saved) == [FIRST + seq for seq in range(1, heard + 1)], "all of a turn or nothing"
        seen.add(heard)
        survivor.close()
    assert {0, 39} <= seen or {0, 40} <= seen
    store.close()


def test_objects_and_what_was_dropped(monkeypatch: pytest.MonkeyPatch):
    # Given two objects, one of which was dropped
    store = Store(IN_MEMORY)
    store.begin("life")
    a, b = b"a" * 16, b"b" * 16
    there = l.ObjectIs(a, 100, [b"store  0"], [(1, 2)], [FIRST])
    store.commit([l.ObjectIs(b, 100, [b"store  0"], [(1, 1)], []), there, l.ObjectGone(b)])
    saved = store.load()
    assert (saved.objects, saved.dropped) == ((there,), (b,))
    # When time has passed, then that is forgotten
    monkeypatch.setattr(store_module, "DROPPED_S", -1.0)
    store.expire(1e6, 1 << 30)
    saved = store.load()
    assert (saved.objects, saved.dropped) == ((there,), ())
    store.close()
