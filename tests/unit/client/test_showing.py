from __future__ import annotations

import pickle
import sys

import pytest
from enginery.client.results.execution import ExecuteReply
from enginery.client.results.futures import Part
from enginery.errors import CompositeError, EngineDied, RemoteError
from enginery.jupyter.relay import handlers
from enginery.serialize import Failure, dumps
from enginery.wire import messages as m

import helpers


def outputs(*records):
    return m.Outputs([m.Output(*record) for record in records])


def submitted(fake, client, count=1):
    """Return the result of a call that is held, and its task's id."""
    fake.hold = True
    result = client[0].apply_async(abs, -1) if count == 1 else client[:count].apply_async(abs, -1)
    helpers.wait_until(lambda: len(fake.held) == count, "the task has arrived")
    return result, fake.held[0][2].id


def test_the_newest_data_is_kept(fake, client):
    result, task = submitted(fake, client)
    assert result.data is None
    fake.say(outputs((task, "data", pickle.dumps({"step": 1}), 0), (task, "stdout", "x", 0)))
    fake.say(outputs((task, "data", pickle.dumps({"step": 2}), 0)))
    helpers.wait_until(lambda: result.data == {"step": 2}, "the second value is there")
    assert result["data"] == {"step": 2}
    assert result.outputs == []
    fake.run_held()
    assert result.get() == 1
    assert result.data == {"step": 2}


def test_data_of_a_group_is_by_engine(fake, client):
    result, task = submitted(fake, client, 3)
    fake.say(outputs((task + 1, "data", pickle.dumps("one"), 1)))
    helpers.wait_until(lambda: result.data == [None, "one", None], "the value is there")
    fake.run_held()
    assert result.get() == [1, 1, 1]


def test_data_of_a_map(fake, client):
    fake.hold = True
    result = client.map(abs, [-1, -2])
    helpers.wait_until(lambda: fake.held, "the tasks have arrived")
    fake.say(outputs((fake.held[0][2].id, "data", pickle.dumps(7), 0)))
    fake.run_held()
    assert result.get() == [1, 2]
    assert 7 in result.data


def test_output_is_logged_in_the_order_in_which_it_came(fake, client):
    result, task = submitted(fake, client, 2)
    fake.say(outputs((task + 1, "stdout", "b\n", 1), (task, "stdout", "a\n", 0), (task + 1, "stdout", "c\n", 1)))
    helpers.wait_until(lambda: len(result._log()) == 3, "the output is there")
    assert [record.data for record in result._log()] == ["b\n", "a\n", "c\n"]
    assert result.stdout == ["a\n", "b\nc\n"]
    fake.run_held()
    result.wait()


def test_streaming_prints_what_comes_and_display_what_there_is(fake, client, capsys):
    result, task = submitted(fake, client, 2)
    fake.say(outputs((task, "stdout", "zero\n", 0), (task + 1, "stderr", "one", 1)))
    helpers.wait_until(lambda: len(result._log()) == 2, "the output is there")
    with result.stream_output() as same:
        assert same is result
        fake.run_held()
        result.wait()
    shown = capsys.readouterr()
    assert shown.out == "[stdout:0] zero\n"
    assert shown.err == "[stderr:1] one\n"
    result.display_outputs()
    assert capsys.readouterr().out == "[stdout:0] zero\n[stderr:1] one\n"
    with pytest.raises(ValueError, match="groupby is one of type, engine, order, not 'kind'"):
        result.display_outputs("kind")


def test_what_is_not_shown_goes_to_who_wants_it(fake, client, capsys, monkeypatch):
    got = []
    monkeypatch.setitem(handlers, "comm", lambda client, record: got.append((client, record.engine, record.data)))
    result, task = submitted(fake, client, 2)
    fake.say(outputs((task, "comm", {"type": "comm_open"}, 0)))
    helpers.wait_until(lambda: result._log(), "the record is there")
    with result.stream_output():
        fake.run_held()
        result.wait()
    assert got == [(client, 0, {"type": "comm_open"})]
    result._add_output(m.Output(task, "comm", {"type": "comm_msg"}, 0))  # of a thread that runs on
    result._add_output(m.Output(task, "stdout", "late", 0))
    assert got[1:] == [(client, 0, {"type": "comm_msg"})]
    assert [record.kind for record in result._log()] == ["comm", "stdout"]
    assert capsys.readouterr().out == ""


def test_waiting_interactively_says_whether_it_is_done(fake, client, capsys):
    result, _ = submitted(fake, client)
    assert not result.wait_interactive(timeout=0.05)
    fake.run_held()
    assert result.wait_interactive()
    assert capsys.readouterr() == ("", "")  # no terminal


def test_magics_are_for_ipython(client, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with pytest.raises(RuntimeError, match="magics need IPython or a notebook"):
        client.activate()


def part(engine, *records):
    reply = m.Result(1, 0, b"", engine=engine)
    return Part(1, reply, 0.0, [m.Output(1, *record) for record in records])


def test_a_reply_shows_its_value():
    value = {"execution_count": 17, "result": {"text/plain": "42", "text/html": "<b>42</b>", "image/png": b"\x89PNG"}}
    reply = ExecuteReply(value, part(3, ("stdout", "hi\n")))
    assert repr(reply) == "<ExecuteReply[3]: Out[3:17]: 42>"
    assert reply._repr_mimebundle_() == {"text/plain": repr(reply), "text/html": "<b>42</b>", "image/png": "iVBORw=="}
    assert repr(ExecuteReply({}, part(3, ("stdout", "hi\n")))) == "<ExecuteReply[3]: hi>"
    assert repr(ExecuteReply({}, part(3))) == "<ExecuteReply[3]>"


def failed(engine, ename="ValueError", evalue="bad"):
    return RemoteError(ename, evalue, [("f.py", 3, "f", "raise")], engine)


def test_errors_alike_are_one_in_a_report():
    errors = [failed(0), failed(1), failed(2, evalue="worse"), failed(3), EngineDied(4, "exited")]
    [report] = CompositeError("5 of 9 calls failed; the first with ValueError: bad", errors)._render_traceback_()
    blocks = report.split("\n\n")
    assert blocks[0].startswith("[engines 0-1,3] ValueError: bad\nTraceback (most recent call last):\n")
    assert blocks[1].startswith("[engine 2] ValueError: worse\n")
    assert blocks[2].startswith("[engine 4] EngineDied: engine 4 exited")
    assert blocks[-1] == "CompositeError: 5 of 9 calls failed"
    many = CompositeError("50 failed", [failed(i, evalue=str(i)) for i in range(50)])._render_traceback_()[0]
    assert "... and 40 other errors; see .exceptions of the CompositeError" in many


def test_an_error_is_shown_as_its_engine_showed_it(fake, client):
    result, task = submitted(fake, client)
    fake.say(outputs((task, "error", {"ename": "ValueError", "evalue": "bad", "traceback": ["as", "shown there"]}, 0)))
    payload, _ = dumps(Failure("ValueError", "bad"))
    fake.finish(m.Result(task, m.Status.ERROR, payload, engine=0))
    assert result.wait(10)
    assert result.error._render_traceback_() == ["[engine 0] ValueError: bad\nas\nshown there"]
    fake.run_held()
