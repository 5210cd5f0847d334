"""Ids of tasks, as people name them."""

from __future__ import annotations

from typing import Any

from ...ids import MAX_TASK, read_task


def read_id(task: Any) -> int:
    """Return the id by which a task is named; ValueError or TypeError for what is none."""
    if isinstance(task, str):
        try:
            return read_task(task)
        except ValueError:
            raise ValueError(f'a task is named by its id, as msg_id gives it ("3-17"), not {task!r}') from None
    if isinstance(task, int) and not isinstance(task, bool) and 0 <= task <= MAX_TASK:
        return task
    raise TypeError(f'a task is named by its id, as msg_id gives it ("3-17"), not {task!r}')
