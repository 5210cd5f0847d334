"""Functions whose calls happen on engines."""

from __future__ import annotations

import inspect

import enginery
import numpy as np
import pytest
from enginery.client.views.decorators import ParallelFunction, RemoteFunction
from enginery.wire import messages as m


def norm(x):
    """How far it is."""
    return abs(x)


def doubled(xs):
    return [2 * x for x in xs]


@pytest.fixture
def balanced(client):
    return client.load_balanced_view()


def test_remote_calls_happen_on_the_engines_of_the_view(client, balanced):
    assert client[:].remote(block=True)(norm)(-1) == [1] * 4
    assert client[1].remote(block=True)(norm)(-1) == 1
    assert client[:].remote()(norm)(-1).get_dict() == dict.fromkeys(range(4), 1)
    assert balanced.remote()(norm)(x=-2).get() == 2
    assert enginery.remote(balanced, block=True)(norm)(-3) == 3


def test_block_is_as_the_view_says_if_it_is_not_given(client):
    view = client[0]
    remote, waiting = view.remote()(norm), view.remote(block=False)(norm)
    view.block = True
    assert remote(-1) == 1
    assert waiting(-1).get() == 1


def test_flags_are_for_its_calls_only(fake, balanced):
    function = balanced.remote(label="norms", retries=2)(norm)
    results = function(-1), balanced.apply_async(norm, -1)
    assert [result.label for result in results] == ["norms", None]
    assert [result.get() for result in results] == [1, 1]
    assert [message.options[0].retries for message in fake.of(m.Submit)] == [2, 0]


def test_it_is_known_by_the_function_it_decorates(client):
    function = client[:].remote()(norm)
    assert isinstance(function, RemoteFunction)
    assert (function.__name__, function.__doc__, function.__module__) == ("norm", norm.__doc__, __name__)
    assert function.__wrapped__ is norm
    assert list(inspect.signature(function).parameters) == ["x"]
    assert repr(function) == "<RemoteFunction norm of <DirectView [0, 1, 2, 3]>>"


def test_what_is_wrong_is_said_when_decorating(client, balanced):
    for wrong, sentence in (
        (lambda: client[:].remote(norm), r"block is True, False or None, not function; .* @view.remote\(\)"),
        (lambda: client[:].parallel(norm), "dist"),
        (lambda: client[:].remote(retries=1), "DirectView has no flag 'retries'"),
        (lambda: client[:].remote()(3), "decorates a function, not int"),
        (lambda: client[:].parallel()("f"), "decorates a function, not str"),
        (lambda: balanced.remote(retries=-1), "further attempts"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            wrong()


def test_a_task_that_calls_one_calls_it_where_it_runs(client, balanced):
    function = client[:].remote()(norm)
    assert balanced.apply_sync(lambda: function(-5)) == 5
    assert balanced.apply_sync(lambda f: f(-5), function) == 5


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("n", [1, 3, 4, 11])
def test_parallel_puts_the_parts_together_again(client, balanced, dist, n):
    array = np.arange(2.0 * n).reshape(n, 2)
    for view in (client[:], balanced):
        squared = view.parallel(dist, block=True)(lambda x, y: x * y)
        assert (squared(array, array) == array * array).all()
        twice = view.parallel(dist=dist)(doubled)
        assert twice(range(n)).get() == [2 * i for i in range(n)]
        assert twice(iter(range(n))).get() == [2 * i for i in range(n)]


def test_a_direct_view_makes_one_call_for_each_engine(client):
    view = client[:]
    lengths = view.parallel()(lambda part: [len(part)])
    result = lengths(range(10))
    assert isinstance(lengths, ParallelFunction)
    assert result.get() == [3, 3, 2, 2]
    assert list(result) == [[3], [3], [2], [2]]
    assert lengths(range(2)).get() == [1, 1]
    assert client[2].parallel(block=True)(lambda part: [len(part)])(range(10)) == [10]


def test_parallel_of_nothing(client, balanced):
    for view in (client[:], balanced):
        assert view.parallel(block=True)(doubled)([]) == []


def test_parallel_takes_sequences_of_one_length(client):
    function = client[:].parallel()(doubled)
    with pytest.raises(ValueError, match="the sequences for doubled are of unequal length: 2, 3"):
        function([1, 2], [1, 2, 3])
    with pytest.raises(TypeError, match="doubled is called with at least one sequence"):
        function()
    with pytest.raises(ValueError, match="round robin"):
        client[:].parallel(dist="x")


def test_what_a_part_raises_is_raised(client):
    function = client[:].parallel()(lambda part: [1 / x for x in part])
    with pytest.raises(ZeroDivisionError):
        function([1, 2, 0, 4]).get()


def test_map_of_a_parallel_function_is_item_by_item(client, balanced):
    for view in (client[:], balanced):
        function = enginery.parallel(view, block=True)(pow)
        assert function.map(range(6), [2] * 6) == [i * i for i in range(6)]
    assert list(client[:].parallel()(norm).map([-1, -2])) == [1, 2]
