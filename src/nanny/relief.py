"""An engine's descriptors 1 and 2, seen from outside: pipes that the engine reads itself, as long as it can.

It cannot while C code holds the interpreter's lock. If that code prints more than a pipe holds, it waits for a reader,
and no reader gets the lock: so a pipe that is full at two looks, between which the engine has read nothing, is emptied
here, again and again until the engine reads. What the engine has left when it dies is read here too. All of that goes
to the log.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK_S = 0.5
"""How often the pipes are looked at."""

RELIEF_S = 0.005
"""The same once the engine was found not to read: so C code gets rid of some 50 MB a second."""

READ_AT_ONCE = 1 << 16

READS_PER_TURN = 16
"""A torrent is read in portions, so that the nanny stays responsive."""


class Pipes:
    """The named pipes of one engine process. `keep` is given what is read; `count` says how often the engine has read.

    Raises OSError if they cannot be made. The caller closes them.
    """

    def __init__(self, stem: Path, keep: Callable[[bytes], None], count: Callable[[], int]) -> None:
        self.paths = (stem.with_suffix(".out"), stem.with_suffix(".err"))
        self._relieving = False
        self._next = 0.0
        self._full_at = 0.0
        self._keep = keep
        self._count = count
        self._seen: int | None = None
        """The engine's count when a pipe was found full."""
        self.fds: list[int] = []
        try:
            for path in self.paths:
                os.mkfifo(path, 0o600)
                # For both ways, so that it can be asked whether a writer would have to wait.
                self.fds.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise
        self._poll = select.poll()
        for fd in self.fds:
            self._poll.register(fd, select.POLLOUT)

    @property
    def look_s(self) -> float:
        """How soon `look` is to be called again."""
        return RELIEF_S if self._relieving else LOOK_S

    def look(self, now: float) -> None:
        """Read in the engine's place if somebody waits for it in vain.

        Only full pipes are read: the engine, when it can, shall find as much as possible.
        """
        if now < self._next:
            return
        full = len(self._poll.poll(0)) < len(self.fds)
        if full:
            seen, self._seen = self._seen, self._count()
            self._relieving = seen == self._seen
            if self._relieving:
                self._full_at = now
                self._drain(READS_PER_TURN, self._keep)
        elif now - self._full_at >= LOOK_S:
            self._relieving = False
            self._seen = None
        self._next = now + self.look_s * 0.9

    def drain(self, keep: Callable[[bytes], None]) -> None:
        """Read what a dead engine has left: what full pipes hold, and no more, should somebody still write."""
        self._drain(READS_PER_TURN, keep)

    def close(self) -> None:
        """Let go of the pipes, and remove their names."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        for path in self.paths:
            with contextlib.suppress(OSError):
                path.unlink()

    def _drain(self, reads: int, keep: Callable[[bytes], None]) -> None:
        for fd in self.fds:
            for _ in range(reads):
                try:
                    data = os.read(fd, READ_AT_ONCE)
                except BlockingIOError:
                    break
                keep(data)
