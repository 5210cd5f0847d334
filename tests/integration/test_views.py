"""Views on real engines: what only shows there."""

from __future__ import annotations

import os
import signal
import sys
import time

import numpy as np
import pandas as pd
import pytest
from enginery import Cluster, EngineDied, NoSuchEngine, PrePickled, interactive

from helpers import wait_until


@pytest.fixture
def view(client):
    return client[:]


def test_an_array_may_be_overwritten_when_it_is_sent(client, view):
    array = np.arange(1_000_000.0)
    total = array.sum()
    view.set_flags(track=True)
    balanced = client.load_balanced_view().set_flags(track=True)
    results = [
        view.apply_async(np.sum, array),
        balanced.apply_async(np.sum, array),
        balanced.map_async(np.sum, [array[:500_000], array[500_000:]]),
        view.scatter("part", array),
    ]
    for result in results:
        result.wait_for_send(30)
        assert result.sent
    array[:] = -1
    assert results[0].get(30) == [total] * 3
    assert results[1].get(30) == total
    assert sum(results[2].get(30)) == total
    view.set_flags(track=False)
    assert (view.gather("part").get(30) == np.arange(1_000_000.0)).all()


def test_what_was_sent_is_not_sent_again_when_the_controller_dies(tmp_path):
    gate = tmp_path / "gate"
    array = np.ones(500_000)

    def total(array, path):
        until_it_is_there(path)
        return float(array.sum())

    with Cluster(n=1) as client:
        with client.load_balanced_view().temp_flags(track=True) as view:
            results = [view.apply_async(total, array, str(gate)) for _ in range(5)]
        for result in results:
            result.wait_for_send(30)
        array[:] = 0
        pid = client.status()["controller_pid"]
        os.kill(pid, signal.SIGKILL)
        assert client.status()["controller_pid"] != pid
        gate.touch()
        assert client.gather(results) == [500_000.0] * 5


def test_the_rank_idiom(client, view):
    view.scatter("rank", client.ids, flatten=True, block=True)
    assert view["rank"] == client.ids
    assert [client[i]["rank"] for i in client.ids] == client.ids


def test_scatter_work_and_gather(view):
    for whole in (
        np.arange(30.0).reshape(10, 3),
        pd.DataFrame({"a": range(10), "b": 1.5}, index=pd.date_range("2020-01-01", periods=10)),
        list(range(10)),
    ):
        for dist in ("b", "r"):
            view.scatter("part", whole, dist, block=True)
            view.execute("part = part * 2 if not isinstance(part, list) else [2 * x for x in part]", block=True)
            back = view.gather("part", dist, block=True)
            assert type(back) is type(whole)
            assert np.array_equal(back, [2 * x for x in whole] if isinstance(whole, list) else whole * 2)


def test_dotted_names_and_expressions(view):
    view.execute("from types import SimpleNamespace; box = SimpleNamespace(inner=SimpleNamespace())", block=True)
    view.push({"box.inner.x": 5, "y": [1, 2]}, block=True)
    assert view.pull(["box.inner.x", "len(y)", "y[0] + box.inner.x"], block=True) == [[5, 2, 6]] * 3
    view["box.z"] = 3
    assert view.get("box.z") == [3, 3, 3]


def test_imports_happen_on_engines_too(view):
    with view.sync_imports(quiet=True):
        import fractions as fr
        from decimal import Decimal as Dec
    assert fr.Fraction(1, 2) == Dec("0.5")
    assert view.pull(["fr.Fraction(1, 2) == Dec('0.5')", "fr.__name__"], block=True) == [[True, "fractions"]] * 3


def test_a_module_that_one_engine_lacks_is_named_with_the_engine(client, view, tmp_path):
    (tmp_path / "only_some_have.py").write_text("x = 1\n")
    client[[0, 2]].execute(f"import sys; sys.path.insert(0, {str(tmp_path)!r})", block=True)
    try:
        sentence = r"import only_some_have as o failed on engine 1: No module named 'only_some_have'"
        with pytest.raises(ImportError, match=sentence), view.sync_imports(local=False, quiet=True):
            import only_some_have as o
    finally:
        client[[0, 2]].execute("del sys.path[0]", block=True)
    with pytest.raises(AttributeError, match="imported on engines only"):
        o.x  # noqa: B018
    assert client[0]["o.x"] == 1
    assert "only_some_have" not in sys.modules


