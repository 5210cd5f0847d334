"""The flight recorder: where an engine was when it died, written by the engine, read by its nanny.

About a kilobyte in a file that both map: the last task that began, the item of it that runs, and when it began; then
the coroutines that were begun as tasks, since several run at once. The engine stores plain integers into the mapping
(about 50 ns, no system call), and the kernel keeps the page when the process is killed, so the record is true to the
last instruction, whatever the signal.

Eight more bytes count how often the engine has read what came on its own descriptors 1 and 2: the nanny helps when they
are full and that stands still.

The task stays on record when it is over (its item is then `AFTER_LAST`): an engine runs its calls in the order in which
it was given them, so of those whose results have not come, the ones up to the recorded one have run and the others have
not. That is what "nothing runs twice" rests on. A coroutine stays on record in its slot in the same way, until the slot
is wanted for another: so what began before one that is on record has ended, or is on record as running.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

NO_TASK = -1
"""As the task: none has begun."""

AFTER_LAST = -1
"""As the item: the task on record is over, and no other has begun."""

COROUTINES = 64
"""So many coroutine tasks run on an engine at once."""

OVER = 0.0
"""As the time since when a coroutine runs: it has ended."""

_RECORD = struct.Struct("=qqd")
_READS_END = _RECORD.size + 8
_STEP_END = _READS_END + 8
_TASKS_END = _STEP_END + 8 * COROUTINES
SIZE = _TASKS_END + 8 * COROUTINES


class Entry(NamedTuple):
    """What the recorder says: the last task that began (None if none did), its item, and since when (of the epoch)."""

    task: int | None
    item: int
    since: float
    coroutines: tuple[tuple[int, float], ...] = ()
    """The coroutine tasks on record, and since when they run (`OVER` if they do not any more)."""
    step: int | None = None
    """The task, of these, whose code was running on the event loop, and not waiting."""


class FlightRecorder:
    """The engine's end: `slots[0]` is the task, `slots[1]` the item, `since[0]` the time; `step[0]` the task whose code
    runs on the event loop, `coroutines` the coroutine tasks, by slot, and `begun` since when they run;
    `reads[0]` the reads.

    The attributes are for the engine's innermost loop, which assigns to them directly.
    """

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        view = memoryview(self._map)
        self.slots = view[:16].cast("q")
        self.since = view[16 : _RECORD.size].cast("d")
        self.reads = view[_RECORD.size : _READS_END].cast("q")
        self.step = view[_READS_END:_STEP_END].cast("q")
        self.coroutines = view[_STEP_END:_TASKS_END].cast("q")
        self.begun = view[_TASKS_END:SIZE].cast("d")
        self.slots[0] = self.step[0] = NO_TASK
        for slot in range(COROUTINES):
            self.coroutines[slot] = NO_TASK


def read(path: Path) -> Entry:
    """Return what the engine last recorded; no task if the file is missing or short (the engine never began)."""
    try:
        data = path.read_bytes()
    except OSError:
        return Entry(None, 0, 0.0)
    if len(data) < SIZE:
        return Entry(None, 0, 0.0)
    task, item, since = _RECORD.unpack_from(data)
    view = memoryview(data)
    step = view[_READS_END:_STEP_END].cast("q")[0]
    tasks, begun = view[_STEP_END:_TASKS_END].cast("q"), view[_TASKS_END:SIZE].cast("d")
    coroutines = tuple(pair for pair in zip(tasks, begun, strict=True) if pair[0] > 0)
    return Entry(None if task == NO_TASK else task, item, since, coroutines, None if step == NO_TASK else step)


def count_reads(path: Path) -> int:
    """Return how often the engine has read its own output; 0 if nothing is known."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    return int.from_bytes(data[_RECORD.size : _READS_END], sys.byteorder)
