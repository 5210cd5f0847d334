"""The words of the drill: what kinds of tasks there are, and how each can end. Pure."""

from __future__ import annotations

from enum import IntEnum

RETRIES = 2
"""Further attempts that a FLAKY task has."""

_PLACE_BITS = 40


class Kind(IntEnum):
    """What a task does. Its outcome is judged by it."""

    QUICK = 1
    """Returns at once."""
    SLEEP = 2
    """Takes some milliseconds."""
    LONG = 3
    """Takes some seconds."""
    PRINT = 4
    """Prints a line, which must come."""
    FAIL = 5
    """Raises."""
    FLAKY = 6
    """Raises at random, and has retries."""
    LIMITED = 7
    """Takes longer than its time limit."""
    CANCEL = 8
    """Is cancelled."""
    STUBBORN = 9
    """Is cancelled, ignores it, and is then killed with its engine."""
    ITEM = 10
    """Is an item of a map."""
    OBJECT = 11
    """Is given megabytes, and returns as many."""


class Outcome(IntEnum):
    """How a task ended. The number is its byte in the file of a client's outcomes."""

    DONE = 1
    """With the right value, and the right output."""
    FAILED = 2
    """With the error that it was to raise."""
    CANCELLED = 3
    """It was to be cancelled."""
    TIMED_OUT = 4
    """It had a time limit."""
    DIED = 5
    """Its engine died, for a reason that is given."""
    LOST = 6
    """It is lost otherwise, with a reason."""
    UNEXPLAINED = 7
    """It is lost, and nobody says why."""
    HUNG = 8
    """Nothing was heard of it in time."""
    WRONG = 9
    """In a way that it must not: a wrong value or output, an error that is not its own."""


def most_runs(kind: int) -> int:
    """Return how often a task may run at most."""
    return 1 + RETRIES if kind == Kind.FLAKY else 1


def number(client: int, place: int) -> int:
    """Return the number of a task: which client's it is, and its place among that client's."""
    return client << _PLACE_BITS | place


def place_of(task: int) -> tuple[int, int]:
    """Return a task's client and place.

    >>> place_of(number(3, 17))
    (3, 17)
    """
    return task >> _PLACE_BITS, task & (1 << _PLACE_BITS) - 1
