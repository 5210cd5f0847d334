"""Start of a host's store: its folders, and whether it can have any."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from ... import leftovers, rendezvous
from ...errors import ClusterError
from .thread import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LINUX: bool = sys.platform == "linux"


def start(directory: Path, *, limit: int, least: int, spill: str | None, log: Callable[[str], None]) -> Store | None:
    """Return the store of the nanny with this folder, at work; None, and a line in the log, if there can be none.

    ClusterError if the folder for what is spilled, which the user has chosen, cannot be used.
    """
    if not (_LINUX and rendezvous.SHARED_MEMORY.is_dir()):
        log("there is no shared memory for objects on this system: large values go through the controller")
        return None
    try:
        memory = rendezvous.private_dir(rendezvous.objects_dir(directory)).resolve()
        info = os.statvfs(memory)
        leftovers.hold(memory)  # until this process ends
    except (OSError, ClusterError) as error:
        log(f"there is no store of objects here, and large values go through the controller: {error}")
        return None
    threading.Thread(target=_clear_others, args=(directory, log), name="store clearing", daemon=True).start()
    store = Store(
        str(rendezvous.store_path(directory)),
        str(memory),
        _disk(directory, spill, log),
        limit=min(limit, info.f_blocks * info.f_frsize),
        least=least,
        log=log,
    )
    store.start()
    return store


def _clear_others(directory: Path, log: Callable[[str], None]) -> None:
    """Remove what other clusters have left when everything of them was killed: it may take all the memory there is."""
    with contextlib.suppress(OSError):
        for folder in leftovers.clear_objects_of_others(directory):
            log(f"removed the objects of a dead cluster, {folder}")


def _disk(directory: Path, spill: str | None, log: Callable[[str], None]) -> str:
    """Return the folder on disk, made; empty if there can be none."""
    folder = rendezvous.spill_dir(directory, spill)
    try:
        if not (spill or os.environ.get("ENGINERY_SPILL_DIR")):
            rendezvous.private_dir(folder.parent, "ENGINERY_SPILL_DIR")  # it is in a folder that others write to
        rendezvous.private_dir(folder, "ENGINERY_SPILL_DIR")
        leftovers.hold(folder)
        (directory / rendezvous.SPILL).unlink(missing_ok=True)
        (directory / rendezvous.SPILL).symlink_to(folder)
    except (OSError, ClusterError) as error:
        if spill is not None:
            raise ClusterError(f"objects cannot be put to disk where --spill says: {error}") from error
        log(f"objects that do not fit into memory cannot be put to disk: {error}")
        return ""
    return str(folder.resolve())
