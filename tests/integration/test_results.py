"""Results and errors as a user meets them, on a cluster of real processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from enginery import AsyncResult, CompositeError, EngineDied, RemoteError, SerializationError, TaskAborted


def run(code, path, *how):
    """Run a script in a process of its own; return what it wrote to both streams."""
    path.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, *how, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "", "NO_COLOR": "1", "IPYTHONDIR": str(path.parent)},
    )
    return done.stdout + done.stderr


DEEP = """
    import enginery

    def deep(x):
        return 1 / x

    def call(x):
        return deep(x)
"""


# ------------------------------------------------------------------------------------------------ errors, as shown


def test_an_uncaught_error_shows_the_remote_frames_once(cluster, tmp_path):
    text = run(
        DEEP + f"    client = enginery.Client({cluster.name!r})\n    client.submit(call, 0).get()", tmp_path / "s.py"
    )
    assert text.count("in deep\n    return 1 / x") == 1
    assert text.count("in call\n    return deep(x)") == 1
    assert "RemoteTraceback: on engine" in text
    assert text.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_several_uncaught_errors_show_the_frames_of_each(cluster, tmp_path):
    text = run(
        DEEP + f"    client = enginery.Client({cluster.name!r})\n    client[:].apply_sync(call, 0)", tmp_path / "s.py"
    )
    assert [text.count(f"on engine {n}:") for n in range(3)] == [1, 1, 1]
    assert text.count("in deep\n") == 3
    assert "CompositeError: 3 of 3 calls failed; the first with ZeroDivisionError: division by zero" in text


def test_a_failing_test_shows_the_remote_frames(cluster, tmp_path):
    code = f"""
    def test_one():
        with enginery.Client({cluster.name!r}) as client:
            assert client.submit(call, 0).result() == 1

    def test_map():
        with enginery.Client({cluster.name!r}) as client:
            client.map(call, [1, 0]).get()
    """
    text = run(
        DEEP + code, tmp_path / "test_s.py", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)
    )
    assert text.count("in deep\n    return 1 / x") == 2
    assert text.count("RemoteTraceback: on engine") == 2
    assert len(re.findall(r"^E +ZeroDivisionError: division by zero$", text, re.MULTILINE)) == 2
    assert "2 failed" in text


def test_ipython_shows_the_remote_frames_and_not_the_wait(cluster, tmp_path):
    code = f"    client = enginery.Client({cluster.name!r})\n    client.submit(call, 0).get()"
    text = run(DEEP + code, tmp_path / "s.py", "-m", "IPython", "--colors=nocolor", "--no-banner")
    assert "[engine" in text
    assert "in deep\n    return 1 / x" in text
    assert "lightfuture.py" not in text
    assert "futures.py" not in text


# ------------------------------------------------------------------------------------------------ errors, as caught


def test_where_it_happened(client):
    result = client[1].apply_async(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        result.get(10)
    (pid,) = client[[1]].apply_sync(os.getpid)
    where = {"engine_id": 1, "engine_uuid": result.engine_uuid, "host": os.uname().nodename, "pid": pid}
    assert caught.value.engine_info == {**where, "msg_id": result.msg_id}
    again = pickle.loads(pickle.dumps(result))
    assert again.error.engine_info == caught.value.engine_info
    assert again.engine_uuid == result.engine_uuid


def test_a_class_that_lives_on_the_engine_only(client):
    client[0].execute(
        "class OnlyThere(Exception):\n    def __init__(self, *, code):\n        self.code = code", block=True
    )
    with pytest.raises(RemoteError) as caught:
        client[0].execute("raise OnlyThere(code=4)", block=True)
    assert caught.value.ename == "OnlyThere"
    assert caught.value.code == 4, "its class came along"
    client[0].execute(
        "import sys, types\nm = types.ModuleType('only_there')\nsys.modules['only_there'] = m\n"
        "m.Gone = type('Gone', (Exception,), {'__module__': 'only_there'})",
        block=True,
    )
    with pytest.raises(RemoteError) as caught:
        client[0].execute("raise m.Gone('x')", block=True)
    assert (type(caught.value), caught.value.ename, caught.value.evalue) == (RemoteError, "Gone", "x")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise StopIteration(1)", "StopIteration"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise BaseExceptionGroup('b', [SystemExit()])", "BaseExceptionGroup"),
    ],
)
def test_what_would_end_an_engine_ends_its_task_only(client, code, name):
    def fail():
        exec(code)

    before = client[0].apply_sync(os.getpid)
    with pytest.raises(RemoteError) as caught:
        client[0].apply_sync(fail)
    assert (type(caught.value), caught.value.ename) == (RemoteError, name)
    assert client[0].apply_sync(os.getpid) == before


def test_a_syntax_error_and_an_error_with_a_cause(client):
    with pytest.raises(SyntaxError):
        client[0].execute("1 +", block=True)

    def fail():
        try:
            {}["missing"]
        except KeyError as error:
            raise OSError(2, "not found", "/nowhere") from error

    with pytest.raises(FileNotFoundError) as caught:
        client.submit(fail).result(10)
    assert (caught.value.errno, caught.value.filename) == (2, "/nowhere")
    assert "KeyError: 'missing'" in caught.value.traceback
    assert "direct cause" in caught.value.traceback


def test_the_culprit_of_a_result_is_named(client):
    def hold():
        return {"k": [threading.Lock()]}

    with pytest.raises(SerializationError, match=r"^the result of hold: item \['k'\]\[0\] is a _thread.lock$"):
        client.submit(hold).result(10)
    client[0].execute("import threading; held = [threading.Lock()]", block=True)
    with pytest.raises(SerializationError, match=r"^the result of pull: item .* is a _thread.lock$"):
        client[0].pull("held", block=True)


# ------------------------------------------------------------------------------------------------ results


def test_pieces_are_cancelled_alone_and_truly_stopped(client):
    result = client[:].apply_async(time.sleep, 30)
    pieces = result.split()
    assert pieces[1].cancel() is True
    assert client[1].apply_async(abs, -1).get(5) == 1, "its engine is free"
    assert [piece.done() for piece in pieces] == [False, True, False]
    done, pending = result.wait(return_when="FIRST_COMPLETED")
    assert (done, pending) == ({pieces[1]}, {pieces[0], pieces[2]})
    assert AsyncResult.join(*pieces).cancel() is True
    assert result.status == ["cancelled"] * 3
    with pytest.raises(TaskAborted):
        result.get()
    assert client[:].apply_async(abs, -1).get(5) == [1] * 3


def test_an_engine_that_died_and_came_again_is_another(client):
    before = client[2].apply_async(os.getpid)
    pid = before.get(10)
    with pytest.raises(EngineDied):
        client[2].apply_sync(lambda: os._exit(3))
    client.wait_for_engines(3, timeout=20)
    after = client[2].apply_async(os.getpid)
    assert after.get(10) != pid
    engine, number = before.engine_uuid.split(".")
    assert (engine, after.engine_uuid) == ("2", f"2.{int(number) + 1}")


def test_output_is_streamed_whatever_becomes_of_the_block(client, capsys):
    def talk(n):
        print("from", n)
        return n

    result = client[:].apply_async(talk, 7)
    with pytest.raises(KeyError), result.stream_output() as same:
        assert same is result
        result.wait()
        raise KeyError("in the block")
    assert sorted(capsys.readouterr().out.splitlines()) == [f"[stdout:{n}] from 7" for n in range(3)]
    with result.stream_output(), result.stream_output():
        pass
    assert len(capsys.readouterr().out.splitlines()) == 6, "what is done is shown again, to each who looks"
    one = client[0].apply_async(time.sleep, 30)
    with one.stream_output():
        pass
    assert capsys.readouterr().out == "", "it does not wait for the end"
    one.cancel()
    failing = client[0].apply_async(lambda: print("before") or 1 / 0)
    failing.display_outputs("engine")
    assert "before" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        failing.get()


def test_asyncio_and_the_standard_library(client):
    async def main():
        group = client[:].apply_async(os.getpid)
        items = client.map(abs, range(-5, 0))
        values = await asyncio.gather(group, items, client.submit(abs, -1), asyncio.wrap_future(client.submit(abs, -2)))
        slow = client.submit(time.sleep, 30)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow, 0.1)
        with pytest.raises(TaskAborted):
            await slow
        return values

    pids, items, one, two = asyncio.run(main())
    assert (len(set(pids)), items, one, two) == (3, [5, 4, 3, 2, 1], 1, 2)
    futures = [*client[:].apply_async(os.getpid).split(), client.submit(os.getpid)]
    assert {future.result() for future in concurrent.futures.as_completed(futures, 10)} == set(pids)


def test_the_first_error_is_raised_while_others_sleep(client):
    def some(n):
        if n:
            time.sleep(30)
        raise ValueError("at once")

    client[:].scatter("rank", range(3), flatten=True, block=True)
    began = time.monotonic()
    result = AsyncResult.join(client[:2].apply_async(time.sleep, 30), client[2].apply_async(some, 0))
    with pytest.raises(ValueError, match="at once"):
        result.get(return_when="FIRST_EXCEPTION")
    assert time.monotonic() - began < 10
    assert result.cancel()
    with pytest.raises(CompositeError, match="3 of 3"):
        result.get()


def slow_list(values):
    time.sleep(0.1)
    return values


def test_results_of_every_kind_are_arguments_while_pending_and_when_done(client):
    one, group = client.submit(slow_list, 3), client[:].apply_async(slow_list, 4)
    items = client.map(slow_list, range(5), chunksize=2)
    joined = AsyncResult.join(one, group, items)
    pieces = (group.split()[1], items.split()[1])
    values = [joined, {"deep": pieces}]
    expected = [[3, 4, 4, 4, 0, 1, 2, 3, 4], {"deep": (4, [2, 3])}]
    assert client.submit(list, values).get(20) == expected
    assert client.submit(list, values).get(20) == expected
    stored = pickle.loads(pickle.dumps((one, group, joined)))
    assert client.submit(list, stored).get(20) == [3, [4, 4, 4], expected[0]]
    fetched = client.get_result([one, group.split()[0], items])
    fetched.wait()
    assert client.submit(list, (fetched, fetched.split()[0], fetched.split()[-1])).get(20) == [
        [3, 4, 0, 1, 2, 3, 4],
        [3],
        [4],
    ]
    parts = client[:].parallel()(slow_list)(np.arange(6))
    assert client.submit(type, parts).get(20) is np.ndarray, "put together, as get() would"
