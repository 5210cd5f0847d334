"""Objects: large values, each written once into the shared memory of a host, and messages about them.

See `messages`, which they belong to, and whose `VERSION` covers them. (`objects.layout` has what is in their files.)

A host has one *store*, kept by its nanny. An object's id is that of the store it was made in and a number that this
store gave it, so nobody has to ask where it began. What travels in messages in the place of the value is a *reference*:
a payload of its own kind. Beside it, where the controller can see it without opening a payload, stands what the object
is: `Task.objects`, `Result.objects`.

Who holds an object is counted by the controller: *handles* of clients (a delivery of it is one, and so is a `Put`),
tasks that have not ended and have it among their arguments, results that are kept for whoever asks. When the last goes
the stores are told to `Drop` it. Whoever has mapped it, an engine's namespace above all, keeps its pages: that count is
the kernel's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

STORE_BYTES = 8
"""Length of a store's id."""

ID_BYTES = STORE_BYTES + 8
"""Length of an object's id: its first store's, and a number."""

StoreId = Annotated[bytes, msgspec.Meta(min_length=STORE_BYTES, max_length=STORE_BYTES)]
ObjectId = Annotated[bytes, msgspec.Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class ObjectInfo(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An object."""

    id: ObjectId
    nbytes: Size
    """Size of its file."""


# ---------------------------------------------------------------------------------------------------------- references

MARK = b"\xc1object"
"""Begins a payload that is a reference: no pickle begins so."""

_LENGTH = len(MARK) + ID_BYTES + 8


def reference_to(info: ObjectInfo) -> bytes:
    """Return the payload that stands for an object.

    >>> find_reference(reference_to(ObjectInfo(bytes(16), 7))).nbytes
    7
    """
    return MARK + info.id + info.nbytes.to_bytes(8, "little")


def find_reference(payload: bytes) -> ObjectInfo | None:
    """Return the object that a payload stands for; None if it is no reference."""
    if len(payload) != _LENGTH or payload[: len(MARK)] != MARK:
        return None
    at = len(MARK)
    return ObjectInfo(bytes(payload[at : at + ID_BYTES]), int.from_bytes(payload[at + ID_BYTES :], "little"))


def store_of(object_id: bytes) -> bytes:
    """Return the store in which an object was made."""
    return object_id[:STORE_BYTES]


def file_name(object_id: bytes) -> str:
    """Return the name of an object's file, in whatever folder."""
    return object_id.hex()


def show_object(object_id: bytes) -> str:
    """Return how people see an object's id: its number, in the store that made it.

    >>> show_object(bytes.fromhex("0123456789abcdef") + (17).to_bytes(8, "big"))
    '01234567-17'
    """
    return f"{object_id[:4].hex()}-{int.from_bytes(object_id[STORE_BYTES:], 'big')}"


# ---------------------------------------------------------------------------------------------------- the host's store
# Between a store and the processes of its host (engines, clients), on a Unix socket of its own: see `objects.local`.


class StoreHello(msgspec.Struct, array_like=True, tag=True):
    """First message of a process; answered by `StoreWelcome` or `StoreRefused`. When its connection ends, so has it,
    and what it had reserved and not sealed is removed.
    """

    version: int
    peer: bytes
    """Its routing id at the controller."""
    pid: int = 0


class Reserve(msgspec.Struct, array_like=True, tag=True):
    """Room for so many bytes, please: a file is about to be written. Answered by `Reserved`."""

    request: int
    nbytes: Size
    full: bool = False
    """The place that was given for the same has turned out to be full: another one, please."""


class Sealed(msgspec.Struct, array_like=True, tag=True):
    """The file is whole, and will not be changed any more. Said before anybody else is told of the object."""

    object: ObjectId


class Abandoned(msgspec.Struct, array_like=True, tag=True):
    """The file could not be written, or nobody was told of it and nobody will be: it is removed, the room is free."""

    object: ObjectId


class Want(msgspec.Struct, array_like=True, tag=True):
    """Where is this object? Answered by `There` when it is there: brought from elsewhere, if need be."""

    request: int
    object: ObjectInfo


class Used(msgspec.Struct, array_like=True, tag=True):
    """It was mapped, without asking: what was not used for longest is the first to go to disk."""

    object: ObjectId


class StoreWelcome(msgspec.Struct, array_like=True, tag=True):
    """You may use the store."""

    store: StoreId
    folder: str
    """Where objects are, under their names (`file_name`), if they are in memory."""
    least: Size
    """Values of so many bytes are worth an object."""


class StoreRefused(msgspec.Struct, array_like=True, tag=True):
    """You may not, for this reason."""

    reason: str


class Reserved(msgspec.Struct, array_like=True, tag=True):
    """Make the file at this path and write the object; or the error says why there is no room."""

    request: int
    object: bytes = b""
    path: str = ""
    error: str = ""


class There(msgspec.Struct, array_like=True, tag=True):
    """It is in this file, now (it may be moved any time: then ask again); or the error says why it never will be."""

    request: int
    path: str = ""
    error: str = ""


ToStore = StoreHello | Reserve | Sealed | Abandoned | Want | Used
FromStore = StoreWelcome | StoreRefused | Reserved | There


# ------------------------------------------------------------------------------------------------ client -> controller
# `Put` and `Release`, which are numbered, are in `messages`.


class ObjectsQuery(msgspec.Struct, array_like=True, tag=True):
    """Which objects are there (or what of these), and who holds them? Answered by a `Reply` whose value is a
    `stock.Stock` (`stock.read_stock` makes it of what comes), when all stores have said what they have, or have had a
    second for it. `enginery.holders` has what to tell people of it.
    """

    request: int
    objects: list[ObjectId] | None = None


# ------------------------------------------------------------------------------------------------- controller -> nanny


class Source(msgspec.Struct, array_like=True, frozen=True):
    """A store that serves objects to others."""

    store: StoreId
    address: str
    """`tcp://host:port`, as seen from other hosts; `ipc://` where all stores are of one host."""
    key: str = ""
    """Its public CURVE key (Z85); empty on a Unix socket."""


class Drop(msgspec.Struct, array_like=True, tag=True):
    """Nobody holds these any more: remove them, and stop bringing them."""

    objects: list[ObjectId]


class Pull(msgspec.Struct, array_like=True, tag=True):
    """Bring this object from there: from the first of the sources, from the others when that one fails. A source may
    itself be about to get it: it serves what it has, as it comes. Answered by `Pulled` or `Unpulled`. Said again with
    other sources, it is those from then on.
    """

    object: ObjectInfo
    sources: list[Source]


class Lacking(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Need` of an object that nobody has any more, with the reason ("the host that had it is gone")."""

    object: ObjectId
    why: str


class StoreQuery(msgspec.Struct, array_like=True, tag=True):
    """What do you have, and who has it mapped? Answered by `StoreSeen`."""

    request: int


# ------------------------------------------------------------------------------------------------- nanny -> controller


class Need(msgspec.Struct, array_like=True, tag=True):
    """A process here wants these, which are not here. Answered by a `Pull` or `Lacking` for each."""

    objects: list[ObjectId]


class Pulled(msgspec.Struct, array_like=True, tag=True):
    """These are here now."""

    objects: list[ObjectInfo]


class Unpulled(msgspec.Struct, array_like=True, tag=True):
    """None of the sources has it, or it cannot be kept here, for this reason."""

    object: ObjectId
    why: str
    full: bool = False
    """There is no room for it here; else it was the sources."""


class Vanished(msgspec.Struct, array_like=True, tag=True):
    """These were here and are not any more: somebody else has removed them, or the disk has failed."""

    objects: list[ObjectId]


class StoreLeft(msgspec.Struct, array_like=True, tag=True):
    """A process of this host has ended, or has left its store; it had made these, of which the controller may never
    have been told.
    """

    peer: bytes
    objects: list[ObjectId]


class InStore(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What there is to say of an object in a store."""

    id: ObjectId
    nbytes: Size
    place: str
    """`memory`, `disk`, `coming` (it is being written, or brought here), or `mapped`: it is dropped, and its pages will
    go when the last process has let go of them."""
    engines: list[int] = []
    """Engines that have it mapped."""
    pids: list[int] = []
    """Other processes of this host that have."""


class StoreSeen(msgspec.Struct, array_like=True, tag=True):
    """The answer to `StoreQuery` of that number."""

    request: int
    objects: list[InStore]
    memory_bytes: Size = 0
    """How much shared memory they take, those that are only mapped any more included."""
    disk_bytes: Size = 0
    limit_bytes: Size = 0
    """How much shared memory they may take."""
