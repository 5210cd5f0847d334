"""Values of many results at once, and results of many values."""

from __future__ import annotations

import numpy as np
import pytest


def test_gather_keeps_the_shape(client):
    one, two, three = (client.submit(abs, -i) for i in (1, 2, 3))
    group = client[:2].apply_async(abs, -4)
    given = {"a": one, "b": [two, (three, "text")], "c": group, "d": {"e": {5}}}
    assert client.gather(given) == {"a": 1, "b": [2, (3, "text")], "c": [4, 4], "d": {"e": {5}}}
    assert client.gather(one) == 1
    assert client.gather([]) == []
    assert client.gather({one}) == {1}


def test_gather_and_errors(client):
    bad = client.submit(lambda: 1 / 0)
    good = client.submit(abs, -1)
    with pytest.raises(ZeroDivisionError):
        client.gather([good, [bad]])
    assert client.gather([good, bad, [bad]], errors="skip") == [1, []]
    assert client.gather({"good": good, "bad": bad}, errors="skip") == {"good": 1}
    assert client.gather(bad, errors="skip") is None
    with pytest.raises(ValueError, match="not 'ignore'"):
        client.gather(good, errors="ignore")


def test_scatter(client):
    array = np.arange(5000)
    results = client.scatter([1, "a", None, array])
    assert [result.get() for result in results[:3]] == [1, "a", None]
    assert (results[3].get() == array).all()
    assert client.gather(client.scatter({"x": 1, "y": [2]})) == {"x": 1, "y": [2]}
    assert client.gather(client.scatter(i for i in range(3))) == [0, 1, 2]
    assert client.scatter([]) == []
    for text in ("abc", b"abc"):
        with pytest.raises(TypeError, match="put it in a list"):
            client.scatter(text)
