"""The functions that the drill runs on engines. Each leaves its mark first, and returns its task's number."""

from __future__ import annotations

import random
import time

from . import marks
from .tasks import Kind


def work(folder: str, task: int, kind: int, seconds: float = 0.0, text: str = "") -> int:
    """Take so long, print that."""
    marks.leave(folder, task, kind)
    if seconds:
        time.sleep(seconds)
    if text:
        print(text)  # noqa: T201 - it is what is tried
    return task


def fail(folder: str, task: int, kind: int, chance: float = 1.0) -> int:
    """Raise ValueError with the task's number, or not, by chance."""
    marks.leave(folder, task, kind)
    if random.random() < chance:
        raise ValueError(complaint(task))
    return task


def complaint(task: int) -> str:
    """Return what a failing task says."""
    return f"task {task} fails, as it should"


def resist(folder: str, task: int, kind: int, seconds: float) -> int:
    """Take so long, whoever interrupts."""
    marks.leave(folder, task, kind)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except KeyboardInterrupt:
            continue
    return task


def change(folder: str, task: int, kind: int, given: bytes) -> bytes:
    """Return what is due for what the task is given; ValueError if that is not what it should be."""
    marks.leave(folder, task, kind)
    if given != megabytes(task):
        raise ValueError(f"task {task} was given {len(given):,} bytes that are not its own")
    return megabytes(task, returned=True)


def megabytes(task: int, *, returned: bool = False) -> bytes:
    """Return the 1 to 5 megabytes that an OBJECT task is given, or those that it returns."""
    return (task * 2 + returned).to_bytes(8) * 131_072 * (1 + task % 5)


def item(folder: str, task: int) -> int:
    """Be an item of a map; some take a few milliseconds."""
    marks.leave(folder, task, Kind.ITEM)
    if task % 16 == 0:
        time.sleep(0.005)
    return task
