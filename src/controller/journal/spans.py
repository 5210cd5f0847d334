"""Ranges of task ids, by which rows of the journal are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ids import COUNT_BITS

if TYPE_CHECKING:
    from collections.abc import Iterable

GAP = 1000
"""Ids as near to one another as that are looked for together."""


def spans(ranges: Iterable[tuple[int, int]], gap: int = GAP) -> list[tuple[int, int]]:
    """Return ranges of ids, those that are near to one another and of one client put together.

    >>> spans([(4, 5), (1, 3), (5000, 5000)])
    [(1, 5), (5000, 5000)]
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first - found[-1][1] <= gap and first >> COUNT_BITS == found[-1][0] >> COUNT_BITS:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
