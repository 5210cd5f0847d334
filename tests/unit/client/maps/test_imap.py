from __future__ import annotations

import asyncio
import gc
import itertools
import operator
import threading
import time
import weakref
from concurrent.futures import CancelledError

import numpy as np
import pytest
from enginery.client.maps.flow import BYTES_AHEAD, COROUTINES_AHEAD, ITEMS_AHEAD, LEAST_AHEAD, Flow, Mean, Window
from enginery.errors import ControllerLost, EngineDied, RemoteError, SerializationError
from enginery.wire import messages as m
from enginery.wire.codec import encode

import helpers

ENGINES = 4


class Counting:
    """An input that knows how many items were read of it."""

    def __init__(self, items=None):
        self.items = itertools.count() if items is None else iter(items)
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        value = next(self.items)
        self.read += 1
        return value


# -------------------------------------------------------------------------------------- the window


def test_a_given_bound_is_kept_whatever_is_known():
    for read, item_s, nbytes in itertools.product((0, 10, 10**6), (None, 1e-6, 10.0), (0.0, 1e9)):
        bound, portion = Window(7).limits(3, read, item_s, nbytes)
        assert bound == 7
        assert 1 <= portion <= 7
    assert Window(5, chunksize=9).limits(3, 0, None) == (5, 5)
    assert Window(50, chunksize=9).limits(3, 0, 1e-6) == (50, 9)


def test_without_one_it_follows_what_items_take_and_weigh():
    window = Window()
    assert window.limits(4, 0, None) == (4 * LEAST_AHEAD, 1)
    assert window.limits(4, 10**6, 1.0)[0] == 4 * LEAST_AHEAD
    assert window.limits(4, 10**6, 0.001) == (1000, 62)
    bound, portion = window.limits(4, 10**6, 1e-7)
    assert bound == ITEMS_AHEAD
    assert portion == ITEMS_AHEAD // 16
    assert window.limits(4, 10**6, 1e-7, BYTES_AHEAD / 100)[0] == 100
    assert window.limits(4, 10**6, 1e-7, BYTES_AHEAD * 10) == (8, 1)
    assert window.limits(0, 0, None) == (LEAST_AHEAD, 1)
    assert Window(chunksize=100).limits(4, 0, None) == (800, 100)


def test_a_slow_input_is_read_in_small_portions():
    assert Window().limits(4, 10**6, 1e-7, 0.0, row_s=0.001)[1] == 5
    assert Window().limits(4, 10**6, 1e-7, 0.0, row_s=1.0)[1] == 1


def test_a_short_input_is_for_all_engines():
    assert Window(10_000, length=64).limits(4, 0, 1e-6)[1] == 1
    assert Window(10_000, length=640).limits(4, 0, 1e-6)[1] == 10


def test_coroutines_travel_alone_and_many_at_once():
    assert Window(awaits=True).limits(2, 0, 10.0) == (2 * COROUTINES_AHEAD, 1)
    assert Window(awaits=True, chunksize=3).limits(2, 0, 10.0)[1] == 3


@pytest.mark.parametrize("wrong", [0, -1, 1.5, None, "many", True])
def test_impossible_numbers(client, wrong):
    for name in ("max_outstanding", "chunksize"):
        with pytest.raises(ValueError, match=f'{name} is a positive number or "auto", not {wrong!r}'):
            client.imap(abs, [1], **{name: wrong})


def test_a_mean_forgets():
    mean = Mean()
    assert mean.value is None
    mean.add(10**6 * 1.0, 10**6)
    for _ in range(40):
        mean.add(3.0 * 1000, 1000)
    assert mean.value == pytest.approx(3.0, 0.01)


# -------------------------------------------------------------------------------------- iteration


def test_results_are_those_of_map(fake, client):
    fake.run_length = 7
    assert list(client.imap(lambda x: x * 2, range(1000))) == [x * 2 for x in range(1000)]
    assert list(client.imap(pow, itertools.count(), [2, 2, 2])) == [0, 1, 4]
    assert list(client.imap(abs, [])) == []
    assert list(client.imap(str, "abc", chunksize=2)) == ["a", "b", "c"]
    assert list(client.imap(float, np.arange(100))) == list(range(100))
    assert sorted(client.imap(abs, range(500), ordered=False)) == list(range(500))
    assert list(itertools.islice(client.imap(abs, itertools.count(-3)), 4)) == [3, 2, 1, 0]
    view = client.load_balanced_view()
    assert list(view.imap(abs, [-1])) == [1]
    assert list(client[1:3].imap(abs, range(-9, 0))) == list(range(9, 0, -1))
    assert {tuple(o.targets) for s in fake.of(m.Submit) for o in s.options if o.targets} == {(1, 2)}


