"""What is in an object's file: the buffers of a pickled value, its pickle, and where they are.

```
buffer 0 | pad | buffer 1 | pad | ... | pickle | index (MessagePack) | length of the index (8 bytes, little-endian)
```

Each buffer begins at a multiple of 64 bytes, so that arrays are aligned as numerical libraries like it. The file is
written once, front to back, and never changed: processes map it copy-on-write, see one copy of it, and may write to
what they see.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..pieces import Pieces, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

ALIGNMENT = 64

WRITE_MAX = 1 << 30
"""Bytes for one call of the kernel, which takes no more than 2 GB."""

PIECES_MAX = 512
"""Pieces for one call of the kernel, which takes no more than 1024."""


class Index(msgspec.Struct, array_like=True):
    """Where things are in the file: offset and length each."""

    pickle: tuple[int, int]
    buffers: list[tuple[int, int]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Index).decode


class Plan(NamedTuple):
    """What is to be written, in order."""

    pieces: list[Any]
    nbytes: int


def plan(payload: Any, buffers: Sequence[Any]) -> Plan:
    """Return what the file of a pickled value consists of. The payload, or the first buffer in its place, may be
    `Pieces`.

    >>> file = b"".join(plan(b"pickle", [b"buffer"]).pieces)
    >>> payload, buffers = read(memoryview(file))
    >>> bytes(payload), bytes(buffers[0])
    (b'pickle', b'buffer')
    """
    if buffers and not len(payload):
        payload, *buffers = buffers
    pieces: list[Any] = []
    places: list[tuple[int, int]] = []
    at = 0
    for buffer in buffers:
        size = size_of(buffer)
        if at % ALIGNMENT:
            pieces.append(bytes(-at % ALIGNMENT))
            at += -at % ALIGNMENT
        pieces.append(buffer)
        places.append((at, size))
        at += size
    size = size_of(payload)
    index = _encode(Index((at, size), places))
    pieces += payload.pieces if isinstance(payload, Pieces) else [payload]
    pieces += (index, len(index).to_bytes(8, "little"))
    return Plan(pieces, at + size + len(index) + 8)


def write(fd: int, pieces: Sequence[Any]) -> None:
    """Write everything to a fresh file; OSError if it does not fit."""
    rest = [view for piece in pieces if (view := memoryview(piece).cast("B")).nbytes]
    while rest:
        now: list[memoryview] = []
        room = WRITE_MAX
        for view in rest[:PIECES_MAX]:
            now.append(view[:room])
            room -= now[-1].nbytes
            if not room:
                break
        written = os.writev(fd, now)
        while written:
            first = rest[0]
            if written < first.nbytes:
                rest[0] = first[written:]
                break
            written -= first.nbytes
            rest.pop(0)


def read(file: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Return the pickle and the buffers of a value, as parts of its file; ValueError if it is no such file."""
    try:
        end = file.nbytes - 8
        length = int.from_bytes(file[end:], "little")
        if end < 0 or length > end:
            raise ValueError("its index is missing")
        index = _decode(file[end - length : end])
    except msgspec.MsgspecError as error:
        raise ValueError(f"its index cannot be read: {error}") from None
    places = [index.pickle, *index.buffers]
    if not all(0 <= at <= at + size <= end - length for at, size in places):
        raise ValueError("its index speaks of what is not there")
    payload, *buffers = (file[at : at + size] for at, size in places)
    return payload, buffers
