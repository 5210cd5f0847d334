from __future__ import annotations

import functools
import gc
import math
import pickle
import sys
import time
import types
import weakref

import numpy as np
import pytest
from enginery.client.calls.functions import FunctionCache, is_by_reference
from enginery.client.connection.core import Core, Entry
from enginery.errors import SerializationError
from enginery.wire import messages as m


@pytest.fixture
def cache():
    return FunctionCache()


def call(made, *args):
    return pickle.loads(made.pickled)(*args)


def scope(source, **names):
    """Return a function defined by `source` with globals of its own, as in a notebook."""
    module = types.ModuleType("__main__")
    space = {"__name__": "__main__", "__builtins__": __builtins__, **names}
    exec(source, space)
    module.__dict__.update(space)
    return space["f"], space


def test_a_plain_function_is_pickled_once(cache):
    f = lambda x: x + 1
    first = cache.get(f)
    assert cache.get(f) is first
    assert call(first, 1) == 2
    assert cache.get(lambda x: x + 2) is not first


def test_a_rebound_closure_is_seen(cache):
    n = 1

    def f():
        return n

    assert call(cache.get(f)) == 1
    assert cache.get(f) is cache.get(f)
    n = 2
    assert call(cache.get(f)) == 2


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, np.zeros(2), bytearray(b"x"), ([1],), object()])
def test_what_can_change_inside_is_pickled_each_time(cache, value):
    def f():
        return value

    assert cache.get(f) is not cache.get(f)
    assert len(cache) == 0


def test_a_list_that_grows_is_seen(cache):
    seen = [1]
    f = lambda: list(seen)
    assert call(cache.get(f)) == [1]
    seen.append(2)
    assert call(cache.get(f)) == [1, 2]


@pytest.mark.parametrize(
    "value", [1, "x", None, (1, ("a", 2.5)), frozenset({1}), math, len, int, math.sqrt, np, np.ndarray]
)
def test_what_never_changes_is_pickled_once(cache, value):
    def f():
        return value

    assert cache.get(f) is cache.get(f)


def test_globals_are_watched(cache):
    f, space = scope("def f(): return K + len('abc')", K=1)
    first = cache.get(f)
    assert cache.get(f) is first
    space["K"] = 2
    assert call(cache.get(f)) == 5
    space["len"] = lambda _: 100  # a builtin is shadowed
    assert call(cache.get(f)) == 102
    space["K"] = [1]
    assert cache.get(f) is not cache.get(f)
    del space["K"]
    cache.get(f)


def test_functions_that_a_function_calls_are_watched(cache):
    f, space = scope("def h(): return K\ndef g(): return h()\ndef f(): return g()", K=1)
    first = cache.get(f)
    assert cache.get(f) is first
    space["K"] = 2
    assert call(cache.get(f)) == 2
    second = cache.get(f)
    assert cache.get(f) is second
    exec("def h(): return 7", space)
    assert call(cache.get(f)) == 7


def test_globals_of_code_inside_a_function_are_watched(cache):
    f, space = scope("def f(): return [(lambda: K + i)() for i in range(1)]", K=1)
    assert cache.get(f) is cache.get(f)
    space["K"] = 5
    assert call(cache.get(f)) == [5]


def test_defaults_code_and_attributes_are_watched(cache):
    def f(x=1, *, y=2):
        return x + y

    assert cache.get(f) is cache.get(f)
    f.__defaults__ = (10,)
    assert call(cache.get(f)) == 12
    f.__kwdefaults__ = {"y": 20}
    assert call(cache.get(f)) == 30
    f.__kwdefaults__["y"] = 30
    assert call(cache.get(f)) == 40
    f.__code__ = (lambda x=1, *, y=2: x * y).__code__
    assert call(cache.get(f)) == 300
    f.note = "a"
    assert pickle.loads(cache.get(f).pickled).note == "a"
    f.note = "b"
    assert pickle.loads(cache.get(f).pickled).note == "b"


def test_a_simple_function_that_gets_defaults_or_attributes_is_seen(cache):
    f = lambda x=None: x
    cache.get(f)
    f.tag = 1
    assert pickle.loads(cache.get(f).pickled).tag == 1


def test_equal_but_not_the_same_is_a_change(cache):
    f, space = scope("def f(): return K", K=1)
    cache.get(f)
    space["K"] = True
    assert call(cache.get(f)) is True


