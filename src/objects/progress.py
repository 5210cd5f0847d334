"""How far the transfer of an object has come, in chunks: what to ask for next, and what of it is there. Pure."""

from __future__ import annotations

import heapq

CHUNK = 2 << 20
"""Bytes of a chunk. Large enough that the words around it cost little, small enough for the processor's cache."""

WINDOW = 8
"""Chunks of one object that are on their way at a time: so many keep a line busy."""


class Progress:
    """The chunks of one object. `asked` have been asked for and have not come.

    >>> progress = Progress(5, chunk=2)
    >>> [progress.ask() for _ in range(4)]
    [(0, 2), (2, 2), (4, 1), None]
    >>> progress.on_here(2)
    True
    >>> progress.has(2, 2), progress.has(1, 2), progress.is_whole
    (True, False, False)
    >>> progress.forget_asked()
    >>> progress.ask()
    (0, 2)
    """

    __slots__ = ("_again", "_chunk", "_here", "_left", "_next", "asked", "nbytes")

    def __init__(self, nbytes: int, chunk: int = CHUNK) -> None:
        self.nbytes = nbytes
        self._chunk = chunk
        self._left = -(-nbytes // chunk)
        self._here = bytearray(self._left)
        self._next = 0
        self._again: list[int] = []
        self.asked: set[int] = set()
        """Where they begin."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return not self._left

    def ask(self) -> tuple[int, int] | None:
        """Return where the next chunk to ask for begins, and its size: it is asked for now. None: there is no more."""
        if self._again:
            offset = heapq.heappop(self._again)
        elif self._next < self.nbytes:
            offset = self._next
            self._next += self._chunk
        else:
            return None
        self.asked.add(offset)
        return offset, min(self._chunk, self.nbytes - offset)

    def expect(self, offset: int) -> int:
        """Ask for the chunk that begins there, which is sent without being asked for; return its size. 0: there is no
        such chunk.
        """
        if not 0 <= offset < self.nbytes or offset % self._chunk:
            return 0
        if not self._here[offset // self._chunk]:
            self.asked.add(offset)
        return min(self._chunk, self.nbytes - offset)

    def on_here(self, offset: int) -> bool:
        """Note that the chunk that begins there has come; return whether it was asked for and not there."""
        if offset not in self.asked:
            return False
        self.asked.discard(offset)
        self._here[offset // self._chunk] = 1
        self._left -= 1
        return True

    def forget_asked(self) -> None:
        """What was asked for will not come: it is to be asked for again."""
        for offset in self.asked:
            heapq.heappush(self._again, offset)
        self.asked.clear()

    def has(self, offset: int, nbytes: int) -> bool:
        """Return whether these bytes are all there."""
        if nbytes <= 0 or offset < 0 or offset + nbytes > self.nbytes:
            return False
        return all(self._here[offset // self._chunk : (offset + nbytes - 1) // self._chunk + 1])
