"""Results for later, of real processes: another client finds them, also when the cluster has been stopped since."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from enginery import Client, Cluster, ClusterError, EngineDied, NoSuchTask, RemoteError, TaskLost

from helpers import command, wait_until

NAME = "records"


@pytest.fixture
def named(runtime):
    """The name of a cluster of 2 engines, started and stopped by command."""
    start()
    yield NAME
    command("stop", NAME)


def start(*options):
    started = command("start", "-n", "2", "--name", NAME, *options)
    assert started.returncode == 0, started.stderr


def stop():
    assert command("stop", NAME).returncode == 0


def script(code, *args):
    """Start a program that uses the cluster."""
    prelude = "import os, sys, time\nfrom enginery import Client\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )


def said(process):
    """Return the next line of a program."""
    line = process.stdout.readline()
    assert line, "it has ended without a word"
    return line.strip()


def end(process):
    process.kill()
    process.wait(10)
    process.stdout.close()


SUBMIT = """
    client = Client(sys.argv[1])
    view = client.load_balanced_view().set_flags(label="training")
    def train(i):
        print("epoch", i)
        if i == 2:
            raise ValueError("diverged")
        time.sleep(0.05 * i)
        return {"epoch": i}
    futures = [view.apply_async(train, i) for i in range(6)]
    client.status()  # answered after the tasks have come
    print(*[f.msg_id for f in futures], flush=True)
    time.sleep(600)
