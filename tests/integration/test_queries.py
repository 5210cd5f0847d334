"""Records, and tasks submitted again, of a real cluster."""

from __future__ import annotations

import datetime as dt
import operator
import os
import time

import numpy as np
import pytest
from enginery import AsyncMapResult, Client, Cluster, ClusterError, NoSuchEngine, NoSuchTask

from helpers import wait_until


@pytest.fixture(autouse=True)
def forgotten(client):
    yield
    client.cancel()
    client.wait(timeout=20)
    client.purge_everything()


def labelled(client, label):
    return client.load_balanced_view().set_flags(label=label)


def test_records_have_what_a_result_has(client):
    before = dt.datetime.now(dt.UTC)
    view = client.load_balanced_view().set_flags(label="r", retries=1, priority=3, timeout=60.5)
    result = view.apply_async(operator.truediv, 1, 0)
    assert isinstance(result.exception(20), ZeroDivisionError)
    group = client[:].apply_async(os.getpid)
    group.get(20)
    (record,) = client.db_query({"label": "r"})
    assert list(record)[:3] == ["msg_id", "label", "status"]
    same = ("msg_id", "label", "status", "engine_id", "started", "completed")
    assert [record[name] for name in same] == [result[name] for name in same]
    assert (record["retries"], record["priority"], record["timeout"], record["targets"]) == (1, 3, 60.5, None)
    assert record["items"] is record["after"] is None
    assert before < record["submitted"] < record["started"] < record["completed"] < record["received"]
    assert record["duration"] == pytest.approx((record["completed"] - record["started"]).total_seconds(), abs=1e-5)
    assert client.db_query({"submitted": record["submitted"]}, ["label"]) == [{"msg_id": result.msg_id, "label": "r"}]
    assert [r["targets"] for r in client.db_query({"targets": {"$exists": True}})] == [[0], [1], [2]]
    assert client.db_query({"msg_id": {"$in": group.msg_id}}, keys=[]) == [{"msg_id": id_} for id_ in group.msg_id]


def test_what_is_wrong_with_a_query_is_said(client):
    with pytest.raises(ValueError, match="a record has no field 'labl'"):
        client.db_query({"labl": "x"})
    with pytest.raises(ValueError, match="a record has no field 'engine'; it has: msg_id,"):
        client.db_query({}, keys=["engine"])
    with pytest.raises(ValueError, match=r"no operator '\$regex'"):
        client.db_query({"label": {"$regex": "x"}})
    with pytest.raises(TypeError, match=r"such as \['status'\]"):
        client.db_query({}, keys="status")
    with pytest.raises(ValueError, match="has none; for local time"):
        client.db_query({"submitted": {"$lt": dt.datetime.now()}})  # noqa: DTZ005


def test_what_is_pending_and_what_has_ended(client, tmp_path):
    gate = tmp_path / "gate"
    view = labelled(client, "s")

    def wait(path):
        while not os.path.exists(path):  # noqa: PTH110 - on an engine
            time.sleep(0.005)

    done, failed, running = view.apply_async(abs, -1), view.apply_async(abs, "x"), view.apply_async(wait, str(gate))
    client.wait([done, failed], 20)
    assert client.result_status(label="s") == {
        "completed": [done.msg_id, failed.msg_id],
        "pending": [running.msg_id],
        "status": {done.msg_id: "ok", failed.msg_id: "error", running.msg_id: "pending"},
    }
    assert client.result_status(running)["pending"] == [running.msg_id]
    assert client.result_status([failed.msg_id])["completed"] == [failed.msg_id]
    assert client.hub_history() == [done.msg_id, failed.msg_id, running.msg_id]
    with pytest.raises(NoSuchTask, match="does not know task 77-7"):
        client.result_status(["77-7"])
    (record,) = client.db_query({"status": "pending"})
    engine = record["engine_id"]
    assert client.queue_status(engine)[engine]["tasks"] == 1
    named = client.queue_status(verbose=True)
    assert named[engine]["tasks"] == [running.msg_id]
    assert named["unassigned"] == []
    ended = [id_ for id_ in client.ids for id_ in named[id_]["completed"]]
    assert sorted(ended) == sorted([done.msg_id, failed.msg_id])
    direct = client[engine].apply_async(abs, -2)
    wait_until(lambda: client.queue_status(engine)[engine]["queue"] == 1, "it waits there")
    gate.touch()
    assert direct.get(20) == 2
    with pytest.raises(NoSuchEngine):
        client.queue_status([0, 77])


def test_tasks_are_submitted_again_with_all_that_they_were(client):
    view = client.load_balanced_view().set_flags(label="again", retries=2, priority=1, timeout=60)
    first = view.apply_async(lambda x, y: (x + y).sum(), np.arange(1000), y=1)
    value = first.get(20)
    for again in (client.resubmit(first), client.resubmit(first.msg_id), client.resubmit(label="again")):
        assert again.msg_id != first.msg_id
        assert np.all(again.get(20) == value)
    records = client.db_query({"label": "again"}, ["retries", "priority", "timeout", "function", "status"])
    assert len(records) == 6, "by its label, all of them"
    assert len({tuple(list(record.values())[1:]) for record in records}) == 1
    assert client.resubmit(first, block=True) == value


