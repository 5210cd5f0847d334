"""Large values in engines: arguments that are mapped, results that are objects, of all kinds, wherever they are."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from enginery import Cluster, ObjectLost, ObjectStoreFull, Reference
from enginery.placeholders import object_of

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


def maps():
    """Return how many bytes of objects this process has mapped, on an engine."""
    from pathlib import Path

    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/dev/shm/enginery-" in line:
            first, last = line.split()[0].split("-")
            total += int(last, 16) - int(first, 16)
    return total


# ---------------------------------------------------------------------------------------------------------- arguments


def test_an_argument_is_one_copy_for_all_and_each_may_write_to_it(client, files):
    def change(array, by):
        array += by
        return float(array[0]), array.flags.writeable

    array = np.ones(N)
    with client.put(array) as ref:
        values = [client[i].apply_sync(change, ref, i) for i in client.ids]
        assert values == [(1.0 + i, True) for i in client.ids]
        assert len(files()) == 1
        assert client.submit(change, ref, 0).result() == (1.0, True)
    assert array[0] == 1


def test_pushed_values_are_shared_until_they_go(client, cluster, files):
    client[:].push({"pushed": np.ones(N)}, block=True)
    pushed = Reference("pushed")
    assert client[:].apply_sync(lambda array: array.flags.writeable, pushed) == [True] * 3
    wait_until(lambda: not files(), "the file is removed, its pages are not")
    folder = holdings.folder_of(cluster.name)
    mapped = [holdings.mapped(pid, folder) for pid in client[:].apply_sync(os.getpid)]
    assert [list(one.values()) for one in mapped] == [[1]] * 3
    assert len({name for one in mapped for name in one}) == 1
    client[0].execute("pushed[:] = 2", block=True)
    assert client[:].apply_sync(lambda array: float(array.sum()), pushed) == [2.0 * N, N, N]
    client[:].execute("del pushed", block=True)
    assert client[:].apply_sync(maps) == [0] * 3


def test_after_a_call_nothing_stays_mapped(client, files):
    assert client[:].apply_sync(lambda array: float(array.sum()), np.ones(N)) == [float(N)] * 3
    assert client[:].apply_sync(maps) == [0] * 3
    wait_until(lambda: not files(), "the arguments are freed")


def test_values_at_any_depth(client, files):
    value = {"list": [np.ones(N), (bytes(2 << 20), {"deep": bytearray(2 << 20)})], "small": 1}

    def look(value):
        (array, (data, deep)) = value["list"]
        deep["deep"][0] = 1
        return array.sum(), len(data), type(data).__name__, type(deep["deep"]).__name__, value["small"]

    assert client.submit(look, value).result() == (N, 2 << 20, "bytes", "bytearray", 1)


def test_the_same_reference_is_the_same_value_within_a_call(client, files):
    with client.put(np.ones(N)) as ref:
        assert client.submit(lambda a, b: a is b["again"], ref, {"again": ref}).result()
        assert client.map(lambda a, b: a is b, [ref] * 3, [ref] * 3).get() == [True] * 3


def test_large_bytes_and_text_come_as_they_are(client, files):
    for value in (b"x" * (3 << 20), bytearray(b"y" * (3 << 20)), "é" * (2 << 20), [b"z" * (1 << 20)] * 5):
        same = client.submit(lambda value: value, value).result()
        assert same == value
        assert type(same) is type(value)


# ------------------------------------------------------------------------------------------------------------ results


def test_a_result_is_an_object_and_arrives_writable(client, files):
    result = client.submit(np.ones, N)
    value = result.result()
    assert len(files()) == 1
    value[:] = 3
    assert result.result().sum() in (N, 3 * N)
    assert client.submit(lambda array: array.sum(), result).result() == N


def test_results_of_coroutines_and_of_items(client, files):
    async def later(n):
        await asyncio.sleep(0.01)
        return np.full(n, 2.0)

    assert client.submit(later, N).result().sum() == 2 * N
    assert [value.sum() for value in client.map(lambda i: np.full(N, i), range(4)).get()] == [0, N, 2 * N, 3 * N]
    assert [value.sum() for value in client.map(later, [N, N]).get()] == [2 * N] * 2


def test_what_is_pulled_is_an_object(client, files):
    client[0].execute("import numpy as np; large = np.ones(500_000)", block=True)
    result = client[0].pull("large", block=False)
    assert result.get().flags.writeable
    assert len(files()) == 1
    client[0].execute("del large", block=True)
    assert result.get().sum() == N


def test_small_results_can_be_kept_too(client, files):
    ref = client.submit(lambda: "small", keep=True)
    assert ref.get() == "small"
    assert len(files()) == 1
    assert client.submit(str.upper, ref).result() == "SMALL"


def test_a_result_that_cannot_be_pickled_says_why(client, files):
    with pytest.raises(Exception, match=r"is a _thread.lock"):
        client.submit(lambda: [np.ones(500_000), threading.Lock()]).result()


# ------------------------------------------------------------------------------------------- what others pickle so


def test_tables(client, files):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({name: np.arange(N, dtype=float) for name in "abc"})

    def change(table):
        table["a"] += 1
        table.iloc[0, 1] = 7.0
        return table

    result = client.submit(change, table)
    changed = result.result()
    assert changed["a"].sum() == table["a"].sum() + N
    assert changed.iloc[0, 1] == 7
    assert table.iloc[0, 1] == 0
    assert len(files()) == 1
    changed.iloc[0, 2] = 5.0
    assert result.result().iloc[0, 2] in (0.0, 5.0)


def test_arrow(client, files):
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": np.arange(N), "b": np.ones(N)})

    def look(table):
        return table.num_rows, table.column("a").chunk(0).buffers()[1].size

    with client.put(table) as ref:
        assert client.submit(look, ref).result() == (N, 8 * N)
        assert client.submit(lambda table: table.slice(1), ref).result().equals(table.slice(1))


# ----------------------------------------------------------------------------------------------------------- failures


class Lost:
    """Stands for an object that is nowhere."""

    def __reduce__(self):
        return object_of, (b"x" * 16, 100)


def test_an_object_that_is_nowhere_is_told_as_such(client):
    with pytest.raises(ObjectLost):
        client.submit(len, Lost()).result(30)
    assert client.submit(len, [1]).result() == 1


def test_calls_that_are_cancelled_whenever_leave_nothing(client, files):
    """Before they start, while they run, while their value is written, after: all of it happens."""
    for turn in range(12):
        task = client.submit(np.ones, 4 * N)
        if turn % 3:
            wait_until(lambda task=task, turn=turn: task.done() or len(files()) >= turn % 3, "its file, or its end", 20)
        task.cancel()
        task.wait(20)
        assert task.done()
    del task
    gc.collect()
    wait_until(lambda: not files(), "what was written for nobody is removed", 20)
    assert client[:].apply_sync(maps) == [0] * 3


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 1 MB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "enginery-test", str(tmp_path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("to mount a disk needs to be root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_without_room_a_value_goes_in_frames_or_fails_alone(runtime, small_disk):
    def many(n):
        import numpy as np

        return np.ones(n)

    with Cluster(n=1, memory_limit="4MB", spill=str(small_disk)) as cluster:
        result = cluster.submit(many, 1_000_000)
        value = result.result()
        assert value.sum() == 1_000_000
        assert value.flags.writeable
        assert "goes through the controller" in result.stderr
        with pytest.raises(ObjectStoreFull):
            cluster.submit(many, 1_000_000, keep=True).get()
        assert cluster.submit(many, 1).result().sum() == 1
        assert cluster.submit(many, 1_000_000).stderr == ""


def test_a_process_that_user_code_forks_does_not_speak_for_the_engine(client, files):
    def fork(array):
        import os

        pid = os.fork()
        if not pid:
            os._exit(0 if array.sum() == len(array) else 1)
        return os.waitpid(pid, 0)[1]

    with client.put(np.ones(N)) as ref:
        assert client.submit(fork, ref).result() == 0
        assert client.submit(lambda array: array.sum(), ref).result() == N


def test_importing_engines_and_clients_needs_no_array_library():
    code = "import sys, enginery.engine.values, enginery.client.client; print({'numpy', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert out.stdout.strip() == "set()"
