"""Memory has bounds: who submits more than the controller has room for waits, and nothing is lost."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from enginery import Client
from enginery.cluster.cluster import Cluster

from helpers import wait_until

LIMIT = 20 << 20
FRAME = 50_000
TASKS = 4_000
"""Ten times the limit, in frames that are no objects."""


def weigh(array):
    return int(array[0]), array.nbytes


def until_open(path):
    while not os.path.exists(path):  # noqa: PTH110 - on an engine
        time.sleep(0.01)


def rss(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Flood(threading.Thread):
    """Submits small arrays in a loop, as long as it is let."""

    def __init__(self, client, count=TASKS):
        super().__init__(daemon=True)
        self.client, self.count = client, count
        self.futures = []
        self.error = None
        self.start()

    def run(self):
        try:
            for i in range(self.count):
                array = np.full(FRAME // 8, i, dtype=float)
                self.futures.append(self.client.submit(weigh, array))
        except BaseException as error:
            self.error = error

    def stalls(self):
        """Return whether it submits nothing for a while."""
        before = len(self.futures)
        time.sleep(0.5)
        assert self.error is None
        return len(self.futures) == before


@pytest.fixture(scope="module")
def small(session_runtime):
    """A cluster with little memory."""
    with Cluster(n=2, memory_limit=LIMIT) as client:
        yield client.cluster_name


@pytest.fixture
def gate(tmp_path):
    """A file that engines wait for."""
    return tmp_path / "gate"


def occupy(client, gate):
    return [client.submit(until_open, str(gate)) for _ in client.ids]


def test_a_loop_that_submits_ten_times_the_limit_waits_and_all_of_it_is_done(small, gate):
    with Client(small) as client:
        pid = client.status()["controller_pid"]
        before = rss(pid)
        busy = occupy(client, gate)
        flood = Flood(client)
        wait_until(flood.stalls, "the loop waits")
        assert len(flood.futures) < TASKS // 4
        assert rss(pid) - before < 3 * LIMIT
        gate.touch()
        peak = 0
        while flood.is_alive():
            peak = max(peak, rss(pid))
            flood.join(0.05)
        assert flood.error is None
        assert [future.result() for future in flood.futures] == [(i, FRAME) for i in range(TASKS)]
        assert peak - before < 4 * LIMIT
        assert all(future.done() for future in busy)


def test_another_client_has_room_while_one_fills_the_memory(small, gate):
    with Client(small) as greedy, Client(small) as modest:
        busy = occupy(greedy, gate)
        flood = Flood(greedy, TASKS // 4)
        wait_until(flood.stalls, "the loop waits")
        done = []
        thread = threading.Thread(target=lambda: done.append(modest.submit(weigh, np.zeros(FRAME // 8))))
        thread.start()
        thread.join(20)
        assert done, "the task of the other client was let in"
        gate.touch()
        assert done[0].result() == (0, FRAME)
        flood.join(60)
        assert flood.error is None
        assert sum(future.result()[1] for future in flood.futures) == FRAME * (TASKS // 4)
        assert all(future.done() for future in busy)


def test_ctrl_c_ends_the_wait_for_room_and_nothing_is_half_submitted(small, gate):
    with Client(small) as client:
        occupy(client, gate)
        futures = []

        def interrupt():
            count = -1
            while count != len(futures):
                count = len(futures)
                time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            for i in range(TASKS):
                futures.append(client.submit(weigh, np.full(FRAME // 8, i, dtype=float)))
        thread.join()
        gate.touch()
        assert [future.result()[0] for future in futures] == list(range(len(futures)))
        wait_until(lambda: not client._link.core.sinks, "nothing else is registered")


def test_a_task_that_submits_is_not_held_back(small, gate):
    with Client(small) as client:
        flood = Flood(client, TASKS // 8)
        name = client.cluster_name
        futures = [client.submit(submit_many, name, 400) for _ in range(2)]
        assert [future.result(60) for future in futures] == [(400, False)] * 2
        flood.join(60)
        assert sum(future.result()[1] for future in flood.futures) == FRAME * (TASKS // 8)


def submit_many(name, count):
    """Submit as much as there is memory from an engine, all engines being at that; return whether there are bounds."""
    client = Client(name)
    submitted = [client.submit(weigh, np.zeros(FRAME // 8)) for _ in range(count)]
    client._link.release()
    return len(submitted), client._link.core.room.most < sys.maxsize


def test_callbacks_may_submit_while_a_thread_waits_for_room(small, gate):
    with Client(small) as client, client.executor() as executor:
        first = executor.submit(until_open, str(gate))
        occupy(client, gate)
        chained = []
        first.add_done_callback(lambda _: chained.append(executor.submit(abs, -1)))
        futures = []

        def submit():
            for i in range(TASKS // 4):
                futures.append(executor.submit(weigh, np.full(FRAME // 8, i, dtype=float)))

        thread = threading.Thread(target=submit)
        thread.start()
        wait_until(lambda: client._link.core.room.is_over(), "the thread waits")
        gate.touch()
        thread.join(60)
        assert not thread.is_alive()
        assert chained[0].result(20) == 1
        assert [future.result()[0] for future in futures] == list(range(TASKS // 4))


def test_who_waits_for_room_goes_on_under_another_controller(runtime, gate):
    with Cluster(n=2, memory_limit=LIMIT) as client:
        occupy(client, gate)
        flood = Flood(client, TASKS // 4)
        wait_until(flood.stalls, "the loop waits")
        pid = client.status()["controller_pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: client._link.core.controller_pid != pid, "another controller has taken over")
        assert flood.error is None
        assert flood.is_alive()
        gate.touch()
        flood.join(60)
        assert flood.error is None
        assert [future.result()[0] for future in flood.futures] == list(range(TASKS // 4))


def test_who_waits_for_room_is_told_when_the_cluster_ends(runtime, gate):
    cluster = Cluster(n=1, memory_limit=LIMIT)
    cluster.start()
    client = cluster.connect()
    occupy(client, gate)
    flood = Flood(client)
    wait_until(flood.stalls, "the loop waits")
    gate.touch()
    cluster.stop()
    flood.join(20)
    assert not flood.is_alive()
    assert type(flood.error).__name__ == "ControllerLost"
    client.close()
