from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from enginery.kept import Kept, NotKept, forget, get, keep


@pytest.fixture(autouse=True)
def _nothing_stays():
    yield
    forget(["a", "b"])


def test_what_stands_for_a_value_arrives_as_the_value():
    array = np.arange(5)
    keep("a", array)
    assert pickle.loads(pickle.dumps({"x": Kept("a")}))["x"] is array


def test_arrays_are_read_only_and_tables_are_copies():
    keep("a", np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        get("a")[0] = 1
    keep("b", pd.DataFrame({"x": [1, 2]}))
    mine = get("b")
    mine.loc[0, "x"] = 7
    assert list(get("b")["x"]) == [1, 2]


def test_what_is_forgotten_is_not_kept():
    keep("a", np.zeros(3))
    forget(["a", "never"])
    with pytest.raises(NotKept, match="under a"):
        pickle.loads(pickle.dumps(Kept("a")))