def test_nothing_is_read_before_next(fake, client):
    xs = Counting()
    values = client.imap(abs, xs)
    assert xs.read == 0
    assert next(values) == 0
    assert xs.read


@pytest.mark.parametrize("ordered", [True, False])
def test_never_more_is_read_than_the_bound_allows(fake, client, ordered):
    for bound, chunksize in itertools.product([1, 2, 5, 40], ["auto", 1, 3]):
        xs = Counting(range(150))
        values = client.imap(abs, xs, max_outstanding=bound, chunksize=chunksize, ordered=ordered)
        for consumed, _ in enumerate(values):
            assert xs.read - consumed <= bound
        assert xs.read == 150


def test_a_bound_is_filled_while_the_first_result_is_waited_for(fake, client):
    fake.hold = True
    xs = Counting()
    values = client.imap(abs, xs, max_outstanding=9)
    thread = threading.Thread(target=lambda: next(values))
    thread.start()
    helpers.wait_until(lambda: sum(entry[2].items for entry in fake.held) == 9, "nine items wait")
    assert xs.read == 9
    fake.run_held()
    thread.join(10)
    next(values)
    assert xs.read == 10


def test_engines_are_kept_busy_while_the_consumer_is_quick(fake, client):
    xs = Counting()
    values = client.imap(abs, xs, max_outstanding=100)
    for consumed in range(1, 500):
        next(values)
        if consumed > 150:
            assert xs.read - consumed >= 100 - 100 // (4 * ENGINES) - 2


def test_a_slow_input_does_not_hold_up_results_that_are_there(fake, client):
    """The input ends up waiting for the consumer to have had the results before: reading ahead would wait for ever."""
    seen = threading.Semaphore(1)

    def fed_back():
        for i in range(20):
            assert seen.acquire(timeout=10)
            yield i

    got = []
    for value in client.imap(abs, fed_back(), max_outstanding=1):
        got.append(value)
        seen.release()
    assert got == list(range(20))


def test_unordered_yields_what_comes_first(fake, client):
    fake.hold = True
    values = client.imap(abs, range(4), ordered=False, max_outstanding=4, chunksize=1)
    got = []
    thread = threading.Thread(target=lambda: got.extend(values))
    thread.start()
    helpers.wait_until(lambda: len(fake.held) == 4, "all are there")
    fake.order(fake.held.reverse)
    fake.run_held()
    thread.join(10)
    assert got == [3, 2, 1, 0]


def test_it_cannot_travel(fake, client):
    with pytest.raises(SerializationError, match="reads its input here and cannot travel"):
        client.submit(list, client.imap(abs, [1]))
    (value,) = client.imap(sum, [[1, 2]])
    assert value == 3


def test_length_hints(fake, client):
    values = client.imap(abs, range(5))
    assert operator.length_hint(values) == 5
    next(values)
    assert operator.length_hint(values) == 4
    list(values)
    assert operator.length_hint(values) == 0
    assert operator.length_hint(client.imap(abs, itertools.count()), 77) == 77
    endless = client.imap(abs, (x for x in range(3)))
    assert operator.length_hint(endless, -1) == -1
    assert [operator.length_hint(endless, -1) for _ in endless][-1] == 0
    assert repr(endless) == "<LazyMap: 3 items consumed, 3 read>"
    with pytest.raises(TypeError):
        len(endless)


# -------------------------------------------------------------------------------------- errors


def test_an_item_that_fails_raises_in_its_place_and_iteration_can_go_on(fake, client):
    values = client.imap(lambda x: 1 / (x - 2), range(5))
    assert [next(values), next(values)] == [-0.5, -1]
    with pytest.raises(ZeroDivisionError) as caught:
        next(values)
    assert isinstance(caught.value, RemoteError)
    assert list(values) == [1, 0.5]
    with pytest.raises(StopIteration):
        next(values)


def test_errors_as_values(fake, client):
    got = list(client.imap(lambda x: 1 / (x - 2), range(5), return_exceptions=True))
    assert [isinstance(value, ZeroDivisionError) for value in got] == [False, False, True, False, False]


