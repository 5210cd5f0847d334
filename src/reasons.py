"""Why a task that depends on others never ran, in words.

A reason goes on from "it" or "which": "comes after task 3-18, which comes after task 3-17, which failed". Each task
adds a link to the reason of the one that it depends on; of a long chain the two ends are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ids import TaskId, show_task
from .wire.given import get_inherited
from .wire.parts import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .wire.parts import Result

LINKS_MAX = 6
"""A reason has so many links at the most."""

_JOINT = ", which "
_NEVER = " can never run: it "
_SKIPPED = "waits for a chain of "
_OTHERS = " others"

_ENDS = {
    Status.OK: "succeeded",
    Status.ERROR: "failed",
    Status.CANCELLED: "was cancelled",
    Status.TIMEOUT: "reached its time limit",
    Status.LOST: "died with its engine",
    Status.REFUSED: "could not be run",
    Status.UNKNOWN: "has no known result",
    Status.UNMET: "could be run on no engine",
}


def reason_of(result: Result) -> str:
    """Return how a task ended.

    >>> from .wire.parts import Result
    >>> reason_of(Result(1, Status.ERROR, b""))
    'failed'
    """
    if result.status in (Status.IMPOSSIBLE, Status.INVALID):
        _, never, why = result.payload.decode(errors="replace").partition(_NEVER)
        return why if never else _ENDS[Status.UNMET]
    if result.status == Status.INHERITED:
        return get_inherited(result.payload).why
    return _ENDS.get(Status(result.status), _ENDS[Status.UNKNOWN])


def linked(what: str, task: int, why: str) -> str:
    """Return the reason of a task that depends in this way on another, which has this reason.

    >>> linked("comes after", (3 << 40) + 17, "failed")
    'comes after task 3-17, which failed'
    """
    links = [f"{what} task {show_task(TaskId(task))}", *why.split(_JOINT)]
    if len(links) > LINKS_MAX:
        middle = LINKS_MAX - 3
        skipped = 0
        for link in links[middle:-2]:
            number = link.removeprefix(_SKIPPED).removesuffix(_OTHERS).replace(",", "")
            skipped += int(number) if link.startswith(_SKIPPED) and number.isdecimal() else 1
        links[middle:-2] = [f"{_SKIPPED}{skipped:,}{_OTHERS}"]
    return _JOINT.join(links)


def never(task: int, label: str | None, why: str) -> str:
    """Return the sentence on a task that was not run for that reason.

    >>> never((3 << 40) + 19, "fit", "comes after task 3-17, which failed")
    "task 3-19 'fit' can never run: it comes after task 3-17, which failed"
    """
    name = f"{show_task(TaskId(task))} {label!r}" if label else show_task(TaskId(task))
    return f"task {name}{_NEVER}{why}"


def listed(tasks: Iterable[int], most: int = 3) -> str:
    """Return the names of some tasks.

    >>> listed([1, 2, 3, 4])
    'tasks 0-1, 0-2, 0-3 and 1 more'
    """
    ids = list(tasks)
    names = ", ".join(show_task(TaskId(task)) for task in ids[:most])
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return f"task{'s' if len(ids) > 1 else ''} {names}{more}"
