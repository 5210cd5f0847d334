"""How many threads the numerical libraries (BLAS, OpenMP) of an engine may have.

Left alone, each engine has as many as the host has cores, and all of them together are slower than with one each. So an
engine gets its share of the cores that the nanny may use, unless the user says otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from .kills import CGROUPS, upwards

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What the libraries look at when they are loaded."""


class Threads(NamedTuple):
    """What is known of threads when a host begins."""

    cores: int
    """How many the nanny may use."""
    wanted: int | None = None
    """For each engine, as the user says; 0: leave that to the libraries; None: cores by engines."""
    taken: frozenset[str] = frozenset()
    """Variables that the user has set."""

    def environment(self, engines: int) -> dict[str, str]:
        """Return what to set for an engine, one of so many of the host. What the user has set is left alone, unless a
        number is wanted.

        >>> Threads(8, taken=frozenset(VARIABLES) - {"OMP_NUM_THREADS"}).environment(3)
        {'OMP_NUM_THREADS': '2'}
        """
        if self.wanted is not None:
            return dict.fromkeys(VARIABLES, str(self.wanted)) if self.wanted else {}
        share = str(max(1, self.cores // max(1, engines)))
        return {name: share for name in VARIABLES if name not in self.taken}


def quota_files(groups: str) -> list[tuple[str, ...]]:
    """Return the files that may limit the processor time of a process whose `/proc/PID/cgroup` this is: one that has
    time and period, or one for each.

    >>> quota_files("0::/job")
    [('/sys/fs/cgroup/job/cpu.max',), ('/sys/fs/cgroup/cpu.max',)]
    """
    found: list[tuple[str, ...]] = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "cpu" in controllers.split(","):
            base = f"{CGROUPS}/{controllers}"
            found += [(f"{base}{p}/cpu.cfs_quota_us", f"{base}{p}/cpu.cfs_period_us") for p in upwards(path)]
        elif number == "0" and not controllers:
            found += [(f"{CGROUPS}{p}/cpu.max",) for p in upwards(path)]
    return found


def quota(text: str) -> float | None:
    """Return how many cores' worth of time such files (their text, one after the other) allow; None for no limit.

    >>> quota("150000 100000"), quota("max 100000"), quota("-1 100000")
    (1.5, None, None)
    """
    try:
        time, period = (int(word) for word in text.split())
    except ValueError:
        return None
    return time / period if time > 0 and period > 0 else None