def test_interactive_functions_live_in_the_engines_namespace(client, view):
    view.scatter("data", range(9), block=True)

    @interactive
    def summarize(factor=1):
        global total
        total = factor * sum(data)  # noqa: F821
        return total

    assert view.apply_sync(summarize, 2) == [2 * 3, 2 * 12, 2 * 21]
    assert view["total"] == [6, 24, 42]
    assert client.submit(summarize).get(10) in {3, 12, 21}


def test_a_value_is_pickled_once_for_many_calls(client):
    table = PrePickled({i: np.full(1000, i) for i in range(50)})
    look_up = [client.submit(lambda table, key: int(table[key].sum()), table, key) for key in (3, 49)]
    assert client.gather(look_up) == [3000, 49000]
    assert client.map(lambda pair: len(pair[0]), [(table, 1)] * 4).get(10) == [50] * 4


def test_decorated_functions(client, view):
    @view.remote(block=True)
    def pid():
        return os.getpid()

    assert pid() == [engine["pid"] for engine in client.status()["engines"]]

    @client.load_balanced_view().parallel(dist="r", block=True)
    def product(x, y):
        return x * y

    x, y = np.arange(20.0), np.arange(20.0)[::-1].copy()
    assert (product(x, y) == x * y).all()


def test_dill_pickles_open_on_engines(view):
    view.use_dill()
    factor = 3
    assert view.apply_sync(lambda x: factor * x, 2) == [6] * 3
    assert view.map_sync(lambda f: f() * factor, [lambda: 1, lambda: 2]) == [3, 6]


def until_it_is_there(path):
    while not os.path.exists(path):  # noqa: PTH110 - runs on engines
        time.sleep(0.005)


def test_abort_on_one_engine_leaves_the_others_alone(client, view, tmp_path):
    gate = tmp_path / "gate"
    blocked = view.apply_async(until_it_is_there, str(gate))
    behind = view.apply_async(abs, -1)
    client.abort(behind, targets=1)
    wait_until(lambda: behind.status == ["pending", "cancelled", "pending"], "that of engine 1 is withdrawn")
    gate.touch()
    assert blocked.get(10) == [None] * 3
    assert behind.wait(10)
    assert behind.status == ["ok", "cancelled", "ok"]


def test_gather_after_an_engine_died_names_it(client, view):
    view.scatter("part", range(6), block=True)
    pid = client[1].apply_sync(os.getpid)
    with pytest.raises(EngineDied):
        client[1].apply_sync(os.kill, pid, signal.SIGKILL)
    client.wait_for_engines(3, timeout=30)
    with pytest.raises(NameError, match="part") as caught:
        view.gather("part", block=True)
    assert caught.value.engine == 1
    view.execute("part = []", targets=1, block=True)
    assert view.gather("part", block=True) == [0, 1, 4, 5]


def test_chosen_engines_are_stopped_for_good(client, view, tmp_path):
    mark = tmp_path / "mark"
    running = client[1].apply_async(lambda: mark.touch() or time.sleep(0.2))
    wait_until(mark.exists, "the call runs")
    client.shutdown([1])
    assert running.get(5) is None, "it ends what it was given"
    assert client.ids == [0, 2]
    with pytest.raises(NoSuchEngine, match="no engine 1; there are: 0, 2"):
        view.apply(abs, -1)
    with pytest.raises(IndexError):
        client.shutdown(1)
    assert client.direct_view().apply_sync(abs, -1) == [1, 1]
    assert client[[0, 2]].scatter("rank", client.ids, flatten=True, block=True) == [None, None]
    client[2].shutdown()
    assert client.ids == [0]
    assert client.scale(3) == [0, 1, 2]
