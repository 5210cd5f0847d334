from __future__ import annotations

import types

import pytest
from enginery.engine.functions import Functions
from enginery.engine.namespace import ERROR_MAX, Namespace, Setup
from enginery.engine.values import Values
from enginery.objects.local import LocalStore
from enginery.serialize import dumps, dumps_function


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


@pytest.fixture
def reports():
    return []


@pytest.fixture
def setup(reports):
    def execute(code, **options):
        assert options == {"silent": True, "store_history": False}
        return eval(code)

    return Setup(Functions(), Values(LocalStore(None, b"")), execute, lambda kind, data: reports.append((kind, data)))


def arguments(*args, **kwargs):
    payload, buffers = dumps((args, kwargs))
    return payload, [bytes(buffer) for buffer in buffers]


def test_set_up_is_code_or_a_call_and_says_that_it_went_well(setup, reports):
    assert setup("1 + 1", b"", []) == 2
    assert setup(dumps_function(lambda x, y: x - y), *arguments(5, y=3)) == 2
    assert reports == [("setup", "")] * 2


def test_arrays_given_to_set_up_are_writable(setup):
    numpy = pytest.importorskip("numpy")

    def negate(array):
        array *= -1
        return array

    assert setup(dumps_function(negate), *arguments(numpy.ones(10_000))).sum() == -10_000


def test_set_up_that_fails_raises_and_says_why(setup, reports):
    with pytest.raises(ZeroDivisionError):
        setup("1 / 0", b"", [])
    with pytest.raises(KeyError, match="xxx"):
        setup(dumps_function({}.__getitem__), *arguments("x" * 1000))
    with pytest.raises(Exception, match="unpickled"):
        setup(b"no pickle", b"", [])
    assert [kind for kind, _ in reports] == ["setup"] * 3
    assert reports[0][1] == "ZeroDivisionError: division by zero"
    assert reports[1][1].startswith("KeyError: 'xxx")
    assert len(reports[1][1]) == ERROR_MAX
    assert "could not be unpickled" in reports[2][1]
