"""Results by id or label, against a controller that answers as a test says."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

import pytest
from enginery.client.client import Client
from enginery.client.records import fetches
from enginery.errors import ClusterError, CompositeError, ControllerLost, NoSuchTask, TaskLost
from enginery.serialize import dumps, failure_from
from enginery.wire import messages as m

import helpers

CLIENT = 3 << 40
CALL, OTHER, ITEMS = CLIENT + 1, CLIENT + 2, CLIENT + 3
SUBMITTED = 1_700_000_000.0


class Records:
    """What the fake controller knows: tasks by id, and what it says of each."""

    def __init__(self, fake):
        self.infos = {}
        self.results = {}
        self.outputs = []
        self.at_a_time = 1 << 30
        self.hold = False
        self._fake = fake
        self._answer_others, fake._answer = fake._answer, self._answer

    def add(self, id_, value=None, *, items=0, label=None, function=b"f"):
        self.infos[id_] = m.TaskInfo(id_, items, label, SUBMITTED, function)
        self.report(id_, value)

    def report(self, id_, value, lo=0, hi=0, status=m.Status.OK):
        payload, frames = dumps(value)
        result = m.Result(id_, status, payload, len(frames), 1, 100.0, 0.5, 0, lo, hi)
        self.results.setdefault(id_, []).append((result, frames))

    def _answer(self, peer, message, frames):
        match message:
            case m.Find():
                ids = [i.id for i in self.infos.values() if i.label == message.label]
                ids = ids if message.tasks is None else message.tasks
                known = [self.infos[id_] for id_ in ids if id_ in self.infos]
                self._fake._say(peer, m.Found(message.request, known, [i for i in ids if i not in self.infos]))
            case m.Fetch() if not self.hold:
                ids, left = message.tasks[: self.at_a_time], message.tasks[self.at_a_time :]
                both = [both for id_ in ids for both in self.results[id_]]
                frames = [frame for _, frames in both for frame in frames]
                outputs = [record for record in self.outputs if record.task in ids]
                self._fake._say(peer, m.Fetched(message.request, [r for r, _ in both], outputs, left), frames)
            case m.Fetch():
                pass
            case m.Purge():
                if message.tasks != []:
                    self._fake._say(peer, m.Reply(message.request, value=True))
            case _:
                self._answer_others(peer, message, frames)


@pytest.fixture
def records(fake):
    return Records(fake)


def test_one_task_by_its_id(client, records):
    records.add(CALL, {"loss": 0.5}, label="training")
    records.outputs = [m.Output(CALL, "stdout", "a"), m.Output(CALL, "stderr", "b"), m.Output(CALL, "display", {})]
    for named in ("3-1", CALL, " 3-1"):
        result = client.get_result(named)
        assert result.get(5) == {"loss": 0.5}
        assert (result.msg_id, result.label, result.engine_id, result.status) == ("3-1", "training", 1, "ok")
        assert (result.stdout, result.stderr, result.outputs) == ("a", "b", [("display", {})])
        assert result.submitted == dt.datetime.fromtimestamp(SUBMITTED, dt.UTC)
        assert result.completed > result.started
    assert client.get_result("3-1", block=True) == {"loss": 0.5}


def test_several_by_their_ids_or_a_label(client, records):
    records.add(CALL, 1, label="x")
    records.add(OTHER, 2, label="x")
    records.add(ITEMS, [3, 4], items=2, label="x")
    assert client.get_result(["3-2", "3-1"]).get(5) == [2, 1]
    assert client.get_result(["3-1"]).get(5) == [1]
    assert client.get_result([]).get(5) == []
    result = client.get_result(label="x")
    assert result.get(5) == [1, 2, 3, 4]
    assert list(result) == [1, 2, 3, 4]
    assert (result[3], result[:2], len(result)) == (4, [1, 2], 4)
    assert (result.msg_id, result.label) == (["3-1", "3-2", "3-3"], ["x"] * 3)
    assert repr(result) == "<FetchedResult 'x': 4 of 4 items done>"


def test_a_map_by_the_ids_of_its_tasks(client, records):
    records.add(CALL, [1, 2], items=2)
    records.infos[ITEMS] = m.TaskInfo(ITEMS, 4, None, SUBMITTED, b"f")
    records.report(ITEMS, [5, 6], 2, 4)
    records.report(ITEMS, [3, 4], 0, 2)
    records.outputs = [m.Output(ITEMS, "stdout", "three", 1, 0), m.Output(ITEMS, "stdout", "six", 1, 3)]
    assert client.get_result("3-3").get(5) == [3, 4, 5, 6]
    result = client.get_result(["3-1", "3-1", "3-3"])
    assert result.get(5) == [1, 2, 3, 4, 5, 6]
    assert result.msg_id == ["3-1", "3-3", "3-3"]
    assert result.stdout == ["", "three", "six"]


def test_results_of_ones_own(client, records):
    mapped = client.map(abs, [-1, -2, -3], chunksize=2)
    group = client[:].apply_async(abs, -1)
    for task in mapped._tasks:
        records.add(task, ["map"] * mapped._tasks[task][1], items=mapped._tasks[task][1])
    for index in range(4):
        records.add(group._task + index, index)
    single = client.submit(abs, -1)
    records.add(single._task, "single")
    assert client.get_result(mapped).get(5) == ["map"] * 3
    assert client.get_result(group).get(5) == [0, 1, 2, 3]
    assert client.get_result(single).get(5) == "single"
    assert client.get_result([single, group, "3-1"][:2]).get(5) == ["single", 0, 1, 2, 3]


def test_errors_are_what_they_were(client, records):
    records.infos[CALL] = m.TaskInfo(CALL)
    records.infos[OTHER] = m.TaskInfo(OTHER)
    records.report(CALL, failure_from(ZeroDivisionError("division by zero")), status=m.Status.ERROR)
    records.results[OTHER] = [(m.Result(OTHER, m.Status.UNKNOWN, b"the cluster was stopped before it ended"), ())]
    with pytest.raises(ZeroDivisionError):
        client.get_result("3-1").get(5)
    with pytest.raises(TaskLost, match="there is no result of task 3-2: the cluster was stopped before it ended"):
        client.get_result("3-2").get(5)
    result = client.get_result(["3-1", "3-2"])
    with pytest.raises(CompositeError, match="2 of 2 items failed"):
        result.get(5)
    assert result.status == ["error", "unknown"]


def test_code_gives_what_it_gave(client, records):
    records.add(CALL, {"execution_count": 1, "result": {"text/plain": "42"}}, function=b"!execute")
    records.add(OTHER, {"execution_count": 2, "result": None}, function=b"!execute")
    records.outputs = [m.Output(CALL, "stdout", "hello"), m.Output(OTHER, "stdout", "other")]
    assert client.get_result("3-1").get(5).text == "42"
    first, second = client.get_result(["3-1", "3-2"]).get(5)
    assert (first.text, first.stdout, second.stdout) == ("42", "hello", "other")


def test_arrays_come_in_their_frames(client, records):
    np = pytest.importorskip("numpy")
    for id_ in (CALL, OTHER):
        records.add(id_, np.full(10_000, id_))
    first, second = client.get_result(["3-1", "3-2"]).get(5)
    assert (first == CALL).all()
    assert (second == OTHER).all()


def test_many_come_some_at_a_time(client, records, fake, monkeypatch):
    monkeypatch.setattr(fetches, "AT_A_TIME", 4)
    records.at_a_time = 3
    ids = [CLIENT + i for i in range(10)]
    for id_ in ids:
        records.add(id_, id_, label="x")
    assert client.get_result(label="x").get(5) == ids
    assert [len(message.tasks) for message in fake.of(m.Fetch)] == [4, 4, 4, 1]


def test_what_has_not_ended_is_waited_for(client, records, fake):
    records.add(CALL, 1, label="x")
    records.add(OTHER, 2, label="x")
    records.hold = True
    result = client.get_result(["3-1", "3-2"])
    helpers.wait_until(lambda: fake.of(m.Fetch), "it is asked for")
    assert not result.done()
    assert (result.status, result.msg_id, result.engine_id) == (["pending"] * 2, ["3-1", "3-2"], [None, None])
    with pytest.raises(TimeoutError):
        result.get(0.01)
    (asked,) = fake.of(m.Fetch)
    both = [records.results[id_][0][0] for id_ in (CALL, OTHER)]
    fake.say(m.Fetched(asked.request, both, []))
    assert result.get(5) == [1, 2]


def test_what_is_not_known(client, records):
    with pytest.raises(NoSuchTask, match="cluster fake does not know task 3-1; results are kept"):
        client.get_result("3-1")
    with pytest.raises(NoSuchTask, match=r"3 of the tasks: 3-1, 3-2, 3-3; "):
        client.get_result([CALL, OTHER, ITEMS])
    with pytest.raises(NoSuchTask, match="does not know a task with the label 'x'"):
        client.get_result(label="x")
    with pytest.raises(NoSuchTask):
        client.purge_results("3-1")


@pytest.mark.parametrize("named", ["", "3", "3-", "-1", "a-b", "3-1-1", "99999999-1", f"1-{1 << 40}"])
def test_what_is_no_id(client, named):
    with pytest.raises(ValueError, match="a task is named by its id"):
        client.get_result(named)


@pytest.mark.parametrize("named", [1.5, True, -1, 1 << 63, [None]])
def test_what_is_nothing_like_an_id(client, named):
    with pytest.raises(TypeError, match=r"a task is named by its id|not iterable"):
        client.get_result(named)


def test_tasks_or_a_label(client):
    with pytest.raises(TypeError, match="either tasks, by their ids"):
        client.get_result()
    with pytest.raises(TypeError, match="either tasks, by their ids"):
        client.get_result("3-1", label="x")
    with pytest.raises(TypeError, match="label is a string, not int"):
        client.get_result(label=7)


def test_the_controller_says_no(client, records, fake):
    records.add(CALL, 1)
    records.hold = True
    result = client.get_result("3-1")
    helpers.wait_until(lambda: fake.of(m.Fetch), "it is asked for")
    fake.say(m.Reply(fake.of(m.Fetch)[0].request, error="the journal cannot be read"))
    with pytest.raises(ClusterError, match="cannot be read"):
        result.get(5)


def test_nobody_waits_for_ever(client, records, fake):
    records.add(CALL, 1)
    records.hold = True
    one, several = client.get_result("3-1"), client.get_result(["3-1"])
    helpers.wait_until(lambda: len(fake.of(m.Fetch)) == 2, "they are asked for")
    fake.say(m.Fetched(fake.of(m.Fetch)[1].request, [m.Result(OTHER, 0, b"")], []))  # not what was asked for
    with pytest.raises(KeyError):
        several.get(5)
    fake.say(m.Farewell("it ends"))
    with pytest.raises(ControllerLost, match="it ends"):
        one.get(5)
    with pytest.raises(ControllerLost):
        client.get_result("3-1")


def test_it_is_a_future(client, records):
    records.add(CALL, 1)
    records.add(OTHER, 2)
    called = threading.Event()
    client.get_result("3-1").add_done_callback(lambda _: called.set())
    assert called.wait(5)

    async def main():
        return [value async for value in client.get_result(["3-1", "3-2"])], await client.get_result("3-2")

    assert asyncio.run(main()) == ([1, 2], 2)


def test_a_client_says_how_long_it_may_be_away(fake):
    with Client(fake.path, on_exit="cancel", patience=2):
        hello = fake.of(m.ClientHello)[-1]
        assert (hello.cancel_on_exit, hello.patience_s) == (True, 2)
    with pytest.raises(ValueError, match="patience is a number of seconds"):
        Client(fake.path, on_exit="cancel", patience=-1)


def test_purging(client, records, fake):
    records.add(CALL, 1, label="x")
    records.add(OTHER, 2, label="x")
    client.purge_results("3-1")
    client.purge_results(label="x")
    client.purge_results("all")
    assert [message.tasks for message in fake.of(m.Purge)] == [[CALL], [CALL, OTHER], None]
    with pytest.raises(TypeError, match="either tasks"):
        client.purge_results()
