"""Resources as people write them."""

import numpy as np
import pytest
from enginery.client.calls.resources import amounts


def test_they_come_in_order_of_their_names():
    assert amounts({"mem": 1.5, "gpu": np.int64(2)}) == (("gpu", 2.0), ("mem", 1.5))
    assert amounts(None) == amounts({}) == ()


@pytest.mark.parametrize(
    ("resources", "error", "text"),
    [
        (3, TypeError, r'resources are a dict like {"gpu": 1}, not 3'),
        ("gpu=1", TypeError, "resources are a dict"),
        ([("gpu", 1)], TypeError, "resources are a dict"),
        ({1: 1}, TypeError, "a resource is named by a word, not 1"),
        ({"": 1}, TypeError, "a resource is named by a word, not ''"),
        ({"g pu": 1}, TypeError, "a resource is named by a word"),
        ({"a=b": 1}, TypeError, "a resource is named by a word"),
        ({"gpu": "1"}, TypeError, "the amount of resource gpu is a number, not '1'"),
        ({"gpu": None}, TypeError, "is a number, not None"),
        ({"gpu": True}, TypeError, "is a number, not True"),
        ({"gpu": 1j}, TypeError, "is a number, not 1j"),
        ({"gpu": 0}, ValueError, "a number above 0, not 0"),
        ({"gpu": -1.5}, ValueError, "a number above 0, not -1.5"),
        ({"gpu": float("inf")}, ValueError, "a number above 0, not inf"),
        ({"gpu": float("nan")}, ValueError, "a number above 0, not nan"),
    ],
)
def test_what_is_none_is_said(resources, error, text):
    with pytest.raises(error, match=text):
        amounts(resources)
