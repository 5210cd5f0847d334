"""How many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from . import threads


def usable() -> int:
    """Return how many cores this process may keep busy: of the host's, those that its affinity and the quotas of its
    cgroups allow.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    for files in threads.quota_files(_read("/proc/self/cgroup")):
        allowed = threads.quota(" ".join(map(_read, files)))
        if allowed is not None:
            cores = min(cores, int(allowed))
    return max(1, cores)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
