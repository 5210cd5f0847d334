"""Objects between hosts: three or more network namespaces of this machine, with the head among them."""

import contextlib
import os
import signal
from functools import partial

import pytest
from enginery import Client

from helpers import command, processes
from networks import Nannies, network

MB = 1 << 20


@pytest.fixture(scope="module")
def hosts():
    with network(4) as made:
        yield made


@pytest.fixture
def start(hosts, runtime):
    """What starts a cluster with engines at the head, and so many at each of some hosts."""
    nannies = Nannies()

    def start(*engines):
        here, *there = engines
        done = command("start", "-n", str(here), "--listen", hosts.address)
        assert done.returncode == 0, done.stderr
        for host, n in enumerate(there):
            nannies.join(partial(hosts.start, host), runtime / "default", n)
        client = Client("default")
        assert client.wait_for_engines(sum(engines), timeout=20)
        return client, nannies.started

    try:
        yield start
        command("stop", "--all")
        nannies.stop()
    finally:
        command("stop", "--all")
        nannies.kill()
        for pid in processes(runtime):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def make(nbytes, seed=0):
    import numpy as np

    return np.full(nbytes // 8, seed, np.float64)


def look(array):
    import os

    array[0] = -1.0  # it is our own
    return os.getpid(), float(array[1]), array.nbytes


def folder_of(nanny_pid):
    """Return where a nanny's store has its objects."""
    import pathlib

    maps = pathlib.Path(f"/proc/{nanny_pid}/cmdline").read_bytes()
    return maps


def objects_of(client):
    return {place["host"]: place for place in client.objects()}


def test_an_object_of_one_host_is_used_on_another_and_read_at_the_head(start):
    client, _ = start(1, 1, 1)
    pids = client[:].apply_sync(os.getpid)
    made = client[1].apply_async(make, 10 * MB, 7)
    seen = client[2].apply_async(look, made)
    assert seen.get(30) == (pids[2], 7.0, 10 * MB)
    array = made.get(30)
    assert array.nbytes == 10 * MB
    assert array[0] == array[-1] == 7.0, "what another has written is its own"
    array[0] = 1.0
    client[2].push({"x": array})
    assert client[2].apply_sync(lambda: float(x[0])) == 1.0  # noqa: F821
    client.close()
