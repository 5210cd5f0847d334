from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time

import pytest
from enginery.client.client import Client
from enginery.client.results.futures import GOES_ON
from enginery.client.views.directview import DirectView
from enginery.config import Connection, save
from enginery.errors import (
    ClusterError,
    ControllerLost,
    EngineryError,
    NoClusterError,
    NoEngines,
    NoSuchEngine,
    RemoteError,
    SerializationError,
)
from enginery.wire import messages as m

import helpers


def test_it_is_connected_when_it_returns(client):
    assert client.ids == [0, 1, 2, 3]
    assert len(client) == 4
    assert client.cluster_name == "fake"
    assert [type(view) for view in client] == [DirectView] * 4
    assert repr(client) == "<Client of cluster fake: 4 engines, 0 tasks unfinished>"


def test_there_must_be_a_cluster(runtime):
    with pytest.raises(NoClusterError, match="cluster start -n 8"):
        Client()


def test_a_controller_that_does_not_answer(tmp_path):
    connection = Connection(cluster="ghost", address=f"ipc://{tmp_path}/none")
    save(tmp_path / "client.json", connection)
    with pytest.raises(ClusterError, match=r"ghost at ipc://.* does not answer \(waited 0.05 s\)"):
        Client(tmp_path / "client.json", timeout=0.05)


def test_engines_that_do_not_answer(fake):
    fake.order(setattr, fake, "engines", 4)

    def answer(peer, message, frames, answer=fake._answer):
        if not isinstance(message, m.WaitEngines):
            answer(peer, message, frames)

    fake._answer = answer
    with pytest.raises(ClusterError, match=r"4 of the 4 engines of cluster fake answered within 0.2 s"):
        Client(fake.path, timeout=0.2)


def test_a_cluster_without_engines(fake):
    fake.engines = 0
    with Client(fake.path) as client:
        assert client.ids == []
        assert client
        with pytest.raises(NoEngines, match="scale"):
            client.direct_view().apply(os.getpid)
        assert client[:].targets == []
        assert client.scale(2) == [0, 1]


@pytest.mark.parametrize(
    ("key", "targets"),
    [
        (0, 0),
        (-1, 3),
        (slice(1, 3), [1, 2]),
        (slice(None), [0, 1, 2, 3]),
        ([0, 2], [0, 2]),
        ([-1, 0], [3, 0]),
        ((1,), [1]),
    ],
)
def test_index(client, key, targets):
    assert client[key].targets == targets


@pytest.mark.parametrize("key", [4, -5, [0, 9], [0, -7]])
def test_a_missing_id_is_an_index_error_naming_it(client, key):
    missing = key if isinstance(key, int) else key[1]
    with pytest.raises(IndexError, match=rf"there is no engine {missing}; there are: 0, 1, 2, 3") as caught:
        client[key]
    assert isinstance(caught.value, NoSuchEngine)


def test_wrong_keys(client):
    for key in ("x", 1.5, [True], None, {}):
        if key is None:
            continue
        with pytest.raises(TypeError):
            client[key]
    with pytest.raises(IndexError):
        client.direct_view([17])
    with pytest.raises(IndexError):
        client.load_balanced_view([17])


def test_submit(client):
    future = client.submit(pow, 2, exp=10)
    assert future.result(10) == 1024
    assert future.status == "ok"
    assert future.started.isoformat() == "1970-01-01T00:01:40+00:00"
    assert (future.completed - future.started).total_seconds() == 0.5
    assert future["engine_id"] == future.engine_id
    assert re.fullmatch(r"1-\d+", future.msg_id)
    assert future.elapsed >= 0
    assert future.serial_time == 0.5
    assert future.wall_time == future.elapsed
    assert future.progress == 1
    assert (future.ready(), future.successful(), future.error) == (True, True, None)
    with pytest.raises(KeyError, match="there are: msg_id"):
        future["nope"]
    with pytest.raises(TypeError, match="no items"):
        future[0]


