from __future__ import annotations

import math
import pickle

import pytest
from enginery.engine.functions import Functions
from enginery.errors import SerializationError, UnmetDependency
from enginery.wire.messages import Function


def test_a_function_is_unpickled_once_and_adapted():
    functions = Functions(lambda function: lambda *args: function(*args) + 1)
    functions.add([Function(b"d", pickle.dumps(abs))])
    entry = functions.entries[b"d"]
    assert entry.call is None
    assert functions.load(entry)(-3) == 4
    assert entry.call(-3) == 4
    assert entry.name == "abs"


def test_a_function_that_cannot_be_unpickled_says_why_and_may_be_tried_again(monkeypatch):
    functions = Functions()
    functions.add([Function(b"d", b"\x80\x05cmodule_that_comes_later\nf\n.")])
    with pytest.raises(SerializationError, match="could not be unpickled on the engine: ModuleNotFoundError") as caught:
        functions.load(functions.entries[b"d"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    import sys
    import types

    module = types.ModuleType("module_that_comes_later")
    module.f = len
    monkeypatch.setitem(sys.modules, "module_that_comes_later", module)
    assert functions.load(functions.entries[b"d"]) is len


def test_forget_waits_for_unstarted_calls_and_gives_way_to_add():
    functions = Functions()
    functions.add([Function(name, pickle.dumps(abs)) for name in (b"a", b"b", b"c")])
    functions.forget([b"a", b"b", b"c", b"unknown"])
    functions.add([Function(b"c", pickle.dumps(abs))])
    functions.sweep({b"b"})
    assert set(functions.entries) == {b"b", b"c"}
    assert functions.has_doomed
    functions.sweep(set())
    assert set(functions.entries) == {b"c"}
    assert not functions.has_doomed


def test_the_functions_at_hand_are_users_own_and_here_to_stay():
    functions = Functions()
    functions.build_in(b"!push", abs)
    functions.add([Function(name, pickle.dumps(abs)) for name in (b"fa", b"fb", b"fc")])
    functions.forget([b"fb"])
    assert sorted(functions.digests()) == [b"fa", b"fc"]
    functions.sweep(set())
    assert sorted(functions.digests()) == [b"fa", b"fc"]
    functions.forget([b"fc"])
    functions.add([Function(b"fc", pickle.dumps(abs))])
    assert sorted(functions.digests()) == [b"fa", b"fc"]


def test_estimates():
    functions = Functions()
    functions.add([Function(b"a", b"")])
    entry = functions.entries[b"a"]
    assert functions.estimate(b"a") is None
    assert functions.estimate(b"unknown") is None
    assert entry.estimate_s == math.inf
    entry.learn(100.0)
    assert functions.estimate(b"a") == 100.0
    entry.learn(1.0)
    assert functions.estimate(b"a") == 1.0
    entry.learn(0.2)
    assert 0.2 < functions.estimate(b"a") < 1.0
    for _ in range(50):
        entry.learn(0.1)
    assert functions.estimate(b"a") == pytest.approx(0.1, rel=0.01)


def test_what_a_function_needs_and_is_not_there_comes_out_as_it_is():
    class Choosy:
        def __reduce__(self):
            return _refuse, ()

    functions = Functions()
    functions.add([Function(b"fx", pickle.dumps(Choosy()))])
    with pytest.raises(UnmetDependency, match="no GPU here"):
        functions.load(functions.entries[b"fx"])


def _refuse():
    raise UnmetDependency("no GPU here")
