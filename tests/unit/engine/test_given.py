"""Calls that were given values of other tasks."""

from __future__ import annotations

import pickle

import pytest
from enginery import placeholders
from enginery.engine.values import Values
from enginery.objects.local import LocalStore
from enginery.serialize import dumps
from enginery.wire import messages as m
from enginery.wire.given import join

from engine_fakes import FakeEngine, value


class Stand:
    """Is pickled as the value of a task, or of the items of several."""

    def __init__(self, function, *args):
        self._reduced = function, args

    def __reduce__(self):
        return self._reduced


class Counted:
    """Counts how often it is unpickled."""

    count = 0

    def __reduce__(self):
        return Counted._made, ()

    @staticmethod
    def _made():
        Counted.count += 1
        return Counted()


def result(task, obj, lo=0, hi=0):
    payload, frames = dumps(obj)
    return m.Result(task, m.Status.OK, payload, len(frames), lo=lo, hi=hi), frames


load_arguments = Values(LocalStore(None, b"")).load


def given(arguments, *results):
    return join(pickle.dumps(arguments), [], results)


def test_values_are_put_in_place_once():
    stand = Stand(placeholders.value_of, 7, None)
    again = Stand(placeholders.value_of, 7, None)
    Counted.count = 0
    payload, frames = given(((stand, [again]), {}), result(7, Counted()))
    (first, (second,)), _ = load_arguments(payload, frames)
    assert first is second
    assert Counted.count == 1


def test_a_value_that_nobody_asks_for_is_not_unpickled():
    Counted.count = 0
    load_arguments(*given(((), {}), result(7, Counted())))
    assert Counted.count == 0


def test_items_are_put_in_order():
    stand = Stand(placeholders.items_of, [(7, 4), (8, 0)])
    payload, frames = given(((stand,), {}), result(7, [2, 3], 2, 4), result(8, "call"), result(7, [0, 1], 0, 2))
    assert load_arguments(payload, frames) == (([0, 1, 2, 3, "call"],), {})


def test_what_is_missing_is_named():
    stand = Stand(placeholders.items_of, [(7, 4)])
    with pytest.raises(ValueError, match="of the 4 values of task 0-7, 2 were given"):
        load_arguments(*given(((stand,), {}), result(7, [0, 1], 0, 2)))
    with pytest.raises(ValueError, match="the value of task 0-8 was not given"):
        load_arguments(*given(((Stand(placeholders.value_of, 8, None),), {})))
    with pytest.raises(RuntimeError, match="only an engine can fill in"):
        pickle.loads(pickle.dumps(stand))


def test_a_value_that_cannot_be_unpickled_is_named():
    broken = m.Result(7, m.Status.OK, b"no pickle"), ()
    with pytest.raises(pickle.UnpicklingError) as caught:
        load_arguments(*given(((Stand(placeholders.value_of, 7, None),), {}), broken))
    assert caught.value.__notes__ == ["(raised while the value of task 0-7, an argument, was unpickled on the engine)"]


def test_calls_and_items_are_run_with_what_they_were_given():
    engine = FakeEngine()
    call = engine.call(lambda x, y: x + y)
    call.payload, frames = given(((1, Stand(placeholders.value_of, 7, None)), {}), result(7, 41))
    batch = engine.batch(lambda x: x * 10, [1, 2])
    batch.payload, _ = given([1, Stand(placeholders.value_of, 7, None)], result(7, 41))
    plain = engine.call(lambda: "plain")
    results = engine.run(call, batch, plain)
    values = [value(one) for one in results]
    assert values[0] == 42
    assert [item for some in values[1:-1] for item in some] == [10, 410]
    assert values[-1] == "plain"
    assert not frames


def test_a_long_pickle_is_a_frame():
    numbers = list(range(2000))
    stand = Stand(placeholders.value_of, 7, None)
    payload, frames = given(((stand,), {}), result(7, numbers))
    assert len(payload) < 200
    assert len(frames) == 1
    assert load_arguments(payload, frames) == ((numbers,), {})
