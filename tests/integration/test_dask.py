"""Engines that are dask workers for a while."""

import os
import signal
import subprocess
import sys
import threading
import time

import distributed
import pytest
from enginery import Client

from helpers import wait_until


@pytest.fixture(autouse=True)
def _ends(client):
    yield
    client.stop_dask()


def threads():
    return sorted(thread.name for thread in threading.enumerate())


def listening():
    """Return how many TCP sockets of this process wait for connections."""
    import psutil

    return sum(one.status == psutil.CONN_LISTEN for one in psutil.Process().net_connections("tcp"))


def test_dask_works_on_the_engines_and_leaves_them_as_they_were(client):
    before = client[:].apply_sync(threads)
    pids = client[:].apply_sync(os.getpid)
    dask = client.become_dask()
    assert isinstance(dask, distributed.Client)
    assert client.become_dask() is dask
    assert dask.scheduler.address.startswith("tls://127.0.0.1:")
    info = dask.scheduler_info()["workers"]
    assert {(worker["name"], worker["nthreads"]) for worker in info.values()} == {(0, 1), (1, 1), (2, 1)}
    assert all(address.startswith("tls://127.0.0.1:") for address in info)

    assert dask.submit(pow, 2, 10).result() == 1024
    assert dask.gather(dask.map(lambda i: i * i, range(50))) == [i * i for i in range(50)]
    assert [dask.submit(os.getpid, workers=[i], pure=False).result() for i in range(3)] == pids
    with pytest.raises(ZeroDivisionError):
        dask.submit(lambda: 1 / 0).result()

    slow = dask.submit(time.sleep, 0.3, workers=[0])
    assert client[0].apply_sync(pow, 2, 5) == 32  # meanwhile
    assert not slow.done()
    client[:].execute("import sys, types; sys.modules['shared'] = types.SimpleNamespace(value=41)", block=True)
    assert dask.submit(lambda: __import__("shared").value + 1, workers=[1]).result() == 42
    slow.result()

    client.stop_dask()
    client.stop_dask()
    assert dask.status == "closed"
    assert client[:].apply_sync(threads) == before
    assert client[:].apply_sync(listening) == [0, 0, 0]
    assert client[:].apply_sync(os.getpid) == pids


def test_it_can_become_dask_again_and_otherwise(client):
    dask = client.become_dask(targets=[2], nthreads=2, scheduler_args={"dashboard": False})
    assert [(w["name"], w["nthreads"]) for w in dask.scheduler_info()["workers"].values()] == [(2, 2)]
    dask.close()
    again = client.become_dask()
    assert again is not dask  # that was closed
    assert again.submit(os.getpid).result() == client[2].apply_sync(os.getpid)


def test_without_encryption_it_stays_on_the_loopback(client):
    dask = client.become_dask(security=False)
    assert dask.scheduler.address.startswith("tcp://127.0.0.1:")
    assert dask.submit(pow, 2, 3).result() == 8


def test_a_task_that_runs_is_waited_for_at_the_end(client):
    dask = client.become_dask(targets=[0])
    running = dask.submit(time.sleep, 0.4)
    wait_until(lambda: any(dask.processing().values()), "the task runs")
    client.stop_dask()
    assert running.status in ("cancelled", "lost")
    assert "dask-worker" not in client[0].apply_sync(threads)


def test_an_engine_that_dies_is_a_worker_less(client):
    dask = client.become_dask()
    os.kill(client[1].apply_sync(os.getpid), signal.SIGKILL)
    wait_until(lambda: len(dask.scheduler_info()["workers"]) == 2, "dask has noticed")
    assert dask.gather(dask.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    client.wait_for_engines()
    client.stop_dask()
    assert not any("dask-worker" in names for names in client[:].apply_sync(threads))


def test_a_client_that_is_closed_ends_its_workers(client, cluster):
    with Client(cluster.name) as other:
        mine, its = client.become_dask(), other.become_dask()
        assert client[0].apply_sync(threads).count("dask-worker") == 2
    assert its.status == "closed"
    assert client[:].apply_sync(lambda: threads().count("dask-worker")) == [1, 1, 1]
    assert mine.submit(pow, 2, 2).result() == 4


def test_a_program_that_is_killed_takes_its_workers_along(client, cluster):
    program = f"from enginery import Client; c = Client({cluster.name!r}); c.become_dask(); print(1, flush=1); input()"
    done = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert done.stdout.readline() == "1\n"
    assert "dask-worker" in client[0].apply_sync(threads)
    done.kill()
    done.communicate()
    wait_until(lambda: not any("dask-worker" in names for names in client[:].apply_sync(threads)), "they are gone")


def test_what_is_missing_is_named(client, monkeypatch):
    with pytest.raises(ValueError, match="nanny=False"):
        client.become_dask(nanny=True)
    client[1].execute("import sys; kept = sys.modules['distributed']; sys.modules['distributed'] = None", block=True)
    with pytest.raises(ImportError, match=r"engine 1 cannot import dask .*pip install distributed there"):
        client.become_dask()
    client[1].execute("sys.modules['distributed'] = kept", block=True)
    assert not any("dask-worker" in names for names in client[:].apply_sync(threads))
    with pytest.raises(TypeError, match="no_such_option"):
        client.become_dask(no_such_option=1)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cryptography", None)
        without.delitem(sys.modules, "cryptography.x509", raising=False)
        with pytest.raises(ImportError, match="pip install cryptography"):
            client.become_dask()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "distributed", None)
        with pytest.raises(ImportError, match=r"become_dask needs dask .*pip install distributed"):
            client.become_dask()
