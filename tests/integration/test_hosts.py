"""Objects between hosts: network namespaces of this machine, with the head among them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from enginery import Client, ObjectLost, rendezvous

from helpers import command, processes, wait_until
from networks import Nannies, network

MB = 1 << 20
LARGE = 60 * MB
SLOW_MBIT = 100
"""So a large object takes some five seconds."""


@pytest.fixture(scope="module")
def hosts():
    with network(4) as made:
        yield made


class Cluster:
    """A cluster with engines at the head and at other hosts, and its client at the head."""

    def __init__(self, hosts, runtime, engines):
        self.hosts = hosts
        self.directory = runtime / "default"
        self.others = Nannies()
        self.client = None
        self.engines = engines

    def start(self):
        here, *there = self.engines
        done = command("start", "-n", str(here), "--listen", self.hosts.address)
        assert done.returncode == 0, done.stderr
        for host, n in enumerate(there):
            self.others.join(partial(self.hosts.start, host), self.directory, n)
        self.client = Client("default")
        assert self.client.wait_for_engines(sum(self.engines), timeout=20)

    def nanny(self, host):
        return self.others.started[host]

    def files(self, host=None):
        """Return the files in the shared memory of a host; None: of the head."""
        directory = self.directory if host is None else self.others.folder / f"guest{host}"
        folder = rendezvous.objects_dir(directory)
        return list(folder.iterdir()) if folder.exists() else []

    def has_begun(self, host):
        """Return whether something is on its way to a host, and some of it is there."""
        with contextlib.suppress(FileNotFoundError):
            return any(file.suffix == ".part" and file.stat().st_blocks * 512 > 4 * MB for file in self.files(host))

    def serves(self, host):
        """Return whether a host's nanny sends an object."""
        return "/dev/shm/enginery" in Path(f"/proc/{self.nanny(host).pid}/maps").read_text()


