"""The functions in use: their pickles, who may name them, and how long they take.

A pickle is kept while a client may name it or a task of it is unfinished, so that memory is bounded by what is in use.
The estimate of its duration outlives neither.
"""

from __future__ import annotations

BUILTIN = b"!"
"""First byte of the names of the operations built into the engine; they have no pickle."""


class FunctionEntry:
    """One function."""

    __slots__ = ("digest", "lacking", "mean_s", "owners", "pickled", "unfinished")

    def __init__(self, digest: bytes, pickled: bytes) -> None:
        self.digest = digest
        self.pickled = pickled
        self.owners: set[int] = set()
        self.unfinished = 0
        self.mean_s: float | None = None
        """Running estimate of the duration of one call (or one item); None before the first result."""
        self.lacking: set[tuple[int, int]] = set()
        """Engines (with incarnation) that have not had what a task of it needs, and have run none since."""

    def observe(self, total_s: float, calls: int) -> None:
        """Take the duration of some calls into the estimate; many at once weigh more than one."""
        mean = total_s / calls
        if self.mean_s is None:
            self.mean_s = mean
        else:
            self.mean_s += (mean - self.mean_s) * (calls / (calls + 4))


class FunctionStore:
    """All functions by digest."""

    def __init__(self) -> None:
        self.entries: dict[bytes, FunctionEntry] = {}
        self.dropped: list[bytes] = []
        """Digests that went since somebody last looked (and emptied this)."""

    def add(self, digest: bytes, pickled: bytes, owner: int) -> None:
        """A client sent a function."""
        entry = self.entries.get(digest)
        if entry is None:
            entry = self.entries[digest] = FunctionEntry(digest, pickled)
        entry.owners.add(owner)

    def find(self, digest: bytes) -> FunctionEntry | None:
        """Return the entry, making one for a built-in operation; None for a function nobody sent."""
        entry = self.entries.get(digest)
        if entry is None and digest.startswith(BUILTIN):
            entry = self.entries[digest] = FunctionEntry(digest, b"")
        return entry

    def disown(self, digest: bytes, owner: int) -> None:
        """A client will not name it any more without sending it again."""
        entry = self.entries.get(digest)
        if entry is not None:
            entry.owners.discard(owner)
            self.drop_if_unused(entry)

    def release(self, digest: bytes, count: int = 1) -> None:
        """That many tasks of it have ended."""
        entry = self.entries[digest]
        entry.unfinished -= count
        if not entry.unfinished:
            self.drop_if_unused(entry)

    def drop_if_unused(self, entry: FunctionEntry) -> None:
        """Forget it if no client may name it and no task needs it."""
        if not entry.unfinished and not entry.owners and not entry.digest.startswith(BUILTIN):
            del self.entries[entry.digest]
            self.dropped.append(entry.digest)
