"""Stand-ins for values of other tasks, inside pickled arguments.

While a client pickles the arguments of a call (`collecting`), a result among them is pickled as a placeholder that
names its tasks, and is collected. While an engine unpickles them (`filling`), each placeholder becomes the value.
A handle to an object goes as one too; an engine opens the object (`opening`).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Convert = Callable[[Any, Any], Any] | None


class Values(Protocol):
    """What an engine was given."""

    def value(self, task: int) -> Any:
        """Return the value of a plain call."""

    def items(self, task: int, count: int) -> list[Any]:
        """Return the values of all items of a divisible call."""


class _Local(threading.local):
    found: list[Any] | None = None
    values: Values | None = None


_local = _Local()


@contextmanager
def collecting(found: list[Any]) -> Iterator[None]:
    """Have results that this thread pickles within go as placeholders; they are added to `found`."""
    before, _local.found = _local.found, found
    try:
        yield
    finally:
        _local.found = before


def stand_in(result: Any) -> tuple[Any, ...] | None:
    """Return how to pickle a result as a placeholder (as `__reduce__` does); None if this is not the moment for it.

    `result._placeholder()` says what stands for it: a function of this module and its arguments.
    """
    found = _local.found
    if found is None:
        return None
    reduced: tuple[Any, ...] = result._placeholder()
    if reduced[0] is not itself:
        found.append(result)
    return reduced


@contextmanager
def filling(values: Values) -> Iterator[None]:
    """Have placeholders that this thread unpickles within become these values."""
    before, _local.values = _local.values, values
    try:
        yield
    finally:
        _local.values = before


_open: Callable[[bytes, int], Any] | None = None


def opening(open_object: Callable[[bytes, int], Any]) -> None:
    """Have placeholders of objects become what this returns for an id and a size, in this process from now on."""
    global _open
    _open = open_object


def _values() -> Values:
    if _local.values is None:
        raise RuntimeError("this pickle has a placeholder for the value of a task, which only an engine can fill in")
    return _local.values


# What is pickled by name: the functions that placeholders are calls of.


def itself(value: Any) -> Any:
    """Return the value of a result that was known when it was pickled."""
    return value


def value_of(task: int, convert: Convert) -> Any:
    """Return the value of one call."""
    value = _values().value(task)
    return value if convert is None else convert(value, None)


def object_of(object_id: bytes, nbytes: int) -> Any:
    """Return the value of an object, in one task always the same."""
    if _open is None:
        raise RuntimeError("this pickle has a placeholder for an object, which only an engine can fill in")
    return _open(object_id, nbytes)


def values_of(tasks: range, convert: Convert, assemble: Callable[[list[Any]], Any] | None) -> Any:
    """Return the values of a call on several engines."""
    values = [value_of(task, convert) for task in tasks]
    return values if assemble is None else assemble(values)


def joined_of(parts: list[tuple[Callable[..., Any], tuple[Any, ...], bool]]) -> list[Any]:
    """Return the values of several results as one list; each is a call of one of these functions, and whether that is
    of several values.
    """
    values: list[Any] = []
    for function, arguments, several in parts:
        value = function(*arguments)
        values += value if several else [value]
    return values


def items_of(tasks: list[tuple[int, int]], assemble: Callable[[list[Any]], Any] | None = None) -> Any:
    """Return the values of a map: `(task, items)` each; of no items for a plain call."""
    values: list[Any] = []
    for task, count in tasks:
        values += _values().items(task, count) if count else [_values().value(task)]
    return values if assemble is None else assemble(values)
