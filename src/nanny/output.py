"""What an engine process writes to its descriptors 1 and 2: into its log, the last of it also into memory.

Output of C code, of subprocesses and of a crash arrives here even when the engine itself is gone.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LAST_LINES = 20
"""What a death certificate quotes, at most."""

LAST_BYTES = 8192

CRASH = "Fatal Python error: "
"""How the interpreter begins its account of a crash. It is long, and its beginning says where the crash was."""

BEFORE_CRASH = 5
"""Lines before a crash that are quoted with it."""

LOG_MAX = 16 << 20
"""A longer log is set aside as `<name>.old`, in place of an older one: no print loop fills a disk."""

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
            self._keep(data)

    def last(self) -> str:
        """Return the last lines, as text; of a crash, the first lines of its account and what came before."""
        text = self._tail.decode("utf-8", "replace").strip("\n")
        lines = text.splitlines()
        crash = next((i for i, line in enumerate(lines) if line.startswith(CRASH)), None)
        begin = max(0, len(lines) - LAST_LINES if crash is None else crash - BEFORE_CRASH)
        return "\n".join(lines[begin : begin + LAST_LINES])

    def close(self) -> None:
        """Close the pipe and the log."""
        if self.is_open:
            self.is_open = False
            os.close(self.fd)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _keep(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-LAST_BYTES:]
        with contextlib.suppress(OSError):  # a full disk costs the log, not the engine
            if self._file is None:
                self._file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._file).st_size
            self._size += os.write(self._file, data)
            if self._size > LOG_MAX:
                self.log.replace(self.log.with_suffix(".old"))
                os.close(self._file)
                self._file = None
