"""How much room objects take in shared memory and on disk, and whether there is some for another.

What was removed while processes had it mapped (*ghosts*) still takes memory, until the last of them has let go; that is
not known until somebody looks, so everything that was removed counts until the next look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...holders import amount

if TYPE_CHECKING:
    from collections.abc import Collection

GHOSTS_MAX = 10_000
"""So many of them are worth a look."""


class Disk(Protocol):
    """What the books ask about files."""

    def room(self) -> int:
        """Return how many bytes the folder on disk can still take."""

    def is_there(self, path: str) -> bool:
        """Return whether there is such a file."""


class Room:
    """The room for objects: `limit` bytes of memory, and what the disk has; without a `folder` on it, it has none."""

    def __init__(self, limit: int, folder: str, disk: Disk) -> None:
        self.limit = limit
        self.folder = folder
        self._disk = disk
        self.memory = 0
        """Bytes of objects in memory, what is only reserved included."""
        self.on_disk = 0
        """The same on disk."""
        self.unwritten = 0
        """What of the disk's is not written yet, as far as is known."""
        self.ghosts: dict[bytes, int] = {}
        self.ghost_bytes = 0

    @property
    def used(self) -> int:
        """Bytes of shared memory that are taken."""
        return self.memory + self.ghost_bytes

    def fits(self, nbytes: int) -> bool:
        """Return whether so many bytes fit into memory."""
        return self.used + nbytes <= self.limit

    def might_fit(self, nbytes: int) -> bool:
        """Return whether so many bytes do not fit into memory, but would without what may be mapped no more."""
        return self.memory + nbytes <= self.limit < self.used + nbytes

    def fits_on_disk(self, nbytes: int) -> bool:
        """Return whether so many bytes fit on disk."""
        return bool(self.folder) and nbytes <= self._disk.room() - self.unwritten

    def take(self, nbytes: int, *, on_disk: bool) -> None:
        """Take room for what is about to be written."""
        if on_disk:
            self.on_disk += nbytes
            self.unwritten += nbytes
        else:
            self.memory += nbytes

    def written(self, nbytes: int, *, on_disk: bool) -> None:
        """Take note that it is written."""
        if on_disk:
            self.unwritten -= nbytes

    def give_back(self, nbytes: int, *, on_disk: bool) -> None:
        """Give back what was not written after all."""
        self.written(nbytes, on_disk=on_disk)
        if on_disk:
            self.on_disk -= nbytes
        else:
            self.memory -= nbytes

    def removed(self, object_id: bytes, nbytes: int, *, on_disk: bool) -> None:
        """Take note that a file is removed, which may be mapped."""
        if on_disk:
            self.on_disk -= nbytes
            return
        self.memory -= nbytes
        self.ghosts[object_id] = self.ghosts.get(object_id, 0) + nbytes
        self.ghost_bytes += nbytes

    def on_looked(self, gone: Collection[bytes]) -> None:
        """Take note of what is mapped of what was removed: all other ghosts are no more."""
        self.ghosts = {ghost: nbytes for ghost, nbytes in self.ghosts.items() if ghost in gone}
        self.ghost_bytes = sum(self.ghosts.values())

    def why_none(self, nbytes: int, trouble: str = "") -> str:
        """Return why there is no room for an object, and what can be done."""
        ghosts = f" (of which {amount(self.ghost_bytes)} are only mapped any more)" if self.ghost_bytes else ""
        memory = f"{amount(self.used)} of the {amount(self.limit)} of shared memory for objects are used{ghosts}"
        if not self.folder:
            disk = "there is no folder on disk for them"
        elif trouble:
            disk = f"the folder {self.folder} cannot be written to: {trouble}"
        else:
            disk = f"the disk of {self.folder} has {amount(max(0, self._disk.room() - self.unwritten))} for them"
        return (
            f"there is no room for an object of {amount(nbytes)}: {memory}, and {disk}; "
            "let go of some, allow more with --memory-limit (memory_limit in Python), or have more disk with --spill"
        )
