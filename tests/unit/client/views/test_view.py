from __future__ import annotations

import enum
import threading

import numpy as np
import pandas as pd
import pytest
from enginery.client.client import Client
from enginery.errors import CompositeError, NoSuchEngine, SerializationError
from enginery.wire import messages as m


def tasks(fake):
    return [(task, message.options[task.options]) for message in fake.of(m.Submit) for task in message.tasks]


def test_a_view_of_one_is_scalar_and_of_several_a_list(client):
    assert client[0].apply_sync(abs, -1) == 1
    assert client[:].apply_sync(abs, -1) == [1] * 4
    assert client[[2]].apply_sync(abs, -1) == [1]
    assert client[1:3].apply_async(abs, -1).get_dict() == {1: 1, 2: 1}
    assert len(client[1:3]) == 2
    assert repr(client[1:3]) == "<DirectView [1, 2]>"


def test_direct_tasks_share_one_payload_and_are_ordered(fake, client):
    client[[3, 1]].apply_sync(abs, -1)
    ((task, options),) = tasks(fake)
    assert task.copies == 2
    assert options == m.Options(targets=(3, 1), ordered=True)


def test_all_is_evaluated_at_each_call(client):
    view = client.direct_view()
    fixed = client[:]
    client.scale(2)
    assert view.apply_sync(abs, -1) == [1, 1]
    client.scale(3)
    assert len(view.apply_sync(abs, -1)) == 3
    with pytest.raises(NoSuchEngine, match="no engine 3"):
        fixed.apply(abs, -1)


def test_flags(fake, client):
    view = client[:]
    assert view.block is False
    assert view.set_flags(block=True, label="x") is view
    assert view.apply(abs, -1) == [1] * 4
    assert tasks(fake)[-1][1].label == "x"
    with view.temp_flags(block=False, label="y"):
        result = view.apply(abs, -1)
        assert result.get() == [1] * 4
        assert result.label == ["y"] * 4
    assert view.label == "x"
    view.block = False
    assert view.block is False
    for wrong in (lambda: view.set_flags(blok=True), lambda: setattr(view, "blok", 1)):
        with pytest.raises(
            TypeError, match="DirectView has no flag 'blok'; its flags are: targets, block, track, label"
        ):
            wrong()
    with pytest.raises(TypeError, match="label is a string"):
        view.set_flags(label=3)
    with pytest.raises(AttributeError):
        view.nonsense  # noqa: B018
    view.targets = [0]
    assert view.apply_async(abs, -1).get() == [1]


def test_balanced_flags(fake, client):
    view = client.load_balanced_view([0, 1]).set_flags(retries=2, timeout=1.5, priority=3, label="l")
    assert view.apply_async(abs, -1).get() == 1
    assert tasks(fake)[-1][1] == m.Options((0, 1), 3, 2, 1.5, "l")
    with view.temp_flags(retries=0, targets=None, block=True):
        assert view.apply(abs, -1) == 1
    assert tasks(fake)[-1][1].retries == 0
    view.apply_sync(abs, -1)
    assert tasks(fake)[-1][1].retries == 2
    for wrong, kind in [
        ({"retries": -1}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "x"}, ValueError),
        ({"retries": 1 << 70}, ValueError),
        ({"priority": 1.5}, TypeError),
        ({"priority": 1 << 70}, ValueError),
        ({"label": "half a \ud800"}, ValueError),
        ({"resources": {"\ud800": 1}}, ValueError),
        ({"after": 1}, TypeError),
        ({"targets": [9]}, NoSuchEngine),
    ]:
        with pytest.raises(kind):
            view.set_flags(**wrong)
    assert view.retries == 2
    assert repr(client.load_balanced_view()) == "<LoadBalancedView any engine>"


def test_flags_of_other_types_are_sent_as_plain_ones(fake, client):
    class Label(enum.StrEnum):
        WARM_UP = "warm-up"

    view = client.load_balanced_view().set_flags(retries=True, priority=False, label=Label.WARM_UP)
    assert view.apply_async(abs, -1).get() == 1
    options = tasks(fake)[-1][1]
    assert options == m.Options(None, 0, 1, None, "warm-up")
    assert [type(value) for value in (options.priority, options.retries, options.label)] == [int, int, str]


def test_the_resources_that_tasks_take(fake, client):
    view = client.load_balanced_view().set_flags(resources={"mem": 2, "gpu": 0.5})
    assert view.apply_sync(abs, -1) == 1
    assert tasks(fake)[-1][1].resources == (("gpu", 0.5), ("mem", 2.0))
    assert view.resources == {"mem": 2, "gpu": 0.5}
    assert view.map_sync(abs, [-1, 2]) == [1, 2]
    assert tasks(fake)[-1][1].resources == (("gpu", 0.5), ("mem", 2.0))
    for wrong, kind in [({"gpu": 0}, ValueError), ({"gpu": "1"}, TypeError), (1, TypeError)]:
        with pytest.raises(kind):
            view.set_flags(resources=wrong)
    view.set_flags(resources=None)
    assert view.apply_sync(abs, -1) == 1
    assert tasks(fake)[-1][1] == m.Options()
    with pytest.raises(TypeError, match="DirectView has no flag 'resources'"):
        client[:].set_flags(resources={"gpu": 1})


