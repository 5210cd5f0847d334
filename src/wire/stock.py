"""What there is of objects: the value of the answer to `ObjectsQuery`.

Here and not in `objects`, since it is no message: the controller puts it into a `Reply`, and who asked makes a `Stock`
of the plain maps that come (`read_stock`).
"""

from __future__ import annotations

from typing import Any

import msgspec


class Hold(msgspec.Struct, frozen=True):
    """The handles of a client."""

    client: int
    name: str
    pid: int
    handles: int


class Place(msgspec.Struct, frozen=True):
    """A host that has an object, or will have it."""

    host: str
    place: str
    """`memory`, `disk`, `coming` or `mapped` (see `objects.InStore`); `there` if its store has not answered."""
    engines: list[int] = []
    """Engines there that have it mapped."""
    pids: list[int] = []
    """Other processes there that have."""


class ObjectRecord(msgspec.Struct, frozen=True):
    """An object, and who holds it. Without any holder it is about to go, or has just come; `mapped` is all that is left
    of one that was dropped, and is nobody's but of those who have it mapped.
    """

    id: bytes
    nbytes: int
    made_at: str
    """The host it was made at."""
    places: list[Place] = []
    handles: list[Hold] = []
    tasks: list[tuple[int, str]] = []
    """Tasks with it among their arguments that have not ended: ids and labels; the first of many."""
    tasks_count: int = 0
    """How many these are."""
    waited_for: list[int] = []
    """Tasks whose results it is in, and others wait for those."""
    kept: list[int] = []
    """Tasks whose results it is in, which are kept for whoever asks."""
    setups: list[str] = []
    """Set-up that needs it."""


class StoreRecord(msgspec.Struct, frozen=True):
    """A host's store."""

    host: str
    count: int
    """How many objects it has, by the controller's books."""
    nbytes: int
    """How large these are."""
    answered: bool = True
    """Whether it has answered in time; if not, the figures that follow are not known."""
    memory_bytes: int = 0
    disk_bytes: int = 0
    limit_bytes: int = 0
    """How much shared memory it may use."""


class Stock(msgspec.Struct, frozen=True):
    """All objects, by id, and all stores, by host."""

    objects: list[ObjectRecord]
    stores: list[StoreRecord]


def read_stock(value: Any) -> Stock:
    """Return what the answer says.

    >>> read_stock({"objects": [{"id": b"x", "nbytes": 7, "made_at": "here"}], "stores": []}).objects[0].nbytes
    7
    """
    return msgspec.convert(value, Stock)
