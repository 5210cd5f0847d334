"""Why tasks never ran, in words."""

from __future__ import annotations

import pytest
from enginery.reasons import LINKS_MAX, linked, listed, never, reason_of
from enginery.wire.given import inherited
from enginery.wire.messages import Result, Status

FIRST = 3 << 40


@pytest.mark.parametrize("status", list(Status))
def test_every_end_has_a_reason(status: Status):
    failed = Result(FIRST, Status.ERROR, b"")
    payload = inherited(failed, "needs the value of task 3-0, which failed") if status == Status.INHERITED else b"text"
    reason = reason_of(Result(FIRST, status, payload))
    assert reason
    assert reason[0].islower()


def test_a_reason_is_read_from_the_sentence_that_told_it():
    why = linked("comes after", FIRST, "failed")
    for status in (Status.IMPOSSIBLE, Status.INVALID):
        sentence = never(FIRST + 1, "a 'label'", why).encode()
        assert reason_of(Result(FIRST + 1, status, sentence)) == why


def test_long_chains_are_told_by_their_ends_and_counted():
    why = "failed"
    for n in range(2000):
        why = linked("comes after", FIRST + n, why)
        assert why.count(", which ") < LINKS_MAX
    assert why == (
        "comes after task 3-1999, which comes after task 3-1998, which comes after task 3-1997, "
        "which waits for a chain of 1,996 others, which comes after task 3-0, which failed"
    )


def test_names_are_listed():
    assert listed([FIRST]) == "task 3-0"
    assert listed(range(FIRST, FIRST + 3)) == "tasks 3-0, 3-1, 3-2"
    assert listed(range(FIRST, FIRST + 5)) == "tasks 3-0, 3-1, 3-2 and 2 more"


def test_what_was_inherited_is_handed_on_as_it_was_at_first():
    first = Result(FIRST, Status.ERROR, b"failure", engine=2)
    second = Result(FIRST + 1, Status.INHERITED, inherited(first, linked("needs the value of", FIRST, "failed")))
    why = linked("needs the value of", second.id, reason_of(second))
    assert why == "needs the value of task 3-1, which needs the value of task 3-0, which failed"
    from enginery.wire.given import get_inherited

    said = get_inherited(inherited(second, why))
    assert (said.task, said.status, said.payload, said.engine, said.why) == (FIRST, Status.ERROR, b"failure", 2, why)
