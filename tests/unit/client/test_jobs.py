"""Waiting for tasks, and stopping them, by results and ids."""

from __future__ import annotations

import threading

import pytest
from enginery.errors import NoSuchTask
from enginery.wire import messages as m

import helpers


def test_wait_for_ids(fake, client):
    fake.hold = True
    result, group = client.submit(abs, -1), client[:].apply_async(abs, -1)
    assert not client.wait(result.msg_id, timeout=0.01)
    assert not client.wait([group.msg_id[2], result], timeout=0.01)
    fake.run_held()
    assert client.wait([result.msg_id, group.msg_id[2], group], timeout=10)
    assert client.wait(result.msg_id, timeout=0)
    assert client.load_balanced_view().wait(result.msg_id)


def test_ids_that_are_none(client):
    for wrong in ("x", "1-2-3", "", -1):
        with pytest.raises((ValueError, TypeError), match="named by its id"):
            client.wait(wrong)
    with pytest.raises(NoSuchTask, match="has not submitted a task 1-99"):
        client.wait("1-99")
    with pytest.raises(ValueError, match="task 7-1 is another client's, which alone can stop it"):
        client.abort("7-1")


def test_wait_interactive_has_one_bar_for_all(fake, client, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert client.wait_interactive()
    fake.hold = True
    jobs = client.submit(abs, -1), client[:].apply_async(abs, -1), client.map(abs, [1] * 5)
    assert not client.wait_interactive(timeout=0.05, interval=0.01)
    fake.run_held(2)
    threading.Timer(0.1, fake.run_held).start()
    capsys.readouterr()
    assert client.wait_interactive(jobs, interval=0.01, timeout=20)
    assert "10/10 tasks" in capsys.readouterr().err


def test_abort_by_id_withdraws_that_task_alone(fake, client):
    fake.hold = True
    group = client[:].apply_async(abs, -1)
    client.abort([group.msg_id[1], group.msg_id[3]])
    helpers.wait_until(lambda: group.status.count("cancelled") == 2, "two of them were withdrawn")
    fake.run_held()
    assert group.wait(10)
    assert group.status == ["ok", "cancelled", "ok", "cancelled"]
    client.abort(group.msg_id)  # they have ended: nothing to do


def test_abort_on_some_engines(fake, client):
    fake.hold = True
    group, one, other = client[:].apply_async(abs, -1), client[1].apply_async(abs, -1), client[2].apply_async(abs, -1)
    mapped, free = client[:].map_async(abs, range(8)), client.submit(abs, -1)
    client.abort(targets=[1, 3])
    assert [sorted(cancel.tasks) for cancel in fake.of(m.Cancel)] == [
        [group._task + 1, group._task + 3, one._task, list(mapped._tasks)[1], list(mapped._tasks)[3]]
    ]
    assert one.cancelled()
    client[:].abort(other, targets=0)  # not addressed there
    fake.run_held()
    assert client.wait(timeout=10)
    assert group.status == ["ok", "cancelled", "ok", "cancelled"]
    assert [other.status, free.status] == ["ok", "ok"]
    assert [type(value).__name__ for value in mapped.get(return_exceptions=True)[::2]] == [
        "int",
        "TaskAborted",
        "int",
        "TaskAborted",
    ]


def test_abort_on_engines_that_are_not_there(client):
    with pytest.raises(IndexError):
        client.abort(targets=[9])
