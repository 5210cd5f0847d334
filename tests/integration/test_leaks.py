"""Rounds of everything that makes, holds and drops objects; afterwards all is as it was before.

A few hundred here; `make leaks` does 10,000 (`ENGINERY_LEAK_ROUNDS`).
"""

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from enginery.cluster.cluster import Cluster
from enginery.errors import EngineryError

import holdings
from helpers import wait_until

ROUNDS = int(os.environ.get("ENGINERY_LEAK_ROUNDS", "300"))

WARM = 60
"""Rounds before the first look: modules are imported by then, caches filled."""

GROWTH = 40 << 20
"""A process may hold so much more afterwards: memory that allocators keep for later, which no more rounds increase."""

N = 200_000
"""Numbers in an array: 1.6 MB."""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are no stores"),
    pytest.mark.timeout(max(120, ROUNDS)),
]

KILLED = """
import sys, time
import numpy as np
from enginery import Client
client = Client(sys.argv[1])
refs = [client.put(np.full(200_000, i)) for i in range(3)]
results = [client.submit(lambda x: x + 1, ref) for ref in refs]
values = [result.result(timeout=60) for result in results]
print("ready", flush=True)
time.sleep(1000)
"""


def double(array):
    return array * 2


def total(*arrays):
    return sum(float(array.sum()) for array in arrays)


def slowly(array, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)
    return array


def keep_and_die(array):
    array[0] = 1  # a page of its own, too
    os.kill(os.getpid(), signal.SIGKILL)


class Rounds:
    """What is done to a cluster, one thing a round."""

    def __init__(self, cluster, client):
        self.cluster, self.client = cluster, client
        self.random = random.Random(1)
        self.view = client.load_balanced_view()
        self.often = [self.put, self.argument, self.result, self.chain, self.keep, self.scatter, self.push, self.cancel]

    def run(self, first, last):
        for i in range(first, last):
            if i % 100 == 30:
                self.kill_engine()
            elif i % 100 == 80:
                self.kill_client()
            else:
                self.random.choice(self.often)(i)

    def array(self, i):
        return np.full(N, float(i))

    def put(self, i):
        ref = self.client.put(self.array(i))
        assert ref.get()[-1] == i
        if i % 2:
            ref.release()

    def argument(self, i):
        assert self.client.submit(total, self.array(i), self.array(1)).result(timeout=60) == N * (i + 1)

    def result(self, i):
        value = self.client.submit(np.full, N, i).result(timeout=60)
        value += 1
        assert value[0] == i + 1

    def chain(self, i):
        first = self.client.submit(np.full, N, float(i))
        both = [self.client.submit(double, first), self.client.submit(double, first)]
        del first
        assert self.client.submit(total, *both).result(timeout=60) == 4.0 * N * i

    def keep(self, i):
        ref = self.client.submit(np.full, N, float(i), keep=True)
        assert self.client.submit(total, ref, [ref, {"deep": ref}][0]).result(timeout=60) == 2.0 * N * i

    def scatter(self, i):
        refs = self.client.scatter(np.arange(3 * N, dtype=float), n=3)
        parts = self.client.gather([self.client.submit(double, ref) for ref in refs])
        assert sum(len(part) for part in parts) == 3 * N

    def push(self, i):
        view = self.client[:]
        view.push({"pushed": self.array(i)}, block=True)
        assert view.pull("pushed", block=True)[0][0] == i
        view.push({"pushed": None}, block=True)

    def cancel(self, i):
        results = [self.client.submit(slowly, self.array(i), 0.2) for _ in range(4)]
        for result in results[1:]:
            result.cancel()
        for result in results:
            with contextlib.suppress(EngineryError, Exception):
                result.result(timeout=60)

    def kill_engine(self):
        with pytest.raises(EngineryError):
            self.client.submit(keep_and_die, self.array(0)).result(timeout=60)
        self.client.wait_for_engines(3, timeout=60)

    def kill_client(self):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", KILLED, self.cluster.name], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout.readline() == "ready\n"
        finally:
            process.kill()
            process.communicate()


class Look:
    """What the processes of a cluster hold at a moment when nobody holds an object."""

    def __init__(self, cluster, client):
        gc.collect()
        client.purge_results("all")  # those that a killed client had not confirmed are kept
        client[:].apply_sync(gc.collect)
        try:
            wait_until(lambda: not holdings.files(cluster.name), "no file of an object is left")
            wait_until(lambda: not holdings.spilled(cluster.name), "nothing of an object is on disk")
            wait_until(lambda: not client.objects(), "no object is in the books")
        except AssertionError as error:
            error.add_note(f"{holdings.files(cluster.name)}\n{holdings.spilled(cluster.name)}\n{client.objects()}")
            raise
        self.pids = holdings.pids(cluster.name)
        folder = holdings.folder_of(cluster.name)
        for role, pid in [*self.pids.items(), ("client", os.getpid())]:
            assert not holdings.mapped(pid, folder), f"the {role} has objects mapped that are gone"
        self.descriptors = {role: holdings.descriptors(pid) for role, pid in self.pids.items()}
        self.memory = {role: holdings.resident(pid) for role, pid in self.pids.items()}
        self.mine = holdings.descriptors(os.getpid()), holdings.resident(os.getpid())

    def __str__(self):
        held = [(role, self.descriptors[role], self.memory[role]) for role in self.pids]
        return ", ".join(f"{who}: {open_} open, {size:,} bytes" for who, open_, size in [*held, ("client", *self.mine)])


def test_nothing_is_left_of_objects_that_nobody_holds():
    cluster = Cluster(n=3, preload="numpy")  # so that new engines weigh what old ones do
    cluster.start()
    try:
        client = cluster.connect()
        rounds = Rounds(cluster, client)
        rounds.run(0, WARM)
        first = Look(cluster, client)
        rounds.run(WARM, WARM + ROUNDS)
        last = Look(cluster, client)
        print(first, last, sep="\n")
        folder = holdings.folder_of(cluster.name)
        assert last.pids.keys() == first.pids.keys()
        for role in last.pids:
            more = last.descriptors[role] - first.descriptors[role]
            assert more <= 2, f"the {role} has {more} more descriptors open"
            grown = last.memory[role] - first.memory[role]
            assert grown < GROWTH, f"the {role} has grown by {grown:,} bytes"
        assert last.mine[0] <= first.mine[0] + 2
        assert last.mine[1] < first.mine[1] + GROWTH
        client.close()
    finally:
        cluster.stop()
    # Removed, and mapped by nobody: nothing of it is in memory. (How much shared memory is used, others decide too.)
    assert not folder.exists()
    for pid in (*last.pids.values(), os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has gone
            assert not holdings.mapped(pid, folder)
    assert not holdings.spilled(cluster.name)
