"""Who has which objects mapped, by what the kernel says of processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Mapped(NamedTuple):
    """What a process has mapped."""

    memory: frozenset[bytes] = frozenset()
    """Objects whose files are in memory."""
    gone: frozenset[bytes] = frozenset()
    """Those whose files were in memory, and are removed."""
    disk: frozenset[bytes] = frozenset()
    """Those whose files are on disk, or were."""


def look(pid: int, memory: str, disk: str) -> Mapped | None:
    """Return what a process has mapped of the files in these folders; None if there is no such process any more."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return None
    return find(maps, memory, disk)


def find(maps: bytes, memory: str, disk: str) -> Mapped:
    """Return which objects are in a process's list of mappings."""
    found = _files(maps, memory)
    return Mapped(
        frozenset(name for name, is_gone in found if not is_gone),
        frozenset(name for name, is_gone in found if is_gone),
        frozenset(name for name, _ in _files(maps, disk)) if disk else frozenset(),
    )


def _files(maps: bytes, folder: str) -> set[tuple[bytes, bytes]]:
    pattern = rb" " + re.escape(folder.encode()) + rb"/([0-9a-f]{32})( \(deleted\))?$"
    return {(bytes.fromhex(name.decode()), gone) for name, gone in re.findall(pattern, maps, re.MULTILINE)}
