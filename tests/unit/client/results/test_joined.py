"""Several results as one."""

from __future__ import annotations

import asyncio
import threading

import pytest
from enginery.client.results.futures import AsyncResult
from enginery.errors import CompositeError, ControllerLost, TaskAborted
from enginery.wire import messages as m

import helpers


def join_all(client):
    return AsyncResult.join(client.submit(abs, -7), client[:].apply_async(abs, -1), client.map(abs, range(3)))


def test_the_value_is_one_flat_list_in_order(client):
    joined = join_all(client)
    assert joined.get(10) == [7, 1, 1, 1, 1, 0, 1, 2]
    assert list(joined) == joined.get()
    assert (joined[0], joined[4], joined[-1], joined[4:6]) == (7, 1, 2, [1, 0])
    assert (len(joined), joined.progress) == (8, 8)
    assert repr(joined) == "<JoinedResult of 3 results: 8 of 8 done>"
    assert len(AsyncResult.join(joined, joined.split()[0], client.submit(abs, 1))) == 10


def test_of_nothing(client):
    joined = AsyncResult.join()
    assert joined.done()
    assert (joined.get(), list(joined), joined.msg_id, joined.metadata, joined.get_dict()) == ([], [], [], [], {})
    assert joined.cancel() is False
    assert joined.split() == ()


@pytest.mark.parametrize("wrong", [3, "3-1", [], None])
def test_only_results_can_be_joined(client, wrong):
    with pytest.raises(TypeError, match=f"join takes results, not {type(wrong).__name__}"):
        AsyncResult.join(client.submit(abs, 1), wrong)


def test_it_is_iterated_as_its_parts_arrive(fake, client):
    fake.hold = True
    joined = join_all(client)
    got = []
    reader = threading.Thread(target=lambda: got.extend(joined))
    reader.start()
    helpers.wait_until(lambda: len(fake.held) >= 5, "the calls are there")
    fake.run_held(3)
    helpers.wait_until(lambda: got == [7, 1, 1], "what is there was read")
    assert (joined.progress, joined.done()) == (3, False)
    fake.run_held()
    reader.join(10)
    assert got == [7, 1, 1, 1, 1, 0, 1, 2]


def test_async_iteration_and_await(fake, client):
    fake.hold = True

    async def main():
        joined = join_all(client)
        timer = threading.Timer(0.02, fake.run_held)
        timer.start()
        return [value async for value in joined], await joined

    assert asyncio.run(main()) == ([7, 1, 1, 1, 1, 0, 1, 2],) * 2


def test_metadata_are_those_of_the_parts(client):
    one, several = client.submit(abs, -1), client[:2].apply_async(abs, -1)
    joined = AsyncResult.join(one, several)
    joined.get(10)
    for name in ("msg_id", "engine_id", "engine_uuid", "status", "submitted", "received", "stdout", "error"):
        assert joined[name] == [one[name], *several[name]]
    assert joined.serial_time == 1.5
    assert joined.submitted[0] == min(joined.submitted)
    assert joined.wall_time == pytest.approx(joined.elapsed)


def test_errors_of_all_parts_are_raised_together(client):
    joined = AsyncResult.join(client.submit(int, "x"), client[:2].apply_async(int, "y"), client.map(int, ["1", "z"]))
    with pytest.raises(CompositeError, match="4 of 5 results failed") as caught:
        joined.get(10)
    assert len(caught.value.exceptions) == 4
    values = joined.get(return_exceptions=True)
    assert values[3] == 1
    assert sum(isinstance(value, ValueError) for value in values) == 4
    with pytest.raises(ValueError, match="'x'"):
        joined[0]
    with pytest.raises(ValueError, match="'x'"):
        AsyncResult.join(client.submit(int, "x"), client.submit(int, "1")).get(10)
    forgiving = AsyncResult.join(client.map(int, ["x"], return_exceptions=True), client.submit(int, "1"))
    assert isinstance(forgiving.get(10)[0], ValueError)


