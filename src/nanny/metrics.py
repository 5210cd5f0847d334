"""What processes weigh."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LINUX: bool = sys.platform == "linux"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it is gone."""
    if _LINUX:  # one small read; the library would cost the nanny 5 MB
        try:
            return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0
    import psutil  # noqa: PLC0415 - where there is no /proc

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def steps(pid: int) -> int | None:
    """Return how often the main thread of a process has gone to wait; None if that is not known, or it is traced."""
    if not _LINUX:
        return None
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        return None if int(fields["TracerPid"]) else int(fields["voluntary_ctxt_switches"])
    except (KeyError, ValueError):
        return None
