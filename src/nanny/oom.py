"""Reading the kernel's counts of those it killed for lack of memory. What they mean is in `kills`."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path

from . import kills

_LINUX: bool = sys.platform == "linux"


def find_counter(pid: int) -> str | None:
    """Return the file that counts the kernel's kills where a process is; None if there is none to be read."""
    if not _LINUX:
        return None
    return _readable(_read(f"/proc/{pid}/cgroup"))


@lru_cache(maxsize=64)  # all engines are in one cgroup, unless they move
def _readable(groups: str) -> str | None:
    return next((path for path in kills.counters(groups) if count(path) is not None), None)


def count(counter: str) -> int | None:
    """Return what the file says; None if it does not."""
    return kills.count_in(_read(counter))


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
