"""Values that are objects, as an engine opens and makes them."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from enginery import placeholders
from enginery.errors import ObjectLost, ObjectStoreFull
from enginery.objects.local import LocalStore
from enginery.serialize import dumps, loads_mapped
from enginery.wire import messages as m
from enginery.wire.given import join
from enginery.wire.objects import Abandoned, Sealed, find_reference, reference_to

from engine_fakes import FakeEngine, value
from helpers import wait_until
from store_fakes import FakeStore

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there are stores on Linux only")

N = 500_000


@pytest.fixture
def fake(tmp_path):
    store = FakeStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def store(fake):
    store = LocalStore(fake.path, b"e1")
    yield store
    store.close()


@pytest.fixture
def engine(store):
    return FakeEngine(store=store)


@pytest.fixture
def client(fake):
    """The store, as somebody else on this host uses it."""
    store = LocalStore(fake.path, b"c1")
    yield store
    store.close()


def put(client, value):
    reference, info = client.pack(*dumps(value), keep=True)
    return reference, info


class Ref:
    """Is pickled as an ObjectRef."""

    def __init__(self, info):
        self._info = info

    def __reduce__(self):
        return placeholders.object_of, (self._info.id, self._info.nbytes)


def read(client, result):
    assert result.status == m.Status.OK, value(result)
    (info,) = result.objects
    assert result.payload == reference_to(info)
    assert not result.frames
    return loads_mapped(*client.open(info))


# ---------------------------------------------------------------------------------------------------------- arguments


def test_arguments_that_are_an_object(engine, client):
    reference, _ = put(client, ((np.ones(N),), {"by": 2}))
    call = engine.call(lambda array, by: (float(array.sum()) * by, array.flags.writeable))
    call.payload, call.frames = reference, 0
    (result,) = engine.run(call)
    assert value(result) == (2.0 * N, True)


def test_items_that_are_an_object(engine, client):
    reference, _ = put(client, [np.full(N, i) for i in range(3)])
    call = engine.batch(lambda array: int(array[0]), [1, 2, 3])
    call.payload, call.frames = reference, 0
    results = engine.run(call)
    assert [item for result in results for item in value(result)] == [0, 1, 2]


def test_a_reference_among_the_arguments_is_one_value(engine, fake, client):
    _, info = put(client, [1, 2])
    (result,) = engine.run(engine.call(lambda a, b: (a, a is b["again"][0]), Ref(info), {"again": [Ref(info)]}))
    assert value(result) == ([1, 2], True)
    assert not engine.parts.values._opened
    assert Counter(fake.kinds())["Used"] <= 1


def test_in_another_call_it_is_another_value(engine, client):
    _, info = put(client, [1, 2])
    first, second = engine.run(engine.call(lambda a: a.append(3) or a, Ref(info)), engine.call(len, Ref(info)))
    assert value(first) == [1, 2, 3]
    assert value(second) == 2


def test_given_results_that_are_objects(engine, client):
    reference, info = put(client, np.ones(N))
    arguments, own = dumps(((Ref(info), Stand(7), Stand(7)), {}))
    result = m.Result(7, m.Status.OK, reference, objects=(info,))
    call = engine.call(lambda a, b, c: (float(a.sum()), float(b.sum()), b is c))
    call.payload, frames = join(arguments, own, [(result, ())])
    call.frames = len(frames)
    engine.frames[call.id] = frames
    (reply,) = engine.run(call)
    assert value(reply) == (N, N, True)


def test_given_results_beside_arguments_that_are_an_object(engine, client):
    own, _ = put(client, ((np.ones(N), Stand(7)), {}))
    payload, frames = dumps([1])
    call = engine.call(lambda a, b: (float(a.sum()), b))
    call.payload, parts = join(own, (), [(m.Result(7, m.Status.OK, payload), frames)])
    engine.frames[call.id] = parts
    (reply,) = engine.run(call)
    assert value(reply) == (N, [1])


class Stand:
    """Is pickled as the value of a task."""

    def __init__(self, task):
        self._task = task

    def __reduce__(self):
        return placeholders.value_of, (self._task, None)


def test_what_is_lost_is_told_as_that_and_without_a_note(engine, client):
    _, info = put(client, 1)
    gone = m.ObjectInfo(b"x" * 16, 100)
    call = engine.call(len)
    call.payload = reference_to(gone)
    results = engine.run(engine.call(len, Ref(gone)), call, engine.call(abs, Ref(info)))
    for result in results[:2]:
        error = value(result)
        assert isinstance(error, ObjectLost)
        assert str(error) == "nobody has it"
        assert not hasattr(error, "__notes__")
    assert value(results[2]) == 1


def test_an_engine_without_a_store_says_why(client):
    _, info = put(client, 1)
    alone = FakeEngine()
    (result,) = alone.run(alone.call(abs, Ref(info)))
    assert isinstance(value(result), ObjectLost)
    assert "cannot be read here: this process has no nanny on its host" in str(value(result))


def test_damaged_arguments_are_noted(engine, client):
    reference, info = client.pack(b"no pickle", [], keep=True)
    assert find_reference(reference) == info
    call = engine.call(len)
    call.payload = reference
    (result,) = engine.run(call)
    assert value(result).__notes__ == ["(raised while the arguments were unpickled on the engine)"]


# ------------------------------------------------------------------------------------------------------------ results


def test_large_results_are_objects_and_small_ones_are_not(engine, store, client):
    large, small, kept = engine.call(np.ones, N), engine.call(np.ones, 10_000), engine.call(abs, 1)
    kept.keep = True
    results = engine.run(large, small, kept)
    assert read(client, results[0]).sum() == N
    assert not results[1].objects
    assert results[1].frames == 1
    assert read(client, results[2]) == 1
    assert not store.unclaimed


def test_large_bytes_in_frames_are_in_one_piece():
    engine = FakeEngine()
    (result,) = engine.run(engine.call(bytes, 1 << 20))
    (frame,) = engine.outbox._frames
    assert result.frames == 1
    assert len(bytes(frame)) > 1 << 20


def test_results_of_items(engine, client):
    results = engine.run(engine.batch(lambda i: np.full(N, i), [1, 2]))
    assert [int(array[0]) for result in results for array in read(client, result)] == [1, 2]
    call = engine.batch(abs, [1, 2])
    call.keep = True
    results = engine.run(call)[len(results) :]
    assert [item for result in results for item in read(client, result)] == [1, 2]


def test_no_room_is_the_error_of_that_one(engine, fake):
    fake.error = "there is no room"
    kept, other = engine.call(abs, 1), engine.call(abs, 2)
    kept.keep = True
    results = engine.run(kept, other)
    assert isinstance(value(results[0]), ObjectStoreFull)
    assert value(results[1]) == 2
    items = engine.batch(abs, [1, 2])
    items.keep = True
    results = engine.run(items)[len(results) :]
    assert [type(value(result)).__name__ for result in results] == ["ObjectStoreFull"] * 2


def test_what_was_made_for_a_result_that_is_an_error_after_all_is_abandoned(engine, fake, store, monkeypatch):
    """As when an interrupt strikes after the file was written."""
    pack = engine.parts.values.pack

    def interrupted(*args, **kwargs):
        pack(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.parts.values, "pack", interrupted)
    (result,) = engine.run(engine.call(np.ones, N))
    assert result.status == m.Status.ERROR
    assert not result.objects
    wait_until(lambda: [type(said) for said in fake.heard[-2:]] == [Sealed, Abandoned], "it to be abandoned", 5)
    assert not fake.files()
    assert not store.unclaimed
