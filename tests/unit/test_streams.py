"""Numbered messages: kept until they have come, taken once and in order."""

from __future__ import annotations

import random

import pytest
from enginery.streams import Incoming, Outgoing, Verdict
from enginery.wire.messages import Done, Outputs

TAKE, DROP, GAP = Verdict.TAKE, Verdict.DROP, Verdict.GAP


def filled(count: int) -> Outgoing:
    outgoing = Outgoing()
    for _ in range(count):
        outgoing.number(Outputs([]))
    return outgoing


def numbers(kept) -> list[int]:
    return [message.seq for message, _ in kept]


def test_messages_are_numbered_from_one_without_a_gap():
    outgoing = filled(3)
    assert numbers(outgoing.after(0)) == [1, 2, 3]
    assert outgoing.last == len(outgoing) == 3


def test_a_message_is_kept_with_its_frames():
    outgoing, message = Outgoing(), Done([])
    outgoing.number(message, [b"one", b"two"])
    assert outgoing.after(0) == [(message, [b"one", b"two"])]


@pytest.mark.parametrize(("have", "left"), [(0, [1, 2, 3]), (1, [2, 3]), (3, []), (9, [])])
def test_what_has_come_is_let_go(have, left):
    outgoing = filled(3)
    outgoing.acked(have)
    assert numbers(outgoing.after(0)) == left
    assert len(outgoing) == len(left)
    outgoing.number(Outputs([]))
    assert numbers(outgoing.after(0)) == [*left, 4]


def test_an_old_confirmation_takes_nothing_back():
    outgoing = filled(3)
    outgoing.acked(2)
    outgoing.acked(1)
    assert numbers(outgoing.after(1)) == [3]


def test_what_is_missed_is_kept_until_it_has_come():
    outgoing = filled(3)
    assert numbers(outgoing.after(1)) == [2, 3]
    assert numbers(outgoing.after(1)) == [2, 3]
    assert numbers(outgoing.after(3)) == []


def test_the_count_goes_on_after_everything_was_let_go():
    outgoing = filled(3)
    outgoing.clear()
    assert len(outgoing) == 0
    message = Outputs([])
    outgoing.number(message)
    assert message.seq == 4


def test_a_sender_that_starts_again_goes_on_from_its_records():
    outgoing = Outgoing(last=5)
    outgoing.put_back(Outputs([], seq=4), [b"frame"])
    outgoing.put_back(Outputs([], seq=7))
    outgoing.number(Outputs([]))
    assert outgoing.after(4)[0][1] == ()
    assert numbers(outgoing.after(0)) == [7, 8]


def test_a_sender_whose_messages_had_all_come_goes_on_counting():
    outgoing = Outgoing(last=5)
    message = Outputs([])
    outgoing.number(message)
    assert message.seq == 6


def test_each_message_is_taken_once_and_in_order():
    incoming = Incoming()
    assert [incoming.judge(seq) for seq in (1, 2, 2, 1, 4, 3, 4)] == [TAKE, TAKE, DROP, DROP, GAP, TAKE, TAKE]
    assert incoming.have == 4


def test_after_a_gap_nothing_is_taken_until_it_is_filled():
    incoming = Incoming(have=10)
    assert [incoming.judge(seq) for seq in (12, 13, 11, 12)] == [GAP, GAP, TAKE, TAKE]


def test_what_has_no_number_is_taken_as_it_is():
    incoming = Incoming(have=3)
    assert incoming.judge(0) is TAKE
    assert incoming.have == 3


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_everything_is_heard_once(seed):
    """A way on which messages are lost at random, until both sides say how far they are."""
    chance = random.Random(seed)
    outgoing, incoming, heard = Outgoing(), Incoming(), []

    def send(message):
        if chance.random() > 0.3 and incoming.judge(message.seq) is TAKE:
            heard.append(message)
            if chance.random() > 0.5:
                outgoing.acked(incoming.have)

    said = []
    for _ in range(200):
        message = Outputs([])
        outgoing.number(message)
        said.append(message)
        send(message)
        if chance.random() > 0.9:
            for missed, _ in outgoing.after(incoming.have):
                send(missed)
    while heard != said:
        for missed, _ in outgoing.after(incoming.have):
            send(missed)
    assert [message.seq for message in heard] == list(range(1, 201))
    assert outgoing.after(incoming.have) == []
