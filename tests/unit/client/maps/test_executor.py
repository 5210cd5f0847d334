from __future__ import annotations

import gc
import itertools
import threading
import weakref
from concurrent.futures import Executor, as_completed, wait

import numpy as np
import pytest
from enginery.errors import RemoteError, SerializationError
from enginery.wire import messages as m

import helpers


def test_submit(fake, client):
    with client.executor() as executor:
        assert isinstance(executor, Executor)
        future = executor.submit(lambda x, y=0: x - y, 3, y=1)
        assert future.result(10) == 2
        assert isinstance(executor.submit(lambda: 1 / 0).exception(10), RemoteError)
        with pytest.raises(SerializationError, match="argument 'x'"):
            executor.submit(lambda x: x, threading.Lock())
        futures = [executor.submit(pow, 2, n) for n in range(5)]
        assert wait(futures, 10).not_done == set()
        assert {future.result() for future in as_completed(futures)} == {1, 2, 4, 8, 16}
    assert client.submit(abs, -1).result(10) == 1  # the client goes on


def test_targets(fake, client):
    executor = client.executor([1, 2])
    assert repr(executor) == "<ClusterExecutor of <LoadBalancedView [1, 2]>>"
    assert {executor.submit(abs, 1).engine_id for _ in range(3)} <= {1, 2, None}
    assert list(executor.map(abs, [-1])) == [1]
    assert {options.targets for message in fake.of(m.Submit) for options in message.options} == {(1, 2)}
    with pytest.raises(IndexError):
        client.executor([77])


def test_after_shutdown_nothing_is_accepted(fake, client):
    executor = client.executor()
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(abs, [1])
    assert repr(executor).endswith(", shut down>")


def test_shutdown_waits_for_what_was_submitted_also_if_nobody_holds_it(fake, client):
    fake.hold = True
    executor = client.executor()
    executor.submit(abs, 1)
    executor.map(abs, range(3))
    gc.collect()
    done = []
    thread = threading.Thread(target=lambda: done.append(executor.shutdown()))
    thread.start()
    helpers.wait_until(lambda: len(fake.held) == 4, "they wait")
    executor.shutdown(wait=False)
    assert not done
    assert not fake.of(m.Cancel)
    fake.run_held(3)
    helpers.wait_until(lambda: len(fake.held) == 1, "one is left")
    assert not done
    fake.run_held()
    thread.join(10)
    assert done == [None]


def test_shutdown_can_withdraw_what_has_not_started(fake, client):
    fake.hold = True
    executor = client.executor()
    futures = [executor.submit(abs, n) for n in range(4)]
    results = executor.map(abs, range(3))
    helpers.wait_until(lambda: len(fake.held) == 7, "they wait")
    fake.run_held(1)
    futures[0].result(10)
    executor.shutdown(cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, True, True, True]
    assert not fake.of(m.Cancel)[0].interrupt
    with pytest.raises(BaseException, match="cancelled before it started"):
        next(results)


def test_map(fake, client):
    executor = client.executor()
    assert list(executor.map(pow, range(10), itertools.count())) == list(map(pow, range(10), range(10)))
    assert list(executor.map(abs, [])) == []
    assert list(executor.map(abs)) == []
    assert list(executor.map(abs, (x for x in range(300)), chunksize=7)) == list(range(300))
    assert list(executor.map(float, np.arange(5), chunksize=1)) == [0, 1, 2, 3, 4]
    for wrong in (0, -1, 1.5, None):
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(abs, [1], chunksize=wrong)


def test_map_reads_its_input_at_once(fake, client):
    fake.hold = True
    xs = iter(range(5))
    results = client.executor().map(abs, xs)
    assert list(xs) == []
    fake.run_held()
    assert list(results) == list(range(5))

    def broken():
        yield 1
        raise KeyError("input")

    fake.hold = True
    with pytest.raises(KeyError, match="input"):
        client.executor().map(abs, broken())
    helpers.wait_until(lambda: not client._link.core.sinks, "what was submitted is cancelled")


def test_map_ends_with_an_error_and_withdraws_the_rest(fake, client):
    fake.hold = True
    results = client.executor().map(lambda x: 1 / x, [1, 0, 1, 2])
    helpers.wait_until(lambda: len(fake.held) == 4, "all are there")
    fake.run_held(2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    helpers.wait_until(lambda: fake.of(m.Cancel), "the rest is withdrawn")
    assert not fake.of(m.Cancel)[0].interrupt


def test_map_raises_timeout_from_the_call_on(fake, client):
    fake.hold = True
    results = client.executor().map(abs, range(3), timeout=0.05)
    with pytest.raises(TimeoutError, match="not there yet"):
        next(results)
    helpers.wait_until(lambda: fake.of(m.Cancel), "the rest is withdrawn")
    with pytest.raises(TimeoutError):
        next(client.executor().map(abs, range(3), timeout=0))


def test_map_keeps_no_result_that_was_consumed(fake, client):
    for value in client.executor().map(np.zeros, range(10)):
        ref = weakref.ref(value)
        del value
        gc.collect()
        assert ref() is None


def test_buffersize(fake, client):
    with client.executor() as executor:
        xs = itertools.count()
        results = executor.map(str, xs, buffersize=3)
        assert next(xs) == 3  # so many are read at once
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        assert next(xs) == 7  # and one for each that was consumed
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(itertools.islice(results, 10))
    executor = client.executor()
    for size in (1, 2, 4, 100):
        assert list(executor.map(pow, range(4), range(4), buffersize=size)) == [1, 1, 4, 27]
    assert list(executor.map(abs, [], buffersize=1)) == []
    rest, results = executor.map(abs, range(5), buffersize=1), executor.map(abs, range(4), buffersize=4)
    executor.shutdown()
    assert list(results) == [0, 1, 2, 3]  # nothing is left to be submitted
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(rest)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            client.executor().map(abs, [1], buffersize=wrong)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        client.executor().map(abs, [1], buffersize="3")


def test_an_argument_may_submit_while_it_is_pickled(client):
    executor = client.executor()

    class Nested:
        def __reduce__(self):
            return int, (executor.submit(abs, -2).result(10),)

    assert executor.submit(abs, Nested()).result(10) == 2
