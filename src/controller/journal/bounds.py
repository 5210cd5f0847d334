"""What is too large to be written down, and what stands for it in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...wire.messages import Result, Results, Status, Submit, Task
from .ledger import LOST_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE_MAX = 64 << 20
"""Arguments and results of a task beyond this many bytes are not written down. If the controller dies while it has
them, their task ends with a sentence that says so."""

ROW_MAX = 512 << 20
"""The same of those values of a message that do not fit into so many bytes together: SQLite takes no row of 1 GB."""


def submit(message: Submit, frames: Sequence[Any]) -> tuple[Submit, list[Any]]:
    """Return the message without arguments that are too large, and without the functions, which have a table."""
    kept: list[Any] = []
    if not frames and sum(len(task.payload) for task in message.tasks) <= VALUE_MAX:
        return (Submit([], message.options, message.tasks, seq=message.seq) if message.functions else message), kept
    tasks: list[Task] = []
    at, room = 0, ROW_MAX
    for task in message.tasks:
        mine: list[bytes] = []
        if task.frames:
            mine = [bytes(frame) for frame in frames[at : at + task.frames]]
            at += task.frames
        nbytes = len(task.payload) + sum(map(len, mine))
        if nbytes > min(VALUE_MAX, room):
            task = msgspec.structs.replace(task, payload=LOST_PAYLOAD, frames=0)  # noqa: PLW2901 - what stands for it
            mine, nbytes = [], 0
        room -= nbytes
        kept += mine
        tasks.append(task)
    return Submit([], message.options, tasks, seq=message.seq), kept


def results(message: Results, frames: Sequence[bytes]) -> tuple[Results, list[bytes]]:
    """Return the message with a sentence in place of each result that is too large."""
    if sum(map(len, frames)) + sum(len(result.payload) for result in message.results) <= VALUE_MAX:
        return message, list(frames)
    kept: list[bytes] = []
    bounded: list[Result] = []
    at, room = 0, ROW_MAX
    for result in message.results:
        mine = frames[at : at + result.frames]
        at += result.frames
        nbytes = len(result.payload) + sum(map(len, mine))
        if nbytes > min(VALUE_MAX, room):
            sentence = (
                f"its result of {nbytes >> 20} MB was too large for the journal, and has died with the controller"
            )
            result = msgspec.structs.replace(result, status=Status.UNKNOWN, payload=sentence.encode(), frames=0)  # noqa: PLW2901
            mine, nbytes = [], 0
        room -= nbytes
        kept += mine
        bounded.append(result)
    return Results(bounded, message.ack, seq=message.seq), kept