@pytest.fixture
def start(hosts, runtime):
    """What starts a cluster with so many engines at the head, and at each of some hosts."""
    clusters = []

    def start(*engines):
        cluster = Cluster(hosts, runtime, engines)
        clusters.append(cluster)
        cluster.start()
        return cluster, cluster.client

    try:
        yield start
        for cluster in clusters:
            cluster.client.close()
        assert command("stop", "--all").returncode == 0
        for cluster in clusters:
            cluster.others.stop()
            assert not [file for host in (None, *range(len(cluster.engines) - 1)) for file in cluster.files(host)]
    finally:
        command("stop", "--all")
        for cluster in clusters:
            cluster.others.kill()
        for pid in processes(runtime):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def make(nbytes, value):
    import numpy as np

    return np.full(nbytes // 8, value, np.float64)


def look(array):
    first = float(array[0])
    array[0] = -1.0  # it is our own
    return os.getpid(), first, float(array[-1]), array.nbytes


def test_an_object_of_one_host_is_used_on_another_and_read_at_the_head(start):
    cluster, client = start(1, 1, 1)
    pids = client[:].apply_sync(os.getpid)
    made = client[1].apply_async(make, 10 * MB, 7)
    assert client[2].apply_sync(look, made) == (pids[2], 7.0, 7.0, 10 * MB)
    assert not cluster.files(), "the head has nothing to do with it"
    array = made.get(30)
    assert array.nbytes == 10 * MB
    assert array[0] == array[-1] == 7.0, "what another has written is its own"
    array[0] = 1.0
    client[2].push({"x": array})
    assert client[2].pull("x", block=True)[0] == 1.0
    del array, made
    client[2].execute("del x").get(20)
    wait_until(lambda: not (cluster.files() or cluster.files(0) or cluster.files(1)), "nothing is left of them")


def test_many_hosts_that_want_the_same_object_get_it(start):
    cluster, client = start(1, 1, 1, 1, 1)
    pids = client[:].apply_sync(os.getpid)
    ref = client.put(make(LARGE, 3))
    seen = client[:].apply_async(look, ref).get(60)
    assert seen == [(pid, 3.0, 3.0, LARGE) for pid in pids]
    assert [len(cluster.files(host)) for host in (None, 0, 1, 2, 3)] == [1] * 5, client.objects()
    ref.release()
    wait_until(lambda: not any(cluster.files(host) for host in (None, 0, 1, 2, 3)), "they are removed")


def test_tasks_go_where_their_objects_are_and_end_with_the_last_of_them(start):
    cluster, client = start(1, 1, 1)
    pids = client[:].apply_sync(os.getpid)
    made = client[2].apply_async(make, 10 * MB, 7)
    made.wait(20)
    view = client.load_balanced_view()
    assert [view.apply_sync(look, made)[0] for _ in range(4)] == [pids[2]] * 4
    assert [len(cluster.files(host)) for host in (None, 0, 1)] == [0, 0, 1], "it has not moved"
    cluster.nanny(1).terminate()
    wait_until(lambda: len(client.ids) == 2, "the host has left")
    with pytest.raises(ObjectLost, match="the host that had it is gone"):
        client[0].apply_async(look, made).get(20)


def test_when_the_source_is_killed_midway_another_holder_goes_on(start, hosts):
    cluster, client = start(1, 1, 1, 1)
    made = client[1].apply_async(make, LARGE, 5)
    assert client[2].apply_sync(look, made)[1:] == (5.0, 5.0, LARGE)
    wait_until(lambda: not (cluster.serves(0) or cluster.serves(1)), "that is over")
    with hosts.slow(2, SLOW_MBIT):
        seen = client[3].apply_async(look, made)
        wait_until(lambda: cluster.has_begun(2), "it has begun")
        source = next(host for host in (0, 1) if cluster.serves(host))
        cluster.nanny(source).kill()
    assert seen.get(60)[1:] == (5.0, 5.0, LARGE)


def test_a_cut_cable_is_a_pause(start, hosts, monkeypatch):
    monkeypatch.setenv("ENGINERY_HEARTBEAT_S", "0.25")  # the connections break, and are made anew
    cluster, client = start(1, 1, 1)
    made = client[1].apply_async(make, LARGE, 5)
    made.wait(20)
    with hosts.slow(1, SLOW_MBIT):
        seen = client[2].apply_async(look, made)
        wait_until(lambda: cluster.has_begun(1), "it has begun")
        with hosts.cut(0):
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 3.0, "a while has passed")
            assert not seen.done()
    assert seen.get(60)[1:] == (5.0, 5.0, LARGE)


FAR = """
import sys
import numpy as np
from enginery import Client
with Client(sys.argv[1]) as client:
    ref = client.put(np.full(1_000_000, 3.0))
    assert client[:].apply_sync(lambda x: float(x.sum()), ref) == [3e6, 3e6]
    assert float(ref.get()[-1]) == 3.0
    array = client[1].apply_sync(lambda: np.full(1_000_000, 4.0))
    array[0] = 5.0
    assert client[0].apply_sync(lambda x: (float(x[0]), float(x[1])), array) == (5.0, 4.0)
    client[:].push({"x": array}, block=True)
    assert [float(x[0]) for x in client[:].pull("x", block=True)] == [5.0, 5.0]
    print("done", flush=True)
    if sys.argv[2:]:
        sys.stdin.read()
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_client_elsewhere_uses_the_store_of_the_head(start, hosts, tmp_path, is_killed):
    cluster, client = start(1, 1)
    config = tmp_path / "client.json"  # a copy, as on another host
    shutil.copy(cluster.directory / "client.json", config)
    program = [sys.executable, "-c", FAR.replace("lambda: np", "lambda: __import__('numpy')"), str(config)]
    more = ["wait"] if is_killed else []
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = hosts.start(1, *program, *more, **options)
    try:
        said = process.stdout.readline()
        assert said == "done\n", process.communicate()[1]
        client[:].execute("del x").get(20)
        if is_killed:
            assert cluster.files()
            process.kill()
        else:
            _, err = process.communicate(timeout=20)
            assert process.returncode == 0, err
        wait_until(lambda: not (cluster.files() or cluster.files(0)), "nothing is left of its objects", 20)
    finally:
        process.kill()
        process.communicate()
