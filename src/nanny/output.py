"""What an engine process writes to its log: into a file, the last of it also into memory.

Its own words, the account of a crash, and a copy of what C code and subprocesses print arrive here; what the engine did
not come to read of the latter when it died, too (`relief`).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST_LINES = 20
"""What a death certificate quotes, at most."""

LAST_BYTES = 8192

CRASH = "Fatal Python error: "
"""How the interpreter begins its account of a crash: the stacks of all threads, of which one was in the crash."""

GUILTY = "Current thread"
"""How the stack of that one begins, the innermost call first."""

CRASH_LINES = 40
"""What is quoted of a crash, at most."""

OUTERMOST = 10
"""Of a stack that is cut, this many of the outermost calls are quoted: they are of the task's own code."""

CRASH_BYTES = 1 << 16
"""An account may be much longer than what is otherwise kept: stacks of threads, then names of extension modules. If
this much and more came after such a beginning, it was not this process that crashed."""

BEFORE_CRASH = 5
"""Lines before a crash that are quoted with it."""

_CALLERS = tuple(f'  File "{Path(__file__).parents[1] / "engine" / name}"' for name in ("runner.py", "items.py"))
"""The calls of the engine that user code is called from. What is outside of them is the same in every stack."""

LOG_MAX = 16 << 20
"""A longer log is set aside as `<name>.old`, in place of an older one: no print loop fills a disk."""

_CRASH = CRASH.encode()

READ_AT_ONCE = 1 << 16

READS_PER_TURN = 16
"""A torrent of output is read in portions, so that the nanny stays responsive."""


class EngineOutput:
    """The read end of one engine's output pipe. `read()` is to be called when `fd` is readable. Owns `fd`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.fd, self.write_end = os.pipe()
        """`write_end` is the caller's to hand to the process, and to close."""
        os.set_blocking(self.fd, False)
        self._tail = b""
        self._crash = b""
        """From a little before the account of a crash to the end of what came; empty if there was none."""
        self._unread = b""
        """What was found in the engine's pipes after its end."""
        self._file: int | None = None
        self._size = 0
        self.is_open = True

    def read(self, reads: int = READS_PER_TURN) -> None:
        """Take what there is, up to a limit. At the end of the stream, `is_open` becomes False."""
        for _ in range(reads):
            try:
                data = os.read(self.fd, READ_AT_ONCE)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            self.add(data)

    def last(self) -> str:
        """Return the last lines, as text; of a crash, where it was and what came before."""
        lines = _lines(self._crash or self._tail)
        unread = _lines(self._unread)  # it was written before the end, and so before an account of a crash
        crash = max((i for i, line in enumerate(lines) if line.startswith(CRASH)), default=None)
        if crash is None:
            return "\n".join([*lines, *unread][-LAST_LINES:])
        return "\n".join([*[*lines[:crash], *unread][-BEFORE_CRASH:], *account_of_crash(lines[crash:])])

    def close(self) -> None:
        """Close the pipe and the log."""
        if self.is_open:
            self.is_open = False
            os.close(self.fd)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def add_unread(self, data: bytes) -> None:
        """Take what the engine had not read of its own output."""
        self._unread = (self._unread + data)[-LAST_BYTES:]
        self._write(data)

    def add(self, data: bytes) -> None:
        """Take what has come."""
        known = len(self._tail)
        self._tail += data
        if (at := self._tail.rfind(_CRASH, max(0, known - len(_CRASH) + 1))) >= 0:
            self._crash = self._tail[max(0, at - LAST_BYTES) :]
        elif self._crash:
            self._crash += data
        if len(self._crash) > LAST_BYTES + CRASH_BYTES:
            self._crash = b""
        self._tail = self._tail[-LAST_BYTES:]
        self._write(data)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk costs the log, not the engine
            if self._file is None:
                self._file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._file).st_size
            self._size += os.write(self._file, data)
            if self._size > LOG_MAX:
                self.log.replace(self.log.with_suffix(".old"))
                os.close(self._file)
                self._file = None


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "replace").strip("\n").splitlines()


def account_of_crash(lines: Sequence[str]) -> list[str]:
    """Return what an account of a crash says of where it was: its first paragraph and the stack of the guilty thread.

    Calls that are the engine's own are left out, as far as they are outside of the user's. Of an account that names no
    guilty thread (it was not one of Python's), the first lines are all there is to be had.
    """
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line:
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    guilty = next((paragraph for paragraph in paragraphs if paragraph and paragraph[0].startswith(GUILTY)), None)
    if guilty is None:
        return list(lines[:CRASH_LINES])
    own = next((i for i, line in enumerate(guilty) if i > 1 and line.startswith(_CALLERS)), len(guilty))
    told = [*paragraphs[0], *guilty[:own]]
    left_out = len(told) - CRASH_LINES
    if left_out > 0:
        told[-OUTERMOST - left_out : -OUTERMOST] = [f"  ... {left_out} more calls"]
    return told
