"""Comms of an engine: whose output what they say is, and what comes for them."""

from __future__ import annotations

import comm
import pytest
from enginery.engine.comms import Comms, RelayedComm
from enginery.engine.current import Current
from enginery.engine.output import OutputBuffer
from enginery.ids import ClientNo, first_task_id
from enginery.recorder import NO_TASK

FIRST, OTHER = first_task_id(ClientNo(1)), first_task_id(ClientNo(2))


@pytest.fixture
def current():
    current = Current()
    current.task = FIRST
    return current


@pytest.fixture
def output(current):
    return OutputBuffer(current, [FIRST, 0])


@pytest.fixture
def comms(output, monkeypatch):
    for name in ("create_comm", "get_comm_manager"):
        monkeypatch.setattr(comm, name, getattr(comm, name))  # put back at the end
    return Comms(output)


def said(output):
    return [(record.task, record.data["type"], record.data["data"]) for record in output.take()]


def test_what_a_comm_says_is_output_of_the_task_that_runs(comms, output, current):
    made = comm.create_comm(target_name="t", data={"n": 1}, buffers=[memoryview(b"xy")])
    (record,) = output.take()
    assert (record.kind, record.task) == ("comm", FIRST)
    assert record.data["buffers"] == [b"xy"]
    assert record.data["target_name"] == "t"
    current.task = FIRST + 1
    made.send({"n": 2})
    assert said(output) == [(FIRST + 1, "comm_msg", {"n": 2})]


@pytest.mark.parametrize("task", [OTHER, NO_TASK], ids=["of another client", "none"])
def test_else_it_is_output_of_the_task_that_made_it(comms, output, current, task):
    made = comm.create_comm(target_name="t")
    output.take()
    current.task = task
    made.send({"n": 2})
    assert said(output) == [(FIRST, "comm_msg", {"n": 2})]


def test_without_a_task_or_a_front_end_nobody_is_told(comms, output, current):
    current.task = NO_TASK
    made = comm.create_comm(target_name="t")
    made.send({"n": 1})
    assert not isinstance(made, RelayedComm)
    assert not output.pending


def test_a_forked_copy_of_the_process_says_nothing(comms, output):
    made = comm.create_comm(target_name="t")
    output.take()
    output.detached = True
    made.send({"n": 1})
    assert not output.pending


def test_messages_find_their_comm_and_closing_ends_it(comms):
    heard = []
    made = comm.create_comm(target_name="t")
    made.on_msg(lambda message: heard.append((message["content"]["data"], list(map(bytes, message["buffers"])))))
    assert comms.receive("comm_msg", made.comm_id, {"n": 1}, {}, [b"xy"])
    assert heard == [({"n": 1}, [b"xy"])]
    assert comms.receive("comm_close", made.comm_id, {}, {}, [])
    assert not comms.receive("comm_msg", made.comm_id, {"n": 2}, {}, [])