def test_to_cancel_it_is_to_cancel_all_with_one_question(fake, client):
    fake.hold = True
    parts = [client.submit(abs, -1), client[:].apply_async(abs, -1), client.map(abs, range(3), chunksize=1)]
    joined = AsyncResult.join(*parts)
    assert joined.cancel(grace_s=3) is True
    assert [part.cancelled() for part in parts] == [True] * 3
    assert joined.cancelled()
    (message,) = fake.of(m.Cancel)
    assert (len(message.tasks), message.grace_s, message.interrupt) == (8, 3, True)
    with pytest.raises(TaskAborted):
        joined.get()


def test_to_cancel_what_is_partly_done(fake, client):
    fake.hold = True
    joined = AsyncResult.join(client.submit(abs, -7), client.submit(abs, -1))
    fake.run_held(1)
    helpers.wait_until(lambda: joined.progress, "one is done")
    assert joined.cancel() is True
    assert not joined.cancelled()
    assert joined.status == ["ok", "cancelled"]
    assert joined[0] == 7


def test_what_cannot_be_stopped_is_not_said_to_be(fake, client):
    fake.hold = True
    joined = AsyncResult.join(client.submit(abs, -7), client.submit(abs, -1))
    helpers.wait_until(lambda: len(fake.held) == 2, "both are held")
    deaf = fake.held.pop()  # the controller says that it runs on
    assert joined.cancel() is False
    assert (joined.status, joined.done()) == (["cancelled", "pending"], False)
    fake.held.append(deaf)
    fake.run_held()
    assert joined.get(10, return_exceptions=True)[1] == 1


def test_the_client_waits_for_it_and_cancels_it(fake, client):
    fake.hold = True
    joined = join_all(client)
    assert not client.wait(joined, timeout=0.01)
    assert client.cancel(joined) is True
    assert joined.done()
    other = join_all(client)
    fake.run_held()
    assert client.wait([other], timeout=10)


def test_a_coroutine_that_is_cancelled_takes_all_along(fake, client):
    fake.hold = True

    async def main():
        joined = join_all(client)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(joined, 0.02)
        return joined

    joined = asyncio.run(main())
    helpers.wait_until(joined.done, "all are stopped")
    assert joined.cancelled()


def test_results_of_several_clients(fake, client):
    from enginery.client.client import Client

    fake.hold = True
    with Client(fake.path) as other:
        joined = AsyncResult.join(client.submit(abs, -1), other.submit(abs, -2))
        helpers.wait_until(lambda: len(fake.held) == 2, "both are there")
        other.close()
        with pytest.raises(ControllerLost):
            joined[1]
        assert not joined.done()
        fake.run_held()
        with pytest.raises(ControllerLost):
            joined.get(10)
        assert joined[0] == 1
        assert joined.status == ["ok", "unknown"]


def test_its_output_is_that_of_all(fake, client, capsys):
    fake.hold = True
    one, several = client.submit(abs, -1), client[:2].apply_async(abs, -1)
    joined = AsyncResult.join(one, several)
    tasks = [one._task, several._task, several._task + 1]
    fake.say(m.Outputs([m.Output(task, "stdout", f"from {task % 10}\n", engine) for engine, task in enumerate(tasks)]))
    helpers.wait_until(lambda: len(joined._log()) == 3, "all output is here")
    assert [record.engine for record in joined._log()] == [0, 1, 2]
    assert len(joined._log()) == 3
    fake.run_held()
    joined.display_outputs("order")
    with joined.stream_output():
        assert joined.wait_interactive(timeout=10)
    shown = capsys.readouterr().out
    assert shown.count("[stdout:2]") == 2
    with pytest.raises(ValueError, match="groupby is one of type, engine, order, not 'colour'"):
        joined.display_outputs("colour")
    assert "JoinedResult" in joined._repr_html_()
