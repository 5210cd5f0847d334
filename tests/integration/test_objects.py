"""Large values as a client has them: put, passed on, kept where they are made, and gone when the last lets go."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from enginery import Client, ObjectLost, ObjectRef, TaskLost

import holdings
from helpers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no stores")

N = 500_000
"""Numbers in an array: 4 MB."""


@pytest.fixture
def files(cluster):
    """The names of the objects' files; in the end there are none."""
    yield lambda: holdings.files(cluster.name)
    gc.collect()
    wait_until(lambda: not holdings.files(cluster.name), f"all is freed, of {holdings.files(cluster.name)}")


def numbers(value=1.0):
    return np.full(N, value)


# ------------------------------------------------------------------------------------------------------ values


def test_a_value_that_is_put_is_there_once_and_gone_when_it_is_let_go_of(client, files):
    ref = client.put(numbers())
    assert len(files()) == 1
    mine, other = ref.get(), ref.get()
    mine[:] = 0
    assert other.sum() == N
    assert client[:].apply_sync(lambda array: (array.sum(), array.flags.writeable), ref) == [(N, True)] * 3
    assert client.submit(lambda deep: deep["x"][0].sum(), {"x": [ref]}).result() == N
    assert client.map(lambda array, k: array[k], [ref] * 4, range(4)).get() == [1] * 4
    assert len(files()) == 1
    del ref
    wait_until(lambda: not files(), "its file is gone")
    assert other.sum() == N


def test_small_values_can_be_put_too(client, files):
    with client.put({"a": 1}) as ref:
        assert len(files()) == 1
        assert client.submit(lambda value: value["a"], ref).result() == 1
        assert ref.get() == {"a": 1}
    with pytest.raises(ObjectLost, match="released"):
        ref.get()


def test_a_task_that_waits_keeps_what_was_released(client, files, tmp_path):
    go = tmp_path / "go"

    def later(array, path):
        import time
        from pathlib import Path

        while not Path(path).exists():
            time.sleep(0.01)
        return float(array.sum())

    ref = client.put(numbers())
    tasks = [client.submit(later, ref, str(go)) for _ in range(8)]
    ref.release()
    client.put(0).release()  # by now it is told
    wait_until(lambda: len(files()) == 1, "only one is left")
    go.write_text("")
    assert client.gather(tasks) == [N] * 8


def test_arguments_and_results_are_objects_by_themselves(client, files):
    array = numbers(2.0)
    task = client.submit(lambda x: x + 1, array)
    array[:] = 0
    value = task.result()
    assert value.sum() == 3 * N
    wait_until(lambda: len(files()) == 1, "the argument is gone, the result is held")
    value[:] = 0
    assert client.submit(np.sum, task).result() == 3 * N, "it is passed on as it was"
    assert len(files()) == 1
    del task
    wait_until(lambda: not files(), "the result is gone")


def test_what_nobody_waits_for_is_freed(client, files):
    for _ in range(5):
        client.submit(numbers)
    client.wait()


def test_broadcasts_and_parts(client, files):
    everyone = client[:]
    everyone.push({"x": numbers()}, block=True)
    assert everyone["float(x.sum())"] == [N] * 3
    everyone.scatter("part", np.arange(3 * N), block=True)
    assert everyone["len(part)"] == [N] * 3
    assert (everyone.gather("part", block=True) == np.arange(3 * N)).all()
    with pytest.raises(ZeroDivisionError):
        client[0].apply_sync(lambda x: x[0] / 0, [1])
    assert everyone.apply_sync(lambda x: float(x.sum()), numbers(2.0)) == [2 * N] * 3
    everyone.clear(block=True)


def test_maps_of_arrays(client, files):
    assert client.map(np.sum, [numbers(i) for i in range(6)]).get() == [i * N for i in range(6)]
    assert [array[0] for array in client.map(numbers, range(6))] == [*range(6)]
    assert [array[0] for array in client.imap(numbers, range(6))] == [*range(6)]
    result = client.map(numbers, range(3), chunksize=1)
    assert client.submit(lambda arrays: [float(array[0]) for array in arrays], result).result() == [0, 1, 2]


def test_a_value_can_stay_where_it_is_made(client, files):
    ref = client.submit(numbers, 2.0, keep=True)
    assert isinstance(ref, ObjectRef)
    doubled = client.submit(lambda array: array * 2, ref, keep=True)
    assert client.submit(lambda deep: float(deep[0].sum()), [doubled]).result() == 4 * N
    assert ref.wait(10)
    assert ref.nbytes > 8 * N
    assert doubled.get().sum() == 4 * N
    assert client.submit(int, 5, keep=True).get() == 5
    assert "holds 1 handle" in ref.explain()
    failing = client.submit(lambda x: x / 0, 1, keep=True)
    with pytest.raises(ZeroDivisionError):
        failing.get()
    with pytest.raises(ZeroDivisionError):
        client.submit(np.sum, failing).result()