"""


def test_what_a_killed_client_submitted_outlives_it_and_the_cluster(named):
    submitter = script(SUBMIT, named)
    ids = said(submitter).split()
    end(submitter)

    def check(client):
        result = client.get_result(label="training")
        assert result.wait(20)
        values = result.get(return_exceptions=True)
        assert isinstance(values.pop(2), ValueError)
        assert values == [{"epoch": i} for i in (0, 1, 3, 4, 5)]
        assert result.stdout == [f"epoch {i}\n" for i in range(6)]
        assert result.status == ["ok", "ok", "error", "ok", "ok", "ok"]
        assert result.msg_id == ids
        assert result.label == ["training"] * 6
        one = client.get_result(ids[3])
        assert one.get(20) == {"epoch": 3}
        assert one.stdout == "epoch 3\n"
        assert one.engine_id in (0, 1)
        assert 0.1 < (one.completed - one.started).total_seconds() < 10
        assert one.submitted <= one.started
        with pytest.raises(ValueError, match="diverged") as caught:
            client.get_result(ids[2], block=True)
        assert isinstance(caught.value, RemoteError)

    with Client(named) as other:
        check(other)
    stop()
    start()
    with Client(named) as later:
        check(later)
        assert later.submit(pow, 2, 10).msg_id not in ids


def test_what_had_not_ended_when_the_cluster_was_stopped(runtime):
    with Cluster(n=1, name=NAME) as client:
        done = client.submit(pow, 2, 10)
        assert done.result(10) == 1024
        running = client.submit(time.sleep, 600)
        waiting = client.map(abs, [1, 2])
        wait_until(lambda: client.status()["tasks"]["assigned"] >= 2, "they are with the engine")
        ids = done.msg_id, running.msg_id
        tasks = list(waiting._tasks)
    with Cluster(n=1, name=NAME) as client:
        done, running = map(client.get_result, ids)
        assert done.get(10) == 1024
        assert running.wait(10)
        assert running.status == "unknown"
        with pytest.raises(TaskLost, match=f"task {ids[1]}: the cluster was stopped before it ended"):
            running.result()
        items = client.get_result(tasks[0]).get(10, return_exceptions=True)
        assert [type(item) for item in items] == [TaskLost] * len(items)


def test_clusters_without_a_name_and_without_a_journal(runtime):
    with Cluster(n=1) as client:
        future = client.submit(pow, 2, 10)
        future.result(10)
        assert client.get_result(future.msg_id).get(10) == 1024
    with Cluster(n=1, name=NAME, journal=False) as client:
        future = client.submit(pow, 2, 10)
        future.result(10)
        with pytest.raises(ClusterError, match="has no journal, so nothing is kept"):
            client.get_result(future.msg_id)


def test_maps_arrays_engines_and_deaths(cluster, client):
    view = client.load_balanced_view().set_flags(label="sweep")
    mapped = view.map_async(lambda x: 12 / x, [3, 2, 1, 0, 4] * 20)
    values = mapped.get(20, return_exceptions=True)
    with Client(cluster._running().directory / "client.json") as other:
        again = other.get_result(label="sweep").get(20, return_exceptions=True)
        assert [v if isinstance(v, float) else type(v) for v in again] == [
            v if isinstance(v, float) else type(v) for v in values
        ]
        assert other.get_result(mapped).get(return_exceptions=True)[:3] == [4, 6, 12]
        assert other.get_result(mapped.msg_id).get(return_exceptions=True)[-1] == 3
        first = other.get_result(next(iter(mapped._tasks)))
        assert list(first)[:2] == [4, 6][: len(first)]

        array = client.submit(lambda: (print("made"), np.arange(100_000))[1])
        array.result(20)
        found = other.get_result(array.msg_id)
        assert found.get(20).sum() == np.arange(100_000).sum()
        assert found.get().flags.writeable

        pids = client[:].apply_async(os.getpid)
        assert pids.get(20) == other.get_result(pids).get(20)
        reply = client[0].execute("print('hello'); 6 * 7", silent=False)
        reply.get(20)
        again = other.get_result(reply.msg_id).get(20)
        assert (again.text, again.stdout) == ("42", "hello\n")

        dead = client.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
        died = client.get_result(dead.msg_id)
        with pytest.raises(EngineDied, match="SIGKILL"):
            died.get(20)


def test_what_is_not_known(client):
    with pytest.raises(NoSuchTask, match=r"does not know task 77-1; results are kept") as caught:
        client.get_result("77-1")
    assert isinstance(caught.value, KeyError)
    with pytest.raises(NoSuchTask, match="with the label 'none'"):
        client.get_result(label="none")


def test_purged_results_are_gone(cluster, client):
    view = client.load_balanced_view().set_flags(label="purge")
    a, b = view.apply_async(abs, -1), view.apply_async(abs, -2)
    assert [a.result(20), b.result(20)] == [1, 2]
    client.purge_results(a)
    assert client.get_result(label="purge").get(20) == [2]
    with pytest.raises(NoSuchTask):
        client.get_result(a)
    client.purge_results(label="purge")
    with pytest.raises(NoSuchTask):
        client.get_result(label="purge")
    running = client.submit(time.sleep, 600)
    with pytest.raises(ClusterError, match="has not ended"):
        client.purge_results(running)
    running.cancel()
    client.purge_results("all")
    with pytest.raises(NoSuchTask):
        client.get_result(b)


def test_another_controller_answers_who_waits(named, tmp_path):
    go = tmp_path / "go"

    def work(path):
        while not path.exists():
            time.sleep(0.01)
        return "done"

    with Client(named) as submitter, Client(named) as other:
        future = submitter.submit(work, go)
        wait_until(lambda: submitter.status()["tasks"]["assigned"], "it runs")
        result = other.get_result(future.msg_id)
        pid = other.status()["controller_pid"]
        os.kill(pid, signal.SIGKILL)
        assert other.status()["controller_pid"] != pid
        go.touch()
        assert result.get(30) == "done"
        assert other.get_result(future.msg_id).get(10) == "done"


CANCELLING = """
    client = Client(sys.argv[1], on_exit="cancel", patience=0.5)
    view = client.load_balanced_view().set_flags(label="mine")
    def work(path, seconds):
        with open(path, "a") as file:
            file.write("x")
        time.sleep(seconds)
        return seconds
    short = [view.apply_async(work, sys.argv[2], 0.01) for _ in range(4)]
    [future.result() for future in short]
    long = [view.apply_async(work, sys.argv[2], 600) for _ in range(4)]
    client.status()
    print("submitted", flush=True)
    time.sleep(600)
"""

GOING_ON = CANCELLING.replace('on_exit="cancel", patience=0.5', 'on_exit="continue"').replace("600) for", "1) for")


def test_a_client_that_vanished_has_its_tasks_cancelled_if_it_wanted(named, tmp_path):
    mark = tmp_path / "began"
    submitter = script(CANCELLING, named, mark)
    said(submitter)
    wait_until(lambda: mark.exists() and len(mark.read_text()) == 6, "both engines run what takes long")
    end(submitter)
    with Client(named) as other:
        result = other.get_result(label="mine")
        assert result.wait(30), other.status()
        assert result.status == ["ok"] * 4 + ["cancelled"] * 4
        assert result.get(return_exceptions=True)[:4] == [0.01] * 4
        assert len(mark.read_text()) == 6
        assert not any(c["name"] == "-c" and c["away"] for c in other.status()["clients"])


def test_a_client_that_vanished_has_its_tasks_go_on_otherwise(named, tmp_path):
    submitter = script(GOING_ON, named, tmp_path / "began")
    said(submitter)
    end(submitter)
    with Client(named) as other:
        assert other.get_result(label="mine").get(30) == [0.01] * 4 + [1] * 4
