"""What a front end says to a comm of an engine: in order, one at a time, a drag as one."""

from __future__ import annotations

import pytest
from enginery.jupyter.talkback import Mailbox, Message


def update(number=0, **state):
    return Message("comm_msg", {"method": "update", "state": state, "buffer_paths": []}, {}, [], {"msg_id": number})


def custom(content, buffers=()):
    return Message("comm_msg", {"method": "custom", "content": content}, {}, list(buffers), {"msg_id": 0})


@pytest.fixture
def sent():
    return []


@pytest.fixture
def mailbox(sent):
    return Mailbox(sent.append)


def test_the_first_message_leaves_at_once_and_the_next_when_it_is_done(mailbox, sent):
    mailbox.post(custom("a"))
    mailbox.post(custom("b"))
    mailbox.post(custom("c"))
    assert sent == [custom("a")]
    mailbox.sent()
    mailbox.sent()
    assert sent == [custom("a"), custom("b"), custom("c")]
    mailbox.sent()
    mailbox.post(custom("d"))
    assert sent[-1] == custom("d"), "nothing was under way"


def test_values_set_while_one_is_under_way_become_one_message_that_answers_the_last(mailbox, sent):
    mailbox.post(update(1, value=1))
    mailbox.post(update(2, value=2, low=5))
    mailbox.post(update(3, value=3))
    mailbox.sent()
    assert sent == [update(1, value=1), update(3, value=3, low=5)]


@pytest.mark.parametrize(
    "between", [custom("click"), update(0, x=1)._replace(buffers=[b"x"]), Message("comm_close", {}, {}, [], {})]
)
def test_what_does_more_than_set_values_keeps_its_place(mailbox, sent, between):
    mailbox.post(custom("busy"))
    for message in (update(value=1), between, update(value=2)):
        mailbox.post(message)
    for _ in range(3):
        mailbox.sent()
    assert sent == [custom("busy"), update(value=1), between, update(value=2)]


def test_a_message_that_is_done_as_soon_as_it_is_sent_holds_nothing_up():
    sent = []

    def send(message):
        sent.append(message)
        mailbox.sent()

    mailbox = Mailbox(send)
    mailbox.post(custom("a"))
    mailbox.post(custom("b"))
    assert sent == [custom("a"), custom("b")]


def test_all_is_sent_before_what_is_to_come_after_it(mailbox, sent):
    for message in (update(1, value=1), update(2, value=2), custom("click"), update(3, value=3)):
        mailbox.post(message)
    mailbox.flush()
    assert sent == [update(1, value=1), update(2, value=2), custom("click"), update(3, value=3)]
    mailbox.post(update(4, value=4))
    for _ in range(3):
        mailbox.sent()
        assert len(sent) == 4, "others are under way"
    mailbox.sent()
    assert sent[4:] == [update(4, value=4)]
