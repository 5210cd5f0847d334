"""Processes are killed while they make, map and hold objects: what is held is there, and nothing else is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from enginery.cluster.cluster import Cluster
from enginery.errors import EngineDied

import holdings
from helpers import command, processes, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no stores")

N = 1_000_000
"""Numbers in an array: 8 MB."""


def hold_on(array, path):
    """Say that the array is mapped, and go on for long."""
    assert array[-1] == 7
    array[0] = 8
    Path(path).write_text(str(os.getpid()))
    time.sleep(1000)


def large(nbytes, path):
    """Return much, which takes a while to write."""
    Path(path).write_text(str(os.getpid()))
    return np.ones(nbytes // 8)


def pid_in(path):
    return wait_until(lambda: path.exists() and path.read_text(), f"{path} says which process it is")


def is_empty(cluster):
    wait_until(lambda: not holdings.files(cluster.name), f"no object is left, of {holdings.files(cluster.name)}")


def wait_until_begun(cluster, task):
    wait_until(lambda: holdings.files(cluster.name) or task.done(), "an object is being made")


def test_an_engine_is_killed_while_it_maps(cluster, client, tmp_path):
    ref = client.put(np.full(N, 7.0))
    task = client.submit(hold_on, ref, tmp_path / "pid")
    os.kill(int(pid_in(tmp_path / "pid")), signal.SIGKILL)
    with pytest.raises(EngineDied):
        task.result(timeout=30)
    assert ref.get()[0] == 7, "a write was private"
    assert client.submit(lambda array: array[0], ref).result(timeout=30) == 7
    assert len(holdings.files(cluster.name)) == 1
    ref.release()
    is_empty(cluster)


def test_an_engine_is_killed_while_it_writes(cluster, client, tmp_path):
    for i in range(3):
        path = tmp_path / f"pid-{i}"
        task = client.submit(large, 200_000_000, path)
        pid = int(pid_in(path))
        wait_until_begun(cluster, task)
        os.kill(pid, signal.SIGKILL)
        try:
            assert task.result(timeout=30)[-1] == 1  # it was faster than we
        except EngineDied:
            pass
        del task
        is_empty(cluster)
        client.wait_for_engines(3, timeout=30)


def test_an_engine_is_killed_when_its_result_is_an_object_already(cluster, client):
    """The file is whole, and the controller may not have been told: in the end nothing is left either way."""
    for _ in range(5):
        task = client.submit(lambda: (os.getpid(), np.ones(N)))
        wait_until_begun(cluster, task)
        pids = holdings.pids(cluster.name)
        for role, pid in pids.items():
            if role.startswith("engine"):
                os.kill(pid, signal.SIGKILL)
        try:
            assert task.result(timeout=30)[1][-1] == 1
        except EngineDied:
            pass
        del task
        client.wait_for_engines(3, timeout=30)
    is_empty(cluster)


def test_the_controller_is_killed_and_the_counts_are_right(cluster, client, tmp_path):
    mine = client.put(np.full(N, 7.0))
    result = client.submit(np.full, N, 2.0)
    assert result.result(timeout=30)[0] == 2
    kept = client.submit(np.full, N, 3.0, keep=True)
    kept.wait(30)
    go = tmp_path / "go"

    def when_told(array, path):
        while not path.exists():
            time.sleep(0.01)
        return array + 1

    waiting = [client.submit(when_told, ref, go) for ref in (mine, result, kept)]
    before = set(holdings.files(cluster.name))
    assert len(before) == 3
    os.kill(client.status()["controller_pid"], signal.SIGKILL)
    go.write_text("")
    assert [task.result(timeout=60)[0] for task in waiting] == [8, 3, 4]
    assert before <= set(holdings.files(cluster.name))
    assert (mine.get()[0], kept.get()[0], result.result()[0]) == (7, 3, 2)
    del waiting
    wait_until(lambda: set(holdings.files(cluster.name)) == before, "only those are left that are held")
    mine.release()
    wait_until(lambda: len(holdings.files(cluster.name)) == 2, "one is released")
    kept.release()
    del result, kept
    is_empty(cluster)
    assert not client.objects()


def test_the_controller_is_killed_while_handles_come_and_go(cluster, client):
    refs = []
    for i in range(60):
        refs.append(client.put(np.full(N // 4, float(i))))
        if i % 3 == 0:
            refs.pop(0).release()
        if i % 20 == 10:
            os.kill(client.status()["controller_pid"], signal.SIGKILL)
    client.status()
    assert len(holdings.files(cluster.name)) >= len(refs)
    wait_until(lambda: len(holdings.files(cluster.name)) == len(refs), "those are there that are held")
    assert [ref.get()[0] for ref in refs] == list(range(60 - len(refs), 60))
    for ref in refs:
        ref.release()
    is_empty(cluster)


CLIENT = """
import sys, time
import numpy as np
from enginery import Client
client = Client(sys.argv[1])
refs = [client.put(np.full(1_000_000, 7.0)) for _ in range(3)]
result = client.submit(np.full, 1_000_000, 2.0)
print(result.result(timeout=60)[0], flush=True)
time.sleep(1000)
"""


def test_a_client_is_killed_with_handles(cluster, client):
    """What it held is freed at once, but for the result that it may not have confirmed: that is kept until purged."""
    process = subprocess.Popen([sys.executable, "-P", "-c", CLIENT, cluster.name], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "2.0\n"
        assert len(holdings.files(cluster.name)) == 4
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: len(holdings.files(cluster.name)) <= 1, "what it held is freed")
    client.purge_results("all")
    is_empty(cluster)


def test_a_client_is_killed_and_what_it_has_not_heard_is_kept(cluster, client, tmp_path):
    """A task that ends after the death of its client keeps its value for whoever asks; purged, it is gone."""
    script = """
