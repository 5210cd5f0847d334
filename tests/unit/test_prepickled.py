from __future__ import annotations

import threading

import numpy as np
import pytest
from enginery import PrePickled
from enginery.errors import SerializationError
from enginery.serialize import dumps, loads


class Counted:
    pickled = 0

    def __reduce__(self):
        Counted.pickled += 1
        return Counted, ()


def there(value):
    return loads(*dumps(value))


def test_it_arrives_as_the_value_and_is_pickled_once():
    before = Counted.pickled
    once = PrePickled([Counted(), "text"])
    for _ in range(3):
        (args, kwargs) = there(((once, {"deep": [once]}), {"key": once}))
        for value in (args[0], args[1]["deep"][0], kwargs["key"]):
            assert isinstance(value[0], Counted)
            assert value[1] == "text"
    assert Counted.pickled == before + 1


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_arrays_are_as_they_were_and_may_be_changed_there(size):
    array = np.ones(size)
    once = PrePickled({"array": array})
    array[:] = 0
    first, second = there(once)["array"], there(once)["array"]
    assert first.sum() == size
    first[:] = 5
    assert second.sum() == size


def test_large_values_travel_outside_the_pickle():
    payload, buffers = dumps([PrePickled(np.ones(100_000)), PrePickled("x" * 100_000)])
    assert len(payload) < 1000
    assert sum(buffer.nbytes for buffer in buffers) > 900_000


def test_functions_too():
    factor = 3
    assert there(PrePickled(lambda x: factor * x))(2) == 6


def test_what_cannot_travel_is_named_at_once():
    with pytest.raises(SerializationError, match=r"item \['lock'\] is a _thread.lock"):
        PrePickled({"lock": threading.Lock()})
    assert repr(PrePickled({})) == "PrePickled(dict)"
