"""Long pickles in the pieces that they were made in: large bytes among them are as they were, not copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pieces:
    """A pickle, in pieces; it may be the first of a value's buffers, in the place of its payload.

    It can be written as it is. To be sent it is joined: see `joined`.
    """

    __slots__ = ("nbytes", "pieces")

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces
        self.nbytes = sum(map(len, pieces))

    def __len__(self) -> int:
        return self.nbytes

    def join(self) -> memoryview:
        """Return it in one piece."""
        return memoryview(b"".join(self.pieces))


def size_of(buffer: Any) -> int:
    """Return how many bytes there are in a buffer, of whatever kind.

    >>> size_of(b"four"), size_of(Pieces([b"fo", b"ur"]))
    (4, 4)
    """
    return buffer.nbytes if isinstance(buffer, Pieces) else memoryview(buffer).nbytes


def joined(buffers: Sequence[Any]) -> Sequence[Any]:
    """Return the same buffers, each in one piece.

    >>> [bytes(buffer) for buffer in joined([Pieces([b"fo", b"ur"]), b"other"])]
    [b'four', b'other']
    """
    if buffers and isinstance(buffers[0], Pieces):
        return [buffers[0].join(), *buffers[1:]]
    return buffers
