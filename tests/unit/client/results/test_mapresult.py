from __future__ import annotations

import asyncio
import random
import threading
import time
from itertools import pairwise

import pytest
from enginery.client.results.mapresult import AsyncMapResult
from enginery.errors import CompositeError, ControllerLost, EngineDied, RemoteError, SerializationError
from enginery.serialize import dumps
from enginery.wire import messages as m
from enginery.wire.codec import encode

import helpers


class NoLink:
    def check(self):
        pass

    def may_wait(self):
        return True

    def cancel(self, tasks, **how):
        raise AssertionError


def ok(task, lo, values, engine=0):
    return m.Result(task, 0, dumps(values)[0], 0, engine, 1.0, 0.25, 0, lo, lo + len(values))


def died(task, lo, hi):
    certificate = m.DeathCertificate(1, 0, 9, -9, "killed by signal 9 (SIGKILL)")
    return m.Result(task, m.Status.LOST, encode(certificate), 0, 1, lo=lo, hi=hi)


def make(*sizes, **how):
    result = AsyncMapResult(NoLink(), 1, time.time(), None, **how)
    for task, size in enumerate(sizes, 1):
        result._add_task(task, size)
    result._seal()
    return result


@pytest.mark.parametrize("seed", range(20))
def test_runs_in_any_order_make_the_whole(seed):
    rng = random.Random(seed)
    sizes = [rng.randint(1, 30) for _ in range(rng.randint(1, 8))]
    result = make(*sizes)
    pieces, first = [], 0
    for task, size in enumerate(sizes, 1):
        cuts = sorted({0, size, *(rng.randint(0, size) for _ in range(3))})
        pieces += [ok(task, lo, list(range(first + lo, first + hi))) for lo, hi in pairwise(cuts)]
        first += size
    rng.shuffle(pieces)
    last_of = {piece.id: i for i, piece in enumerate(pieces)}
    for i, piece in enumerate(pieces):
        assert not result.done()
        assert result._accept(piece, (), 5.0) == (last_of[piece.id] == i)
    assert result.done()
    assert result.get() == list(range(first))
    assert list(result) == list(range(first))
    assert result[first // 2] == first // 2
    assert result[-1] == first - 1
    assert result[1:7:2] == list(range(first))[1:7:2]
    assert len(result) == result.progress == first


def test_a_repeated_run_counts_once():
    result = make(2, 2)
    assert result._accept(ok(1, 0, [1, 2]), (), 0.0)
    result._accept(ok(1, 0, [1, 2]), (), 0.0)
    assert result.progress == 2
    assert not result.done()


def test_an_empty_map_is_done():
    result = make()
    assert result.done()
    assert result.get() == []
    assert list(result) == []
    assert result
    with pytest.raises(IndexError):
        result[0]


def test_it_is_done_only_when_sealed():
    result = AsyncMapResult(NoLink(), 1, time.time(), None)
    result._add_task(1, 1)
    result._accept(ok(1, 0, [1]), (), 0.0)
    assert not result.done()
    result._seal()
    assert result.done()


def test_unordered_iteration_yields_what_came_first():
    result = make(2, 2, ordered=False)
    result._accept(ok(2, 0, [3, 4]), (), 0.0)
    result._accept(ok(1, 0, [1, 2]), (), 0.0)
    assert list(result) == [3, 4, 1, 2]
    assert result.get() == [1, 2, 3, 4]


def test_lost_items_are_named_and_the_others_are_there():
    result = make(3, 2)
    result._accept(ok(1, 0, [0, 1, 2]), (), 0.0)
    result._accept(died(2, 1, 2), (), 0.0)
    result._accept(ok(2, 0, [3]), (), 0.0)
    with pytest.raises(EngineDied, match="while it ran item 4") as caught:
        result.get()
    assert caught.value.item == 4
    assert result[3] == 3
    values = result.get(return_exceptions=True)
    assert values[:4] == [0, 1, 2, 3]
    assert values[4] is caught.value


def test_an_answer_of_the_wrong_length_is_an_error_not_a_shift():
    result = make(2)
    result._accept(m.Result(1, 0, dumps([1])[0], lo=0, hi=2), (), 0.0)
    with pytest.raises(Exception, match="another length"):
        result.get()


def test_metadata_is_by_run():
    result = make(3)
    result._accept(ok(1, 1, [1, 2], engine=7), (), 9.0)
    result._add_output(m.Output(1, "stdout", "hi", 7, lo=0))
    result._accept(ok(1, 0, [0], engine=6), (), 9.0)
    assert result.engine_id == [6, 7]
    assert result.status == ["ok", "ok"]
    assert result.stdout == ["hi", ""]
    assert result.serial_time == 0.5
    assert repr(result) == "<AsyncMapResult: 3 of 3 items done>"


def test_iteration_waits_for_what_comes_next():
    result = make(2, 2)
    got = []

    def read():
        got.extend(result)

    thread = threading.Thread(target=read)
    thread.start()
    result._accept(ok(2, 0, [3, 4]), (), 0.0)
    result._accept(ok(1, 0, [1]), (), 0.0)
    helpers.wait_until(lambda: got == [1], "the first item is read")
    result._accept(ok(1, 1, [2]), (), 0.0)
    thread.join(10)
    assert got == [1, 2, 3, 4]


def test_async_iteration():
    result = make(2, 2, ordered=False)

    async def main():
        got = []
        threading.Timer(0.01, result._accept, (ok(2, 0, [3, 4]), (), 0.0)).start()
        async for value in result:
            got.append(value)
            if len(got) == 1:
                threading.Timer(0.01, result._accept, (ok(1, 0, [1, 2]), (), 0.0)).start()
        return got

    assert asyncio.run(main()) == [3, 4, 1, 2]


def test_loss_reaches_those_who_iterate():
    result = make(2, 1)
    result._accept(ok(1, 0, [1, 2]), (), 0.0)
    iterator = iter(result)
    assert [next(iterator), next(iterator)] == [1, 2]
    threading.Timer(0.02, result._fail, [ControllerLost("gone")]).start()
    with pytest.raises(ControllerLost):
        next(iterator)
    with pytest.raises(ControllerLost):
        result.get()
    with pytest.raises(ControllerLost):
        result[2]
    assert result[1] == 2


# -------------------------------------------------------------------------------------- with a controller


def test_map(fake, client):
    fake.run_length = 7
    assert client.map(lambda x: x * 2, range(1000)).get(10) == [x * 2 for x in range(1000)]
    assert list(client.map(lambda x, y: x - y, range(100), range(50, 200))) == [-50] * 100
    assert client.map(abs, iter([])).get(10) == []
    assert client.map(len, {"ab": 1, "c": 2}).get(10) == [2, 1]
    assert sorted(client.map(abs, range(100), ordered=False)) == list(range(100))
    assert client.map(abs, (x for x in range(100)), chunksize=9).get(10) == list(range(100))


def test_sizes_of_tasks(fake, client):
    client.map(abs, range(10_000)).get(10)
    assert {task.items for message in fake.of(m.Submit) for task in message.tasks} == {157, 109}


def test_items_fail_alone(fake, client):
    result = client.map(lambda x: 1 / (x - 5), range(10))
    assert result[4] == -1
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(10)
    assert isinstance(caught.value, RemoteError)
    iterator = iter(result)
    assert [next(iterator) for _ in range(5)] == [-0.2, -0.25, -1 / 3, -0.5, -1]
    with pytest.raises(ZeroDivisionError):
        next(iterator)
    assert result[6] == 1
    values = client.map(lambda x: 1 / (x % 5), range(10), return_exceptions=True).get(10)
    assert [isinstance(value, ZeroDivisionError) for value in values] == [True, False, False, False, False] * 2
    with pytest.raises(CompositeError, match="2 of 10 items failed"):
        client.map(lambda x: 1 / (x % 5), range(10)).get(10)
    assert [type(v) for v in client.map(lambda x: 1 / x, [0, 1], return_exceptions=True)][1] is float


def test_what_the_input_raises_comes_out_and_the_rest_is_cancelled(fake, client):
    fake.hold = True

    def broken():
        yield from range(100)
        raise KeyError("input")

    with pytest.raises(KeyError, match="input") as caught:
        client.map(abs, broken())
    assert not isinstance(caught.value, RemoteError)
    helpers.wait_until(lambda: fake.of(m.Cancel), "what was submitted is cancelled")
    helpers.wait_until(lambda: not client._link.core.sinks, "nothing is left")


def test_an_item_that_cannot_travel_is_named(fake, client):
    with pytest.raises(SerializationError, match=r"^item 103: item \[0\] is a _thread.lock$"):
        client.map(abs, [*range(103), [threading.Lock()]])
    with pytest.raises(SerializationError, match=r"^item 2: item \[1\] is a _thread.lock$"):
        client.map(pow, [1, 2, 3], [1, 2, threading.Lock()])


def test_wrong_calls(client):
    with pytest.raises(TypeError, match="takes a function"):
        client.map([1], abs)
    with pytest.raises(TypeError, match="at least one sequence"):
        client.map(abs)
    with pytest.raises(TypeError):
        client.map(abs, 3)
    with pytest.raises(ValueError, match="chunksize"):
        client.map(abs, [1], chunksize=0)


def test_cancel_a_map(fake, client):
    fake.hold = True
    result = client.map(abs, range(100))
    fake.run_held(1)
    helpers.wait_until(lambda: result.progress, "the first items are done")
    assert result.cancel()  # what had not run was stopped
    assert result.done()
    assert result[0] == 0
    unstarted = client.map(abs, range(100))
    assert unstarted.cancel() is True


def test_a_million_items_cost_little():
    """Not a benchmark: it fails only if assembling items were done one by one, tens of times slower."""
    size = 15625
    replies = [ok(task, 0, list(range(size))) for task in range(1, 65)]
    result = make(*[size] * 64)
    began = time.process_time()
    for reply in replies:
        result._accept(reply, (), 0.0)
    values = result.get()
    assert len(values) == 64 * size
    assert time.process_time() - began < 1.0
