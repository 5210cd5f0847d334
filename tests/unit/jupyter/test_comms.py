"""Comms of engines in the notebook: what may not go wrong in the client's I/O thread."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from enginery.jupyter import comms
from enginery.wire.messages import Output

OPEN = {"type": "comm_open", "comm_id": "c", "target_name": "t", "data": {}, "metadata": {}, "buffers": []}


def fail(*args, **keys):
    raise ValueError("it ends")


def test_what_cannot_be_sent_to_the_notebook_is_told_and_harms_nobody(monkeypatch, capsys):
    kernel = SimpleNamespace(session=SimpleNamespace(send=fail), iopub_socket=None)
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    comms._publish(kernel, "comm_msg", {"comm_id": "c", "data": {}}, None)
    assert capsys.readouterr().err == (
        "a comm_msg of a widget could not be sent to the notebook: ValueError: it ends\n"
    )


def test_outside_of_a_notebook_a_comm_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(comms, "find_kernel", lambda: None)
    comms.on_comm(object(), Output(1, "comm", OPEN, 0))
    assert capsys.readouterr() == ("", "")
