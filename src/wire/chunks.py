"""What stores of different hosts say to one another, and to clients of hosts that have no store of the cluster's.

See `messages`, which they belong to, and whose `VERSION` covers them. Whoever wants an object asks for its bytes chunk
by chunk, a few at a time: so nobody is sent more than it can take, what is lost is asked for again, and the rest can
come from somebody else.

```
store, client ── Chunk ──► store        client elsewhere ── Reserve ─────────► the head's store
              ◄── Piece + frame                          ◄─ Reserved
              ◄── NoPiece                                ── Upload + frame ──►  (a few at a time)
                                                         ◄─ Uploaded            (each; sealed when it has all)
```

A client elsewhere begins with a `StoreHello`, and asks with `Want` for what it is going to fetch.
"""

from __future__ import annotations

import msgspec

from .objects import (
    Abandoned,
    ObjectId,
    Reserve,
    Reserved,
    Size,
    StoreHello,
    StoreRefused,
    StoreWelcome,
    There,
    Want,
)


class Chunk(msgspec.Struct, array_like=True, tag=True, gc=False):
    """These bytes of an object, please. Answered by `Piece` or `NoPiece`: at once, or, if the one asked is itself only
    about to get them, when it has them.
    """

    request: int
    object: ObjectId
    offset: Size
    nbytes: Size


class Piece(msgspec.Struct, array_like=True, tag=True, gc=False):
    """The answer to `Chunk` of that number: all that was asked for, in one frame."""

    request: int


class NoPiece(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Chunk` of that number: it is not to be had here, for this reason."""

    request: int
    why: str


class Upload(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Bytes of an object that room was reserved for, in one frame. Answered by `Uploaded`."""

    object: ObjectId
    offset: Size


class Uploaded(msgspec.Struct, array_like=True, tag=True):
    """They are written. The object is sealed with the last of them."""

    object: ObjectId
    offset: Size
    error: str = ""
    """They could not be: the object is abandoned."""


ToServing = StoreHello | Chunk | Want | Reserve | Upload | Abandoned
FromServing = StoreWelcome | StoreRefused | Piece | NoPiece | There | Reserved | Uploaded