def test_what_the_input_raises_comes_after_the_results_before_it(fake, client):
    def broken():
        yield from range(7)
        raise KeyError("input")

    for chunksize in ("auto", 1, 3, 100):
        got = []
        values = client.imap(abs, broken(), chunksize=chunksize)
        with pytest.raises(KeyError, match="input") as caught:
            got.extend(values)
        assert not isinstance(caught.value, RemoteError)
        assert got == list(range(7))
        assert list(values) == []


def test_an_item_that_cannot_travel_fails_alone(fake, client):
    xs = [*range(10), [threading.Lock()], *range(3)]
    got = list(client.imap(lambda x: x, xs, chunksize=7, return_exceptions=True))
    assert [*got[:10], *got[11:]] == [*range(10), *range(3)]
    assert isinstance(got[10], SerializationError)
    assert str(got[10]) == "item 10: item [0] is a _thread.lock"
    (error,) = client.imap(lambda x: x, [[threading.Lock()]], seed=1, return_exceptions=True)
    assert str(error) == "item 0: item [0] is a _thread.lock"


def test_an_item_that_is_lost_is_named(fake, client):
    fake.hold = True
    values = client.imap(abs, range(8), chunksize=2, max_outstanding=8, return_exceptions=True)
    thread = threading.Thread(target=lambda: next(values))
    thread.start()
    helpers.wait_until(lambda: len(fake.held) == 4, "all are there")
    task = fake.held.pop()[2].id
    certificate = encode(m.DeathCertificate(1, 0, 9, -9, "killed by signal 9 (SIGKILL)"))
    fake.finish(m.Result(task, m.Status.LOST, certificate, 0, 1, lo=1, hi=2))
    fake.finish(m.Result(task, m.Status.CANCELLED, b"stopped", lo=0, hi=1))
    fake.run_held()
    thread.join(10)
    *_, before, last = values
    assert isinstance(before, CancelledError)
    assert isinstance(last, EngineDied)
    assert last.item == 7


def test_a_repeated_run_counts_once():
    flow = Flow(None, ordered=False)
    flow.add_task(5, 100, 3)
    for _ in range(2):
        assert not flow._accept(m.Result(5, m.Status.CANCELLED, b"", lo=2, hi=3), (), 0.0)
    assert flow._accept(m.Result(5, m.Status.CANCELLED, b"", lo=0, hi=2), (), 0.0)
    assert [(run.lo, run.hi) for run in flow._arrived] == [(102, 103), (100, 102)]
    assert flow.done()


def test_when_the_client_is_closed_what_is_here_still_comes(fake, client):
    values = waiting(fake, client)
    fake.run_held()
    helpers.wait_until(values._flow.done, "all nine are here")
    client.close()
    got = []
    with pytest.raises(ControllerLost):
        for value in values:
            got.append(value)
    assert got == list(range(1, 9))
    values.close()
    with pytest.raises(ControllerLost):
        next(client.imap(abs, [1]))


def test_loss_reaches_who_waits(fake, client):
    fake.hold = True
    values = client.imap(abs, range(3))
    threading.Timer(0.05, client.close).start()
    with pytest.raises(ControllerLost):
        next(values)
    with pytest.raises(ControllerLost):
        next(values)


def test_wrong_calls(client):
    with pytest.raises(TypeError, match="takes a function"):
        client.imap([1], abs)
    with pytest.raises(TypeError, match="at least one sequence"):
        client.imap(abs)
    with pytest.raises(TypeError):
        client.imap(abs, 3)
    with pytest.raises(TypeError, match="seed is a whole number"):
        client.imap(abs, [3], seed="x")


# -------------------------------------------------------------------------------------- the end


def waiting(fake, client, **how):
    """Return an imap of whose nine items the first is consumed and eight wait in the controller."""
    values = client.imap(abs, itertools.count(), max_outstanding=9, chunksize=1, **how)
    thread = threading.Thread(target=lambda: next(values))
    fake.hold = True
    thread.start()
    helpers.wait_until(lambda: len(fake.held) == 9, "all wait")
    fake.run_held(1)
    thread.join(10)
    return values


def nothing_left(fake, client):
    helpers.wait_until(lambda: fake.of(m.Cancel), "what was submitted is cancelled")
    helpers.wait_until(lambda: not client._link.core.sinks, "nothing is left")


