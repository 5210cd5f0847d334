"""Results: what one can ask of them, whatever they are of."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import datetime as dt
import gc
import os
import threading
import time
import weakref

import pytest
from enginery.client.results.futures import AsyncResult
from enginery.client.results.mapresult import AsyncMapResult
from enginery.client.results.metadata import METADATA
from enginery.errors import CompositeError, ControllerLost, EngineryError, TaskAborted
from enginery.wire import messages as m

import helpers

KINDS = {
    "one": lambda client: client.submit(abs, -1),
    "group": lambda client: client[:].apply_async(abs, -1),
    "map": lambda client: client.map(abs, range(6), chunksize=2),
    "joined": lambda client: AsyncResult.join(client.submit(abs, -1), client[:2].apply_async(abs, -1)),
    "piece of a group": lambda client: client[:].apply_async(abs, -1).split()[1],
    "piece of a map": lambda client: client.map(abs, range(6), chunksize=2).split()[1],
}
VALUES = {
    "one": 1,
    "group": [1] * 4,
    "map": list(range(6)),
    "joined": [1] * 3,
    "piece of a group": 1,
    "piece of a map": [2, 3],
}
SEVERAL = [kind for kind, value in VALUES.items() if isinstance(value, list)]

kinds = pytest.mark.parametrize("kind", KINDS)
several = pytest.mark.parametrize("kind", SEVERAL)


def later(function, *args):
    thread = threading.Timer(0.02, function, args)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------------------ of every kind


@kinds
def test_it_is_a_future_of_its_values(fake, client, kind):
    fake.hold = True
    result = KINDS[kind](client)
    assert isinstance(result, AsyncResult)
    assert (result.done(), result.ready(), result.progress, result.wait(0.01)) == (False, False, 0, False)
    assert "0 of" in repr(result) or "pending" in repr(result)
    with pytest.raises(TimeoutError, match=r"no result after 0.01 s"):
        result.get(0.01)
    fake.run_held()
    assert list(concurrent.futures.as_completed([result], 10)) == [result]
    for value in (result.get(), result.result(), result.r, result.get(return_exceptions=True), result.get(-1, False)):
        assert value == VALUES[kind]
    assert result.successful()
    assert result.exception() is None
    assert result.wait()
    assert result.progress == result._total()
    assert result.cancel() is False
    assert concurrent.futures.wait([result]).done == {result}


@several
def test_several_are_a_sequence_that_is_there_bit_by_bit(fake, client, kind):
    fake.hold = True
    result = KINDS[kind](client)
    values = VALUES[kind]
    later(fake.run_held)
    assert list(result) == values
    assert len(result) == len(values)
    assert bool(result)
    assert [result[i] for i in range(len(values))] == values
    assert result[-1] == values[-1]
    assert (result[1:], result[::-1], result[9:]) == (values[1:], values[::-1], [])
    for wrong in (len(values), -len(values) - 1):
        with pytest.raises(IndexError, match=f"result {wrong} of {len(values)}"):
            result[wrong]
    with pytest.raises(TypeError):
        result[1.5]


def test_one_is_no_sequence(client):
    result = client.submit(list, (1, 2))
    for wrong in (lambda: result[0], lambda: list(result), lambda: len(result)):
        with pytest.raises(TypeError):
            wrong()
    assert result


@several
def test_async_iteration(fake, client, kind):
    fake.hold = True

    async def main():
        result = KINDS[kind](client)
        later(fake.run_held)
        return [value async for value in result]

    assert asyncio.run(main()) == VALUES[kind]


@several
def test_who_no_longer_iterates_disturbs_nobody(fake, client, kind):
    """A loop that was closed is not told any more; that must not end the thread that tells."""
    fake.hold = True
    result = KINDS[kind](client)

    async def main():
        async def read():
            return [value async for value in result]

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 0.02)

    asyncio.run(main())
    fake.run_held()
    assert result.get(10) == VALUES[kind]
    assert client.submit(abs, -3).result(10) == 3


@kinds
def test_waiting_that_nobody_can_end_ends_when_the_client_is_closed(fake, kind):
    from enginery.client.client import Client

    fake.hold = True
    client = Client(fake.path)
    result = KINDS[kind](client)
    later(client.close)
    with pytest.raises(ControllerLost, match="this client is closed"):
        result.get(10)
    assert result.done()
    assert not result.cancelled()
    for wait in (
        result.get,
        result.result,
        lambda: asyncio.run(awaited(result)),
        lambda: [one.get() for one in concurrent.futures.as_completed([result])],
        lambda: [one.get() for one in result.wait(return_when="ALL_COMPLETED")[0]],
        lambda: result.get(return_when="FIRST_EXCEPTION"),
        lambda: result.get_dict(),
    ):
        with pytest.raises(ControllerLost, match="this client is closed"):
            wait()
    assert isinstance(result.exception(), ControllerLost)
    assert result.wait()
    assert result.wait(return_when="FIRST_COMPLETED") == (set(result.split()), set())
    assert result.cancel() is False
    result.abort()
    statuses = result.status if isinstance(result.status, list) else [result.status]
    assert set(statuses) == {"unknown"}
    if kind in SEVERAL:
        for wait in (lambda: list(result), lambda: result[0], lambda: asyncio.run(listed(result))):
            with pytest.raises(ControllerLost, match="this client is closed"):
                wait()


async def awaited(result):
    return await result


async def listed(result):
    return [value async for value in result]


def test_in_a_forked_process_nothing_waits_for_ever(fake, client):
    fake.hold = True
    pending = [make(client) for make in KINDS.values()]
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            for result in pending:
                for wait in (
                    result.get,
                    lambda one=result: concurrent.futures.wait([one]),
                    lambda one=result: list(concurrent.futures.as_completed([one])),
                    lambda one=result: one.wait(return_when="FIRST_COMPLETED"),
                    lambda one=result: one.get(return_when="FIRST_EXCEPTION"),
                    lambda one=result: asyncio.run(awaited(one)),
                ):
                    try:
                        wait()
                    except EngineryError as error:
                        os.write(write, b"E" if "make a new Client() here" in str(error) else b"?")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert os.read(read, 1000) == b"E" * 6 * len(pending)
    os.close(read)


@kinds
def test_copies_are_the_result_itself(client, kind):
    result = KINDS[kind](client)
    assert copy.copy(result) is result
    assert copy.deepcopy({"a": [result]}) == {"a": [result]}


@kinds
def test_cancel(fake, client, kind):
    fake.hold = True
    result = KINDS[kind](client)
    assert result.cancel() is True
    assert result.done()
    assert result.cancelled()
    assert result.cancel() is True
    with pytest.raises(concurrent.futures.CancelledError):
        result.exception()
    with pytest.raises(TaskAborted, match="cancelled before it started"):
        result.get()
    values = result.get(return_exceptions=True)
    assert all(isinstance(value, TaskAborted) for value in (values if kind in SEVERAL else [values]))


def test_an_awaiting_coroutine_that_is_cancelled_takes_the_task_along(fake, client):
    fake.hold = True

    async def main():
        future = client.submit(abs, -1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.02)
        return future

    future = asyncio.run(main())
    helpers.wait_until(future.done, "the controller has stopped it")
    assert future.cancelled()


def test_a_shielded_one_goes_on(fake, client):
    fake.hold = True

    async def main():
        future = client.submit(abs, -1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.02)
        later(fake.run_held)
        return await future

    assert asyncio.run(main()) == 1
    assert not fake.of(m.Cancel)


def test_a_wrapped_one_is_cancelled_as_any_future(fake, client):
    fake.hold = True

    async def main():
        future = client.submit(abs, -1)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        return future

    future = asyncio.run(main())
    helpers.wait_until(future.done, "the controller has stopped it")
    assert future.cancelled()


def test_gathered(fake, client):
    async def main():
        return await asyncio.gather(*(make(client) for make in KINDS.values()))

    assert asyncio.run(main()) == list(VALUES.values())


def test_what_a_future_holds_for_nothing_is_nothing(client):
    """A million of them are a million times this."""
    result = client.submit(abs, -1)
    client.wait(timeout=10)
    assert set(vars(result)) <= {
        *("_link", "_task", "_submitted", "_options", "_reply", "_frames", "_received", "_state", "_waiting")
    }


# ------------------------------------------------------------------------------------------------ some of them


def test_first_completed(fake, client):
    fake.hold = True
    result = client[:].apply_async(abs, -1)
    assert result.wait(0, return_when="FIRST_COMPLETED") == (set(), set(result.split()))
    fake.run_held(1)
    done, pending = result.wait(return_when="FIRST_COMPLETED")
    assert {one.engine_id for one in done} == {0}
    assert done | pending == set(result.split())
    fake.run_held()
    assert result.wait(10, return_when="ALL_COMPLETED") == (set(result.split()), set())
    one = result.split()[0]
    assert one.wait(return_when="FIRST_EXCEPTION") == ({one}, set())


def test_wrong_conditions(client):
    result = client[:].apply_async(abs, -1)
    for call in (result.wait, result.get):
        with pytest.raises(ValueError, match="return_when is one of FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED"):
            call(return_when="SOON")
    with pytest.raises(ValueError, match=r"get\(\) returns all values; wait"):
        result.get(return_when="FIRST_COMPLETED")
    assert result.get(return_when="ALL_COMPLETED") == [1] * 4


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("kind", ["group", "map"])
def test_the_first_error_is_raised_while_others_run(fake, client, kind, joined):
    fake.hold = True
    one = client.submit(abs, -1) if joined else None
    result = client[:].apply_async(int, "x") if kind == "group" else client.map(int, ["1", "x", "3"], chunksize=1)
    total = (4 if kind == "group" else 3) + joined
    helpers.wait_until(lambda: len(fake.held) == total, "all are there")
    if joined:
        result = AsyncResult.join(one, result)
        fake.run_held(1)
    with pytest.raises(TimeoutError):
        result.get(0.01, return_when="FIRST_EXCEPTION")
    later(fake.run_held, 1 if kind == "group" else 2)
    with pytest.raises(ValueError, match="invalid literal"):
        result.get(return_when="FIRST_EXCEPTION")
    assert not result.done()
    fake.run_held()
    with pytest.raises(CompositeError if kind == "group" else ValueError):
        result.get(10)
    assert result.get(return_exceptions=True, return_when="FIRST_EXCEPTION")[-1] is not None


def test_first_error_of_one(fake, client):
    with pytest.raises(ValueError, match="invalid literal"):
        client.submit(int, "x").get(return_when="FIRST_EXCEPTION")
    assert client.submit(int, "1").get(return_when="FIRST_EXCEPTION") == 1
    assert client[:].apply_async(abs, -1).get(return_when="FIRST_EXCEPTION") == [1] * 4


def test_errors_that_were_to_be_values_can_be_raised_all_the_same(client):
    result = client.map(int, ["1", "x"], return_exceptions=True)
    assert isinstance(result.get()[1], ValueError)
    assert isinstance(result.get(return_exceptions=True)[1], ValueError)
    with pytest.raises(ValueError, match="invalid literal"):
        result.get(return_exceptions=False)
    assert client.map(int, ["1"], return_exceptions=True).get(return_exceptions=False) == [1]


def test_split(fake, client):
    fake.hold = True
    result = client[:].apply_async(lambda: 1 / 0)
    pieces = result.split()
    assert pieces is result.split()
    assert [piece.done() for piece in pieces] == [False] * 4
    assert pieces[2].cancel() is True
    assert [piece.cancelled() for piece in pieces] == [False, False, True, False]
    fake.run_held()
    for one in concurrent.futures.as_completed(pieces, 10):
        assert one.status == ("cancelled" if one is pieces[2] else "error")
    with pytest.raises(ZeroDivisionError):
        pieces[0].get()
    assert pieces[0].error is result.error[0], "it is unpickled once"
    assert [piece.msg_id for piece in pieces] == result.msg_id
    assert [piece.engine_id for piece in pieces] == [0, 1, None, 3]
    assert pieces[1].split() == (pieces[1],)


def test_split_of_what_is_done_or_partly_done(fake, client):
    fake.hold = True
    result = client[:].apply_async(abs, -1)
    fake.run_held(2)
    helpers.wait_until(lambda: result.progress == 2, "two are done")
    assert [piece.done() for piece in result.split()] == [True, True, False, False]
    fake.run_held()
    assert [piece.get(10) for piece in result.split()] == [1] * 4
    done = client.map(abs, range(5), chunksize=2)
    assert done.get(10) == [*range(5)]
    assert [piece.get(0) for piece in done.split()] == [[0, 1], [2, 3], [4]]
    assert [piece.progress for piece in done.split()] == [2, 2, 1]
    assert client[:0].targets == []


def test_pieces_are_settled_once_however_they_are_split():
    """The thread that files results and those that split meet in every way."""
    link = Link()
    for _ in range(100):
        result = AsyncMapResult(link, 1, time.time(), None)
        for task in range(1, 9):
            result._add_task(task, 1)
        result._seal()
        start = threading.Barrier(3)
        found = []

        def file(result=result, start=start):
            start.wait()
            for task in range(1, 9):
                result._accept(m.Result(task, 0, b"\x80\x05]K\x01a.", 0, 0, 1.0, 0.1, 0, 0, 1), (), 1.0)

        def split(result=result, start=start, found=found):
            start.wait()
            found.append(result.split())

        threads = [threading.Thread(target=target) for target in (file, split, split)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert found[0] is found[1]
        assert [piece.get(5) for piece in found[0]] == [[1]] * 8


class Link:
    def check(self):
        pass

    def may_wait(self):
        return True

    def find_incarnation(self, engine, at):
        return 1


def test_values_are_read_once_by_however_many_threads(client):
    result = client.submit(list, (1, 2, 3))
    client.wait(timeout=10)
    start, found = threading.Barrier(8), []

    def read():
        start.wait()
        found.append(result.get())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [[1, 2, 3]] * 8
    assert result.get() is result.get()


def test_by_engine(client):
    assert client[:].apply_async(abs, -1).get_dict() == {0: 1, 1: 1, 2: 1, 3: 1}
    assert client[2].apply_async(abs, -1).get_dict() == {2: 1}
    one = client.submit(abs, -1)
    assert one.get_dict(10) == {one.engine_id: 1}
    by_engine = client[:].map_async(abs, range(8)).get_dict()
    assert by_engine == {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6, 7]}
    twice = AsyncResult.join(client[0].apply_async(abs, 1), client[:].apply_async(abs, 2))
    with pytest.raises(ValueError, match="engine 0 has several of these results"):
        twice.get_dict()
    assert AsyncResult.join(client[0].apply_async(abs, 1), client[1].apply_async(abs, 2)).get_dict() == {0: 1, 1: 2}
    with pytest.raises(ZeroDivisionError):
        client[0].apply_async(lambda: 1 / 0).get_dict()
    client[:].scatter("part", range(8), block=True)
    assert client[:].gather("part").get_dict() == {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6, 7]}


# ------------------------------------------------------------------------------------------------ metadata


@kinds
def test_metadata_of_one_are_values_and_of_several_lists(client, kind):
    result = KINDS[kind](client)
    result.get(10)
    listed = kind in SEVERAL
    for name in METADATA:
        value = result[name]
        assert isinstance(value, list) == listed or name in ("outputs", "after", "follow")
    first = result.metadata[0] if listed else result.metadata
    assert list(first) == list(METADATA)
    assert first["status"] == "ok"
    assert first["engine_uuid"] == f"{first['engine_id']}.0"
    assert first["error"] is None
    assert (first["after"], first["follow"]) == ([], [])
    for name in ("submitted", "started", "completed", "received"):
        assert first[name].tzinfo is dt.UTC
    with pytest.raises(KeyError, match="'nope' is not metadata of a task; there are: msg_id, engine_id, engine_uuid"):
        result["nope"]


@kinds
def test_metadata_of_what_is_pending(fake, client, kind):
    fake.hold = True
    result = KINDS[kind](client)
    listed = kind in SEVERAL
    for name in ("engine_id", "engine_uuid", "started", "completed", "received", "error", "data"):
        value = result[name]
        assert set(value) == {None} if listed else value is None
    ids = result.msg_id if listed else [result.msg_id]
    assert len(ids) == len(set(ids)) > 0
    assert result.serial_time == 0
    with pytest.raises(TimeoutError):
        result.wall_time  # noqa: B018
    with pytest.raises(ValueError, match="not known"):
        result.timedelta(result.submitted, result.started)
    fake.run_held()
    result.get(10)
    assert (result.msg_id if listed else [result.msg_id]) == ids


def test_errors_of_each(client):
    client[:].scatter("n", range(4), flatten=True, block=True)
    result = client[:].pull("1 / (n - 2)")
    result.wait()
    assert [isinstance(error, ZeroDivisionError) for error in result.error] == [False, False, True, False]
    assert result.error[0] is None
    items = client.map(int, ["1", "x", "2"], chunksize=1)
    items.wait()
    assert [isinstance(error, ValueError) for error in items.error] == [False, True, False]


def test_the_time_between(client):
    result = client[:].apply_async(abs, -1)
    result.get(10)
    assert result.timedelta(result.started, result.completed) == 0.5
    assert result.timedelta(result.submitted, result.received) == pytest.approx(result.wall_time, abs=1e-5)
    assert result.timedelta(result.started[0], result.completed[0]) == 0.5
    assert result.timedelta(result.completed, result.started, end_key=max) == -0.5
    early, late = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 2, tzinfo=dt.UTC)
    assert result.timedelta([early, late], [early, late]) == 86400
    assert result.timedelta([early, late], [early, late], start_key=max) == 0
    with pytest.raises(ValueError, match="not known"):
        result.timedelta([], [early])


def test_dependencies_are_told_as_ids():
    options = m.Options(label="l", after=m_dependency(17), follow=m_dependency(18, 19))
    result = AsyncResult(Link(), 20, time.time(), options)
    assert (result.label, result.after, result.follow) == ("l", ["0-17"], ["0-18", "0-19"])


def m_dependency(*tasks):
    from enginery.wire.parts import Dependency

    return Dependency(tasks)


def test_an_engine_that_is_restarted_is_another(fake, client):
    before = client[1].apply_async(abs, -1)
    before.get(10)
    fake.say(m.Engines([m.EngineInfo(1, 0, "dead"), m.EngineInfo(1, 7, "starting")]))
    helpers.wait_until(lambda: client._link.core.engines[1].incarnation == 7, "the news are here")
    after = client[1].apply_async(abs, -1)
    after.get(10)
    assert (before.engine_uuid, after.engine_uuid) == ("1.0", "1.7")


def test_a_raised_error_does_not_remember_all_who_saw_it(client):
    result = client.submit(int, "x")
    for _ in range(3):
        with pytest.raises(ValueError, match="invalid") as caught:
            result.get(10)
    depth = 0
    tb = caught.value.__traceback__
    while tb is not None:
        depth, tb = depth + 1, tb.tb_next
    assert depth <= 3


def test_a_result_keeps_none_of_those_it_came_after(fake, client):
    """Else a chain would be alive, with all its values, as long as its end."""
    view = client.load_balanced_view()
    results = []
    before = view.apply_async(abs, -1)
    for make in (lambda: view.apply_async(abs, -2), lambda: view.map_async(abs, [-2])):
        with view.temp_flags(after=before, follow=before):
            results.append(make())
    ids, gone = [before.msg_id], weakref.ref(before)
    client.wait(timeout=10)
    del before
    fake.say(m.Ack(10))  # else it may have to be sent again, with what is known by then
    helpers.wait_until(lambda: not client._link.core._dependent, "the controller has all")
    gc.collect()
    assert gone() is None
    assert (results[0].after, results[0].follow, results[1].after) == (ids, ids, [ids])
