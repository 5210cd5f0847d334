"""The store of a host in real clusters: beyond its limit, on tiny file systems, and what is left when all is killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from enginery import leftovers, rendezvous
from enginery.cluster.cluster import Cluster

from helpers import assert_nothing_left, command, processes, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs shared memory")

FILL = 500_000
"""Numbers in an array of 4 MB."""

HOLD = """
import sys, numpy as np
from enginery import Client
client = Client(sys.argv[1])
refs = [client.put(np.full(500_000, i)) for i in range(6)]
client[:].push({"kept": np.ones(500_000)}, block=True)
print("ready", flush=True)
sys.stdin.read()
"""

TINY = """
import os, sys, warnings
import numpy as np
from enginery import Cluster
from enginery.errors import ObjectStoreFull
warnings.simplefilter("always")
with Cluster(n=2, spill=sys.argv[1]) as client:
    array = np.arange(2_000_000)
    with warnings.catch_warnings(record=True) as caught:
        client[:].push({"x": array}, block=True)
        client[:].push({"y": array}, block=True)
    assert [w.category for w in caught].count(UserWarning) == 1, caught
    assert "--memory-limit" in str(caught[0].message)
    assert [int(x.sum()) for x in client[:].pull("x", block=True)] == [int(array.sum())] * 2
    try:
        client.put(array)
    except ObjectStoreFull as error:
        assert "let go of some" in str(error)
    else:
        raise AssertionError("where should it be?")
    small = client.put(np.arange(200_000))
    assert client.submit(lambda a: int(a[-1]), small).result(timeout=30) == 199_999
print("fine")
"""


def files(directory):
    """Return how many objects a cluster has in memory and on disk."""
    folders = [rendezvous.objects_dir(directory), *rendezvous.spill_dirs(directory)]
    return tuple(len(list(folder.iterdir())) for folder in folders if folder.exists())


def test_what_is_beyond_the_limit_is_on_disk_and_all_of_it_can_be_used(runtime, tmp_path):
    directory = runtime / "small"
    with Cluster(n=2, name="small", memory_limit="18MB", spill=tmp_path / "spill") as client:
        futures = [client.submit(lambda i: np.full(FILL, i), i) for i in range(10)]
        assert [int(future.result(timeout=60)[-1]) for future in futures] == list(range(10))
        memory, disk = files(directory)
        assert memory + disk == 10
        assert disk >= 6
        sums = [client.submit(lambda array: int(array.sum()), future) for future in futures]
        assert [total.result(timeout=60) for total in sums] == [i * FILL for i in range(10)]
        array = np.ones(5 * FILL)  # more than all of it
        assert client.submit(lambda array: float(array.sum()), array).result(timeout=60) == 5 * FILL
        del futures, sums
        wait_until(lambda: files(directory)[0] == 0, "no object is in memory any more")
    assert leftovers.objects(directory) == []
    assert list((tmp_path / "spill").iterdir()) == []


def test_two_clusters_of_one_name_leave_one_another_alone(runtime, tmp_path, monkeypatch):
    first = Cluster(n=1, name="same").start()
    try:
        ref = first.connect().put(np.full(FILL, 7))
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(other))
        with Cluster(n=1, name="same"):
            pass
        assert command("clean", ENGINERY_RUNTIME_DIR=str(other)).returncode == 0
        assert int(ref.get()[-1]) == 7
        assert first.connect().submit(lambda array: int(array[0]), ref).result(timeout=30) == 7
    finally:
        first.stop()
    assert leftovers.objects(runtime / "same") == []


@pytest.mark.parametrize("after", ["start", "start of another", "clean", "stop"])
def test_nothing_is_left_after_a_kill_of_everything(runtime, tmp_path, after):
    directory = runtime / "killed"
    options = ("--name", "killed", "--memory-limit", "10MB", "--spill", str(tmp_path / "spill"))
    assert command("start", "-n", "2", *options).returncode == 0
    holder = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, "killed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"ready\n"
        assert min(files(directory)) > 0
        everything = [*processes(runtime), holder.pid]
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)  # so that nobody sees another one end
        for pid in everything:
            os.kill(pid, signal.SIGKILL)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    wait_until(lambda: not processes(runtime), "all are dead")
    assert min(files(directory)) > 0
    if after == "start":
        assert command("start", "-n", "1", "--name", "killed").returncode == 0
        assert sum(files(directory)) == 0
    if after == "start of another":
        assert command("start", "-n", "1", "--name", "another").returncode == 0
        wait_until(lambda: leftovers.objects(directory) == [], "the other one has cleared the objects")
        command("stop", "another")
        command("clean")
    elif after == "clean":
        assert "objects" in command("clean").stdout
    else:
        command("stop", "killed")
    assert leftovers.objects(directory) == []
    assert list((tmp_path / "spill").iterdir()) == []
    assert_nothing_left(runtime)


def test_with_hardly_any_memory_and_disk_values_go_through_the_controller(runtime, tmp_path):
    (tmp_path / "disk").mkdir()
    script = tmp_path / "tiny.py"
    script.write_text(TINY)
    mounts = (
        "mount -t tmpfs -o size=6m tmpfs /dev/shm && "
        f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/disk && exec {sys.executable} -P {script} {tmp_path}/disk"
    )
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounts], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--memory-limit", "lots"), "a size is a number of bytes, or one like 500MB, 2GB or 1.5GiB, not 'lots'"),
        (("--object-min", "-1"), "a size is a number of bytes"),
        (("--spill", "/proc/nowhere"), "objects cannot be put to disk where --spill says"),
    ],
)
def test_options_that_make_no_sense_are_told_in_a_sentence(runtime, options, complaint):
    done = command("start", "-n", "1", *options)
    assert done.returncode
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_left(runtime)
