from __future__ import annotations

import pytest
from enginery import serialize
from enginery.serialize import Reference, dumps, loads


@pytest.fixture
def namespace(monkeypatch):
    space = {"x": 41, "d": {"k": [1, 2]}}
    monkeypatch.setattr(serialize, "_namespace", None)
    serialize.set_namespace(space)
    return space


def test_a_reference_means_the_variable_of_where_it_arrives(namespace):
    payload, buffers = dumps(((Reference("x"), {"deep": [Reference("d['k']")]}), {}))
    (x, deep), _ = loads(payload, buffers)
    assert x == 41
    assert deep["deep"][0] is namespace["d"]["k"]


def test_a_reference_stays_one_where_there_is_no_namespace(monkeypatch):
    monkeypatch.setattr(serialize, "_namespace", None)
    back = loads(*dumps([Reference("x")]))[0]
    assert isinstance(back, Reference)
    assert back.name == "x"
    assert repr(back) == "Reference('x')"


def test_a_missing_name_is_a_name_error(namespace):
    with pytest.raises(NameError, match="nope"):
        loads(*dumps(Reference("nope")))


def test_a_reference_is_made_of_a_name():
    with pytest.raises(TypeError, match="as a string"):
        Reference(3)


def test_everything_listed_is_there():
    assert all(hasattr(serialize, name) for name in serialize.__all__)
