"""Results travel when they are done: with value or error and metadata, and without a client."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys

import numpy as np
import pytest
from enginery.client.results.futures import AsyncResult
from enginery.client.results.metadata import METADATA
from enginery.errors import CompositeError, ControllerLost, RemoteError, SerializationError, TaskAborted
from enginery.serialize import dumps, loads
from enginery.wire import messages as m

import helpers

MAKE = {
    "one": lambda client: client.submit(abs, -1),
    "group": lambda client: client[:].apply_async(abs, -1),
    "map": lambda client: client.map(abs, range(6), chunksize=2),
    "joined": lambda client: AsyncResult.join(client.submit(abs, -1), client.map(abs, range(3))),
    "piece": lambda client: client[:].apply_async(abs, -1).split()[1],
    "items": lambda client: client.map(abs, range(6), chunksize=2).split()[1],
}

kinds = pytest.mark.parametrize("kind", MAKE)


def travelled(result):
    return pickle.loads(pickle.dumps(result))


@kinds
def test_what_is_done_is_the_same_elsewhere(fake, client, kind):
    result = MAKE[kind](client)
    value = result.get(10)
    client.close()
    for again in (travelled(result), travelled(travelled(result)), loads(*dumps(result))):
        assert isinstance(again, AsyncResult)
        assert again.done()
        assert again.get() == again.result(0) == value
        assert again.exception() is None
        assert again.metadata == result.metadata
        assert (again.label, again.elapsed, again.serial_time) == (result.label, result.elapsed, result.serial_time)
        assert (again.progress, again._total(), again.wall_time) == (result.progress, result._total(), result.wall_time)
        assert again.cancel() is False
        assert again.wait(return_when="ALL_COMPLETED") == ({again}, set())
        assert asyncio.run(awaited(again)) == value
        if isinstance(value, list):
            assert list(again) == value
            assert (len(again), again[-1], again[1:]) == (len(value), value[-1], value[1:])
            assert again.wait_interactive()
        if kind != "joined":
            assert again.get_dict() == result.get_dict()


async def awaited(result):
    return await result


@kinds
def test_what_is_not_done_does_not_travel(fake, client, kind):
    fake.hold = True
    result = MAKE[kind](client)
    with pytest.raises(TypeError, match=r"is not done, and only then it can be pickled: wait\(\) for it"):
        pickle.dumps(result)
    fake.run_held()
    result.wait()
    assert travelled(result).get() == result.get()


def test_errors_travel_along(client):
    result = client.submit(int, "x")
    result.wait()
    again = travelled(result)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        again.get()
    assert isinstance(caught.value, RemoteError)
    assert caught.value.engine_info == result.error.engine_info
    assert caught.value.traceback == result.error.traceback
    assert (again.status, again.successful()) == ("error", False)
    several = client[:2].apply_async(int, "x")
    several.wait()
    with pytest.raises(CompositeError, match="2 of 2 calls failed") as group:
        travelled(several).get()
    assert [error.engine for error in group.value.elist] == [0, 1]
    forgiving = client.map(int, ["1", "x", "3"], return_exceptions=True)
    forgiving.wait()
    values = travelled(forgiving).get()
    assert (values[0], type(values[1]).__name__, values[2]) == (1, "ValueError", 3)


def test_cancelled_and_lost_ones_travel(fake, client):
    fake.hold = True
    result = client.submit(abs, -1)
    result.cancel()
    again = travelled(result)
    assert again.cancelled()
    assert again.cancel() is True
    with pytest.raises(TaskAborted):
        again.get()
    lost = client[:].apply_async(abs, -1)
    client.close()
    again = travelled(lost)
    with pytest.raises(ControllerLost):
        again.get()
    assert again.status == ["unknown"] * 4


def test_arrays_that_were_gathered_travel_as_what_was_made_of_them(client):
    client[:].scatter("part", np.arange(8), block=True)
    result = client[:].gather("part")
    result.wait()
    again = travelled(travelled(result))
    assert again.get().tolist() == list(range(8))
    assert [part.tolist() for part in again] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_output_travels_along(fake, client, capsys):
    fake.hold = True
    result = client[0].execute("x = 1", silent=False)
    task = result._task
    fake.say(m.Outputs([m.Output(task, "stdout", "out\n", 0), m.Output(task, "display", {"data": {}}, 0)]))
    helpers.wait_until(lambda: result.outputs, "the output is here")
    fake.run_held()
    result.wait()
    again = travelled(result)
    assert (again.stdout, again.outputs) == ("out\n", [("display", {"data": {}})])
    assert again.get().stdout == "out\n"
    again.display_outputs()
    assert "out" in capsys.readouterr().out


def test_another_process_can_read_it(client, tmp_path):
    result = client.map(abs, range(4))
    result.wait()
    (tmp_path / "result").write_bytes(pickle.dumps(result))
    code = f"import pickle; r = pickle.load(open({str(tmp_path / 'result')!r}, 'rb')); print(r.get(), r.status[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[0, 1, 2, 3] ok\n"


def test_metadata_are_complete(client):
    result = client.submit(abs, -1)
    result.wait()
    assert set(travelled(result).metadata) == set(METADATA)


def test_a_client_and_a_view_say_why_they_do_not_travel(client):
    view = client[:]
    for wrong, sentence in [
        (client, "a client is a connection of its process"),
        (view, "a view belongs to its client"),
    ]:
        with pytest.raises(TypeError, match=sentence):
            pickle.dumps(wrong)
    with pytest.raises(SerializationError, match=r"captured variable view is an enginery.*DirectView .*a view belongs"):
        client.submit(lambda: view)
