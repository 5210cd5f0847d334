"""The flight recorder: where an engine was when it died, written by the engine, read by its nanny.

24 bytes in a file that both map: the last task that began, the item of it that runs, and when it began. The engine
stores plain integers into the mapping (about 50 ns, no system call), and the kernel keeps the page when the process is
killed, so the record is true to the last instruction, whatever the signal.

Eight more bytes count how often the engine has read what came on its own descriptors 1 and 2: the nanny helps when they
are full and that stands still.

The task stays on record when it is over (its item is then `AFTER_LAST`): an engine runs its calls in the order in which
it was given them, so of those whose results have not come, the ones up to the recorded one have run and the others have
not. That is what "nothing runs twice" rests on.
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

_RECORD = struct.Struct("=qqd")

_SIZE = _RECORD.size + 8


class Entry(NamedTuple):
    """What the recorder says: the last task that began (None if none did), its item, and since when (of the epoch)."""

    task: int | None
    item: int
    since: float


class FlightRecorder:
    """The engine's end: `slots[0]` is the task, `slots[1]` the item, `since[0]` the time, `reads[0]` the reads.

    The attributes are for the engine's innermost loop, which assigns to them directly.
    """

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        view = memoryview(self._map)
        self.slots = view[:16].cast("q")
        self.since = view[16:24].cast("d")
        self.reads = view[24:].cast("q")
        self.slots[0] = NO_TASK


def read(path: Path) -> Entry:
    """Return what the engine last recorded; no task if the file is missing or short (the engine never began)."""
    try:
        data = path.read_bytes()
    except OSError:
        return Entry(None, 0, 0.0)
    if len(data) < _RECORD.size:
        return Entry(None, 0, 0.0)
    task, item, since = _RECORD.unpack_from(data)
    return Entry(None if task == NO_TASK else task, item, since)


def count_reads(path: Path) -> int:
    """Return how often the engine has read its own output; 0 if nothing is known."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    return int.from_bytes(data[_RECORD.size : _SIZE], sys.byteorder)
