"""Sequences in parts, and put together again: for `scatter`, `gather` and the maps of direct views."""

from __future__ import annotations

import sys
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DISTS = ("b", "r")
_MISSING = object()


def check_dist(dist: str) -> None:
    """Raise ValueError unless this is a way to distribute."""
    if dist not in DISTS:
        raise ValueError(f'dist is "b" (blocks) or "r" (round robin), not {dist!r}')


def bounds(length: int, parts: int) -> list[tuple[int, int]]:
    """Return where each of so many blocks begins and ends; the first ones may be longer by one.

    >>> bounds(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    size, rest = divmod(length, parts)
    ends = [size * (i + 1) + min(i + 1, rest) for i in range(parts)]
    return list(zip([0, *ends], ends, strict=False))


def split(sequence: Iterable[Any], parts: int, dist: str) -> list[Any]:
    """Return a sequence in so many parts, of its own type where it can be sliced."""
    check_dist(dist)
    sliceable: Any = sequence
    if not (hasattr(sequence, "__len__") and hasattr(sequence, "__getitem__")) or isinstance(sequence, dict):
        sliceable = list(sequence)
    elif isinstance(sequence, range):
        sliceable = list(sequence)  # its parts are to be changed by their owners
    if dist == "r":
        return [sliceable[i::parts] for i in range(parts)]
    return [sliceable[lo:hi] for lo, hi in bounds(len(sliceable), parts)]


def join(parts: Sequence[Any], dist: str) -> Any:
    """Return the parts as one: arrays concatenated, sequences as a list; parts that are neither, as a list of them."""
    check_dist(dist)
    numpy = sys.modules.get("numpy")
    if numpy is not None and parts and all(isinstance(part, numpy.ndarray) and part.ndim for part in parts):
        if dist == "b":
            return numpy.concatenate(parts)
        whole = numpy.empty((sum(map(len, parts)), *parts[0].shape[1:]), numpy.result_type(*parts))
        for i, part in enumerate(parts):
            whole[i :: len(parts)] = part
        return whole
    if not all(isinstance(part, list | tuple | range | str | bytes) or _is_array(part) for part in parts):
        return list(parts)
    if parts and all(isinstance(part, str) for part in parts) and dist == "b":
        return "".join(parts)
    if dist == "b":
        return list(chain.from_iterable(parts))
    rows = zip_longest(*parts, fillvalue=_MISSING)
    return [item for row in rows for item in row if item is not _MISSING]


def _is_array(part: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(part, numpy.ndarray) and part.ndim > 0
