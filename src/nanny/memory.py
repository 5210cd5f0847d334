"""How much memory this process, with all others of the cluster on this host, may use."""

from __future__ import annotations

from pathlib import Path

from . import kills

ALL = "/proc/meminfo"


def limit(wanted: int | None) -> int:
    """Return how many bytes objects may take on this host: what is wanted, or half of the memory there is."""
    return usable() // 2 if wanted is None else wanted


def usable() -> int:
    """Return how many bytes of memory there are here: the host's, or as many of them as our cgroups allow."""
    sizes = [int(words[1]) << 10 for line in _read(ALL).splitlines() if (words := line.split())[:1] == ["MemTotal:"]]
    if not sizes:
        import psutil  # noqa: PLC0415 - where there is no /proc

        sizes = [int(psutil.virtual_memory().total)]
    for path in kills.limits(_read("/proc/self/cgroup")):
        text = _read(path).strip()
        if text.isdecimal():  # else it is missing, or "max"
            sizes.append(int(text))
    return min(sizes)


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