def test_recursive_functions_can_be_cached_and_collected(cache):
    f, space = scope("def f(n): return n and f(n - 1)")
    assert cache.get(f) is cache.get(f)
    ref = weakref.ref(f)
    space.clear()
    del f, space
    gc.collect()
    assert ref() is None
    assert len(cache) == 0


def test_functions_are_collected(cache):
    f = lambda: 1
    cache.get(f)
    assert len(cache) == 1
    del f
    gc.collect()
    assert len(cache) == 0


def test_an_empty_cell_makes_a_function_volatile(cache):
    def make():
        def f():
            return later

        made = cache.get(f)
        later = 1
        return f, made

    f, made = make()
    assert call(cache.get(f)) == 1
    with pytest.raises(NameError):
        call(made)


def test_decorated_functions_are_watched(cache):
    def inner(x):
        return x

    @functools.wraps(inner)
    def outer(x):
        return inner(x) + 1

    assert cache.get(outer) is cache.get(outer)
    assert call(cache.get(outer), 1) == 2


@pytest.mark.parametrize("function", [len, math.sqrt, abs, int, pow, str.upper, np.sqrt, np.linalg.norm, time.sleep])
def test_installed_functions_travel_by_name_and_are_cached(cache, function):
    assert cache.get(function) is cache.get(function)
    assert pickle.loads(cache.get(function).pickled) is function


class Counter:
    def __init__(self):
        self.n = 0

    def __call__(self):
        return self.n


def test_callable_objects_and_bound_methods_are_pickled_each_time(cache):
    counter = Counter()
    assert call(cache.get(counter)) == 0
    counter.n = 1
    assert call(cache.get(counter)) == 1
    assert call(cache.get(counter.__call__)) == 1
    assert call(cache.get(functools.partial(max, 3)), 1) == 3
    assert call(cache.get([5].count), 5) == 1


def test_a_class_of_the_users_is_pickled_each_time(cache):
    def f():
        return Counter.label

    Counter.label = "a"
    assert call(cache.get(f)) == "a"
    Counter.label = "b"
    assert call(cache.get(f)) == "b"


def test_equal_bytes_have_one_name(cache):
    value = [1]
    f = lambda: value
    assert cache.get(f).digest == cache.get(f).digest


@pytest.mark.parametrize("first", [b"!", b"f", b"\0"])
def test_the_name_of_a_users_function_is_never_one_of_the_engines_own(cache, monkeypatch, first):
    """One pickle in 256 has a digest that begins with the mark of operations built into the engine."""

    class Blake:
        def __init__(self, _data, digest_size):
            self.size = digest_size

        def digest(self):
            return first.ljust(self.size, b"x")

    monkeypatch.setattr("enginery.client.calls.functions.hashlib.blake2b", Blake)
    made = cache.get(lambda x: x + 1)
    assert made.digest[:1] == b"f"
    assert len(made.digest) == 16
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    core.outbox.append(Entry(m.Task(1, made.digest, b""), made, m.Options(), ()))
    ((submitted, _),) = core.take()
    assert submitted.functions == [made]


def test_what_cannot_travel_is_named(cache):
    import threading

    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"f: captured variable lock is a _thread.lock"):

        def f():
            return lock

        cache.get(f)


def test_is_by_reference():
    assert is_by_reference(math)
    assert is_by_reference(FunctionCache)
    assert not is_by_reference(Counter)
    assert not is_by_reference(sys.modules[__name__])
    assert not is_by_reference([].append)
    assert not is_by_reference(lambda: 1)


async def coroutine_function(x):
    return x


class AsyncCallable:
    async def __call__(self, x):
        return x

    async def method(self, x):
        return x


@pytest.mark.parametrize(
    ("function", "first"),
    [
        (coroutine_function, b"c"),
        (functools.partial(coroutine_function, 1), b"c"),
        (functools.partial(AsyncCallable(), 1), b"c"),
        (AsyncCallable(), b"c"),
        (AsyncCallable().method, b"c"),
        (AsyncCallable, b"f"),
        (lambda: coroutine_function(1), b"f"),
        (abs, b"f"),
    ],
)
def test_the_digest_says_what_is_a_coroutine_function(function, first):
    assert FunctionCache().get(function).digest[:1] == first
