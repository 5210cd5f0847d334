from __future__ import annotations

import datetime as dt
import importlib.util
import pickle
import subprocess
import sys
import threading
import types
from collections import OrderedDict

import numpy as np
import pytest
from enginery import pickles
from enginery.errors import SerializationError
from enginery.pickles import (
    COPY_BELOW,
    OUT_OF_BAND_MIN,
    PAYLOAD_MAX,
    dumps,
    dumps_function,
    is_plain,
    loads,
    loads_mapped,
)
from enginery.pieces import joined


def there_and_back(value):
    return loads(*dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        1,
        "x",
        None,
        (),
        ((1, 2), {"a": 3}),
        [1, [2, (3, {4: {5}})]],
        {"a": [1.5, b"x", True]},
        ((), {}),
        2**100,
        range(3),
        {(1, 2): "x"},
        OrderedDict(a=1),
        dt.date(2020, 1, 1),
        [[[[[[[[1]]]]]]]],
    ],
)
def test_values_come_back_equal_and_of_their_type(value):
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [1, [1, 2], ((1,), {}), {"a": [1, (2,)]}, [np.arange(3)], np.float64(1), range(9)])
def test_plain_values_need_no_cloudpickle(value):
    assert is_plain(value)


class Mine:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x

    __hash__ = None


class MyInt(int):
    pass


@pytest.mark.parametrize(
    "value", [Mine(1), [Mine(1)], MyInt(1), len, int, np.array([object()]), {"a": lambda: 1}, {Mine: 1}, np.matrix]
)
def test_what_may_hold_code_of_the_users_is_not_plain(value):
    assert not is_plain(value)


def test_importing_loads_neither_cloudpickle_nor_numpy():
    code = (
        "import sys, enginery.serialize as s; s.dumps(((1,), {})); print({'cloudpickle', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_large_arrays_travel_out_of_band_at_any_depth_and_arrive_writable():
    array = np.arange(PAYLOAD_MAX, dtype=float)
    small = np.arange(4)
    payload, buffers = dumps(((1, {"deep": [array, (small,)]}), {}))
    assert len(payload) < 1000
    assert [buffer.nbytes for buffer in buffers] == [array.nbytes]
    back = loads(payload, [bytes(buffer) for buffer in buffers])
    deep, (tiny,) = back[0][1]["deep"]
    assert (deep == array).all()
    deep[0] = tiny[0] = 7


def test_arrays_inside_objects_travel_out_of_band_too():
    array = np.arange(OUT_OF_BAND_MIN)
    payload, buffers = dumps(Mine(array))
    assert len(buffers) == 1
    assert (loads(payload, buffers).x == array).all()


def test_a_large_writable_frame_is_used_as_it_is_and_a_small_or_read_only_one_is_copied():
    for n, shared in ((COPY_BELOW, True), (OUT_OF_BAND_MIN, False)):
        payload, buffers = dumps(np.zeros(n, dtype=np.uint8))
        frame = bytearray(buffers[0])
        back = loads(payload, [frame])
        back[0] = 1
        assert frame[0] == (1 if shared else 0)


def test_a_long_payload_becomes_the_first_buffer():
    text = "x" * PAYLOAD_MAX
    for value in (((text,), {}), [text, Mine(3)], [text, np.zeros(OUT_OF_BAND_MIN)]):
        payload, buffers = dumps(value)
        assert payload == b""
        assert repr(loads(payload, buffers))[:50] == repr(value)[:50]


def test_arrays_that_are_not_contiguous_travel():
    array = np.arange(20000).reshape(100, 200)[::2, ::3]
    assert (there_and_back(array) == array).all()


def test_a_changing_container_is_an_error_of_ours_or_travels():
    shared = {i: i for i in range(1000)}
    stop = threading.Event()

    def change():
        while not stop.is_set():
            shared[len(shared)] = 1
            shared.pop(len(shared) - 1)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            try:
                dumps([shared])
            except SerializationError:
                continue
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------------------------------------- the user's modules


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, edited and imported."""

    def make(source, name="users_module_x"):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, made)
        spec.loader.exec_module(made)
        return made

    yield make
    for name in [name for name in pickles.user_modules._own if name.startswith("users_module")]:
        import cloudpickle

        pickles.user_modules._own.discard(name)
        pickles.user_modules._seen.discard(name)
        cloudpickle.cloudpickle._PICKLE_BY_VALUE_MODULES.discard(name)
    pickles.user_modules._count = 0


def load_elsewhere(pickled):
    """Unpickle in a process that cannot import the user's modules."""
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())())"
    return subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=False)


def test_functions_of_the_users_modules_travel_by_value(module):
    made = module("import json\nK = 5\ndef helper(): return K\ndef f(): return json.dumps([helper()])\n")
    done = load_elsewhere(dumps_function(made.f))
    assert done.stdout.strip() == b"[5]"


def test_classes_of_the_users_modules_travel_by_value(module):
    made = module("class A:\n    def __call__(self): return 'called'\n")
    done = load_elsewhere(dumps_function(made.A()))
    assert done.stdout.strip() == b"called"


