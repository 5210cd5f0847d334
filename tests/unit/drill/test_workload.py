"""What an error means for a task."""

from concurrent.futures import CancelledError

import pytest
from enginery.drill.calls import change, complaint, megabytes
from enginery.drill.tasks import Kind, Outcome, number
from enginery.drill.workload import SHARES, outcome_of
from enginery.errors import EngineDied, TaskLost, TaskTimeout


@pytest.mark.parametrize(
    ("error", "right", "end"),
    [
        (ValueError(complaint(5)), {Kind.FAIL, Kind.FLAKY}, Outcome.FAILED),
        (TaskTimeout("too long"), {Kind.LIMITED}, Outcome.TIMED_OUT),
        (CancelledError(), {Kind.CANCEL, Kind.STUBBORN}, Outcome.CANCELLED),
        (ValueError(complaint(6)), set(), None),
        (KeyError("x"), set(), None),
    ],
)
def test_errors_are_right_for_some_kinds_and_wrong_for_all_others(error, right, end):
    for kind in Kind:
        assert outcome_of(kind, 5, error) == (end if kind in right else Outcome.WRONG)


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (EngineDied(1, "killed by signal 9 (SIGKILL)"), Outcome.DIED),
        (EngineDied(1), Outcome.UNEXPLAINED),
        (TaskLost("the connection broke"), Outcome.LOST),
        (TaskLost(""), Outcome.UNEXPLAINED),
        (TimeoutError("no result after 1 s"), Outcome.HUNG),
    ],
)
def test_losses(error, end):
    assert outcome_of(Kind.QUICK, 5, error) == end


def test_shares_are_of_a_whole():
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_megabytes_are_a_task_s_own(tmp_path):
    given = megabytes(number(2, 17))
    assert 1 << 20 <= len(given) <= 5 << 20
    returned = change(str(tmp_path), number(2, 17), Kind.OBJECT, given)
    assert len(returned) == len(given)
    assert len({given, returned, megabytes(number(2, 22)), megabytes(number(2, 22), returned=True)}) == 4
    with pytest.raises(ValueError, match="that are not its own"):
        change(str(tmp_path), number(2, 22), Kind.OBJECT, given)
