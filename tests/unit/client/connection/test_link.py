from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from enginery.client.client import Client
from enginery.client.connection.core import Entry
from enginery.wire import messages as m

import helpers


def submits(fake):
    return [len(message.tasks) for message in fake.of(m.Submit)]


def test_a_lone_task_leaves_from_the_thread_that_submits(client, monkeypatch):
    link = client._link
    sent = []
    helpers.wait_until(lambda: not link._woken and not link._socket_lock.locked(), "the I/O thread sleeps")
    monkeypatch.setattr(link, "_send_now", lambda entry, real=link._send_now: (sent.append(entry), real(entry)))
    assert client.submit(abs, -1).result(10) == 1
    assert len(sent) == 1


def test_a_flood_leaves_in_batches(fake, client):
    futures = [client.submit(abs, -i) for i in range(3000)]
    assert [future.result(30) for future in futures] == list(range(3000))
    assert len(submits(fake)) < 1000
    assert sum(submits(fake)) == 3000


def test_order_of_one_thread_is_kept(fake, client):
    for _ in range(30):
        client[0].push({"x": 0})
        for i in range(1, 20):
            client[0].push({"x": i})
        assert client[0]["x"] == 19


def test_no_wake_up_is_lost(client):
    """Threads that submit and wait in lockstep, each finding the I/O thread asleep, busy, or just falling asleep."""
    stop = time.monotonic() + 1.0
    rounds = []

    def work():
        n = 0
        while time.monotonic() < stop:
            assert client.submit(abs, -n).result(10) == n
            n += 1
        rounds.append(n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(rounds) == 4


def test_large_frames_are_sent_by_the_io_thread(client):
    data = bytes(1 << 20)
    futures = [client.submit(len, data) for _ in range(5)] + [client.submit(abs, -1)]
    assert [future.result(20) for future in futures] == [1 << 20] * 5 + [1]


def test_the_object_of_a_task_that_was_not_submitted_is_let_go_of(fake, client, monkeypatch):
    """Ctrl-C while there is no room: the object is made, and no task will ever name it."""
    link, info = client._link, m.ObjectInfo(b"0123456789abcdef", 1 << 20)

    def interrupted():
        raise KeyboardInterrupt

    link.core.room.full = True
    monkeypatch.setattr(link._gate, "wait", interrupted)
    monkeypatch.setattr(link._gate, "look", lambda: None)
    task = m.Task(link.new_tasks(), b"f" * 16, b"reference", objects=(info,))
    with pytest.raises(KeyboardInterrupt):
        link.submit(None, Entry(task, m.Function(task.function, b""), m.Options(), ()), time.time())
    helpers.wait_until(lambda: fake.of(m.Release), "it is let go of")
    assert [message.objects for message in fake.of(m.Put)] == [[info]]
    assert [message.objects for message in fake.of(m.Release)] == [[info.id]]
    assert not fake.of(m.Submit)


def test_a_callback_may_submit(client):
    done = threading.Event()
    got = []

    def again(future):
        got.append(future.result())
        if len(got) < 20:
            client.submit(lambda x: x + 1, got[-1]).add_done_callback(again)
        else:
            done.set()

    client.submit(abs, 0).add_done_callback(again)
    assert done.wait(20)
    assert got == list(range(20))


def test_a_garbage_collected_object_may_submit(client):
    results = []

    class Noisy:
        def __del__(self):
            results.append(client.submit(abs, -1))

    for _ in range(200):
        loop = [Noisy()]
        loop.append(loop)
        client.submit(abs, -2).result(10)
    del loop
    gc.collect()
    assert {result.result(10) for result in results} == {1}
    assert len(results) == 200


def test_quiet_and_deaf_controllers(fake, client, monkeypatch):
    from enginery.client.connection import core

    monkeypatch.setattr(core, "QUIET_S", 0.05)
    monkeypatch.setattr(core, "SILENT_S", 0.3)
    assert client.submit(abs, -1).result(10) == 1  # the deadlines are looked at again
    helpers.wait_until(lambda: len(fake.of(m.Ping)) > 2, "it asks, and is answered")
    assert client._link.core.lost is None
    fake.deaf = True
    helpers.wait_until(lambda: client._link.core.lost, "silence is loss")
    assert "has not answered" in str(client._link.core.lost)


def test_a_controller_that_vanishes_is_noticed(fake, monkeypatch):
    from enginery.client.connection import core

    monkeypatch.setattr(core, "BROKEN_S", 0.1)
    client = Client(fake.path)
    fake.hold = True
    future = client.submit(abs, -1)
    helpers.wait_until(lambda: fake.held, "the task is there")
    fake.stop()
    helpers.wait_until(future.done, "the loss is noticed")
    assert "broke" in str(future.exception())
    client.close()
    fake._read, fake._write = os.pipe()  # for the fixture, which stops it again


def run(code, path):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_program_may_end_without_closing(fake):
    fake.hold = True
    code = "import sys; from enginery import Client; c = Client(sys.argv[1]); f = c.submit(abs, 1); print('end')"
    done = run(code, fake.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    helpers.wait_until(lambda: fake.of(m.Goodbye), "it said goodbye")


def test_importing_is_light(fake):
    code = (
        "import sys\nimport enginery\nassert not [n for n in sys.modules if n.startswith('enginery.')]\n"
        "from enginery import Client\nc = Client(sys.argv[1])\nassert c.submit(abs, -1).result(10) == 1\n"
        "heavy = {'asyncio', 'numpy', 'IPython', 'ipykernel', 'cloudpickle', 'tornado'} & set(sys.modules)\n"
        "print(heavy - {'cloudpickle'})"
    )
    done = run(code, fake.path)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_public_names():
    import enginery

    assert set(enginery.__all__) <= set(dir(enginery))
    for name in enginery.__all__:
        assert getattr(enginery, name).__name__ in (name, {"NoEnginesRegistered": "NoEngines"}.get(name))
    done = subprocess.run(
        [sys.executable, "-c", "import src"],
        cwd=Path(enginery.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install -e ." in done.stderr


def test_a_callback_that_waits_is_told_so_and_nothing_hangs(client):
    """It runs in the thread that brings what it waits for."""
    errors = []

    def wait(wait_for):
        try:
            wait_for()
        except Exception as error:
            errors.append(str(error))

    def callback(_future):
        later = client.submit(abs, -2)
        for wait_for in (
            later.result,
            client.status,
            lambda: next(iter(client.imap(abs, [-1]))),
            client[:].map(abs, [1]).get,
        ):
            wait(wait_for)
        wait(lambda: list(concurrent.futures.as_completed([later])))

    client.submit(abs, -1).add_done_callback(callback)
    helpers.wait_until(lambda: len(errors) == 5, "all were told")
    assert all("in another thread" in error for error in errors), errors
    assert client.submit(abs, -3).result(10) == 3


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get_result(label="\ud800"),
        lambda client: client.db_query({"label": "\ud800"}),
        lambda client: client.wait_for_engines(1 << 70),
        lambda client: client.submit(abs, -1).cancel(grace_s="5"),
        lambda client: client.register_setup("x = '\ud800'"),
    ],
)
def test_what_no_message_can_say_is_refused_and_harms_nothing(fake, client, ask):
    fake.hold = True
    with pytest.raises(ValueError, match=r"surrogate|cannot be asked this"):
        ask(client)
    fake.hold = False
    assert client.status()["cluster"] == "fake"
