"""Flags for a `with` block: whose they are, and when they end."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from enginery.wire import messages as m


@pytest.fixture(params=["direct", "balanced"])
def view(client, request):
    return client.direct_view() if request.param == "direct" else client.load_balanced_view()


def label_of(view):
    """What a call is submitted with, not only what the attribute says."""
    result = view.apply_async(abs, -1)
    assert result._label == view.label
    return result._label


def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(10)
    return results[0]


def test_they_hold_inside_the_block_only(view):
    assert label_of(view) is None
    with view.temp_flags(label="inside") as same:
        assert same is view
        assert label_of(view) == "inside"
    assert label_of(view) is None


def test_nested_blocks(view):
    view.set_flags(label="base")
    with view.temp_flags(label="outer", block=True):
        with view.temp_flags(label="inner"):
            assert (label_of(view), view.block) == ("inner", True)
        assert (label_of(view), view.block) == ("outer", True)
    assert (label_of(view), view.block) == ("base", False)


def test_an_exception_ends_the_block(view):
    with pytest.raises(ZeroDivisionError), view.temp_flags(label="inside"):
        raise ZeroDivisionError
    assert label_of(view) is None


def test_what_is_wrong_is_said_before_the_block_begins(view):
    for flags, kind in (({"lable": "x"}, TypeError), ({"label": 3}, TypeError)):
        with pytest.raises(kind), view.temp_flags(**flags):
            pytest.fail("the block began")
    assert view.label is None
    with view.temp_flags(label="still"):
        assert label_of(view) == "still"


def test_what_is_wrong_in_an_inner_block_leaves_the_outer_as_it_was(client):
    view = client.load_balanced_view()
    with view.temp_flags(retries=2):
        with pytest.raises(ValueError, match="retries"), view.temp_flags(retries=-1):
            pytest.fail("the block began")
        assert view.retries == 2


def test_other_threads_do_not_see_them(view):
    with view.temp_flags(label="mine"):
        assert in_thread(lambda: label_of(view)) is None
        assert in_thread(lambda: view.block) is False


def test_set_flags_is_for_all_threads_and_outlives_the_block_of_another(view):
    with view.temp_flags(label="mine"):
        in_thread(lambda: view.set_flags(label="theirs"))
        assert label_of(view) == "mine"
        assert in_thread(lambda: label_of(view)) == "theirs"
    assert label_of(view) == "theirs"


def test_set_flags_inside_a_block_holds_at_once_and_goes_on_to_hold(view):
    with view.temp_flags(label="temporary", block=True):
        view.label = "set"
        assert (label_of(view), view.block) == ("set", True)
        assert in_thread(lambda: label_of(view)) == "set"
    assert (label_of(view), view.block) == ("set", False)


def test_views_have_their_own(client):
    some, other = client.load_balanced_view(), client.load_balanced_view()
    with some.temp_flags(label="some"), other.temp_flags(label="other"):
        assert (label_of(some), label_of(other)) == ("some", "other")
        with some.temp_flags(label="inner"):
            assert (label_of(some), label_of(other)) == ("inner", "other")
    assert client.submit(abs, -1).label is None


def test_asyncio_tasks_do_not_see_one_anothers(view):
    async def one(label, met):
        with view.temp_flags(label=label):
            await met.wait()
            return label_of(view)

    async def main():
        met = asyncio.Barrier(5)

        async def other():
            await met.wait()
            return label_of(view)

        return await asyncio.gather(*(one(str(i), met) for i in range(4)), other())

    assert asyncio.run(main()) == ["0", "1", "2", "3", None]


def test_a_task_started_inside_the_block_keeps_them(view):
    async def later(over):
        await over.wait()
        return label_of(view)

    async def main():
        over = asyncio.Event()
        with view.temp_flags(label="inside"):
            task = asyncio.create_task(later(over))
            in_a_thread = await asyncio.to_thread(lambda: label_of(view))
        over.set()
        return in_a_thread, await task, label_of(view)

    assert asyncio.run(main()) == ("inside", "inside", None)


def labelled(view, label):
    with view.temp_flags(label=label):
        while True:
            yield label_of(view)


def test_generators_may_end_in_any_order(view):
    first, second = labelled(view, "first"), labelled(view, "second")
    assert (next(first), next(second)) == ("first", "second")
    first.close()
    assert label_of(view) == "second"
    second.close()
    assert label_of(view) is None


def test_a_generator_that_is_closed_elsewhere_leaves_nothing_behind(view):
    first, second = labelled(view, "first"), labelled(view, "second")
    next(first), next(second)
    contextvars.Context().run(second.close)
    assert label_of(view) == "first"
    in_thread(first.close)
    assert label_of(view) is None


def test_flags_of_a_call_are_made_once_a_block(fake, client):
    view = client.load_balanced_view()
    with view.temp_flags(retries=1):
        assert view._options is view._options
        client.wait([view.apply_async(abs, -1) for _ in range(50)])
    assert all(len(message.options) == 1 for message in fake.of(m.Submit))


def test_targets_for_a_block(fake, client):
    view = client[:]
    with view.temp_flags(targets=[1, 2]):
        assert (view.targets, len(view), view.apply_sync(abs, -1)) == ([1, 2], 2, [1, 1])
    assert len(view.apply_sync(abs, -1)) == 4
    balanced = client.load_balanced_view()
    with balanced.temp_flags(targets=[3]):
        balanced.apply_sync(abs, -1)
        assert fake.of(m.Submit)[-1].options == [m.Options(targets=(3,))]


def test_many_threads_submit_with_flags_of_their_own(client):
    view, direct = client.load_balanced_view().set_flags(label="none"), client[:]
    start, wrong = threading.Barrier(8), []

    def work(number):
        start.wait(10)
        for i in range(25):
            label = f"{number}.{i}"
            with view.temp_flags(label=label, retries=number), direct.temp_flags(label=label, targets=[number % 4]):
                results = [view.apply_async(pow, number, 2), direct.apply_async(pow, number, 2)]
                if [result._label for result in results] != [label, label] or view.retries != number:
                    wrong.append(label)
                if [result.get(20) for result in results] != [number**2, [number**2]]:
                    wrong.append(label)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert (view.label, view.retries, direct.label) == ("none", 0, None)
