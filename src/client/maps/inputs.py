"""What a map is over, read by parts: the items of one sequence, or rows of several, until the shortest ends.

A part is what travels: a list of items, or a tuple of columns. Arrays are cut rather than read, so that their items
never are objects here; an engine iterates over its piece as Python would over the whole.
"""

from __future__ import annotations

import sys
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any

from ...seeds import Seeded, SeededCoroutine, seed_from, takes_rng
from ..calls.functions import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Column = list[Any] | range | Any
"""Consecutive items of one sequence: a list, a range, or an array."""

Items = Column | tuple[Column, ...]
"""The items of one sequence, or columns of equal length of several."""


class Input:
    """The sequences of a map. With `numbered`, each row begins with its own number.

    >>> rows = Input((range(5), "abcdefg"))
    >>> rows.length, rows.take(3), rows.take(3), rows.take(3)
    (5, (([0, 1, 2], ['a', 'b', 'c']), 3), (([3, 4], ['d', 'e']), 2), (([], []), 0))
    """

    def __init__(self, sequences: Sequence[Iterable[Any]], *, numbered: bool = False) -> None:
        self.length = _known_length(sequences)
        """How many rows there are; None if that is not known."""
        self.read = 0
        """How many have been taken."""
        self._numbered = numbered
        self._arrays = [_as_array(sequence) for sequence in sequences]
        others = [sequence for sequence, array in zip(sequences, self._arrays, strict=True) if array is None]
        self._left = min((len(array) for array in self._arrays if array is not None), default=sys.maxsize)
        self.row_nbytes = sum(array[:1].nbytes for array in self._arrays if array is not None)
        """How large a row is at least, as far as that is known before it is pickled."""
        self._columns = len(others)
        self._iterator: Iterator[Any] | None = None
        if others:
            self._iterator = iter(others[0]) if len(others) == 1 else zip(*others, strict=False)
        self._pending: list[Any] = []
        """Rows that were read when the input raised."""

    def take(self, count: int | None = None) -> tuple[Items, int]:
        """Return the next `count` rows (None: all), and how many these are; fewer only at the end.

        What the input raises comes out as it is. The rows that were read before that are returned by the next call.
        """
        room = self._left if count is None else min(count, self._left)
        rows = self._pending
        if self._iterator is None:
            size = room
        else:
            if room > len(rows):  # (an iterator is not asked for nothing: it might end, or wait)
                rows.extend(islice(self._iterator, None if room == sys.maxsize else room - len(rows)))
            size = len(rows)
        self._pending = []
        return self._part(rows, size), size

    def take_rest(self) -> tuple[Items, int]:
        """Return the rows that were read before the input raised, which is not asked for more."""
        self._left = len(self._pending)
        return self.take()

    def _part(self, rows: list[Any], size: int) -> Items:
        lo = self.read
        self.read += size
        if self._left != sys.maxsize:
            self._left -= size
        read: Iterator[Column]
        if self._columns == 1:
            read = iter((rows,))
        else:
            read = map(list, zip(*rows, strict=True)) if rows else iter([[] for _ in range(self._columns)])
        columns = [next(read) if array is None else _copy(array, lo, size) for array in self._arrays]
        if self._numbered:
            columns.insert(0, range(lo, lo + size))
        return columns[0] if len(columns) == 1 else tuple(columns)


def cut(items: Items, lo: int, hi: int) -> Items:
    """Return the rows `lo <= i < hi` of a part."""
    return tuple(column[lo:hi] for column in items) if isinstance(items, tuple) else items[lo:hi]


def seeded(function: Callable[..., Any], sequences: Sequence[Any], seed: Any) -> tuple[Callable[..., Any], Input]:
    """Return a function and what to map it over, so that each item has its own randomness if there is a seed."""
    if seed is None:
        return function, Input(sequences)
    made, rng = seed_from(seed), takes_rng(function, len(sequences))
    kind = Seeded
    if is_coroutine_function(function):
        if not rng:
            raise TypeError(
                'with seed=, a coroutine function takes its generator by a parameter named "rng": several run at once, '
                "and would share the global state"
            )
        kind = SeededCoroutine
    return kind(function, made, rng=rng), Input(sequences, numbered=True)


def _as_array(sequence: Any) -> Any:
    """Return the array to be cut if that is what a sequence is, else None."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(sequence) not in {numpy.ndarray, numpy.memmap}:
        return None
    if not sequence.ndim or sequence.dtype.hasobject:
        return None
    return sequence.view(numpy.ndarray)


def _copy(array: Any, lo: int, size: int) -> Any:
    """Return a piece as it is now: it may wait here after the call, in which its owner may change the array."""
    return array[lo : lo + size].copy()


def _known_length(sequences: Sequence[Any]) -> int | None:
    lengths = [_length_of(sequence) for sequence in sequences]
    known = [length for length in lengths if length is not None]
    if not known or len(known) < len(lengths):
        return None
    return min(known)


def _length_of(sequence: Any) -> int | None:
    """Return over how many items a sequence iterates; None if it does not say."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(sequence, pandas.DataFrame):
        return len(sequence.columns)  # over their names, as Python does; its length is that of the rows
    if hasattr(type(sequence), "__len__"):
        try:
            return len(sequence)
        except TypeError:  # an array of no dimension; iterating it will say so
            return None
    hint = length_hint(sequence, -1)  # iterators of lists and ranges know, too
    return None if hint < 0 else hint