def test_of_a_client_that_has_gone(cluster, client):
    with Client(cluster._running().directory / "client.json") as other:
        factor = [3]
        one = labelled(other, "gone").apply_async(lambda x: x * factor[0], 2)
        assert one.get(20) == 6
        id_ = one.msg_id
    assert client.resubmit(id_).get(20) == 6


def test_maps_and_calls_on_several_engines_keep_their_shape(client):
    mapped = client.map(lambda x: 12 // x, [3, 2, 1, 0, 4] * 10, ordered=False, return_exceptions=True)
    mapped.wait(20)
    again = client.resubmit(mapped)
    assert isinstance(again, AsyncMapResult)
    values = again.get(20)
    assert [v for v in values if isinstance(v, int)] == [4, 6, 12, 3] * 10
    task = client.resubmit(next(iter(mapped._tasks)))
    assert task.get(20, return_exceptions=True)[:2] == [4, 6][: len(task)]

    pids = client[:].apply_async(os.getpid)
    assert client.resubmit(pids).get_dict(20) == pids.get_dict()
    assert client.resubmit(pids.msg_id[1]).get(20) == pids.get()[1]
    assert client.resubmit([pids.msg_id[2], pids.msg_id[0]]).get(20) == [pids.get()[2], pids.get()[0]]

    client[:].scatter("part", range(6), block=True)
    gathered = client[:].gather("part")
    assert client.resubmit(gathered).get(20) == gathered.get(20) == [0, 1, 2, 3, 4, 5]
    pulled = client[1].pull("part")
    assert client.resubmit(pulled).get(20) == pulled.get(20) == [2, 3]
    pushed = client[:].push({"x": 1}, block=True)
    assert pushed == [None] * 3
    client[:].execute("x = 7", block=True)
    client.resubmit(client.db_query({"function": "!push"}, [])[-3:][0]["msg_id"]).get(20)
    assert client[:]["x"] == [1, 7, 7]


def test_what_cells_show_is_shown_again(client):
    reply = client[0].execute("print('hello'); 6 * 7", silent=False)
    reply.get(20)
    for again in (client.resubmit(reply), client.resubmit(reply.msg_id)):
        assert (again.get(20).text, again.get().stdout) == ("42", "hello\n")
    setup = client.register_setup("made = 5")
    setup.get(20)
    client.resubmit(setup).get(20)
    assert client.status()["setup"] == ["made = 5"], "it is kept once"
    client.clear_setup()


def test_what_cannot_be_submitted_again(client):
    with pytest.raises(NoSuchTask, match="does not know task 77-7"):
        client.resubmit("77-7")
    with pytest.raises(NoSuchTask, match="with the label 'nobody'"):
        client.resubmit(label="nobody")
    with pytest.raises(TypeError, match="either tasks"):
        client.resubmit()


def test_results_of_engines_are_forgotten(client):
    results = client[:].apply_async(abs, -1)
    results.get(20)
    client.purge_results(targets=[0, 2, 99])
    assert client.hub_history() == [results.msg_id[1]]
    other = client.submit(abs, -1)
    other.get(20)
    client.purge_hub_results(other, targets=1)
    assert client.hub_history() == []
    assert results.get() == [1, 1, 1], "what is held here is held"
    for wrong in (-1, ["0"], True, 1.5):
        with pytest.raises(TypeError, match="targets are the ids of engines"):
            client.purge_results(targets=wrong)


def test_results_here_let_go_of_their_values(client):
    one, mapped, group = client.submit(print, "x"), client.map(abs, [-1, -2]), client[:].apply_async(abs, -3)
    client.wait([one, mapped, group], 20)
    assert list(mapped) == [1, 2]
    client.purge_local_results(one)
    client.purge_local_results([mapped, group])
    for result in (one, mapped, group):
        with pytest.raises(NoSuchTask, match="was purged from this client; get_result"):
            result.get()
    with pytest.raises(NoSuchTask):
        mapped[1]
    with pytest.raises(NoSuchTask):
        next(iter(group))
    assert (one.stdout, one.status) == ("x\n", "ok")
    assert client.get_result(group).get(20) == [3, 3, 3]
    assert client.get_result(mapped).get(20) == [1, 2]
    running = client.submit(time.sleep, 600)
    with pytest.raises(ValueError, match="is not done and holds nothing yet"):
        client.purge_local_results([running])
    with pytest.raises(TypeError, match="give those, not '1-1'"):
        client.purge_local_results(["1-1"])


def test_a_later_cluster_of_the_name(runtime):
    with Cluster(n=1, name="again") as client:
        captured = {"a": 1}
        result = labelled(client, "x").apply_async(lambda key: captured[key], "a")
        assert result.get(20) == 1
        lost = client.submit(time.sleep, 600)
        wait_until(lambda: client.db_query({"engine_id": 0, "status": "pending"}), "it is with the engine")
    with Cluster(n=1, name="again") as client:
        assert client.resubmit(result.msg_id).get(20) == 1
        assert client.db_query({"msg_id": lost.msg_id}, ["status"]) == [{"msg_id": lost.msg_id, "status": "unknown"}]
    with Cluster(n=1, journal=False) as client:
        assert client.queue_status() == {0: {"queue": 0, "completed": 0, "tasks": 0}, "unassigned": 0}
        for ask in (client.hub_history, lambda: client.db_query({}), lambda: client.resubmit("1-0")):
            with pytest.raises(ClusterError, match="has no journal"):
                ask()
