from __future__ import annotations

import enum

import pytest
from enginery.ids import MAX_TASK
from enginery.wire import messages as m
from enginery.wire.codec import MalformedError, check_request, check_text, decode_to_controller, encode


@pytest.mark.parametrize(
    "message",
    [
        m.Submit([], [], [m.Task(MAX_TASK + 1, b"f", b"")]),
        m.Submit([], [], [m.Task(-1, b"f", b"")]),
        m.Submit([], [], [m.Task(1, b"f", b"", needs=(1 << 63,))]),
        m.Submit([], [], [m.Task(1, b"f", b"", copies=1 << 40)]),
        m.Submit([], [m.Options(after=m.Dependency((1 << 63,)))], []),
        m.Recall(1, [1 << 63]),
        m.Purge(1, [-1]),
    ],
    ids=repr,
)
def test_absurd_numbers_are_no_message(message):
    """The journal cannot hold such ids, and nobody can count so many."""
    with pytest.raises(MalformedError, match=r"Expected `int` [<>]= "):
        decode_to_controller(encode(message))


def test_text_that_can_travel_is_plain_text():
    class Name(enum.StrEnum):
        ONE = "one"

    for text in ("one", Name.ONE):
        checked = check_text("label", text)
        assert (checked, type(checked)) == ("one", str)
    with pytest.raises(ValueError, match=r"label 'half \\ud800' is no Unicode text"):
        check_text("label", "half \ud800")


def test_a_request_is_checked_before_it_is_sent():
    check_request(m.Scale(1, 2))
    for wrong in (m.Scale(1, "2"), m.Scale(1, 1 << 70), m.Find(1, None, "\ud800"), m.Find(1, [object()])):
        with pytest.raises(ValueError, match="the cluster cannot be asked this: "):
            check_request(wrong)
