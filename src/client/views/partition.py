"""Sequences in parts, and put together again: for `scatter`, `gather`, and the maps of direct views.

What a part is of, it is itself: a list of a list, an array of an array, a table of a table (by rows), a dict of a dict.
So an engine that gets nothing has an empty one of the right kind. numpy and pandas are asked only where the program has
loaded them: without, no value is theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate, chain, zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def length_of(sequence: Any) -> int:
    """Return how many items (of an array or table: rows) something has; TypeError if it has no such."""
    shape = getattr(sequence, "shape", None)
    if shape == ():
        raise TypeError(f"a {type(sequence).__name__} of 0 dimensions has no items to distribute")
    return int(shape[0]) if isinstance(shape, tuple) else len(sequence)  # sparse arrays have a shape, and no length


def split(sequence: Iterable[Any], parts: int, dist: str) -> list[Any]:
    """Return a sequence in so many parts, of its own type where it can be sliced.

    >>> split("abcde", 2, "b"), split([1, 2, 3], 2, "r")
    (['abc', 'de'], [[1, 3], [2]])
    """
    check_dist(dist)
    if isinstance(sequence, dict):
        return [dict(part) for part in split(list(sequence.items()), parts, dist)]
    sliceable: Any = sequence
    if isinstance(sequence, range) or not _can_be_sliced(sequence):
        sliceable = list(sequence)  # of a range too: parts are their owners', to change
    length, rows = length_of(sliceable), getattr(sliceable, "iloc", sliceable)  # pandas: rows by position
    if dist == "r":
        return [rows[i::parts] for i in range(parts)]
    return [rows[lo:hi] for lo, hi in bounds(length, parts)]


def _can_be_sliced(sequence: Any) -> bool:
    if hasattr(sequence, "iloc") or getattr(sequence, "shape", None) == ():
        return True
    try:
        sequence[0:0]
    except (TypeError, KeyError):
        return False
    return True


def only_item(part: Any) -> Any:
    """Return the item of a part that has one, and any other part as it is.

    >>> only_item([7]), only_item([7, 8]), only_item({"a": 1})
    (7, [7, 8], ('a', 1))
    """
    if length_of(part) != 1:
        return part
    if isinstance(part, dict):
        return next(iter(part.items()))
    return getattr(part, "iloc", part)[0]


def join(parts: Sequence[Any], dist: str) -> Any:
    """Return the parts as one: arrays and tables concatenated, text and bytes joined, dicts merged, other sequences as
    a list; parts that are none of these, as a list of them. With "r", items are in the order in which they were before.

    >>> join(["abc", "de"], "b"), join([(1, 3), (2,)], "r"), join([1, 2], "b")
    ('abcde', [1, 2, 3], [1, 2])
    """
    check_dist(dist)
    parts = list(parts)
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if not parts:
        return []
    if numpy is not None and all(isinstance(part, numpy.ndarray) and part.ndim for part in parts):
        masked = any(isinstance(part, numpy.ma.MaskedArray) for part in parts)
        whole = numpy.ma.concatenate(parts) if masked else numpy.concatenate(parts)
        return whole if dist == "b" else whole[_order(parts)]
    if pandas is not None and any(
        all(isinstance(part, kind) for part in parts) for kind in (pandas.DataFrame, pandas.Series)
    ):
        whole = pandas.concat(parts)
        return whole if dist == "b" else whole.iloc[_order(parts)]
    if all(isinstance(part, dict) for part in parts):
        return dict(_merged([list(part.items()) for part in parts], dist))
    if all(isinstance(part, str) for part in parts):
        return "".join(_merged(parts, dist))
    for kind in (bytes, bytearray):
        if all(isinstance(part, kind) for part in parts):
            return kind(_merged(parts, dist))
    if all(_is_sequence(part, numpy) for part in parts):
        return _merged(parts, dist)
    return parts


def _order(parts: Sequence[Any]) -> list[int]:
    """Return which item of the parts, one after another, is the next when they are dealt out again."""
    ends = list(accumulate(map(len, parts)))
    return _merged([range(end - len(part), end) for part, end in zip(parts, ends, strict=True)], "r")


def _merged(parts: Sequence[Any], dist: str) -> list[Any]:
    if dist == "b":
        return list(chain.from_iterable(parts))
    rows = zip_longest(*parts, fillvalue=_MISSING)
    return [item for row in rows for item in row if item is not _MISSING]


def _is_sequence(part: Any, numpy: Any) -> bool:
    if isinstance(part, Sequence):
        return True
    return numpy is not None and isinstance(part, numpy.ndarray) and part.ndim > 0
