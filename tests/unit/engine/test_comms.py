"""Comms of an engine: what they say is output, what they are told arrives, in whosever name."""

from __future__ import annotations

import comm
import pytest
from enginery.engine.comms import TEXT_MAX, Comms, RelayedComm
from enginery.engine.current import Current
from enginery.engine.output import OutputBuffer
from enginery.ids import ClientNo, first_task_id
from enginery.recorder import NO_TASK

ANA, BEN = first_task_id(ClientNo(1)), first_task_id(ClientNo(2))


@pytest.fixture
def current():
    current = Current()
    current.task = ANA
    return current


@pytest.fixture
def output(current):
    return OutputBuffer(current, [0, 0])


@pytest.fixture
def comms(output, monkeypatch):
    for name in ("create_comm", "get_comm_manager"):
        monkeypatch.setattr(comm, name, getattr(comm, name))
    yield Comms(output)
    for made in list(comm.get_comm_manager().comms.values()):
        made.close()  # here, and not when it is collected


def say(made, **state):
    made.send({"method": "update", "state": state, "buffer_paths": []})


def states(output):
    return [record.data["data"]["state"] for record in output.take() if record.data["type"] == "comm_msg"]


def test_what_a_comm_says_is_output_of_the_task(comms, output):
    made = comm.create_comm(target_name="t", data={"a": 1}, metadata={"version": "2"}, buffers=[memoryview(b"xy")])
    made.send([1, 2])
    made.close()
    opened, said, closed = output.take()
    assert (opened.kind, opened.task) == ("comm", ANA)
    assert opened.data == {
        "type": "comm_open",
        "comm_id": made.comm_id,
        "target_name": "t",
        "data": {"a": 1},
        "metadata": {"version": "2"},
        "buffers": [b"xy"],
    }
    assert (said.data["type"], said.data["data"]) == ("comm_msg", [1, 2])
    assert closed.data["type"] == "comm_close"


def test_without_a_task_a_comm_is_nobodys(comms, output, current):
    current.task = NO_TASK
    assert not isinstance(comm.create_comm(target_name="t"), RelayedComm)
    assert output.take() == []


def test_what_no_task_or_one_of_another_client_has_it_say_goes_to_who_made_it(comms, output, current):
    made = comm.create_comm(target_name="t")
    for task in (NO_TASK, BEN, ANA + 1):
        current.task = task
        made.send("word")
    assert [record.task for record in output.take()] == [ANA, ANA, ANA, ANA + 1]


def test_of_plain_values_set_in_a_row_the_last_is_sent(comms, output):
    made = comm.create_comm(target_name="t")
    for value in range(1000):
        say(made, value=value)
    say(made, label="done")
    assert states(output) == [{"value": 999, "label": "done"}]
    say(made, value=1)
    assert states(output) == [{"value": 1}], "what has been sent is not changed any more"


def test_plain_values_of_different_tasks_stay_apart(comms, output, current):
    made = comm.create_comm(target_name="t")
    say(made, value=1)
    current.task = ANA + 1
    say(made, value=2)
    assert states(output) == [{"value": 1}, {"value": 2}]


@pytest.mark.parametrize(
    "state", [{"children": ["IPY_MODEL_x"]}, {"layout": "IPY_MODEL_x"}, {"msg_id": "m"}, {"text": "x" * (TEXT_MAX + 1)}]
)
def test_what_is_more_than_plain_values_keeps_its_place(comms, output, state):
    made = comm.create_comm(target_name="t")
    say(made, value=1)
    say(made, **state)
    say(made, value=2)
    assert states(output) == [{"value": 1}, state, {"value": 2}]


def test_a_message_arrives_with_its_buffers_and_knows_whom_it_answers(comms):
    made = comm.create_comm(target_name="t")
    got = []
    made.on_msg(lambda message: got.append((message, made.kernel.get_parent())))
    assert comms.receive("comm_msg", made.comm_id, {"a": 1}, {"m": 2}, [b"xy"], msg_id="question")
    ((message, parent),) = got
    assert message["content"] == {"comm_id": made.comm_id, "data": {"a": 1}}
    assert message["metadata"] == {"m": 2}
    assert [bytes(buffer) for buffer in message["buffers"]] == [b"xy"]
    assert parent == {"header": {"msg_id": "question"}}
    assert made.kernel.get_parent() == {}


def test_what_a_callback_raises_is_raised_and_its_question_is_forgotten(comms):
    made = comm.create_comm(target_name="t")

    def fail(message):
        raise ValueError("no")

    made.on_msg(fail)
    with pytest.raises(ValueError, match="no"):
        comms.receive("comm_msg", made.comm_id, {}, {}, [], msg_id="question")
    assert made.kernel.get_parent() == {}


def test_a_comm_that_the_notebook_closes_is_closed_and_told_so(comms, output):
    made = comm.create_comm(target_name="t")
    told = []
    made.on_close(told.append)
    assert comms.receive("comm_close", made.comm_id, {}, {}, [])
    assert len(told) == 1
    made.close()
    assert [record.data["type"] for record in output.take()] == ["comm_open"], "it is not closed twice"
    assert not comms.receive("comm_msg", made.comm_id, {}, {}, []), "it is not there any more"


def test_a_copy_of_the_process_that_user_code_forked_says_nothing(comms, output):
    made = comm.create_comm(target_name="t")
    output.take()
    output.detached = True
    made.send("word")
    output.detached = False
    assert output.take() == []