def test_group_results(fake, client):
    fake.hold = True
    result = client[:].apply_async(lambda: 1)
    assert (len(result), result.progress, result.status) == (4, 0, ["pending"] * 4)
    fake.run_held(2)
    iterator = iter(result)
    assert [next(iterator), next(iterator)] == [1, 1]
    assert result.progress == 2
    assert not result.done()
    assert result[1] == 1
    fake.run_held()
    assert list(iterator) == [1, 1]
    assert result[-1] == 1
    assert result[1:3] == [1, 1]
    assert result["engine_id"] == [0, 1, 2, 3]
    assert len(result.started) == 4
    with pytest.raises(IndexError):
        result[4]
    assert result.get() == [1] * 4


def test_one_failure_of_several_is_raised_itself_and_several_together(client):
    client[:].scatter("n", range(4), flatten=True, block=True)
    view = client[:]
    result = view.pull("1 / (n - 2)")
    with pytest.raises(ZeroDivisionError):
        result.get()
    assert result[0] == -0.5
    with pytest.raises(ZeroDivisionError):
        result[2]
    values = result.get(return_exceptions=True)
    assert isinstance(values[2], ZeroDivisionError)
    assert values[3] == 1.0
    with pytest.raises(CompositeError, match="2 of 4 calls failed; the first with ZeroDivisionError") as caught:
        view.pull("1 / (n // 2)").get()
    assert len(caught.value.elist) == 2
    assert [error.engine for error in caught.value.elist] == [0, 1]


def test_variables(client):
    client[:]["x"] = 5
    assert client[:]["x"] == [5] * 4
    assert client[2]["x"] == 5
    client[0].push({"x": 6, "y": [1]}, block=True)
    assert client[0].pull(["x", "y[0]"], block=True) == [6, 1]
    assert client[:2].pull(["x"], block=True) == [[6], [5]]
    assert client[:].get("x + 1") == [7, 6, 6, 6]
    client[1].update({"z": 1}).get()
    assert client[:].pull("x", targets=1, block=True) == 5
    with pytest.raises(NameError, match="nope"):
        client[0]["nope"]
    client[0].clear(block=True)
    with pytest.raises(NameError):
        client[0]["x"]
    for wrong in (lambda: client[0].push([1]), lambda: client[0].push({1: 2}), lambda: client[0].pull([1])):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match=r"client\[\.\.\.\]"):
        client[0][1]
    with pytest.raises(SerializationError, match=r"item \['l'\] is a _thread.lock"):
        client[0].push({"l": threading.Lock()})


def test_scatter_and_gather(client):
    view = client[:]
    for data in (list(range(10)), np.arange(10.0), range(3)):
        for dist in ("b", "r"):
            view.scatter("part", data, dist=dist, block=True)
            back = view.gather("part", dist=dist, block=True)
            assert type(back) is (np.ndarray if isinstance(data, np.ndarray) else list)
            assert list(back) == list(data)
    view.scatter("part", range(4), flatten=True, block=True)
    assert view["part"] == [0, 1, 2, 3]
    assert view.gather("part", block=True) == [0, 1, 2, 3]
    assert client[1].gather("part", block=True) == 1
    with pytest.raises(ValueError, match="round robin"):
        view.gather("part", dist="q")
    with pytest.raises(SerializationError):
        view.scatter("part", [1, threading.Lock()])


def test_execute(fake, client, tmp_path):
    fake.hold = True
    result = client[0].execute("x = 41", silent=False)
    fake.say(m.Outputs([m.Output(result._task, "stdout", "out", 0), m.Output(result._task, "display", {"a": 1}, 0)]))
    fake.run_held()
    reply = result.get(10)
    assert (reply.stdout, reply.engine_id, reply.execution_count) == ("out", 0, 1)
    assert reply.outputs == [("display", {"a": 1})]
    assert reply.text == "{'silent': False, 'store_history': True}"
    assert "Out[0:1]" in repr(reply)
    fake.hold = False
    assert client[0]["x"] == 41
    path = tmp_path / "script.py"
    path.write_text("y = 2\n")
    assert len(client[:].run(path, block=True)) == 4
    assert client[:]["y"] == [2] * 4
    with pytest.raises(ZeroDivisionError):
        client[0].execute("1 / 0", block=True)
    with pytest.raises(TypeError, match="code as a string"):
        client[0].execute(b"x")
    with pytest.raises(OSError, match="nowhere"):
        client[0].run("/nowhere/at/all.py")


def test_direct_map_gives_each_engine_its_part(fake, client):
    view = client[:]
    assert view.map_sync(lambda x: x * x, range(10)) == [x * x for x in range(10)]
    assert [(task.items, options.targets, options.ordered) for task, options in tasks(fake)] == [
        (3, (0,), True),
        (3, (1,), True),
        (2, (2,), True),
        (2, (3,), True),
    ]
    assert view.map(lambda x, y: x + y, [1, 2, 3], iter([4, 5])).get() == [5, 7]
    assert view.map_sync(abs, []) == []
    with view.temp_flags(block=True):
        assert view.map(abs, [-1]) == [1]
    with pytest.raises(TypeError, match="at least one"):
        view.map(abs)


