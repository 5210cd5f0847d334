"""What a cluster holds of the machine it is on: files of objects, descriptors, mappings, memory."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from enginery import leftovers, rendezvous


def folder_of(name: str) -> Path:
    """Return the folder in shared memory of a cluster's objects. It may not exist."""
    return rendezvous.objects_dir(rendezvous.cluster_dir(name))


def files(name: str) -> list[str]:
    """Return the names of the files of a cluster's objects."""
    try:
        return sorted(entry.name for entry in os.scandir(folder_of(name)))
    except FileNotFoundError:
        return []


def spilled(name: str) -> list[str]:
    """Return the paths of the files that a cluster's objects have on disk."""
    folders = rendezvous.spill_dirs(rendezvous.cluster_dir(name))
    return sorted(entry.path for folder in folders if folder.is_dir() for entry in os.scandir(folder))


def pids(name: str) -> dict[str, int]:
    """Return the processes of a cluster by role: `nanny`, `controller`, `zygote`, `engine-0` ..., the last of each."""
    folder = rendezvous.cluster_dir(name)
    return {"nanny": rendezvous.info(folder).pid, **dict(leftovers.noted_processes(folder))}


def mapped(pid: int, folder: Path) -> Counter[str]:
    """Return how often a process has which files of a folder mapped, removed ones too."""
    found: Counter[str] = Counter()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        _, at, path = line.partition(str(folder) + "/")
        if at:
            found[path.removesuffix(" (deleted)")] += 1
    return found


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return sum(1 for _ in os.scandir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Return how many bytes a process has in memory that it shares with nobody."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Dirty:",)):
            return int(line.split()[1]) << 10
    raise AssertionError(f"of process {pid} it is not known")
