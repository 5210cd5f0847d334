from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
from enginery.client.guests.sharing import Sharing, nbytes_of
from enginery.errors import ControllerLost
from enginery.kept import Kept, forget, keep


class View:
    """Remembers what every engine was told."""

    targets = None

    def __init__(self):
        self.client = self
        self.told = []
        self.lost = False

    def direct_view(self, targets):
        assert targets == ("all" if self.targets is None else self.targets)
        return self

    def apply_async(self, f, *args):
        if self.lost:
            raise ControllerLost("gone")
        self.told.append((f, *args))


def sharing(large=1000):
    made = Sharing(View())
    made.large = large
    return made, made._view


def shared(sharing, *args, **kwargs):
    batch = SimpleNamespace(items=[(len, args, kwargs)])
    (item,) = sharing.share(batch).items
    assert batch.items == [(len, args, kwargs)]  # for another try
    return [*item[1], *item[2].values()]


def test_the_first_use_travels_the_second_is_sent_to_all_the_rest_are_keys():
    one, view = sharing()
    array = np.zeros(1000)
    assert shared(one, array) == [array]
    assert view.told == []
    (second,) = shared(one, array)
    (third,) = shared(one, x=array)
    assert isinstance(second, Kept)
    assert second.key == third.key
    ((f, key, value),) = view.told
    assert (f, key) == (keep, second.key)
    assert value is array
    one.end()
    assert view.told[1:] == [(forget, [key])]
    assert shared(one, array) == [array]


def test_what_a_view_of_engine_0_shares_goes_there_alone():
    one, view = sharing()
    view.targets = 0
    array = np.zeros(1000)
    shared(one, array)
    shared(one, array)
    one.end()
    assert [f for f, *_ in view.told] == [keep, forget]


def test_small_and_other_things_travel():
    one, view = sharing()
    things = [np.zeros(10), list(range(10_000)), "x" * 10_000, None, np.array([object()] * 10_000)]
    for _ in range(3):
        assert all(a is b for a, b in zip(shared(one, *things), things, strict=True))
    one.end()
    assert view.told == []


def test_nothing_is_large_if_joblib_says_so():
    one, view = sharing(large=None)
    array = np.zeros(1000)
    batch = SimpleNamespace(items=[(len, (array,), {})])
    assert one.share(batch) is batch
    assert view.told == []


def test_another_array_in_the_same_place_is_another():
    one, view = sharing()
    for number in range(20):
        (back,) = shared(one, np.full(1000, number))
        assert not isinstance(back, Kept)
    assert view.told == []


def test_the_end_of_the_cluster_is_no_error():
    one, view = sharing()
    array = np.zeros(1000)
    shared(one, array, array)
    view.lost = True
    one.end()


def test_sizes():
    assert nbytes_of(np.zeros((10, 10))) == 800
    assert nbytes_of(pd.Series(np.zeros(100))) >= 800
    assert nbytes_of(pd.DataFrame({"a": np.zeros(100), "b": np.zeros(100)})) >= 1600
    assert nbytes_of(bytes(1000)) == nbytes_of(np.float64(1)) == nbytes_of(None) == 0
