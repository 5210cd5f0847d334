"""What the C library does with the memory of messages that have been sent or written.

Every chunk that comes or goes is a message of its own, and encrypting it takes another piece of memory as large. glibc
gets pieces of that size from the system one by one, gives them back as soon as they are free, and each of their pages
is zeroed and mapped anew: that costs one or two tenths of a second for a GB. While objects move, it is told to keep
them; when nothing has moved for a while, it goes back to what it does otherwise, and gives back what it has kept.

It has a heap for each thread, and gives back the end of one when something in that heap is freed, and else never. So
the last messages that have come are held until then.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections import deque
from typing import Any

from ...objects.progress import CHUNK

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""The names that glibc's `mallopt` has for them (malloc.h)."""

OTHERWISE = {TRIM_THRESHOLD: 128 << 10, TOP_PAD: 128 << 10, MMAP_THRESHOLD: 128 << 10}
"""glibc's own values."""

MOVING = {TRIM_THRESHOLD: 64 << 20, TOP_PAD: CHUNK, MMAP_THRESHOLD: 4 * CHUNK}
"""Messages are parts of heaps that grow by as much as a chunk, and of which so much may be free."""

HELD = 4
"""Messages that are held: enough that each thread that receives is likely to have made one of them."""


class Heap:
    """The memory of this process. Where the C library is another one, nothing is done."""

    def __init__(self) -> None:
        self.is_kept = False
        """What is free is kept."""
        self._held: deque[Any] = deque(maxlen=HELD)
        self._libc: ctypes.CDLL | None = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                libc = ctypes.CDLL(None)
                if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")):
                    self._libc = libc

    def keep(self) -> None:
        """Objects begin to move."""
        self.is_kept = True
        self._set(MOVING)

    def hold(self, message: Any) -> None:
        """Have a message stay until memory is given back, or others are held."""
        self._held.append(message)

    def give_back(self) -> None:
        """Nothing moves any more."""
        self.is_kept = False
        self._set(OTHERWISE)
        self._held.clear()
        if self._libc is not None:
            self._libc.malloc_trim(ctypes.c_size_t(0))

    def _set(self, values: dict[int, int]) -> None:
        if self._libc is not None:
            for name, value in values.items():
                self._libc.mallopt(name, value)
