from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pandas as pd
from enginery.client.guests.sharing import Sharing, nbytes_of
from enginery.errors import ObjectStoreFull


class Ref:
    def __init__(self, value):
        self.copy = value.copy()


def sharing(large=1000, put=Ref):
    made = Sharing(put)
    made.large = large
    return made


def shared(sharing, *args, **kwargs):
    batch = SimpleNamespace(items=[(len, args, kwargs)])
    (item,) = sharing.share(batch).items
    assert batch.items == [(len, args, kwargs)]
    return [*item[1], *item[2].values()]


def test_what_is_met_again_is_put_once():
    one = sharing()
    array, table = np.zeros(1000), pd.DataFrame({"a": np.zeros(1000)})
    first, second = shared(one, array, x=table)
    assert shared(one, table, array, array) == [second, first, first]
    assert (first.copy == array).all()
    assert second.copy.equals(table)
    one.end()
    (third,) = shared(one, array)
    assert third is not first


def test_it_is_held_as_long_as_it_is_here():
    one = sharing()
    array = np.zeros(1000)
    shared(one, array, np.ones(1000))
    gc.collect()
    assert [ref.copy.sum() for _, ref in one._refs.values()] == [0]
    del array
    gc.collect()
    assert not one._refs


def test_another_array_in_the_same_place_is_another():
    one = sharing()
    for number in range(20):
        (ref,) = shared(one, np.full(1000, number))
        assert (ref.copy == number).all()


def test_small_and_other_things_travel():
    one = sharing()
    things = [np.zeros(10), list(range(10_000)), "x" * 10_000, None, np.array([object()] * 10_000)]
    for _ in range(3):
        assert all(a is b for a, b in zip(shared(one, *things), things, strict=True))


def test_nothing_is_large_if_joblib_says_so():
    one = sharing(large=None)
    batch = SimpleNamespace(items=[(len, (np.zeros(1000),), {})])
    assert one.share(batch) is batch


def test_where_there_is_no_room_it_travels():
    def put(_value):
        raise ObjectStoreFull("no room")

    array = np.zeros(1000)
    assert shared(sharing(put=put), array)[0] is array


def test_sizes():
    assert nbytes_of(np.zeros((10, 10))) == 800
    assert nbytes_of(pd.Series(np.zeros(100))) >= 800
    assert nbytes_of(pd.DataFrame({"a": np.zeros(100), "b": np.zeros(100)})) >= 1600
    assert nbytes_of(bytes(1000)) == nbytes_of(np.float64(1)) == nbytes_of(None) == 0
