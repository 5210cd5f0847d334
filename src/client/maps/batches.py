"""A map, cut into tasks. Everything is pickled during the call, so results are of the input as it was then.

A task holds many items. Controller and engines divide tasks further as they see fit, so the cut here only has to be
fine enough that nobody waits for the pickling, and coarse enough that a million items are a few hundred tasks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...wire.messages import Task
from ...wire.parts import COROUTINE
from ..calls.arguments import pack_items, to_object
from ..calls.dependencies import unbound
from ..connection.core import Entry
from ..results.mapresult import AsyncMapResult
from ..results.sending import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...wire.messages import Function, ObjectInfo, Options
    from ..client import Client
    from ..connection.link import Link
    from .inputs import Input, Items

TASKS_PER_ENGINE = 16
ITEMS_MAX = 16384
BYTES_MAX = 1 << 20
"""A task's pickled items are about this at most (unless one item is larger)."""

GROWTH = 4
"""Of an input whose length is not known, a task takes what was read before, divided by this many tasks per engine."""


def submit_map(
    link: Link,
    function: Function,
    rows: Input,
    options: Options,
    *,
    engines: int,
    chunksize: int | str = "auto",
    ordered: bool = True,
    return_exceptions: bool = False,
    track: bool = False,
) -> AsyncMapResult:
    """Submit `function(*row)` for each row of the input.

    What the input raises comes out as it is, an item that cannot be pickled as SerializationError naming it; what was
    submitted before is cancelled then.
    """
    sizes = Sizes(rows.length, engines, chunksize_for(function, chunksize), rows.row_nbytes)
    result = new_result(link, options, ordered=ordered, return_exceptions=return_exceptions)
    try:
        while True:
            items, count = rows.take(sizes.next())
            if not count:
                break
            nbytes = submit_items(link, result, items, count, function=function, options=options, track=track)
            sizes.learn(count, nbytes)
    except BaseException:
        result._seal()
        if not result.done():
            result._abandon()
        raise
    result._seal()
    return result


def width(client: Client, options: Options) -> int:
    """Return how many engines may run what is submitted with these options."""
    return len(client) if options.targets is None else len(options.targets)


def chunksize_for(function: Function, chunksize: int | str) -> int | str:
    """Return how many items go together, unless the user says a number: of a coroutine function one, to run at once."""
    return 1 if chunksize == "auto" and function.digest[:1] == COROUTINE else chunksize


def new_result(
    link: Link, options: Options, *, ordered: bool = True, return_exceptions: bool = False
) -> AsyncMapResult:
    """Return a result with no items yet."""
    first, told = link.new_tasks(0), unbound(options)
    return AsyncMapResult(link, first, time.time(), told, ordered=ordered, return_exceptions=return_exceptions)


def submit_items(
    link: Link,
    result: AsyncMapResult,
    items: Items,
    count: int,
    *,
    function: Function,
    options: Options,
    track: bool = False,
) -> int:
    """Submit one task for the next items of a map; return how many bytes it has."""
    payload, frames = pack_items(items, len(result))
    nbytes = len(payload) + sum(frame.nbytes for frame in frames)
    objects: tuple[ObjectInfo, ...] = ()
    if frames:
        payload, frames, objects = to_object(link.store, payload, frames)
    task = link.new_tasks()
    result._add_task(task, count)
    if frames:
        watch(link, result, task, track=track)
    message = Task(task, function.digest, payload, len(frames), items=count, objects=objects)
    link.submit(result, Entry(message, function, options, frames), time.time())
    return nbytes


class Sizes:
    """Says how many items the next task takes.

    >>> sizes = Sizes(1000, engines=4, chunksize="auto")
    >>> sizes.next()
    16
    """

    def __init__(self, length: int | None, engines: int, chunksize: int | str, item_nbytes: int = 0) -> None:
        if chunksize != "auto" and not (isinstance(chunksize, int) and chunksize > 0):
            raise ValueError(f'chunksize is a positive number or "auto", not {chunksize!r}')
        self._fixed = chunksize if isinstance(chunksize, int) else None
        self._engines = max(1, engines)
        self._length = length
        self._read = 0
        self._limit = max(1, min(ITEMS_MAX, BYTES_MAX // max(1, item_nbytes)))

    def next(self) -> int:
        """Return the number of items of the next task."""
        if self._fixed is not None:
            return self._fixed
        if self._length is not None:
            size = -(-self._length // (TASKS_PER_ENGINE * self._engines))
        else:
            size = self._read // (GROWTH * self._engines)
        return max(1, min(size, self._limit))

    def learn(self, items: int, nbytes: int) -> None:
        """Take into account how large the last task became."""
        self._read += items
        self._limit = max(1, min(ITEMS_MAX, BYTES_MAX * items // max(1, nbytes)))


def check_map(function: Callable[..., Any], sequences: Sequence[Iterable[Any]]) -> None:
    """Raise TypeError if this is not something to map."""
    if not callable(function):
        raise TypeError(f"map takes a function and what to apply it to, not {type(function).__name__}")
    if not sequences:
        raise TypeError("map takes at least one sequence: map(f, xs)")
