from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import sys

import pytest
from enginery import depend, interactive, require, serialize
from enginery.client.calls.functions import FunctionCache
from enginery.serialize import dumps_function

import_time = "here"


@pytest.fixture
def engine(monkeypatch):
    """The variables of an engine, which this process plays from now on."""
    variables = {"__builtins__": __builtins__}

    def arrive(function):
        pickled = dumps_function(function)
        monkeypatch.setattr(serialize, "_namespace", variables)
        return pickle.loads(pickled)

    return variables, arrive


def test_global_names_are_the_engines(engine):
    variables, arrive = engine

    @interactive
    def get():
        return import_time

    there = arrive(get)
    variables["import_time"] = "there"
    assert there() == "there"
    del variables["import_time"]
    with pytest.raises(NameError):
        there()


def test_it_may_change_the_engines_variables(engine):
    variables, arrive = engine

    @interactive
    def put():
        global counted
        counted = 1

    arrive(put)()
    assert variables["counted"] == 1


def test_all_else_travels(engine):
    captured = [1, 2]

    def original(a, b=2, *, c=3) -> int:
        """Add up."""
        return a + b + c + len(captured)

    original.note = "kept"
    function = interactive(original)
    there = engine[1](function)
    for one in (function, there):
        assert one(1) == 8
        assert one(1, c=0, b=0) == 3
        assert (one.__name__, one.__doc__, one.note, one.__module__) == ("original", "Add up.", "kept", "__main__")
        assert one.__qualname__ == original.__qualname__
        assert str(inspect.signature(one)) == "(a, b=2, *, c=3) -> 'int'"


def test_one_that_captures_itself(engine):
    @interactive
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert engine[1](factorial)(5) == 120


def test_coroutine_functions_stay_such(engine):
    @interactive
    async def wait():
        return import_time

    assert inspect.iscoroutinefunction(engine[1](wait))


def test_here_names_are_those_of_main(monkeypatch):
    @interactive
    def get():
        return only_in_main  # noqa: F821

    with pytest.raises(NameError):
        get()
    monkeypatch.setattr(sys.modules["__main__"], "only_in_main", 5, raising=False)
    assert get() == 5


def test_it_comes_back_as_one(engine):
    @interactive
    def get():
        return import_time

    there = engine[1](get)
    engine[0]["import_time"] = 7
    assert pickle.loads(dumps_function(there))() == 7


def test_its_pickle_is_used_again():
    @interactive
    def get():
        return len([])

    cache = FunctionCache()
    assert cache.get(get).digest == cache.get(get).digest


def test_only_functions_written_in_python():
    for wrong in (len, 3, "code", type("C", (), {"__call__": lambda self: 1})()):
        with pytest.raises(TypeError, match="written in Python"):
            interactive(wrong)


def test_below_require_and_depend_and_above(engine):
    """Whichever comes first, what they are for finds the engine's variables."""
    variables, arrive = engine

    @interactive
    @require("math", "os.path")
    @depend(bool, 1)
    def above():
        return math.floor(import_time)  # noqa: F821

    @require("math")
    @interactive
    def below():
        return math.floor(import_time)  # noqa: F821

    variables["import_time"] = 2.5
    there = [arrive(above), arrive(below)]
    assert [function() for function in there] == [2, 2]


def test_a_coroutine_function_that_requires_stays_one(engine):
    @interactive
    @require("math")
    async def get():
        return import_time

    engine[0]["import_time"] = 5
    there = engine[1](get)
    assert inspect.iscoroutinefunction(there)
    assert asyncio.run(there()) == 5


def test_not_above_other_decorators(engine):
    def logged(function):
        @functools.wraps(function)
        def call():
            return "logged", function()

        return call

    with pytest.raises(TypeError, match="put @interactive below that decorator") as caught:

        @interactive
        @logged
        def above():
            return import_time

    assert "above" in str(caught.value)

    @logged
    @interactive
    def below():
        return import_time

    engine[0]["import_time"] = 5
    assert engine[1](below)() == ("logged", 5)
