"""Tasks that come after others, and results as arguments, on a real cluster."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from enginery import (
    Client,
    Cluster,
    Dependency,
    EngineDied,
    ImpossibleDependency,
    InvalidDependency,
    RemoteError,
    SerializationError,
)


@pytest.fixture
def gate(tmp_path: Path):
    """A function that waits, on an engine, until the test opens the gate."""
    path = str(tmp_path / "open")

    def wait(value=None):
        import os
        import time

        deadline = time.monotonic() + 30
        while not os.path.exists(path):  # noqa: PTH110 - runs on an engine
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return value

    wait.open = Path(path).touch
    yield wait
    wait.open()


def double(x):
    return 2 * x


def test_a_result_to_come_is_an_argument(client, gate):
    first = client.submit(gate, 21)
    nested = client.submit(lambda d: d["deep"][0] + 1, {"deep": [first]})
    doubled = client.submit(double, x=first)
    both = client.submit(lambda *xs: sum(xs), nested, doubled)
    assert (both.status, both.done()) == ("pending", False)
    gate.open()
    assert both.result(10) == 64
    assert client.submit(double, both).result(10) == 128  # it was read here


def test_the_value_does_not_pass_through_the_client(client, gate):
    home = os.getpid()

    class Fragile:
        """Can be unpickled on engines only."""

        def __reduce__(self):
            return (lambda: 1 / 0 if os.getpid() == home else "whole"), ()

    first = client.submit(lambda wait: wait() or Fragile(), gate)
    second = client.submit(str.upper, first)
    gate.open()
    assert second.result(10) == "WHOLE"
    third = client.submit(str.title, first)  # has come, and nobody has read it
    assert third.result(10) == "Whole"
    with pytest.raises(SerializationError, match="cannot be unpickled here"):
        first.result(10)


def test_arrays(client, gate):
    numpy = pytest.importorskip("numpy")
    array = client.submit(lambda wait: wait() or __import__("numpy").arange(100_000), gate)
    changed = client.submit(lambda a, b: (a.flags.writeable, int((a + b).sum())), array, numpy.ones(100_000))
    gate.open()
    assert changed.result(10) == (True, 4_999_950_000 + 100_000)


def test_groups_maps_and_items(client, gate):
    group = client[:].apply_async(lambda wait: wait() or __import__("os").getpid(), gate)
    mapped = client.map(gate, range(20))
    counts = client.submit(lambda *values: [len(value) for value in values], group, mapped)
    items = client.map(double, [client.submit(gate, x) for x in range(5)])
    gate.open()
    assert counts.result(10) == [3, 20]
    assert items.get(10) == [0, 2, 4, 6, 8]
    assert client.submit(sorted, group).result(10) == sorted(group.get())
    assert client.submit(sum, mapped).result(10) == 190


def test_direct_views_keep_their_order(client, gate):
    client[:].push({"x": client.submit(gate, 7), "y": 1})
    pulled = client[:].pull("x")
    again = client.submit(double, client[1].pull("x"))
    assert not pulled.done()
    gate.open()
    assert pulled.get(10) == [7, 7, 7]
    assert again.result(10) == 14
    assert client.submit(double, client[0].pull("y")).result(10) == 2


def test_a_failure_is_inherited_as_it_was(client, gate):
    def fail(wait):
        wait()
        return {}["gone"]

    first = client.submit(fail, gate)
    second = client.submit(double, first)
    third = client.map(double, [second, 1], chunksize=2)
    gate.open()
    with pytest.raises(KeyError, match="gone") as caught:
        second.result(10)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.frames[-1][2] == "fail"
    (note,) = caught.value.__notes__
    assert note == (f"task {second.msg_id} can never run: it needs the value of task {first.msg_id}, which failed")
    with pytest.raises(KeyError):
        third.get(10)
    late = client.submit(double, [second])  # has failed already
    with pytest.raises(KeyError) as caught:
        late.result(10)
    assert caught.value.__notes__[0].count("needs the value of") == 2


def test_what_is_stopped_or_dies_is_inherited_too(client, gate):
    first = client.submit(gate)
    second = client.submit(double, first)
    assert first.cancel()
    with pytest.raises(CancelledError, match="cancelled"):
        second.result(10)
    dying = client.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    third = client.submit(double, dying)
    with pytest.raises(EngineDied) as caught:
        third.result(10)
    assert "died with its engine" in caught.value.__notes__[0]
    client.wait_for_engines(3, timeout=20)


def test_a_retried_task_counts_when_it_has_ended(client, tmp_path):
    mark = str(tmp_path / "once")

    def once():
        if not os.path.exists(mark):  # noqa: PTH110 - runs on an engine
            open(mark, "w").close()  # noqa: PTH123 - as above
            raise OSError("the first time")
        return 4

    view = client.load_balanced_view().set_flags(retries=1)
    assert client.submit(double, view.apply_async(once)).result(10) == 8


def test_after(client, gate):
    view = client.load_balanced_view()
    first = client.submit(gate)
    with view.temp_flags(after=first):
        second = view.apply_async(time.time)
        mapped = view.map_async(double, [1, 2])
    with view.temp_flags(after=[first.msg_id, second]):
        third = view.apply_async(time.time)
    opened = time.time()
    gate.open()
    assert opened <= second.result(10) <= third.result(10)
    assert mapped.get(10) == [2, 4]
    with view.temp_flags(after=[first, second.msg_id, third]):
        assert view.apply_async(double, 1).result(10) == 2


def test_what_can_never_run_says_so_at_once(client):
    view = client.load_balanced_view()
    first = client.submit(lambda: 1 / 0)
    with view.temp_flags(after=first):
        second = view.apply_async(double, 1)
    with view.temp_flags(after=second, label="fit"):
        third = view.apply_async(double, 1)
    with pytest.raises(ImpossibleDependency) as caught:
        third.result(10)
    assert str(caught.value) == (
        f"task {third.msg_id} 'fit' can never run: it comes after task {second.msg_id}, "
        f"which comes after task {first.msg_id}, which failed"
    )
    assert third.status == "impossible"
    with view.temp_flags(after=Dependency(first, success=False, failure=True)):
        assert view.apply_async(double, 1).result(10) == 2
    with view.temp_flags(after="999-1"), pytest.raises(InvalidDependency, match="task 999-1, which nobody knows"):
        view.apply_async(double, 1).result(10)


def test_follow(client, gate):
    view = client.load_balanced_view()
    pids = [client.submit(os.getpid) for _ in range(4)]
    client.wait(pids, 10)
    for pid in pids:
        with view.temp_flags(follow=pid):
            assert view.apply_async(os.getpid).result(10) == pid.result()
    first = client.submit(gate)
    with view.temp_flags(follow=first):
        second = view.apply_async(double, 1)
    gate.open()
    assert second.result(10) == 2
    assert second.engine_id == first.engine_id
    everywhere = client[:].apply_async(os.getpid)
    everywhere.get(10)
    with view.temp_flags(follow=everywhere), pytest.raises(ImpossibleDependency, match="no engine where they all did"):
        view.apply_async(double, 1).result(10)
    with view.temp_flags(follow=Dependency(everywhere, all=False)):
        assert view.apply_async(double, 1).result(10) == 2


def test_flags_are_checked(client):
    view = client.load_balanced_view()
    with pytest.raises(TypeError, match="results or ids of tasks, not int"):
        view.set_flags(after=3)
    with pytest.raises(ValueError, match="3-17"):
        view.set_flags(follow=["some task"])
    with pytest.raises(TypeError, match="no flag 'after'"):
        client[:].set_flags(after=None)
    assert view.set_flags(after=None, follow=[]).apply_async(double, 1).result(10) == 2


def test_other_clients_tasks(client, gate):
    with Client(client.cluster_name) as other:
        open_, done = other.submit(gate, 5), other.submit(double, 4)
        assert done.result(10) == 8
        view = client.load_balanced_view()
        with view.temp_flags(after=[done.msg_id, open_.msg_id]):
            second = view.apply_async(time.time)
        third = client.submit(lambda *values: values, client.get_result(done.msg_id), client.get_result(open_.msg_id))
        opened = time.time()
        gate.open()
        assert second.result(10) >= opened
        assert third.result(10) == (8, 5)


def test_what_cannot_be_an_argument(client, gate):
    client[0].apply_async(gate)
    cell = client[0].execute("1 + 1")
    with pytest.raises(SerializationError, match="before it is done"):
        client.submit(double, cell)
    gate.open()
    assert cell.wait(10)
    assert client.submit(lambda reply: reply.engine_id, cell).result(10) == 0


def test_a_graph_of_thousands(client):
    level = [client.submit(int, i) for i in range(2000)]
    while len(level) > 1:
        level = [client.submit(lambda *xs: sum(xs), *level[at : at + 8]) for at in range(0, len(level), 8)]
    assert level[0].result(30) == 1_999_000


def test_another_controller_goes_on_with_the_graph(tmp_path, gate):
    with Cluster(n=1) as client:
        first = client.submit(double, 4)
        assert first.result(10) == 8
        held = client.submit(gate, 1)
        second = client.submit(lambda a, b: (a, b), first, held)
        third = client.submit(sum, second)
        os.kill(client._link.core.controller_pid, signal.SIGKILL)
        gate.open()
        assert third.result(30) == 9
