"""What the books of a store know of an object, of a process, and of what waits for room; and what they want done."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ...wire import objects as o
    from ...wire.objects import ObjectInfo, Source


ToTell: TypeAlias = "o.Need | o.Pulled | o.Unpulled | o.Vanished | o.StoreLeft | o.StoreSeen"
"""What a store has to tell the controller."""


class Stage(Enum):
    """How far an object is."""

    WRITING = "being written by a process of this host"
    COMING = "being brought from another store"
    WHOLE = "here"


class Known:
    """An object."""

    __slots__ = ("id", "is_doomed", "is_moving", "maker", "nbytes", "on_disk", "sources", "stage", "used")

    def __init__(self, object_id: bytes, nbytes: int, stage: Stage, maker: int | None, *, on_disk: bool) -> None:
        self.id = object_id
        self.nbytes = nbytes
        self.stage = stage
        self.maker = maker
        """The connection of the process that makes it, or has made it; None: it has left, or is elsewhere."""
        self.on_disk = on_disk
        """Where its file is."""
        self.is_moving = False
        """Its file is being copied to where it is not."""
        self.is_doomed = False
        """Nobody holds it any more: it is removed when it is whole."""
        self.sources: tuple[Source, ...] = ()
        """Where it is to come from, while it is coming."""
        self.used = 0
        """When it was last used, in uses of any object."""


class User:
    """A process that is connected."""

    __slots__ = ("has_failed_on_disk", "made", "peer")

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        """Its routing id at the controller; empty for another process of the same id, a forked copy."""
        self.made: dict[bytes, None] = {}
        """Objects that it makes, or has made."""
        self.has_failed_on_disk = False
        """The last file that it could not write was to be on disk."""


class Wish(NamedTuple):
    """Room that is wanted: by a process that makes an object, or (`sources`) for one that is to be brought here."""

    nbytes: int
    user: int = 0
    request: int = 0
    not_in_memory: bool = False
    not_on_disk: bool = False
    object: ObjectInfo | None = None
    sources: tuple[Source, ...] = ()


# ----------------------------------------------------------------------------------------------------------- actions


class Answer(NamedTuple):
    """Send a message to a process of this host."""

    user: int
    message: o.FromStore


class Tell(NamedTuple):
    """Send a message to the controller."""

    message: ToTell


class Look(NamedTuple):
    """See who has what mapped, and say it to `on_looked`."""


class See(NamedTuple):
    """The same, and answer the controller's query of this number."""

    request: int


class Move(NamedTuple):
    """Copy an object's file to disk, or back to memory, and say so to `on_moved`; it is to appear there whole."""

    object: bytes
    to_disk: bool


class Remove(NamedTuple):
    """Remove an object's file, whether there is one or not, and stop copying it."""

    object: bytes
    on_disk: bool


class Fetch(NamedTuple):
    """Bring an object, or go on with other sources, and say so to `on_pulled` or `on_unpulled`."""

    object: ObjectInfo
    sources: tuple[Source, ...]
    on_disk: bool


class Unfetch(NamedTuple):
    """Stop bringing an object, and remove what there is of it."""

    object: bytes
    on_disk: bool


class Place(NamedTuple):
    """What was brought is whole: put it where others look for it."""

    object: bytes
    on_disk: bool


Action = Answer | Tell | Look | See | Move | Remove | Fetch | Unfetch | Place
