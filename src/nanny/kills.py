"""Whether the kernel killed an engine for lack of memory, by its own count of such kills.

A kill by the kernel looks like any other SIGKILL. But the kernel counts its victims: in the process's memory cgroup
where there is one, else for the whole host. A process that ended by a SIGKILL nobody here sent, while that count went
up, was likely the victim. Only likely: it may have been another process of the same cgroup, or of the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

CGROUPS = "/sys/fs/cgroup"

WHOLE_HOST = "/proc/vmstat"

OPEN_S = 10.0
"""How long a kill may explain an end. The kernel counts it at once, but giving back many GB takes a process a while."""

OPEN_MAX = 1000
"""Kills that are kept open, whatever befalls a host."""


def counters(groups: str) -> list[str]:
    """Return the files that may count the kernel's kills of a process, the nearest first.

    `groups` is its `/proc/PID/cgroup`. A file may be missing: a cgroup need not have the memory controller (its parent
    counts then), and in a container the path may be one of the host's, of which only the end is mounted.

    >>> counters("0::/user.slice/job")[0]
    '/sys/fs/cgroup/user.slice/job/memory.events'
    """
    return [*_files(groups, "memory.oom_control", "memory.events"), WHOLE_HOST]


def limits(groups: str) -> list[str]:
    """Return the files that may limit the memory of a process, as `counters` does.

    >>> limits("0::/job")
    ['/sys/fs/cgroup/job/memory.max', '/sys/fs/cgroup/memory.max']
    """
    return _files(groups, "memory.limit_in_bytes", "memory.max")


def _files(groups: str, old: str, new: str) -> list[str]:
    """Return the files of a process's memory cgroups, by their names in the old and the new kind of hierarchy."""
    unified = legacy = None
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            legacy = path  # if it is here, it is not in the unified hierarchy
        elif number == "0" and not controllers:
            unified = path
    if legacy is not None:
        return [f"{CGROUPS}/memory{path}/{old}" for path in upwards(legacy)]
    return [f"{CGROUPS}{path}/{new}" for path in upwards(unified)] if unified is not None else []


def upwards(path: str) -> list[str]:
    """Return the path of a cgroup and of those that it is in, the nearest first."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # outside of what this container may see
        return []
    return ["".join(f"/{part}" for part in parts[:n]) for n in range(len(parts), -1, -1)]


def count_in(text: str) -> int | None:
    """Return how many kills such a file counts; None if it does not say."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdecimal():
            return int(number)
    return None


class Kills:
    """The kernel's kills that explain no end yet. Each explains one."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._open: dict[str, list[float]] = {}

    def note(self, counter: str, count: int, now: float) -> None:
        """Take note of what a counter says. What it said at first is of no concern."""
        new = max(0, count - self._counts.get(counter, count))
        self._counts[counter] = count
        still = [at for at in self._open.get(counter, ()) if now - at <= OPEN_S]
        self._open[counter] = still + [now] * min(new, OPEN_MAX - len(still))

    def take(self, counter: str, now: float) -> bool:
        """Return whether there was a kill that explains an end seen now, and use it up."""
        kills = self._open.get(counter, [])
        while kills:
            if now - kills.pop(0) <= OPEN_S:
                return True
        return False

    def keep(self, counters: Collection[str]) -> None:
        """Forget all counters but these."""
        for counter in self._counts.keys() - set(counters):
            del self._counts[counter]
            del self._open[counter]
