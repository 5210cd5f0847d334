"""What direct views can pickle with instead of cloudpickle."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest
from enginery import PrePickled, interactive, serialize
from enginery.errors import SerializationError
from enginery.wire import messages as m


class Thing:
    def __init__(self, value):
        self.value = value


def pickled(fake):
    return fake.of(m.Submit)[-1].functions[-1].pickled


def test_dill(fake, client):
    view, factor = client[:2], 3
    view.use_dill()
    assert view.apply_sync(lambda x: x * factor, 2) == [6, 6]
    assert b"dill" in pickled(fake)
    assert view.map_sync(lambda x: x * factor, [1, 2, 3]) == [3, 6, 9]
    assert view.map_sync(lambda x: x() * factor, [lambda: 1, lambda: 2]) == [3, 6]
    view.push({"f": lambda: factor}, block=True)
    assert view["f()"] == [3, 3]
    view.scatter("parts", [lambda: 1, lambda: 2], flatten=True, block=True)
    assert view["parts()"] == [1, 2]
    assert view.apply_sync(np.sum, np.ones(2000)) == [2000.0, 2000.0]


def test_a_function_is_pickled_as_it_is_at_the_call(client):
    view = client[0]
    view.use_dill()
    captured = [1]

    def get():
        return captured[0]

    assert view.apply_sync(get) == 1
    captured[0] = 2
    assert view.apply_sync(get) == 2


def test_dill_and_what_pickles_in_a_way_of_its_own(client, monkeypatch):
    view = client[0]
    view.use_dill()
    monkeypatch.setattr(sys.modules["__main__"], "only_in_main", 5, raising=False)

    @interactive
    def get(table):
        return only_in_main + len(table)  # noqa: F821

    monkeypatch.setattr(serialize, "_namespace", {"__builtins__": __builtins__, "only_in_main": 6})
    assert view.apply_sync(get, PrePickled([1, 2])) == 8


def test_pickle_goes_by_name(fake, client):
    view = client[0]
    view.use_pickle()
    assert view.apply_sync(os.path.join, "a", "b") == "a/b"
    assert pickled(fake) == pickle.dumps(os.path.join, 5)
    with pytest.raises(SerializationError, match=r"function .*<lambda> cannot be pickled with pickle: "):
        view.apply(lambda: 1)
    with pytest.raises(SerializationError, match=r"with pickle: "):
        view.push({"f": lambda: 1})
    with pytest.raises(SerializationError, match=r"with pickle: "):
        view.map(abs, [lambda: 1])


def test_it_is_of_one_view_until_it_is_taken_back(client):
    view, other = client[0], client[0]
    view.use_pickle()
    assert other.apply_sync(lambda: 1) == 1
    view.use_cloudpickle()
    assert view.apply_sync(lambda: 1) == 1
    assert view.apply_sync(lambda thing: thing.value, Thing(5)) == 5


def test_dill_must_be_there(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "dill", None)
    view = client[0]
    with pytest.raises(ImportError, match="needs the package dill, here and on the engines"):
        view.use_dill()
    assert view.apply_sync(lambda: 1) == 1
