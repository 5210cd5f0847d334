"""Queries and tasks submitted again, against a controller that answers some at a time."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from enginery.client.records import queries
from enginery.client.results.futures import AsyncResult
from enginery.errors import ClusterError, ControllerLost, NoSuchTask
from enginery.serialize import dumps
from enginery.wire import messages as m
from enginery.wire.query import FIELDS

FIRST = (3 << 40) + 1
ROWS = [[FIRST + n, "ok", 1_000_000 * n] for n in range(5)]


class Archive:
    """What the fake controller answers: two records, or two tasks, at a time."""

    def __init__(self, fake):
        self.error = None
        self.tasks = {}
        self.functions = []
        self.options = []
        self._fake = fake
        self._answer_others, fake._answer = fake._answer, self._answer

    def add(self, id_, args, **more):
        payload, frames = dumps((args, {}))
        self.tasks[id_] = m.Task(id_, b"f", payload, len(frames), **more), frames

    def _answer(self, peer, message, frames):
        match message:
            case m.Query() | m.Recall() if self.error:
                self._fake._say(peer, m.Reply(message.request, error=self.error))
            case m.Query():
                some, left = ROWS[message.after : message.after + 2], message.after + 2
                columns = [{"msg_id": 0, "status": 1, "submitted": 2}.get(key) for key in message.keys]
                rows = [[None if at is None else row[at] for at in columns] for row in some]
                parts = [msgspec.msgpack.encode([row]) for row in rows]
                self._fake._say(peer, m.Queried(message.request, len(parts), left if left < len(ROWS) else 0), parts)
            case m.Recall():
                some, left = message.tasks[:2], message.tasks[2:]
                tasks = [self.tasks[id_][0] for id_ in some]
                frames = [frame for id_ in some for frame in self.tasks[id_][1]]
                self._fake._say(peer, m.Recalled(message.request, self.functions, self.options, tasks, left), frames)
            case m.Find():
                infos = [m.TaskInfo(id_, self.tasks[id_][0].items, "x", 1.0, b"f") for id_ in message.tasks]
                self._fake._say(peer, m.Found(message.request, infos))
            case m.Purge():
                self._fake._say(peer, m.Reply(message.request, value=True))
            case _:
                self._answer_others(peer, message, frames)


@pytest.fixture
def archive(fake):
    return Archive(fake)


def test_records_come_some_at_a_time(client, archive, fake):
    records = client.db_query({"label": {"$in": {"x"}}}, ["submitted"])
    assert records[3] == {"msg_id": "3-4", "submitted": dt.datetime(1970, 1, 1, 0, 0, 3, tzinfo=dt.UTC)}
    assert len(records) == 5
    assert [message.after for message in fake.of(m.Query)] == [0, 2, 4]
    assert fake.of(m.Query)[0].query == {"label": {"$in": ["x"]}}
    assert not fake.of(m.Query)[0].places
    assert client.hub_history() == [f"3-{n}" for n in range(1, 6)]


def test_without_keys_a_record_has_all_fields(client, archive):
    (record, *_) = client.db_query({})
    assert list(record) == list(FIELDS)
    assert (record["status"], record["label"], record["started"]) == ("ok", None, None)


def test_a_field_that_is_asked_for_twice_is_there_once(client, archive, fake):
    assert client.db_query({}, ["status", "msg_id", "status"])[0] == {"msg_id": "3-1", "status": "ok"}
    assert fake.of(m.Query)[0].keys == ["msg_id", "status"]


def test_what_the_controller_has_against_it_is_raised(client, archive, fake):
    archive.error = "there is no journal"
    with pytest.raises(ClusterError, match="there is no journal"):
        client.db_query({})
    with pytest.raises(ValueError, match="no field 'nonsense'"):
        client.db_query({}, ["nonsense"])
    assert len(fake.of(m.Query)) == 1, "what is no query is not asked"
    fake.say(m.Farewell("it ends"))
    with pytest.raises(ControllerLost):
        client.db_query({})


def test_the_ids_of_engines_are_asked_for_and_purged(client, archive, fake, monkeypatch):
    monkeypatch.setattr("enginery.client.records.purges.AT_A_TIME", 3)
    client.purge_results(targets=(1, 2))
    assert fake.of(m.Query)[0].query == {"engine_id": {"$in": [1, 2]}, "status": {"$ne": "pending"}}
    assert fake.of(m.Query)[0].places
    assert [len(message.tasks) for message in fake.of(m.Purge)] == [3, 2]


def test_many_ids_are_asked_for_in_several_queries(client, archive, fake, monkeypatch):
    monkeypatch.setattr(queries, "AT_A_TIME", 2)
    for n in range(3):
        archive.add(FIRST + n, (n,))
    assert client.result_status(["3-1", "3-2", "3-3"])["status"]["3-3"] == "ok"
    assert [message.query for message in fake.of(m.Query) if not message.after] == [
        {"msg_id": {"$in": ["3-1", "3-2"]}},
        {"msg_id": {"$in": ["3-3"]}},
    ]


def submitted(fake):
    """Return the tasks that were submitted, with their options."""
    return [(task, message.options[task.options]) for message in fake.of(m.Submit) for task in message.tasks]


def test_tasks_are_recalled_some_at_a_time_then_submitted(client, archive, fake):
    archive.functions = [m.Function(b"f", client._functions.get(abs).pickled)]
    archive.options = [m.Options(label="x", retries=2)]
    for n in range(5):
        archive.add(FIRST + n, (-n,))
    result = client.resubmit([FIRST + n for n in range(5)])
    assert result.get(5) == [0, 1, 2, 3, 4]
    assert [len(message.tasks) for message in fake.of(m.Recall)] == [5, 3, 1]
    tasks = submitted(fake)
    assert {options.retries for _, options in tasks} == {2}
    first = tasks[0][0].id
    assert [task.id for task, _ in tasks] == list(range(first, first + 5))
    assert first >> 40 == client._link.core.client


def test_nothing_is_submitted_if_one_cannot_be(client, archive, fake):
    archive.add(FIRST, (1,))
    archive.error = "task 3-1 cannot be submitted again, as its function is not kept any more"
    with pytest.raises(ClusterError, match="its function is not kept any more"):
        client.resubmit("3-1")
    assert not submitted(fake)


def test_a_result_let_go_before_it_is_read(client, fake):
    results = [client.submit(abs, -1), client.map(abs, [-1, -2]), client[:].apply_async(abs, -1)]
    client.wait(results, 5)
    client.purge_local_results(results)
    for result in results:
        assert "was purged from this client" in str(result.exception(0))
        assert result.done()
    assert results[2].status == ["ok"] * 4
    client.purge_local_results(iter(results))


def test_pieces_and_joined_results_are_let_go_where_they_are_kept(client):
    group, mapped = client[:].apply_async(abs, -1), client.map(abs, [-1, -2], chunksize=1)
    one, both = client.submit(abs, -3), client.submit(abs, -4)
    client.wait([group, mapped, one, both], 5)
    assert group.get() == [1] * 4
    pieces = [group.split()[2], mapped.split()[1]]
    client.purge_local_results(pieces)
    for piece in pieces:
        assert "was purged" in str(piece.exception(0))
    assert "was purged" in str(group.exception(0))
    assert (group[0], group[3], mapped[0]) == (1, 1, 1)
    for purged in (lambda: group[2], lambda: mapped[1]):
        with pytest.raises(NoSuchTask, match="was purged"):
            purged()
    client.purge_local_results(AsyncResult.join(one, both))
    for result in (one, both):
        with pytest.raises(NoSuchTask, match="was purged"):
            result.get()