def test_lists_of_references(client, files):
    parts = client.scatter(np.arange(3 * N), n=3)
    sums = [client.submit(np.sum, part) for part in parts]
    assert sum(client.gather(sums)) == sum(range(3 * N))
    assert [len(part) for part in client.gather(parts)] == [N] * 3
    assert client.gather(client.scatter({"a": 1})) == {"a": 1}


def test_what_there_is_can_be_seen(client, files):
    ref = client.put(numbers())
    (one,) = [record for record in client.objects() if record.id == ref._lease.info.id]
    assert one.nbytes == ref.nbytes
    assert [place.place for place in one.places] == ["memory"]
    assert [(hold.pid, hold.handles) for hold in one.handles] == [(os.getpid(), 1)]
    assert ref.id in repr(client.objects())
    assert ref.id in client.objects()._repr_html_()
    assert f"pid {os.getpid()}) holds 1 handle" in client.explain(ref.id)
    with pytest.raises(ObjectLost, match="there is no object 00000000-1"):
        client.explain("00000000-1")
    with pytest.raises(TypeError):
        client.explain(3)


# ------------------------------------------------------------------------------------------------------ results kept


def test_results_are_read_after_their_client_is_closed(cluster, files):
    with Client(cluster.name) as other:
        read, unread = other.submit(numbers), other.submit(numbers, 2.0)
        group = other[:].apply_async(numbers)
        assert read.result().sum() == N
        other.wait()
        ref = other.put(numbers(3.0))
    wait_until(lambda: not files(), "the cluster keeps nothing for it")
    assert unread.result().sum() == 2 * N
    assert [array.sum() for array in group.get()] == [N] * 3
    assert ref.get().sum() == 3 * N


def test_a_result_outlives_the_last_name_of_its_client(cluster, files):
    other = Client(cluster.name)
    result = other.submit(numbers)
    result.wait()
    del other
    gc.collect()
    assert result.result().sum() == N
    del result


def test_results_can_be_pickled_asked_for_and_submitted_again(client, files):
    result = client.submit(numbers, 2.0)
    assert pickle.loads(pickle.dumps(result.wait() and result)).get().sum() == 2 * N
    id_ = result.msg_id
    fetched = client.get_result(id_)
    assert fetched.get().sum() == 2 * N
    client.purge_local_results(result)
    assert fetched.get().sum() == 2 * N
    again = client.resubmit(id_)
    assert again.get().sum() == 2 * N
    del fetched, again
    wait_until(lambda: not files(), "it is let go of")
    with pytest.raises(TaskLost, match=r"let go"):
        client.get_result(id_).get()


# ------------------------------------------------------------------------------------------------------ clients


def test_two_clients(cluster, client, files):
    with Client(cluster.name) as other:
        ref = client.put(numbers())
        assert {record.id for record in other.objects()} >= {ref._lease.info.id}
        theirs = other.put(numbers(2.0))
        assert len(files()) == 2
        assert other.submit(np.sum, theirs).result() == 2 * N
    wait_until(lambda: len(files()) == 1, "what the other held is gone")
    assert ref.get().sum() == N


CLIENT = """
import sys, time
import numpy as np
from enginery import Client

client = Client(sys.argv[1])
ref = client.put(np.ones(500_000))
result = client.submit(np.ones, 500_000)
result.result()
kept = client.submit(np.ones, 500_000, keep=True)
kept.wait()
while client._link.core._ack_at is not None:  # what it has not confirmed would be kept for whoever asks
    time.sleep(0.01)
client.objects()  # answered after that was heard
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_client_that_is_killed_holds_nothing(cluster, files):
    process = subprocess.Popen([sys.executable, "-c", CLIENT, cluster.name], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        assert len(files()) == 3
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not files(), "all it held is freed", 10)


def test_a_forked_copy_of_a_client_gives_nothing_back(cluster, client, files):
    result = client.submit(numbers, 2.0)
    result.wait()
    ref = client.put(numbers())
    child = os.fork()
    if not child:
        code = 1
        try:
            if result.result().sum() == 2 * N and ref.get().sum() == N:
                del result, ref
                gc.collect()
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.submit(abs, -1).result()
    assert len(files()) == 2
    assert ref.get().sum() == N
    assert client.submit(np.sum, [ref, result]).result() == 3 * N


def test_threads_share_a_client(client, files):
    failures = []

    def work(number):
        try:
            for i in range(5):
                ref = client.put(numbers(number))
                assert client.submit(lambda array, k: float(array[0]) + k, ref, i).result() == number + i
                assert client.submit(numbers, i).result()[0] == i
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_shared_arrays_of_joblib(client, files):
    joblib = pytest.importorskip("joblib")
    array = numbers()
    client.load_balanced_view().register_joblib_backend()
    with joblib.parallel_config("enginery", client=client):
        found = joblib.Parallel()(joblib.delayed(lambda x, k: float(x[k]) + k)(array, k) for k in range(20))
    assert found == [1.0 + k for k in range(20)]
