"""Marks: each run of a task leaves one, so that a task that ran twice, or not at all, is found out at the end.

A mark is 16 bytes: the task's number and its kind. Each engine process appends to a file of its own, one `write` per
mark, before the task does anything else: what was written stays, however the process ends.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from .tasks import place_of

if TYPE_CHECKING:
    from pathlib import Path

_MARK = struct.Struct("<qq")

_COUNT_MAX = 255

_open: dict[tuple[str, int], int] = {}


def leave(folder: str, task: int, kind: int) -> None:
    """Leave a mark. OSError if it could not be written whole."""
    key = (folder, os.getpid())  # a process forked from this one has a file of its own
    fd = _open.get(key)
    if fd is None:
        path = os.path.join(folder, f"{key[1]}.marks")  # noqa: PTH118 - the engines do without pathlib
        fd = _open[key] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.write(fd, _MARK.pack(task, kind)) != _MARK.size:
        raise OSError(f"a mark was not written whole in {folder}")


class Runs(NamedTuple):
    """How often each task of one client ran, and of which kind it was, by its place (0 for what never ran)."""

    counts: bytearray
    kinds: bytearray

    def add(self, place: int, kind: int) -> None:
        """Count a run."""
        missing = place + 1 - len(self.counts)
        if missing > 0:
            for column in self:
                column.extend(bytes(missing + place // 8))  # ahead, or growing would take quadratic time
        self.counts[place] = min(_COUNT_MAX, self.counts[place] + 1)
        self.kinds[place] = kind


def read(folder: Path) -> dict[int, Runs]:
    """Return the runs of all clients' tasks. A last mark that is not whole, its engine killed in it, is none."""
    clients: dict[int, Runs] = {}
    for path in folder.glob("*.marks"):
        data = path.read_bytes()
        whole = len(data) // _MARK.size * _MARK.size
        for task, kind in _MARK.iter_unpack(data[:whole]):
            client, place = place_of(task)
            runs = clients.get(client)
            if runs is None:
                runs = clients[client] = Runs(bytearray(), bytearray())
            runs.add(place, kind)
    return clients
