"""How many engines a machine can hold, and how people write times and sizes."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..client.calls.resources import amounts
from ..errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENGINE_BYTES = 10 << 20
"""What an engine weighs by itself, beyond what it shares with its template."""

ALWAYS_FINE = 32
"""Up to this many engines nobody asks."""

_LINUX: bool = sys.platform == "linux"


def available_bytes() -> int:
    """Return the memory that new processes can have, in this machine or container."""
    if not _LINUX:
        import psutil  # noqa: PLC0415 - where there is no /proc

        return int(psutil.virtual_memory().available)
    available = 1 << 62
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) << 10
    with contextlib.suppress(OSError, ValueError):  # absent, or "max"
        cgroup = Path("/sys/fs/cgroup")
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        available = min(available, max(0, limit - used))
    return available


def check_count(n: int, *, force: bool = False, available: int | None = None) -> None:
    """Raise ClusterError if there cannot be this many engines, or, without `force`, if they would not fit."""
    if n < 1:
        raise ClusterError(f"an engine count must be at least 1, not {n}")
    if force or n <= ALWAYS_FINE:
        return
    free = available_bytes() if available is None else available
    fits = max(ALWAYS_FINE, free // ENGINE_BYTES)
    if n > fits:
        raise ClusterError(
            f"{n} engines need about {n * ENGINE_BYTES / 2**30:.0f} GB of memory and {free / 2**30:.1f} GB are free, "
            f"which is room for {fits}; start fewer, or insist with --force (force=True in Python)"
        )


def check_threads(threads: int | None) -> int | None:
    """Return a number of threads for each engine, if it is one; else raise ClusterError."""
    given: object = threads
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
        raise ClusterError(f"threads per engine are a number, or 0 to leave it to the libraries, not {given!r}")
    return threads


def parse_resources(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return resources that are written as `gpu=2`, several in one text separated by commas.

    >>> parse_resources(["mem=64", "gpu=2,tpu=1"])
    (('gpu', 2.0), ('mem', 64.0), ('tpu', 1.0))
    """
    found: dict[str, float] = {}
    for part in ",".join(texts).split(",") if texts else []:
        name, _, amount = (word.strip() for word in part.partition("="))
        if name in found:
            raise ValueError(f"resource {name} is given twice")
        try:
            found[name] = float(amount)
        except ValueError:
            raise ValueError(f"a resource is written NAME=AMOUNT, like gpu=2, not {part!r}") from None
    try:
        return amounts(found)
    except TypeError as error:
        raise ValueError(str(error)) from None


_SECONDS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "b": 1} | {
    unit + b: 10**power for unit, power in (("k", 3), ("m", 6), ("g", 9), ("t", 12)) for b in ("", "b")
}
_BYTES |= {f"{unit}i{b}": 1 << 10 * power for power, unit in enumerate("kmgt", 1) for b in ("", "b")}


def seconds(text: float | str) -> float:
    """Return a time in seconds: a number, or a number with a unit (`90s`, `5min`, `12h`, `7d`, `2w`).

    >>> seconds("7d")
    604800.0
    """
    return _measure(text, _SECONDS, "a time is a number of seconds, or one like 90s, 12h or 7d")


def nbytes(text: int | str) -> int:
    """Return a number of bytes: a number, or a number with a unit (`500MB`, `2GB`, `1.5GiB`).

    >>> nbytes("2GB")
    2000000000
    """
    return int(_measure(text, _BYTES, "a size is a number of bytes, or one like 500MB, 2GB or 1.5GiB"))


def _measure(text: float | str, units: dict[str, int], hint: str) -> float:
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([A-Za-z]*)", str(text).strip())
    unit = units.get(match[2].lower()) if match is not None else None
    if match is None or unit is None:
        raise ValueError(f"{hint}, not {text!r}")
    return float(match[1]) * unit
