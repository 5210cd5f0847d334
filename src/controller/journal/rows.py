"""Rows of the journal, by the tasks they speak of: a row is a message of many tasks, all of one client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...ids import COUNT_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ...wire.messages import Submit


class Submission(NamedTuple):
    """A message with tasks, as it was written."""

    id: int
    first: int
    last: int
    """Its tasks are among these."""
    at: float
    message: bytes


def submissions_of(db: sqlite3.Connection, task: int) -> Iterator[Submission]:
    """Yield the submissions in whose range a task is, the likeliest first."""
    rows = db.execute(
        "SELECT id, first, last, at, message FROM submitted WHERE first BETWEEN ? AND ? AND last >= ?"
        " ORDER BY first DESC",
        (first_of_client(task), task, task),
    )
    return map(Submission._make, rows)


def ids_of(message: Submit) -> set[int]:
    """Return the tasks of a submission."""
    return {task.id + copy for task in message.tasks for copy in range(task.copies)}


def first_of_client(task: int) -> int:
    """Return the smallest id that the client of a task may have made."""
    return task >> COUNT_BITS << COUNT_BITS
