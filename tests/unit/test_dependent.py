"""`require` and `depend`, as far as they go without a cluster."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import math
import pickle
import sys

import cloudpickle
import enginery
import pytest
from enginery import UnmetDependency, depend, interactive, require, serialize
from enginery.client.calls.functions import FunctionCache
from enginery.errors import SerializationError
from enginery.pickles import dumps_function

HERE = __name__


def yes():
    return True


def no(*_args, **_kwargs):
    return 0


def double(x):
    return 2 * x


@require("json", "os.path", "decimal as d")
def uses(x: int, *, y: str = "y") -> str:
    """Say what it uses."""
    return json.dumps([x, y, os.sep, str(d.Decimal(1))])  # noqa: F821 - that is the point


@depend(yes)
@require("math")
def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1) * math.ceil(1)


@pytest.fixture
def engine(monkeypatch):
    """Be an engine, with this namespace."""
    namespace: dict[str, object] = {}
    monkeypatch.setattr(serialize, "_namespace", namespace)
    return namespace


@pytest.fixture
def without(monkeypatch):
    """A module that cannot be imported (any more)."""

    def forbid(name):
        monkeypatch.setitem(sys.modules, name, None)

    return forbid


def there_and_back(function):
    return pickle.loads(dumps_function(function))


# ------------------------------------------------------------------------------------------------------ called plainly


def test_what_is_required_is_there():
    assert uses(1) == '[1, "y", "/", "1"]'


def test_the_function_keeps_its_looks():
    assert (uses.__name__, uses.__qualname__, uses.__module__, uses.__doc__) == (
        "uses",
        "uses",
        HERE,
        "Say what it uses.",
    )
    assert str(inspect.signature(uses)) == "(x: 'int', *, y: 'str' = 'y') -> 'str'"
    assert inspect.isfunction(uses)


def test_a_module_that_cannot_be_imported_is_named():
    @require("json", "no_such.module")
    def f():
        raise AssertionError("it is not called")

    with pytest.raises(UnmetDependency) as caught:
        f()
    assert str(caught.value) == (
        "test_a_module_that_cannot_be_imported_is_named.<locals>.f requires module no_such.module, which cannot be "
        "imported here (ModuleNotFoundError: No module named 'no_such')"
    )


def test_a_module_that_fails_when_it_is_imported_is_not_there_either(tmp_path, monkeypatch):
    (tmp_path / "broken_here.py").write_text("raise OSError('no library')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnmetDependency, match=r"\(OSError: no library\)"):
        require("broken_here")(yes)()


def test_functions_classes_and_named_things_are_there():
    class Point:
        pass

    @require(double, Point, limit=10, m=math)
    def f():
        return globals()["double"], globals()["Point"], globals()["limit"], globals()["m"]

    try:
        assert f() == (double, Point, 10, math)
    finally:
        for name in ("Point", "limit", "m"):
            del globals()[name]


def test_modules_themselves_will_do():
    @require(json)
    def f():
        return 5

    assert f() == 5


def test_what_the_function_has_already_is_left_alone():
    global limit
    limit = 3
    try:
        assert require(limit=10)(lambda: limit)() == 3  # noqa: F821 - ruff takes it for deleted
    finally:
        del limit


def test_the_check_is_asked_each_time():
    answers = [True, False]
    asked = []

    def check(*args, **kwargs):
        asked.append((args, kwargs))
        return answers.pop(0)

    dependent = depend(check, 1, key="x")(double)
    assert dependent(4) == 8
    with pytest.raises(UnmetDependency, match=r"double depends on .*check\(1, key='x'\), which returned False"):
        dependent(4)
    assert asked == [((1,), {"key": "x"})] * 2


@pytest.mark.parametrize("answer", [None, 0, "", []])
def test_anything_false_is_no(answer):
    with pytest.raises(UnmetDependency):
        depend(lambda: answer)(double)(1)


def test_what_the_check_raises_comes_out():
    def fail():
        raise LookupError("no such file")

    with pytest.raises(LookupError, match="no such file"):
        depend(fail)(double)(1)


def test_they_stack():
    assert factorial(5) == 120
    with pytest.raises(UnmetDependency, match="no_such"):
        depend(yes)(require("no_such")(double))(1)
    with pytest.raises(UnmetDependency, match="depends on no"):
        require("json")(depend(no)(double))(1)


def test_coroutine_functions_stay_that():
    @require("json")
    @depend(yes)
    async def f(x):
        await asyncio.sleep(0)
        return x

    class Called:
        async def __call__(self, x):
            return x

    assert inspect.iscoroutinefunction(f)
    assert asyncio.run(f(3)) == 3
    assert asyncio.run(require("json")(Called())(4)) == 4
    assert asyncio.run(require("json")(functools.partial(f, 5))()) == 5
    assert FunctionCache().get(f).digest[:1] == b"c"
    assert inspect.iscoroutinefunction(there_and_back(f))


def test_methods_can_be_decorated():
    class Thing:
        factor = 3

        @require("json")
        def times(self, x):
            return self.factor * x

    assert Thing().times(4) == 12
    assert there_and_back(Thing)().times(4) == 12


def test_interactive_functions_can_be_decorated(engine):
    back = there_and_back(require("json", "decimal as d")(interactive(lambda: (d, table))))  # noqa: F821 - on engines
    engine["table"] = 3
    assert back() == (sys.modules["decimal"], 3)
    assert engine.keys() >= {"json", "d"}


def test_other_callables_can_be_decorated():
    assert require("json")(functools.partial(pow, 2))(5) == 32
    assert require("json")(len)("abc") == 3


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: require(), TypeError, "require takes what a function needs"),
        (lambda: require(3), TypeError, "give int a name"),
        (lambda: require(lambda: 1), TypeError, "give <lambda> a name"),
        (lambda: require("import numpy"), ValueError, "'import numpy' is not the name of a module"),
        (lambda: require(""), ValueError, "'' is not the name"),
        (lambda: require("a..b"), ValueError, "is not the name"),
        (lambda: require("json")(3), TypeError, r"@require\(...\) is for functions, not int"),
        (lambda: require("json")(dict), TypeError, "not a class"),
        (lambda: require(double)(5), TypeError, "is for functions, not int"),
        (lambda: depend(5), TypeError, "depend takes a function to ask, not int"),
        (lambda: depend(asyncio.sleep), TypeError, "not a coroutine function"),
        (lambda: depend(yes)(dict), TypeError, r"@depend\(...\) is for functions, not a class"),
    ],
)
def test_what_makes_no_sense_is_said(make, error, text):
    with pytest.raises(error, match=text):
        make()


# ---------------------------------------------------------------------------------------------------------- pickled


def test_it_travels_with_what_it_needs(engine):
    assert there_and_back(uses)(1) == '[1, "y", "/", "1"]'
    assert engine.keys() == {"json", "os", "d"}
    assert engine["d"] is sys.modules["decimal"]


def test_a_helper_is_in_the_engines_namespace(engine):
    assert there_and_back(require(double, limit=7)(yes))()
    assert engine["double"](4) == 8
    assert engine["limit"] == 7


def test_looks_and_attributes_travel_too():
    @require("json")
    def f():
        """Do nothing."""

    f.colour = "red"
    back = there_and_back(f)
    assert (back.__name__, back.__doc__, back.colour) == ("f", "Do nothing.", "red")
    assert not hasattr(back.__wrapped__, "colour")


def test_one_that_calls_itself_travels(engine):
    assert there_and_back(factorial)(5) == 120
    assert there_and_back(there_and_back(factorial))(5) == 120


def test_an_engine_looks_for_the_modules_before_it_opens_the_rest(engine, without):
    """The function's globals name a module that is not there: without it, they cannot be made."""
    import colorsys

    pickled = dumps_function(require("colorsys")(lambda: colorsys.rgb_to_hsv(0, 0, 0)))
    without("colorsys")
    with pytest.raises(UnmetDependency, match="requires module colorsys"):
        pickle.loads(pickled)