def test_errors_arrive_as_themselves(client):
    future = client.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result(10)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.engine == future.engine_id
    assert future.get(return_exceptions=True) is caught.value
    assert not future.successful()
    assert future.status == "error"
    assert isinstance(future.error, ZeroDivisionError)


def test_pending(fake, client):
    fake.hold = True
    future = client.submit(abs, -1)
    assert (future.done(), future.status, future.started, future.error) == (False, "pending", None, None)
    assert not future.wait(0.01)
    with pytest.raises(TimeoutError, match=r"no result after 0.01 s"):
        future.get(0.01)
    with pytest.raises(TimeoutError):
        future.wall_time  # noqa: B018
    with pytest.raises(ValueError, match="not ready"):
        future.successful()
    assert not client.wait(timeout=0.01)
    assert "pending" in repr(future)
    fake.run_held()
    assert client.wait(timeout=10)
    assert future.r == 1


def test_arguments_that_cannot_travel_are_named(client):
    def f(cfg, *rest):
        pass

    class Config:
        def __init__(self):
            self.lock = threading.Lock()

    for args, kwargs, name in [
        ((Config(),), {}, "argument 'cfg' of f: attribute .lock"),
        ((1, 2, Config()), {}, "argument 3 of f: attribute .lock"),
        ((1,), {"more": [Config()]}, r"argument 'more' of f: item \[0\].lock"),
    ]:
        with pytest.raises(SerializationError, match=rf"^{name} is a _thread.lock$"):
            client.submit(f, *args, **kwargs)
    assert client.submit(abs, -1).result(10) == 1


