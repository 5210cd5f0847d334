"""What is under way of an `imap`: its tasks, the results that nobody has consumed yet, and how much that may be.

The iterator hands tasks in here and takes results out; the I/O thread files them. A flow does not know its iterator, so
an iterator that its user has let go of ends, though the flow still waits for results.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ...wire.messages import Result, Status
from ..results.lightfuture import _set
from ..results.mapresult import Run
from ..results.timeouts import deadline_of, left_until
from .batches import BYTES_MAX, GROWTH, ITEMS_MAX, TASKS_PER_ENGINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...wire.messages import Output
    from ..connection.link import Link

AHEAD_S = 0.25
"""Work for so long is under way for each engine: enough to bridge a pause of whoever consumes."""

LEAST_AHEAD = 4
"""Items for each engine that are under way at least, and as long as nobody knows how long one takes."""

ITEMS_AHEAD = 1 << 16
BYTES_AHEAD = 64 << 20
"""Items, and bytes of items and results, that are under way at most (but two items for each engine)."""

COROUTINES_AHEAD = 128
"""Items of a coroutine function for each engine: twice what it runs at once."""

PORTIONS = 4
"""For each engine, what may be under way is submitted in so many tasks."""

READING_S = 0.005
"""So long a result may have to wait while further input is read."""

FORGET_AFTER = 4096
"""Items after which those before count half in the mean times."""


class Window:
    """How many items may be under way, and how many are read at a time. Pure.

    >>> Window(100).limits(engines=4, read=0, item_s=None)
    (100, 1)
    >>> Window("auto").limits(engines=4, read=16, item_s=0.01)
    (100, 6)
    """

    def __init__(
        self,
        bound: int | str = "auto",
        chunksize: int | str = "auto",
        *,
        length: int | None = None,
        awaits: bool = False,
    ) -> None:
        for name, value in (("max_outstanding", bound), ("chunksize", chunksize)):
            if value != "auto" and not (isinstance(value, int) and not isinstance(value, bool) and value > 0):
                raise ValueError(f'{name} is a positive number or "auto", not {value!r}')
        self._bound = bound if isinstance(bound, int) else None
        self._portion = chunksize if isinstance(chunksize, int) else 1 if awaits else None
        self._length = length
        self._awaits = awaits

    def limits(
        self, engines: int, read: int, item_s: float | None, item_nbytes: float = 0.0, row_s: float = 0.0
    ) -> tuple[int, int]:
        """Return how many items may be under way, and how many of them make the next task, after so many.

        `item_s` is what an item takes on an engine, None if nobody knows; `item_nbytes` what it weighs here with its
        result; `row_s` what it takes to read one.
        """
        engines = max(1, engines)
        bound = self._bound
        if bound is None:
            each = LEAST_AHEAD if item_s is None else max(LEAST_AHEAD, int(AHEAD_S / max(item_s, 1e-9)))
            room = min(ITEMS_AHEAD, int(BYTES_AHEAD / max(item_nbytes, 1.0)))
            bound = max(2 * engines * (self._portion or 1), min(engines * each, room))
            if self._awaits:
                bound = max(bound, engines * COROUTINES_AHEAD)
        portion = self._portion
        if portion is None:
            pace = read // (GROWTH * engines) if item_s is None else AHEAD_S / PORTIONS / max(item_s, 1e-9)
            share = bound if self._length is None else self._length // (TASKS_PER_ENGINE * engines)
            most = min(ITEMS_MAX, BYTES_MAX / max(item_nbytes, 1.0), READING_S / max(row_s, 1e-9))
            portion = max(1, int(min(bound // (PORTIONS * engines), pace, share, most)))
        return bound, min(portion, bound)


class Mean:
    """A running mean of which the far past is forgotten.

    >>> mean = Mean()
    >>> mean.add(3.0, 2)
    >>> mean.value
    1.5
    """

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0.0

    def add(self, total: float, count: int) -> None:
        """Take so many values into account, by their sum."""
        if self._count > FORGET_AFTER:
            self._sum /= 2
            self._count /= 2
        self._sum += total
        self._count += count

    @property
    def value(self) -> float | None:
        """The mean; None if there was nothing yet."""
        return self._sum / self._count if self._count else None


class Open:
    """A task with items that are not reported yet."""

    __slots__ = ("first", "items", "left", "reported")

    def __init__(self, first: int, items: int) -> None:
        self.first = first
        self.items = self.left = items
        self.reported: set[int] = set()
        """Where the runs begin that are."""


class Flow:
    """The tasks of an `imap` that have not ended, and the results that have not been taken: a sink."""

    _task = -1
    _addressed = ()
    """It is of no engine, for those who ask a result."""

    def __init__(self, link: Link, *, ordered: bool) -> None:
        self.item_s = Mean()
        self.result_nbytes = Mean()
        self.changes = 0
        """Goes up whenever there is something new."""
        self._link = link
        self._ordered = ordered
        self._tasks: dict[int, Open] = {}
        self._runs: dict[int, Run] = {}
        """Results by first item, if they are to be taken in order."""
        self._arrived: deque[Run] = deque()
        """Else: in the order in which they came."""
        self._submitted = 0
        self.progress = 0
        """How many items have ended."""
        self._closed = False
        self._condition = threading.Condition()  # (reentrant: an iterator may be let go of anywhere)
        self._watchers: list[Callable[[], object]] = []

    # ---------------------------------------------------------------- the iterator's side

    def add_task(self, task: int, first: int, items: int) -> None:
        """A task for these items is about to be submitted."""
        self._submitted += items
        self._tasks[task] = Open(first, items)

    def drop_task(self, task: int) -> None:
        """It could not be submitted."""
        self._tasks.pop(task, None)

    def file_error(self, item: int, error: Exception) -> None:
        """An item has failed here already."""
        run = Run(item, item + 1, Result(0, int(Status.ERROR), b""), (), 0.0)
        run._opened = [], error
        self._file(run)

    def take(self, position: int) -> Run | None:
        """Return the results that come next after so many items, if they are here; they are the taker's then."""
        if self._ordered:
            return self._runs.pop(position, None)
        return self._arrived.popleft() if self._arrived else None

    def has(self, position: int) -> bool:
        """Return whether there is something to `take`."""
        return position in self._runs if self._ordered else bool(self._arrived)

    def wait(self, seen: int, timeout: float | None) -> bool:
        """Wait until `changes` is not what was seen, at most so long; return whether it is not."""
        self._link.check()
        with self._condition:
            return self._condition.wait_for(lambda: self.changes != seen, timeout)

    async def wait_async(self, seen: int) -> None:
        """Wait until `changes` is not what was seen."""
        import asyncio  # noqa: PLC0415 - only who awaits has it anyway

        self._link.check()
        loop = asyncio.get_running_loop()
        changed = loop.create_future()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(_set, changed)
            except RuntimeError:  # the loop was closed: nobody awaits any more
                return

        with self._condition:
            if self.changes != seen:
                return
            self._watchers.append(tell)
        await changed

    def close(self, *, interrupt: bool = True) -> None:
        """Nobody takes anything any more: let go of what is here, and have what is under way cancelled (without
        `interrupt`, what has not started). Never waits.
        """
        if self.shut() and self._tasks:
            self._link.cancel(self._open_tasks(), grace_s=None, interrupt=interrupt)

    def shut(self) -> bool:
        """Let go of what is here and of what comes; return False if that was so already."""
        with self._condition:
            before, self._closed = self._closed, True
            self._runs.clear()
            self._arrived.clear()
            self._change()
        return not before

    # ---------------------------------------------------------------- filed by the I/O thread

    def _accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take the results of a run of items; return whether it was the last of its task."""
        task = self._tasks.get(reply.id)
        if task is None:
            return True
        lo, hi = (reply.lo, reply.hi) if reply.hi > reply.lo else (0, task.items)
        if lo in task.reported:
            return False
        task.reported.add(lo)
        task.left -= hi - lo
        self.progress += hi - lo
        if reply.started:
            self.item_s.add(reply.duration, hi - lo)
        nbytes = len(reply.payload) + sum(frame.nbytes for frame in frames) + sum(info.nbytes for info in reply.objects)
        self.result_nbytes.add(nbytes, hi - lo)
        over = task.left <= 0
        if over:
            self.drop_task(reply.id)
        self._file(Run(task.first + lo, task.first + hi, reply, frames, now))
        return over

    def _file(self, run: Run) -> None:
        with self._condition:
            if not self._closed:
                if self._ordered:
                    self._runs[run.lo] = run
                else:
                    self._arrived.append(run)
            self._change()

    def _add_output(self, record: Output) -> None:
        """Let go of what an item printed: there is no end of it, and nobody who could ask."""

    def _fail(self, _error: Exception) -> None:
        """Nothing will come any more, for a reason that whoever waits asks the link for."""
        with self._condition:
            self._tasks.clear()
            self._change()

    def _change(self) -> None:
        self.changes += 1
        self._condition.notify_all()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    # ---------------------------------------------------------------- what a client asks of all its results

    def done(self) -> bool:
        """Return whether nothing is under way."""
        return not self._tasks

    def _total(self) -> int:
        return self._submitted

    def _open_tasks(self) -> list[int]:
        return list(self._tasks)

    def _await_stopped(self, stopped: list[int]) -> None:
        if set(stopped).issuperset(self._open_tasks()):
            self._wait_done(None)

    def _wait_done(self, timeout: float | None) -> bool:
        deadline = deadline_of(timeout)
        while True:
            seen = self.changes
            if self.done():
                return True
            if not self.wait(seen, left_until(deadline)):
                return self.done()
