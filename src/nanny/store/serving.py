"""What others ask of this host's store: chunks of objects that are here, or on their way here.

A chunk is sent as it lies in the object's file, which is mapped for that. What is itself only coming is sent as it
comes: the requests wait here.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ...wire.chunks import Chunk, NoPiece, Piece
from ...wire.objects import show_object

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

UNHEARD_S = 2.0
"""So long a request waits for an object that has not been heard of: the controller may have told the other first."""

MAPPED_S = 2.0
"""So long a file stays mapped that nobody asks for: it would keep the pages of an object that was removed."""

TRIES = 3
"""How often a file may be moved between the answer where it is and the look there."""


class Coming(NamedTuple):
    """What there is to know of objects that are on their way here."""

    path: Callable[[bytes], str | None]
    """Where such an object is written; None: it is not on its way."""
    has: Callable[[bytes, int, int], bool]
    """Whether these bytes of it are there."""


class _File:
    """A file that is mapped."""

    __slots__ = ("map", "used")

    def __init__(self, path: str, now: float) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        self.used = now


class _Waiting(NamedTuple):
    """A request that cannot be answered yet."""

    peer: bytes
    chunk: Chunk
    until: float | None
    """With a time, it is for an object that has not been heard of."""


class Serving:
    """Answers requests for chunks. `find` tells where an object is that is whole; `send` sends to a peer."""

    def __init__(
        self,
        find: Callable[[bytes], str | None],
        coming: Coming,
        send: Callable[[bytes, msgspec.Struct, Any], None],
    ) -> None:
        self._find = find
        self._coming = coming
        self._send = send
        self._files: dict[bytes, _File] = {}
        self._waiting: dict[bytes, list[_Waiting]] = {}

    def on_chunk(self, peer: bytes, chunk: Chunk, now: float) -> None:
        """Answer a request, or have it wait."""
        self._answer(_Waiting(peer, chunk, None), now)

    def on_news(self, object_id: bytes, now: float) -> None:
        """More of the object is here, or all of it, or it will not come, or it has been heard of: see who waits."""
        for waiting in self._waiting.pop(object_id, ()):
            self._answer(waiting, now)

    def on_dropped(self, object_id: bytes, now: float) -> None:
        """The object is removed."""
        self._files.pop(object_id, None)
        self.on_news(object_id, now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for object_id, file in list(self._files.items()):
            if now - file.used >= MAPPED_S:
                del self._files[object_id]
        for object_id, waiting in list(self._waiting.items()):
            if any(one.until is not None and now >= one.until for one in waiting):
                self.on_news(object_id, now)

    def close(self) -> None:
        """Let go of all files."""
        self._files.clear()
        self._waiting.clear()

    @property
    def is_idle(self) -> bool:
        """Whether time makes no difference."""
        return not self._files and not self._waiting

    # ------------------------------------------------------------------------------------------------------ answering

    def _answer(self, waiting: _Waiting, now: float) -> None:
        chunk = waiting.chunk
        if self._coming.path(chunk.object) is not None:
            if self._coming.has(chunk.object, chunk.offset, chunk.nbytes):
                self._send_piece(waiting, now)
            else:
                self._waiting.setdefault(chunk.object, []).append(waiting._replace(until=None))
            return
        if chunk.object in self._files or self._find(chunk.object) is not None:
            self._send_piece(waiting, now)
        elif waiting.until is None or now < waiting.until:
            until = now + UNHEARD_S if waiting.until is None else waiting.until
            self._waiting.setdefault(chunk.object, []).append(waiting._replace(until=until))
        else:
            self._refuse(waiting, f"a host has object {show_object(chunk.object)} no more")

    def _send_piece(self, waiting: _Waiting, now: float) -> None:
        chunk = waiting.chunk
        file = self._open(chunk.object, now)
        if file is None:
            self._refuse(waiting, f"a host cannot read object {show_object(chunk.object)} any more")
            return
        if chunk.offset + chunk.nbytes > len(file.map):
            self._refuse(waiting, f"object {show_object(chunk.object)} is smaller on one of its hosts")
            return
        view = memoryview(file.map)[chunk.offset : chunk.offset + chunk.nbytes]
        self._send(waiting.peer, Piece(chunk.request), view)

    def _refuse(self, waiting: _Waiting, why: str) -> None:
        self._send(waiting.peer, NoPiece(waiting.chunk.request, why), None)

    def _open(self, object_id: bytes, now: float) -> _File | None:
        file = self._files.get(object_id)
        for _ in range(TRIES):
            if file is not None:
                break
            path = self._coming.path(object_id) or self._find(object_id)
            if path is None:
                return None
            try:
                file = self._files[object_id] = _File(path, now)
            except (OSError, ValueError):
                continue
        if file is not None:
            file.used = now
        return file
