from __future__ import annotations

import types

import pytest
from enginery.engine.namespace import Namespace


@pytest.fixture
def variables():
    return {"x": 1, "box": types.SimpleNamespace(inner=types.SimpleNamespace(y=2))}


def test_push(variables):
    Namespace(variables).push({"z": 3, "box.inner.y": 4, "box.w": 5})
    assert variables["z"] == 3
    assert variables["box"].inner.y == 4
    assert variables["box"].w == 5


@pytest.mark.parametrize("name", ["a b", "", "x.", "1x", "f()"])
def test_push_wants_names(variables, name):
    with pytest.raises(ValueError, match="not the name of a variable"):
        Namespace(variables).push({name: 1})


def test_pull(variables):
    assert Namespace(variables).pull(["x", "box.inner.y", "x + 1"]) == [1, 2, 2]
    with pytest.raises(NameError, match="'nope'"):
        Namespace(variables).pull(["x", "nope"])


def test_delete_is_all_or_nothing(variables):
    namespace = Namespace(variables)
    with pytest.raises(NameError):
        namespace.delete(["x", "nope"])
    assert "x" in variables
    namespace.delete(["x", "box.inner.y"])
    assert "x" not in variables
    assert not hasattr(variables["box"].inner, "y")