import sys, time
from pathlib import Path
import numpy as np
from enginery import Client
client = Client(sys.argv[1])
def slowly(path):
    while not path.exists():
        time.sleep(0.01)
    return np.full(1_000_000, 5.0)
result = client.submit(slowly, Path(sys.argv[2]))
client.status()  # the answer comes after the cluster has the task
print(result.msg_id, flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script, cluster.name, tmp_path / "go"], stdout=subprocess.PIPE, text=True
    )
    try:
        task = process.stdout.readline().strip()
        assert task
    finally:
        process.kill()
        process.communicate()
    (tmp_path / "go").write_text("")
    result = client.get_result(task)
    assert result.result(timeout=30)[0] == 5
    assert len(holdings.files(cluster.name)) == 1
    client.purge_results(task)
    del result
    is_empty(cluster)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_nothing_is_left_by_a_cluster_that_was_killed(runtime, all_of_them):
    """The nanny is killed, or everything; the next start of that name clears what was left, and so does `clean`."""
    name = f"killed-{os.getpid()}"
    assert command("start", "-n", "2", "--name", name).returncode == 0
    folder = holdings.folder_of(name)
    script = f"""
import time, numpy as np
from enginery import Client
client = Client({name!r})
refs = [client.put(np.ones(1_000_000)) for _ in range(3)]
print("ready", flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        assert len(holdings.files(name)) == 3
        pids = holdings.pids(name)
        for role, pid in pids.items():
            if all_of_them or role == "nanny":
                with contextlib.suppress(ProcessLookupError):  # the others go with the nanny
                    os.kill(pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not processes(runtime), "every process of the cluster has gone")
    assert command("start", "-n", "1", "--name", name).returncode == 0
    assert holdings.files(name) == []
    os.kill(holdings.pids(name)["nanny"], signal.SIGKILL)
    wait_until(lambda: not processes(runtime), "every process of the cluster has gone")
    assert command("clean").returncode == 0
    assert not folder.exists()


def test_a_stop_leaves_nothing_in_shared_memory(runtime):
    cluster = Cluster(n=1)
    cluster.start()
    client = cluster.connect()
    ref = client.put(np.ones(N))
    assert holdings.files(cluster.name)
    cluster.stop()
    assert not holdings.folder_of(cluster.name).exists()
    client.close()
    del ref
