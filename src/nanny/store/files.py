"""The files of objects: how much room there is for them, and copies of them, made in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 8 << 20
"""A copy looks so often (in bytes) whether it is still wanted."""

PART = ".part"
"""How the names of files end that are being brought."""

COPY = ".copy"
"""How the names of files end that are being copied."""


class Files:
    """What the books ask about files."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def room(self) -> int:
        """Return how many bytes the folder on disk can take; a twentieth of the disk is left to others."""
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return 0
        return max(0, disk.f_bavail - disk.f_blocks // 20) * disk.f_frsize

    def is_there(self, path: str) -> bool:
        """Return whether there is such a file."""
        return os.path.exists(path)  # noqa: PTH110 - of a string, and often


def remove(path: str) -> None:
    """Remove a file, should there be one."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - as above


class CancelledError(Exception):
    """A copy is not wanted any more."""


class Copier(threading.Thread):
    """Copies files, one after the other, and says when each is there."""

    def __init__(self, done: Callable[[bytes, bool, str], None]) -> None:
        """`done` is called, in this thread, with object, whether it is on disk now, and what went wrong."""
        super().__init__(name="store copies", daemon=True)
        self._done = done
        self._queue: queue.SimpleQueue[tuple[bytes, str, str, bool] | None] = queue.SimpleQueue()
        self._cancelled: set[bytes] = set()
        self._moving: dict[bytes, None] = {}

    def copy(self, object_id: bytes, source: str, target: str, *, to_disk: bool) -> None:
        """Copy a file."""
        self._cancelled.discard(object_id)
        self._moving[object_id] = None
        self._queue.put((object_id, source, target, to_disk))

    def cancel(self, object_id: bytes) -> None:
        """Do not go on with a copy, should there be one; `done` is called all the same."""
        if object_id in self._moving:
            self._cancelled.add(object_id)

    def _is_cancelled(self, object_id: bytes) -> bool:
        return object_id in self._cancelled

    def close(self) -> None:
        """End, soon."""
        self._cancelled.update(self._moving)
        self._queue.put(None)

    def run(self) -> None:
        """Copy what there is to copy."""
        while (task := self._queue.get()) is not None:
            object_id, source, target, to_disk = task
            error = ""
            try:
                copy_file(source, target, partial(self._is_cancelled, object_id))
            except CancelledError:
                error = "it is not wanted any more"
            except OSError as failure:
                error = failure.strerror or str(failure)
            self._moving.pop(object_id, None)
            self._cancelled.discard(object_id)
            self._done(object_id, to_disk, error)


def copy_file(source: str, target: str, is_cancelled: Callable[[], bool]) -> None:
    """Copy a file; the copy appears whole. Raises OSError, or CancelledError."""
    part = Path(target + COPY)
    try:
        _copy(source, part, is_cancelled)
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _copy(source: str, part: Path, is_cancelled: Callable[[], bool]) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        write = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while not is_cancelled():
                moved = os.sendfile(write, read, at, PIECE)
                if not moved:
                    return
                at += moved
            raise CancelledError
        finally:
            os.close(write)
    finally:
        os.close(read)