def test_so_it_does_for_layers_below(engine, without):
    pickled = dumps_function(depend(yes)(require("colorsys")(yes)))
    without("colorsys")
    with pytest.raises(UnmetDependency, match="requires module colorsys"):
        pickle.loads(pickled)


def test_what_another_decorator_made_of_one_travels_whole():
    def logged(function):
        @functools.wraps(function)
        def call(*args):
            return "logged", function(*args)

        return call

    @logged
    @require("math")
    def root(x):
        return math.sqrt(x)

    assert root(4) == there_and_back(root)(4) == ("logged", 2)


def test_elsewhere_it_is_only_passed_on(without):
    pickled = dumps_function(require("colorsys")(double))
    without("colorsys")
    back = pickle.loads(pickled)
    with pytest.raises(UnmetDependency, match="requires module colorsys"):
        back(1)


INSTALLED = """
from enginery import require

@require("colorsys")
def f(x):
    return colorsys.rgb_to_hsv(x, x, x)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A module that counts as installed, with such a function."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "installed_here.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(folder)
    import installed_here

    yield installed_here
    del sys.modules["installed_here"]


def test_one_of_an_installed_module_goes_by_its_name(installed, engine, without):
    pickled = dumps_function(installed.f)
    assert pickle.loads(pickled) is installed.f
    assert installed.f(0.0) == (0.0, 0.0, 0.0)
    assert b"rgb_to_hsv" not in pickled
    without("colorsys")
    with pytest.raises(UnmetDependency, match="requires module colorsys"):
        pickle.loads(pickled)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_other_picklers_carry_it_as_any_function(pickler):
    assert pickle.loads(pickler.dumps(uses))(1) == '[1, "y", "/", "1"]'


def test_what_cannot_travel_is_named():
    import threading

    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"_thread\.lock"):
        dumps_function(depend(no, lock)(double))


# ------------------------------------------------------------------------------------------------------------- cache


@pytest.mark.parametrize("function", [uses, factorial, depend(no, 1, "x", key=(2,))(double)])
def test_it_is_pickled_once(function):
    cache = FunctionCache()
    assert cache.get(function) is cache.get(function)
    assert len(cache) == 1


def test_it_is_pickled_again_when_what_it_captures_has_changed():
    cache = FunctionCache()
    factor = 2
    dependent = require("json")(lambda x: factor * x)
    first = cache.get(dependent)
    factor = 3
    second = cache.get(dependent)
    assert first.digest != second.digest
    assert pickle.loads(second.pickled)(5) == 15


def test_what_may_change_is_pickled_each_time():
    limits = [1]
    cache = FunctionCache()
    dependent = depend(no, limits)(double)
    first = cache.get(dependent)
    limits.append(2)
    assert cache.get(dependent).digest != first.digest


def test_they_are_public():
    assert enginery.require is require
    assert {"require", "depend"} <= set(enginery.__all__)