def test_a_module_that_holds_what_cannot_travel_goes_by_reference(module):
    made = module("import threading\nLOCK = threading.Lock()\ndef f(): return LOCK.locked()\n")
    pickled = dumps_function(made.f)
    assert pickle.loads(pickled) is made.f
    assert b"ModuleNotFoundError" in load_elsewhere(pickled).stderr


def test_cached_functions_travel_without_their_cache(module):
    made = module("from functools import cache\n@cache\ndef f(x=1):\n    return x + 1\n")
    assert made.f() == 2
    done = load_elsewhere(dumps_function(made.f))
    assert done.stdout.strip() == b"2", done.stderr
    assert loads(*dumps([made.f]))[0].cache_info().currsize == 0
    assert loads(*dumps([made.f], by_value=False))[0] is made.f


def test_by_reference_on_demand(module):
    made = module("def f(): return 1\nclass A: pass\n")
    assert loads(*dumps([made.f, made.A], by_value=False)) == [made.f, made.A]
    assert loads(*dumps([made.f]))[0] is not made.f


def test_installed_modules_travel_by_reference():
    for value in (np.linalg.norm, threading.Thread, pytest, dt, dumps):
        assert there_and_back(value) is value


def test_which_modules_are_the_users(module):
    module("x = 1")
    assert "users_module_x" in pickles.user_modules
    assert __name__ in pickles.user_modules
    for name in ("json", "numpy", "pytest", "enginery", "enginery.pickles", "__main__", "sys", "cloudpickle"):
        assert name not in pickles.user_modules


def test_an_alias_of_a_module_is_not_looked_up_by_its_other_name(monkeypatch):
    other = types.ModuleType("users_module_y")
    other.__file__ = "/somewhere/users_module_y.py"
    monkeypatch.setitem(sys.modules, "users_module_alias", other)
    pickles.user_modules._count = 0
    assert "users_module_alias" not in pickles.user_modules


def test_a_class_that_comes_back_leaves_the_clients_own_alone():
    method = Mine.__init__
    payload, frames = dumps([Mine, Mine(1)])
    kind, instance = loads(payload, frames, keep_classes=True)
    assert kind is Mine
    assert type(instance) is Mine
    assert Mine.__init__ is method


def test_an_engine_gets_a_class_as_it_was_sent(monkeypatch):
    old = dumps(Mine)
    monkeypatch.setattr(Mine, "label", "new", raising=False)
    monkeypatch.setattr(Mine, "label", "newer")
    loads(*dumps(Mine))
    assert Mine.label == "newer"
    loads(*old, keep_classes=True)
    assert Mine.label == "newer"


# ------------------------------------------------------------------------------------------------ large bytes, objects

LARGE = b"x" * (PAYLOAD_MAX + 1)


class Holder:
    """Goes through cloudpickle."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda data: data,
        lambda data: [data, 1],
        lambda data: {"a": {"b": [(data,)]}},
        lambda data: ((1, data), {}),
        lambda data: ((1,), {"key": data}),
        Holder,
    ],
)
def test_large_bytes_are_in_the_pieces_as_they_are(wrapped):
    payload, buffers = dumps(wrapped(LARGE), pieces=True)
    assert payload == b""
    assert any(piece is LARGE for piece in buffers[0].pieces)
    assert sum(map(len, buffers[0].pieces)) == buffers[0].nbytes
    whole = dumps(wrapped(LARGE))[1]
    assert bytes(whole[0]) == bytes(joined(buffers)[0])


@pytest.mark.parametrize(
    "value", [bytearray(LARGE), [LARGE, bytearray(LARGE), "é" * PAYLOAD_MAX], [Holder] * 3 + [LARGE]]
)
@pytest.mark.parametrize("keep_classes", [False, True])
def test_what_was_pickled_in_pieces_is_the_same(value, keep_classes):
    payload, buffers = dumps(value, pieces=True)
    assert loads(payload, joined(buffers), keep_classes=keep_classes) == value
    whole = memoryview(b"".join(buffers[0].pieces))
    assert loads_mapped(whole, buffers[1:], keep_classes=keep_classes) == value


def test_strings_in_pieces_are_copies():
    """The pickler hands out views of them, which nobody keeps alive."""
    text = "é" * PAYLOAD_MAX
    _, buffers = dumps([Holder, text, LARGE], pieces=True)
    assert {type(piece) for piece in buffers[0].pieces} == {bytes}


def test_small_values_have_no_pieces():
    for value in (b"small", [b"small"] * 20, {"a": [bytearray(b"small")]}, Holder(b"small")):
        payload, buffers = dumps(value, pieces=True)
        assert payload
        assert not buffers


def test_mapped_buffers_are_used_as_they_are_whatever_their_size():
    numpy = pytest.importorskip("numpy")
    payload, buffers = dumps(numpy.zeros(OUT_OF_BAND_MIN, dtype=numpy.uint8))
    memory = bytearray(buffers[0])
    for keep_classes in (False, True):
        array = loads_mapped(memoryview(payload), [memoryview(memory)], keep_classes=keep_classes)
        array[0] += 1
    assert memory[0] == 2


def test_pickles_of_old_protocols_are_read_from_memory_too():
    for protocol in range(3):
        view = memoryview(pickle.dumps({"a": [1, "b", b"c"]}, protocol))
        assert loads_mapped(view, [], keep_classes=True) == {"a": [1, "b", b"c"]}