def test_submitting_from_many_threads(client):
    results = {}

    def work(n):
        results[n] = [client.submit(lambda a, b: (a, b), n, i) for i in range(100)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n, futures in results.items():
        assert [future.result(10) for future in futures] == [(n, i) for i in range(100)]
    assert client._link.core.sinks == {}


def test_state_is_as_of_the_call(fake, client):
    fake.hold = True
    state = [1]
    futures = []
    for n in range(3):
        futures.append(client.submit(lambda: list(state)))
        state.append(n)
    helpers.wait_until(lambda: len(fake.held) == 3, "all are there")
    fake.run_held()
    assert [future.result(10) for future in futures] == [[1], [1, 0], [1, 0, 1]]


def test_a_function_is_sent_once(fake, client):
    f = lambda x: x
    for i in range(5):
        client.submit(f, i).result(10)
    assert sum(len(message.functions) for message in fake.of(m.Submit)) == 1


def test_cancel_unstarted(fake, client):
    fake.hold = True
    future = client.submit(abs, -1)
    assert future.cancel() is True
    assert future.cancelled()
    assert future.cancel() is True
    assert future.status == "cancelled"
    message = fake.of(m.Cancel)[0]
    assert (message.grace_s, message.interrupt) == (None, True)
    with pytest.raises(Exception, match="before it started"):
        future.result()


def test_cancel_done_and_running(fake, client):
    done = client.submit(abs, -1)
    done.result(10)
    assert done.cancel() is False
    fake.hold = True
    running = client.submit(abs, -2)
    helpers.wait_until(lambda: fake.held, "the task is held")
    held = fake.held[:]
    fake.held.clear()  # the controller says it cannot be stopped
    assert running.cancel(grace_s=3) is False
    assert fake.of(m.Cancel)[-1].grace_s == 3
    fake.held.extend(held)
    fake.run_held()
    assert running.result(10) == 2


def test_cancel_in_a_coroutine_or_callback_does_not_wait(fake, client):
    fake.hold = True

    async def main():
        future = client.submit(abs, -1)
        assert future.cancel() is False
        with pytest.raises(Exception, match="cancelled"):
            await future

    asyncio.run(main())
    other = client.submit(abs, -1)
    seen = []
    first = client.submit(abs, -1)
    first.add_done_callback(lambda _: seen.append(other.cancel()))
    first.cancel()
    helpers.wait_until(lambda: seen, "the callback ran")
    assert seen == [False]
    helpers.wait_until(other.cancelled, "it is cancelled in the end")


def test_abort_and_cancel_of_everything(fake, client):
    fake.hold = True
    futures = [client.submit(abs, n) for n in range(3)] + [client.map(abs, range(5))]
    client.abort(futures[0])
    assert futures[0].cancelled()
    assert fake.of(m.Cancel)[-1].interrupt is False
    assert client.cancel()
    assert all(future.cancelled() for future in futures)
    assert client.cancel()


def test_awaiting(client):
    async def main():
        assert await client.submit(pow, 2, 3) == 8
        with pytest.raises(ZeroDivisionError):
            await client.submit(lambda: 1 / 0)
        assert await client.map(abs, [-1, -2]) == [1, 2]
        assert await client[:].apply_async(lambda: 5) == [5] * 4
        assert await asyncio.wrap_future(client.submit(abs, -3)) == 3

    asyncio.run(main())


def test_connecting_from_a_coroutine(fake):
    async def main():
        async with Client.connect(fake.path) as client:
            assert await client.submit(abs, -1) == 1
        with pytest.raises(ControllerLost):
            client.submit(abs, 1)
        client = await Client.connect(fake.path)
        async with client:
            assert len(client) == 4
        await client.aclose()
        with pytest.raises(NoClusterError):
            await Client.connect(fake.path.with_name("nowhere.json"))

    asyncio.run(main())


def test_farewell_fails_everything_at_once(fake, client):
    fake.hold = True
    futures = [client.submit(abs, -1), client.map(abs, range(10)), client[:].apply_async(abs, 1)]
    started = time.monotonic()
    fake.say(m.Farewell("the cluster was stopped"))
    for future in futures:
        with pytest.raises(ControllerLost, match="the cluster was stopped"):
            future.get(10)
    assert time.monotonic() - started < 5
    for call in (lambda: client.submit(abs, 1), lambda: client[:], client.status, lambda: client.map(abs, [1])):
        with pytest.raises(ControllerLost, match="the cluster was stopped"):
            call()
    assert "the cluster was stopped" in repr(client)
    assert not client._link._thread.is_alive() or client._link._thread.join(5) is None


def test_a_waiting_thread_is_told_of_the_loss(fake, client):
    fake.hold = True
    future = client.submit(abs, -1)
    helpers.wait_until(lambda: fake.held, "the task is there")
    timer = threading.Timer(0.05, fake.say, [m.Farewell()])
    timer.start()
    with pytest.raises(ControllerLost):
        future.result(10)
    timer.join()


def test_what_the_controller_says_badly_ends_the_connection(fake, client):
    fake.hold = True
    future = client.submit(abs, -1)
    helpers.wait_until(lambda: fake.held, "the task is there")
    fake.raw(b"\xc1rubbish")
    with pytest.raises(ControllerLost, match="does not understand"):
        future.result(10)


def test_requests(fake, client):
    assert client.status() == {"cluster": "fake"}
    assert client.scale(2) == [0, 1]
    assert client.ids == [0, 1]
    client.restart()
    client.restart([1])
    there = [(0, 0), (1, 0)]
    assert [(message.engines, message.incarnations) for message in fake.of(m.Restart)] == [(None, there), ([1], there)]
    client.send_signal("int", 0)
    client.send_signal(15)
    assert [(message.signal, message.engines) for message in fake.of(m.Signal)] == [(2, [0]), (15, None)]
    assert client.wait_for_engines(2) == [0, 1]
    with pytest.raises(TimeoutError, match=r"2 engines are there, not 9, after 0.05 s"):
        client.wait_for_engines(9, timeout=0.05)
    with pytest.raises(ValueError, match="no signal"):
        client.send_signal("nonsense")
    for wrong in (0, 9999, 1 << 70):
        with pytest.raises(ValueError, match=f"there is no signal {wrong}"):
            client.send_signal(wrong)
    for wrong in ("3", -1, True):
        with pytest.raises(ValueError, match="the number of engines is 0 or more"):
            client.wait_for_engines(wrong)
    for wrong in (-1, True, "4"):
        with pytest.raises(ValueError, match="0 or more"):
            client.scale(wrong)
    client.shutdown([0])
    assert client.ids == [1]
    with pytest.raises(NoSuchEngine, match="no engine 0; there are: 1"):
        client.shutdown([0])
    assert [message.engines for message in fake.of(m.Retire)] == [[(0, 0)]]
    client.shutdown(restart=True)
    client.shutdown()
    assert client.ids == []
    client.shutdown(hub=True)
    helpers.wait_until(lambda: client._link.core.lost, "the farewell is here")


def test_close(fake):
    with Client(fake.path) as client:
        fake.hold = True
        future = client.submit(abs, -1)
    with pytest.raises(ControllerLost, match="this client is closed"):
        future.result(5)
    with pytest.raises(ControllerLost, match="this client is closed"):
        client.submit(abs, 1)
    client.close()
    helpers.wait_until(lambda: fake.of(m.Goodbye), "it said goodbye")
    assert not client._link._thread.is_alive()


def test_a_dropped_client_leaves_when_its_futures_are_done(fake):
    import gc

    fake.hold = True
    client = Client(fake.path)
    thread = client._link._thread
    future = client.submit(abs, -1)
    del client
    gc.collect()
    helpers.wait_until(lambda: fake.held, "the task is there")
    fake.run_held()
    assert future.result(10) == 1
    helpers.wait_until(lambda: not thread.is_alive(), "the thread has ended")
    helpers.wait_until(lambda: fake.of(m.Goodbye), "it said goodbye")


def test_a_forked_copy_says_what_it_is(fake, client):
    fake.hold = True
    pending = client.submit(abs, -1)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            for call in (lambda: client.submit(abs, 1), pending.result, client.status):
                try:
                    call()
                except EngineryError as error:
                    os.write(write, b"E" if "make a new Client() here" in str(error) else b"?")
            client.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert os.read(read, 10) == b"EEE"
    os.close(read)
    fake.run_held()
    assert pending.result(10) == 1


def test_large_values_travel_in_frames(client):
    import numpy as np

    array = np.arange(100_000.0)
    back = client.submit(lambda a: a * 2, array).result(10)
    assert (back == array * 2).all()
    back[0] = 1  # writable
    text = "x" * 200_000
    assert client.submit(lambda s: s + "y", text).result(10) == text + "y"


def test_output_is_kept_with_its_task(fake, client):
    fake.hold = True
    future = client.submit(abs, -1)
    task = future._task
    fake.say(
        m.Outputs(
            [
                m.Output(task, "stdout", "a\n", 1),
                m.Output(task, "stderr", "e", 1),
                m.Output(task, "stdout", "b\n", 1),
                m.Output(task, "display", {"text/plain": "p"}, 1),
            ]
        )
    )
    helpers.wait_until(lambda: future.stdout == "a\nb\n", "the output is here, while the task runs")
    fake.run_held()
    future.result(10)
    assert future.stderr == "e"
    assert future.outputs == [("display", {"text/plain": "p"})]


def test_statuses(fake, client):
    from enginery.errors import EngineDied, TaskRefused, TaskTimeout
    from enginery.wire.codec import encode

    fake.hold = True
    certificate = m.DeathCertificate(2, 0, 77, -9, "killed by signal 9 (SIGKILL)", memory_bytes=1 << 20)
    for status, payload, kind, text in [
        (m.Status.TIMEOUT, b"stopped at its time limit of 1 s", TaskTimeout, "time limit"),
        (m.Status.TIMEOUT, b"stopped at its time limit of 1 s", TimeoutError, "time limit"),
        (m.Status.LOST, encode(certificate), EngineDied, r"engine 2 \(pid 77\) killed by signal 9"),
        (m.Status.LOST, b"\xc1", Exception, "cannot be read"),
        (m.Status.REFUSED, b"there is no engine 7; there are: 0", NoSuchEngine, "no engine 7"),
        (m.Status.REFUSED, b"its function is not known", TaskRefused, "not known"),
        (99, b"", Exception, "unknown here"),
        (m.Status.OK, b"rubbish", SerializationError, "cannot be unpickled here"),
        (m.Status.ERROR, b"\x80\x05K\x01.", Exception, "unknown here"),
        (m.Status.ERROR, b"rubbish", Exception, "."),
    ]:
        future = client.submit(abs, -1)
        fake.finish(m.Result(future._task, status, payload, 0, 2))
        with pytest.raises(kind, match=text):
            future.result(10)


@pytest.mark.parametrize("running", [True, False])
def test_the_error_has_all_of_the_death_certificate(fake, client, running):
    from enginery.errors import EngineDied
    from enginery.wire.codec import encode

    fake.hold = True
    certificate = m.DeathCertificate(
        *(2, 0, 77, -11, "killed by signal 11 (SIGSEGV)", 1, 0, 1000, "last words", running),
        since=5.0,
        ended=9.0,
        peak_bytes=2000,
        memory_curve=[(2.5, 900), (0.5, 1000)],
        history=["engine 0 (exited with code 3)"],
    )
    future = client.submit(abs, -1)
    fake.finish(m.Result(future._task, m.Status.LOST, encode(certificate), 0, 2))
    with pytest.raises(EngineDied, match="it had also killed engine 0") as caught:
        future.result(10)
    error = caught.value
    assert (error.exit_code, error.ended, error.peak_bytes, error.last_output) == (-11, 9.0, 2000, "last words")
    assert error.memory_curve == [(2.5, 900), (0.5, 1000)]
    assert error.history == ["engine 0 (exited with code 3)"]
    assert error.since == (5.0 if running else 0.0), "the record is of the task that was running"


@pytest.mark.parametrize("items", [0, 3])
def test_cancel_tells_the_truth_whatever_the_answer(fake, client, items):
    """It may come before the result that it speaks of; asked again, the controller may not know of the task."""
    fake.hold = True
    for stopped in (True, False):
        future = client.map(abs, range(items), chunksize=items) if items else client.submit(abs, -1)
        helpers.wait_until(lambda: fake.held, "the task is held")
        _, _, task, _ = fake.held.pop()  # the controller does not say by itself how it ended
        answers = []
        thread = threading.Thread(target=lambda future=future, answers=answers: answers.append(future.cancel()))
        asked = len(fake.of(m.Cancel))
        fake.deaf = True
        thread.start()
        helpers.wait_until(lambda n=asked: len(fake.of(m.Cancel)) > n, "it was asked")
        result = m.Results([m.Result(task.id, m.Status.CANCELLED, b"cancelled", hi=items)])
        reply = m.Reply(fake.of(m.Cancel)[-1].request, [task.id] if stopped else [])
        for message in (reply, result) if stopped else (result, reply):
            fake.say(message)
        thread.join(5)
        fake.deaf = False
        assert answers == [True]


def test_cancel_of_some_of_several(fake, client):
    fake.hold = True
    group = client[:2].apply_async(abs, -1)
    helpers.wait_until(lambda: len(fake.held) == 2, "both are held")
    fake.run_held(1)
    helpers.wait_until(lambda: group.progress == 1, "the first is done")
    assert group.cancel() is True
    assert group.status == ["ok", "cancelled"]
    assert group.cancel() is True


def interrupt_who_waits(*results):
    helpers.wait_until(lambda: any(r._waiting and r._waiting.condition._waiters for r in results), "somebody waits")
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_ctrl_c_while_waiting_leaves_everything_in_order(fake, client):
    import _thread

    fake.hold = True
    future = client.submit(abs, -1)
    threading.Timer(0.05, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            future.wait(0.1)
    items = client.map(abs, range(3))
    for wait in (future.result, future.get, future.wait, items.get, lambda: list(items), client.wait):
        thread = threading.Thread(target=interrupt_who_waits, args=(future, items))
        thread.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            wait()
        thread.join()
        assert caught.value.__notes__ == [GOES_ON]
    fake.hold = False
    fake.run_held()
    assert future.result(10) == 1
    assert client.submit(abs, -2).result(10) == 2


def test_set_up_is_registered_for_all_engines(fake, client):
    results = client.register_setup("x = 1\ny = 2")
    assert [reply.engine_id for reply in results.get(timeout=5)] == [0, 1, 2, 3]
    assert client.register_setup(divmod, 7, 3).get(timeout=5) == [(2, 1)] * 4
    options = [message.options[0] for message in fake.of(m.Submit)]
    assert [(option.setup, option.targets, option.ordered) for option in options] == [
        ("x = 1", (0, 1, 2, 3), True),
        ("divmod", (0, 1, 2, 3), True),
    ]
    client.clear_setup()
    assert fake.of(m.ClearSetup)


def test_the_same_set_up_has_the_same_payload(fake, client):
    def function(x):
        return x

    for _ in range(2):
        client.register_setup("import sys").get(timeout=5)
        client.register_setup(function, [1]).get(timeout=5)
    payloads = [message.tasks[0].payload for message in fake.of(m.Submit)]
    assert payloads[:2] == payloads[2:]
    assert payloads[0] != payloads[1]


def test_set_up_for_no_engines_yet(fake, client):
    client.scale(0)
    assert client.register_setup("x = 1").get(timeout=5) == []
    helpers.wait_until(lambda: fake.of(m.Submit), "it was sent all the same")
    (task,) = fake.of(m.Submit)[0].tasks
    assert task.copies == 0
    client.scale(2)
    future = client.submit(abs, -1)
    assert future.result(5) == 1
    assert fake.of(m.Submit)[1].tasks[0].id != task.id


def test_what_cannot_be_set_up(client):
    with pytest.raises(TypeError, match="code takes no arguments"):
        client.register_setup("x = 1", 5)
    with pytest.raises(TypeError, match="set-up is code as a string, or a function, not int"):
        client.register_setup(5)
    with pytest.raises(SerializationError, match="argument"):
        client.register_setup(abs, threading.Lock())
    with pytest.raises(TypeError, match="give it their values"):
        client.register_setup(abs, client.submit(abs, -1))


def test_large_arguments_of_setup_are_part_of_it(client):
    assert client.register_setup(len, "x" * 200_000).get(timeout=5) == [200_000] * 4
    assert client.register_setup(len, b"x" * 2_000_000).get(timeout=5) == [2_000_000] * 4


# ------------------------------------------------------------------------------------------------ names of clusters


@pytest.mark.parametrize(
    "names", [{"cluster_id": "PATH"}, {"profile": "PATH"}, {"cluster": "PATH", "profile": "default"}]
)
def test_older_words_for_the_name_of_a_cluster(fake, names):
    given = {key: str(fake.path) if value == "PATH" else value for key, value in names.items()}
    with Client(**given) as client:
        assert client.cluster_name == "fake"


def test_two_names_must_be_the_same(fake):
    with Client(str(fake.path), cluster_id=str(fake.path)) as client:
        assert client.ids
    with pytest.raises(TypeError, match="name different clusters: 'one', 'other'"):
        Client("one", profile="other")


# ------------------------------------------------------------------------------------------------ views


def test_views_by_other_names(client):
    for view in (client.broadcast_view(), client.broadcast_view("all", is_coalescing=True)):
        assert isinstance(view, DirectView)
        assert view.targets == "all"
    assert client.broadcast_view([1, 2]).apply_sync(abs, -1) == [1, 1]


def test_clear(client):
    client[:]["x"] = 1
    client.clear(0, block=True)
    assert client[1]["x"] == 1
    with pytest.raises(NameError):
        client[0]["x"]
    client.clear().get()
    with pytest.raises(NameError):
        client[1]["x"]


@pytest.mark.parametrize("key", [slice(0, 0), slice(4, None), []])
def test_a_view_of_no_engine_says_so_at_the_call(client, key):
    view = client[key]
    assert view.targets == []
    for call in (
        lambda: view.apply(abs, -1),
        lambda: view.map(abs, [1]),
        lambda: view.scatter("x", [1]),
        lambda: view["x"],
    ):
        with pytest.raises(NoEngines, match="scale"):
            call()
