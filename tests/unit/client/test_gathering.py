"""Values of many results at once, and results of many values."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest
from enginery import ControllerLost, ObjectRef, SerializationError
from enginery.wire import messages as m


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


def test_what_is_put_where_there_is_no_shared_memory_travels_with_each_call(client):
    array = np.arange(100_000)
    ref = client.put(array)
    array[:] = 0
    assert ref.id is None
    assert ref.nbytes > 800_000
    assert ref.get().sum() == 4999950000
    assert client.submit(lambda deep: deep["x"].sum(), {"x": ref}).result() == 4999950000
    assert client.map(lambda a: int(a.sum()), [ref, ref]).get() == [4999950000] * 2
    assert "no object in shared memory" in ref.explain()
    with pytest.raises(SerializationError, match=r"_thread\.lock"):
        client.put(threading.Lock())
    client.close()
    with pytest.raises(ControllerLost):
        client.put(1)


def test_a_sequence_is_cut(client):
    parts = client.scatter(np.arange(10), n=3)
    assert [len(part.get()) for part in parts] == [4, 3, 3]
    assert (np.concatenate(client.gather(parts)) == np.arange(10)).all()
    for wrong in (0, -1, "3"):
        with pytest.raises(ValueError, match="at least 1"):
            client.scatter([1], n=wrong)


def test_keep(client, fake):
    ref = client.submit(pow, 2, 10, keep=True)
    assert isinstance(ref, ObjectRef)
    assert ref.get() == 1024
    assert client.gather([ref]) == [1024]
    (options,) = fake.of(m.Submit)[0].options
    assert options.keep
    view = client.load_balanced_view().set_flags(keep=True)
    assert view.map(abs, [-1], block=True) == [1]
    assert view.apply(abs, -2).get() == 2
    assert [message.options[0].keep for message in fake.of(m.Submit)[-2:]] == [False, True]


def test_references_of_tasks_are_waited_for_and_stopped_as_results_are(client, fake):
    fake.hold = True
    ref = client.submit(abs, -1, keep=True)
    assert not client.wait([ref, client.put(1)], timeout=0)
    late = client.load_balanced_view().set_flags(after=ref).apply_async(abs, -2)
    assert late.after == [ref.future.msg_id]
    assert client.cancel(ref)
    with pytest.raises(CancelledError):
        ref.get()
    fake.run_held()
    assert client.wait([ref, late])
