from __future__ import annotations

import functools
import threading

import pytest
from enginery.culprit import find_culprit, is_picklable
from enginery.errors import SerializationError
from enginery.serialize import dumps, dumps_function


class Config:
    def __init__(self):
        self.name = "x"
        self.lock = threading.Lock()


class Slotted:
    __slots__ = ("fine", "lock")

    def __init__(self):
        self.fine = 1
        self.lock = threading.Lock()


class Polite:
    def __init__(self):
        self.lock = threading.Lock()
        self.inner = Config()

    def __getstate__(self):
        return {"inner": self.inner}


class Stubborn:
    def __init__(self):
        self.x = 1

    def __reduce__(self):
        raise ValueError("I stay here")


class Inside(dict):
    pass


lock = threading.Lock()


def uses_global():
    return lock


def captures():
    held = threading.Lock()
    return lambda: held


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (threading.Lock(), "arg is a _thread.lock"),
        (Config(), "arg: attribute .lock is a _thread.lock"),
        ([1, {"k": Config()}], "arg: item [1]['k'].lock is a _thread.lock"),
        (Slotted(), "arg: attribute .lock is a _thread.lock"),
        (Polite(), "arg: attribute .inner.lock is a _thread.lock"),
        (Inside(a=threading.Lock()), "arg: item ['a'] is a _thread.lock"),
        (captures(), "arg: captured variable held is a _thread.lock"),
        (uses_global, "arg: global lock is a _thread.lock"),
        (lambda x=lock: x, "arg: default [0] is a _thread.lock"),
        ((i for i in ()), "arg is a generator"),
        (Config().lock.acquire, None),
    ],
)
def test_the_smallest_culprit_is_named(value, sentence):
    found = find_culprit(value, "arg")
    assert sentence is None or found == sentence


def test_an_object_that_refuses_is_named_with_its_reason():
    found = find_culprit([Stubborn()], "arg")
    assert found == f"arg: item [0] is a {__name__}.Stubborn that cannot be pickled: I stay here"


def test_cycles_end():
    loop = [Config()]
    loop.append(loop)
    assert find_culprit(loop, "arg") == "arg: item [0].lock is a _thread.lock"


def test_dumps_says_it():
    with pytest.raises(SerializationError, match=r"the value: item \['a'\] is a _thread.lock"):
        dumps({"a": threading.Lock()})
    with pytest.raises(SerializationError, match=r"function captures.<locals>.<lambda>: captured variable held"):
        dumps_function(captures())


def test_is_picklable():
    assert is_picklable([1, Config])
    assert not is_picklable([1, Config()])


class WithLock:
    held = threading.Lock()

    def method(self):
        return lock

    @staticmethod
    def static():
        return 1


def outer():
    inner = captures()
    return lambda: inner()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (outer(), "arg: captured variable inner, its captured variable held is a _thread.lock"),
        (functools.partial(captures()), "arg: function .func, its captured variable held is a _thread.lock"),
        (functools.partial(len, threading.Lock()), "arg: argument .args[0] is a _thread.lock"),
        (functools.partial(len, key=[threading.Lock()]), "arg: argument .keywords['key'][0] is a _thread.lock"),
        ([Config().lock], "arg: item [0] is a _thread.lock"),
        ({Config: (1, Config())}, f"arg: item [{Config!r:.40}][1].lock is a _thread.lock"),
        (
            {"deep": [{"er": (1, {"still": threading.Lock()})}]},
            "arg: item ['deep'][0]['er'][1]['still'] is a _thread.lock",
        ),
    ],
)
def test_the_way_to_the_culprit_is_told(value, sentence):
    assert find_culprit(value, "arg") == sentence


def test_what_a_class_holds_is_found():
    """Classes of scripts and notebooks travel by value, with all that they hold."""
    cls = type("WithLock", (), {**vars(WithLock), "__module__": "__main__"})
    assert find_culprit(cls, "arg") == "arg: attribute .held is a _thread.lock"
    assert find_culprit(cls(), "arg") == "arg: class WithLock.held is a _thread.lock"


def test_vowels_have_their_article():
    class Odd:
        def __reduce__(self):
            raise ValueError("no")

    Odd.__module__ = "enginery"
    assert find_culprit(Odd(), "arg").startswith("arg is an enginery.")


def test_a_function_is_called_what_people_call_it():
    held = threading.Lock()
    with pytest.raises(
        SerializationError, match=r"^function partial\(len, \.\.\.\): argument \.args\[0\] is a _thread"
    ):
        dumps_function(functools.partial(len, held))

    class Callable:
        def __init__(self):
            self.held = held

        def __call__(self):
            return 1

    with pytest.raises(SerializationError, match=r"^function .*Callable: attribute \.held is a _thread\.lock"):
        dumps_function(Callable())