def test_cancel(fake, client):
    values = waiting(fake, client)
    assert values.cancel()
    assert not client._link.core.sinks
    assert fake.of(m.Cancel)[0].interrupt
    with pytest.raises(CancelledError, match="imap was cancelled"):
        next(values)
    assert values.cancel()


def test_cancel_from_elsewhere_ends_a_wait(fake, client):
    values = waiting(fake, client)
    timer = threading.Timer(0.05, values.cancel)
    timer.start()
    with pytest.raises(CancelledError):
        next(values)
    timer.join()


def test_close_is_the_end_of_the_iteration(fake, client):
    values = waiting(fake, client)
    values.close()
    assert list(values) == []
    nothing_left(fake, client)
    values.close()
    assert len(fake.of(m.Cancel)) == 1


def test_a_block_closes_it(fake, client):
    with waiting(fake, client) as values:
        pass
    assert list(values) == []
    nothing_left(fake, client)


def test_who_is_let_go_of_cancels_what_is_outstanding(fake, client):
    values = waiting(fake, client)
    ref = weakref.ref(values)
    del values
    gc.collect()
    assert ref() is None
    nothing_left(fake, client)


def test_a_finished_one_cancels_nothing(fake, client):
    values = client.imap(abs, range(3))
    assert list(values) == [0, 1, 2]
    del values
    assert not fake.of(m.Cancel)


def test_an_interrupt_while_input_is_read_loses_nothing(fake, client):
    class Interrupted(Counting):
        def __next__(self):
            if self.read == 5:
                self.read += 1
                raise KeyboardInterrupt
            return super().__next__()

    xs = Interrupted(range(10))
    values = client.imap(abs, xs, max_outstanding=8, chunksize=4)
    got = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            got.append(next(values))
    got.extend(values)
    assert got == list(range(10))


def test_the_client_waits_for_it_and_stops_it_with_all_others(fake, client):
    values = waiting(fake, client)
    assert not client.wait(timeout=0.05)
    (flow,) = set(client._link.core.sinks.values())
    assert (flow.progress, flow._total()) == (1, 9)
    assert client.cancel()
    assert client.wait(timeout=10)
    with pytest.raises(CancelledError):
        next(values)


@pytest.mark.parametrize("ordered", [True, False])
def test_consumed_results_are_let_go_of(fake, client, ordered):
    fake.run_length = 10
    values = client.imap(np.zeros, itertools.repeat(100), max_outstanding=60, chunksize=20, ordered=ordered)
    refs = [weakref.ref(value) for value in itertools.islice(values, 1000)]
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1
    flow = values._flow
    helpers.wait_until(flow.done, "what is under way has arrived")
    assert len(flow._runs) + len(flow._arrived) <= 6
    assert not flow._tasks


# -------------------------------------------------------------------------------------- asyncio


def test_async_iteration(fake, client):
    async def main():
        got = [value async for value in client.imap(abs, range(-50, 0))]
        assert got == list(range(50, 0, -1))
        with pytest.raises(ZeroDivisionError):
            async for _ in client.imap(lambda x: 1 / x, [0]):
                pass
        async with client.imap(abs, itertools.count()) as values:
            assert await anext(values) == 0
        assert [value async for value in values] == []
        with pytest.raises(StopAsyncIteration):
            await anext(client.imap(abs, []))

    asyncio.run(main())


def test_waiting_does_not_block_the_loop_and_can_be_cancelled(fake, client):
    fake.hold = True

    async def main():
        values = client.imap(abs, range(3))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(values)
        waiter = asyncio.create_task(anext(values))
        ticks = 0
        while not fake.held:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not waiter.done()
        fake.run_held()
        assert await waiter == 0  # what was waited for before is not lost
        assert [value async for value in values] == [1, 2]
        fake.hold = True
        values = client.imap(abs, range(3))
        waiter = asyncio.create_task(anext(values))
        await asyncio.sleep(0)
        assert not values.cancel()  # in a coroutine it does not wait
        with pytest.raises(CancelledError, match="imap was cancelled"):
            await waiter

    asyncio.run(main())


def test_a_million_items_cost_little(fake, client):
    """Not a benchmark: it fails only if items were handled one by one, tens of times slower."""
    began = time.process_time()
    assert sum(client.imap(int, np.arange(200_000), chunksize=2000)) == 199_999 * 100_000
    assert time.process_time() - began < 4.0