def test_view_wait_and_abort(fake, client):
    fake.hold = True
    view = client[:]
    result = view.apply_async(abs, -1)
    assert not view.wait(timeout=0.01)
    view.abort(result)
    assert result.cancelled()
    assert view.wait(result, timeout=5)


def test_direct_map_of_all_kinds_of_input(client):
    view = client[:]
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    assert view.map_sync(str, np.array([[1, 2], [3, 4]])) == ["[1 2]", "[3 4]"]
    assert view.map_sync(len, frame) == [1, 1]  # the names of its columns
    assert view.map_sync(int, frame["a"]) == [1, 2]
    assert view.map_sync(str.upper, "abc") == ["A", "B", "C"]
    assert view.map_sync(lambda x, y: x * y, (i for i in range(10)), [1, 2, 3]) == [0, 2, 6]
    for empty in ([], "", iter(()), np.array([]), frame["a"][:0]):
        assert view.map_sync(abs, empty) == []
    assert view.map_sync(abs, [], [1, 2]) == []
    assert view.map_sync(abs, [-1]) == [1]
    assert client[1].map_sync(abs, [-1, -2, -3]) == [1, 2, 3]


def test_direct_map_flags_and_ways(client):
    view = client[:]
    assert view.map(abs, [-1], block=True) == [1]
    with view.temp_flags(label="l", block=True):
        assert view.map(abs, [-1], block=False).label == ["l"]
        assert view.map(abs, [-1, -2]) == [1, 2]
    values = view.map_sync(lambda x: 1 / x, [1, 0, 2], return_exceptions=True)
    assert [type(value) for value in values[::2]] == [float, float]
    assert isinstance(values[1], ZeroDivisionError)
    assert sorted(view.map_async(abs, range(8), ordered=False)) == list(range(8))


def test_direct_map_of_an_input_that_raises(fake, client):
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        client[:].map(abs, items())
    assert not fake.of(m.Submit)
    fake.hold = True
    with pytest.raises(SerializationError, match=r"item 7 is a _thread.lock"):
        client[:].map(abs, [*range(7), threading.Lock()])
    assert client.wait(timeout=10), "what was under way is withdrawn"


def test_scatter_with_fewer_items_than_engines(client):
    view = client[:]
    view.scatter("part", np.ones((2, 3), np.int8), block=True)
    assert [(part.shape, part.dtype) for part in view["part"]] == [((n, 3), np.int8) for n in (1, 1, 0, 0)]
    view.scatter("part", [1, 2], flatten=True, block=True)
    assert view["part"] == [1, 2, [], []]
    assert view.scatter("rank", client.ids, flatten=True).get() == [None] * 4
    assert client[2]["rank"] == 2


def test_scatter_on_some_engines(client):
    client[:].scatter("part", range(4), targets=[1, 2], block=True)
    assert client[1:3]["part"] == [[0, 1], [2, 3]]
    assert client[:].gather("part", targets=[2, 1], block=True) == [2, 3, 0, 1]
    client[3].scatter("part", "abc", block=True)
    assert client[3]["part"] == "abc"


def test_scatter_and_gather_of_tables(client):
    frame = pd.DataFrame({"a": range(6), "b": list("uvwxyz")}, index=[3, 1, 4, 1, 5, 9])
    for dist in ("b", "r"):
        client[:].scatter("table", frame, dist, block=True)
        assert client[:].gather("table", dist).get().equals(frame)


def test_gather_of_what_is_no_sequence(client):
    client[:].scatter("n", range(4), flatten=True, block=True)
    assert client[:].gather("n * 2", block=True) == [0, 2, 4, 6]
    with pytest.raises(NameError):
        client[:1].gather("nothing", block=True)


def test_what_views_ask_of_their_client(client, monkeypatch):
    asked = []
    for name in ("queue_status", "purge_results", "shutdown"):
        monkeypatch.setattr(
            Client, name, lambda _, *args, _name=name, **how: asked.append((_name, args, how)), raising=False
        )
    done = client.submit(abs, -1)
    monkeypatch.setattr(Client, "get_result", lambda *_, **__: done)
    view, some = client.load_balanced_view(), client[[1, 2]]
    view.queue_status()
    some.queue_status(verbose=True)
    some.queue_status(targets=1)
    view.purge_results("1-1")
    some.purge_results(label="x")
    view.shutdown(hub=True)
    some.shutdown(restart=True)
    assert asked == [
        ("queue_status", ("all", False), {}),
        ("queue_status", ([1, 2], True), {}),
        ("queue_status", (1, False), {}),
        ("purge_results", ("1-1",), {"label": None}),
        ("purge_results", (None,), {"label": "x"}),
        ("shutdown", ("all", False, True), {}),
        ("shutdown", ([1, 2], True, False), {}),
    ]
    assert view.get_result("1-1") is done
    assert view.get_result("1-1", block=True) == 1
    with some.temp_flags(block=True):
        assert some.get_result(done) == 1
