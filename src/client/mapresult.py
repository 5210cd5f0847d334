"""`AsyncMapResult`: the results of a map, item by item, though items travel and are kept in runs.

A run is what one `Result` brought: the values of items `lo <= i < hi`, pickled together, or one error for them. Runs
never overlap. They are unpickled when somebody reads them, and a million items cost what a few hundred runs cost.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from .. import placeholders
from ..errors import TaskLost
from .futures import DATA, AsyncResult, Part, raise_errors
from .lightfuture import CANCELLED, FINISHED, PENDING
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK, error_of, value_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ..wire.messages import Output, Result
    from .futures import Canceller


class Run:
    """The values, or the one error, of consecutive items."""

    __slots__ = ("_opened", "frames", "hi", "lo", "needed", "received", "reply")

    def __init__(self, lo: int, hi: int, reply: Result, frames: Sequence[Any], received: float) -> None:
        self.lo = lo
        self.hi = hi
        self.reply = reply
        self.received = received
        self.frames = frames
        self.needed = False
        """What has come is kept as it came."""
        self._opened: tuple[list[Any], Exception | None] | None = None

    def open(self, label: str | None) -> tuple[list[Any], Exception | None]:
        """Return the values, or the error of them all."""
        opened = self._opened
        if opened is None:
            opened = self._opened = self._read(label)
            if not self.needed:
                self.frames = ()
                if opened[1] is None:
                    self.reply.payload = b""  # unpickled: no need to keep both
        return opened

    def _read(self, label: str | None) -> tuple[list[Any], Exception | None]:
        try:
            if self.reply.status != OK:
                return [], error_of(self.reply, self.frames, label, self.lo)
            values = value_of(self.reply, self.frames)
            if not isinstance(values, list) or len(values) != self.hi - self.lo:
                return [], TaskLost(f"the engine's answer for items {self.lo} to {self.hi - 1} has another length")
        except Exception as error:  # unpickling runs code of the user's
            return [], error
        return values, None


class AsyncMapResult(AsyncResult):
    """The results of `map`, in order, as they arrive.

        for value in client.map(f, xs): ...       # waits only for what it yields next
        results = client.map(f, xs).get()         # all of them
        client.map(f, xs)[3]                      # that one, as soon as it is there

    An item that raises fails alone: iteration raises when it comes to it, `get()` raises it (CompositeError if there
    are several), all other items can still be had by index. With `return_exceptions` errors are values. With
    `ordered=False` iteration yields what comes first; `get()` and indices keep the order of the input.
    """

    _scalar = False
    _is_map = True
    _assemble: Callable[[list[Any]], Any] | None = None
    """Makes the value of the list of values."""

    def __init__(
        self,
        link: Canceller,
        task: int,
        submitted: float,
        label: str | None,
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> None:
        super().__init__(link, task, submitted, label)
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._tasks: dict[int, list[int]] = {}
        """Task id: first item, number of items, number of items not reported."""
        self._runs: dict[int, Run] = {}
        self._arrived: list[Run] = []
        self._items = 0
        self._reported = 0
        self._sealed = False
        self._watchers: list[Callable[[], object]] = []
        self._map_records: list[Output] = []
        self._task_data: dict[int, bytes] = {}
        self._starts: list[int] = []
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- while the input is read

    def add_task(self, task: int, items: int) -> None:
        """A task for the next items is about to be submitted."""
        self._tasks[task] = [self._items, items, items]
        self._items += items

    def seal(self) -> None:
        """All tasks are submitted: what is reported now can be all there is."""
        with self._lock:
            self._sealed = True
            over = self._reported == self._items
        if over:
            self._end()

    # ---------------------------------------------------------------- filed by the I/O thread

    def accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take the results of a run of items."""
        book = self._tasks[reply.id]
        first, items, left = book
        lo, hi = (reply.lo, reply.hi) if reply.hi > reply.lo else (0, items)
        if first + lo in self._runs:
            return left <= 0
        run = self._new_run(first + lo, first + hi, reply, frames, now)
        run.needed = self._needed
        self._runs[run.lo] = run
        self._arrived.append(run)
        book[2] = left = left - (hi - lo)
        with self._lock:
            self._reported += hi - lo
            over = self._sealed and self._reported == self._items
        if over:
            self._end()
        self._notify()
        return left <= 0

    def _new_run(self, lo: int, hi: int, reply: Result, frames: Sequence[Any], now: float) -> Run:
        return Run(lo, hi, reply, frames, now)

    def add_output(self, record: Output) -> None:
        """Take something that an item printed, displayed or published."""
        if record.kind == DATA:
            self._task_data[record.task] = record.data
            return
        if self._late is not None and self._late(record):
            return
        self._map_records.append(record)

    def fail(self, error: Exception) -> None:
        """Nothing will come any more, for this reason."""
        super().fail(error)
        self._notify()

    def _end(self) -> None:
        statuses = self._statuses()
        state = CANCELLED if statuses == {STATUS_CANCELLED} else FINISHED
        if self._state == PENDING:
            self._settle(state, failed=bool(statuses - {OK}))

    def _statuses(self) -> set[int]:
        return {run.reply.status for run in self._arrived.copy()}

    def _notify(self) -> None:
        super()._notify()
        if self._watchers:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                watcher()

    # ---------------------------------------------------------------- reading

    def _values_of(self, run: Run) -> list[Any]:
        values, error = run.open(self._label)
        if error is None:
            return values
        if self._return_exceptions:
            return [error] * (run.hi - run.lo)
        raise error

    def _next_run(self, position: int) -> Run | None:
        """Return the run after so many items (ordered) or runs (unordered), if it is here."""
        if self._ordered:
            return self._runs.get(position)
        return self._arrived[position] if position < len(self._arrived) else None

    def _is_last(self, position: int) -> bool:
        if not self._sealed:
            return False
        return position == self._items if self._ordered else self._reported == self._items

    def _after(self, position: int, run: Run) -> int:
        return run.hi if self._ordered else position + 1

    def _comes(self, position: int) -> bool:
        """Say whether there is something to do at that position: a run, the end, or a loss."""
        return self._next_run(position) is not None or self._is_last(position) or self._lost is not None

    def _raise_lost(self) -> None:
        if self._lost is not None:
            raise self._lost

    def __iter__(self) -> Iterator[Any]:
        position = 0
        while True:
            run = self._next_run(position)
            if run is not None:
                yield from self._values_of(run)
                position = self._after(position, run)
                continue
            if self._is_last(position):
                if self._next_run(position) is None:
                    return
                continue
            self._raise_lost()
            self._wait_for(lambda at=position: self._comes(at))  # type: ignore[misc] # bound now

    async def __aiter__(self) -> AsyncIterator[Any]:
        import asyncio  # noqa: PLC0415 - only who awaits has it anyway

        position = 0
        loop = asyncio.get_running_loop()
        while True:
            changed = asyncio.Event()
            self._watchers.append(lambda event=changed: loop.call_soon_threadsafe(event.set))  # type: ignore[misc] # bound now
            run = self._next_run(position)
            if run is not None:
                for value in self._values_of(run):
                    yield value
                position = self._after(position, run)
            elif self._is_last(position):
                if self._next_run(position) is None:
                    return
            else:
                self._raise_lost()
                self._check_wait()
                await changed.wait()

    def _read(self) -> tuple[Any, Exception | None]:
        if self._lost is not None and self._reported < self._items:
            return None, self._lost
        values: list[Any] = []
        errors: list[Exception] = []
        for run in self._in_order():
            some, error = run.open(self._label)
            if error is None:
                values += some
            elif self._return_exceptions:
                values += [error] * (run.hi - run.lo)
            else:
                errors.append(error)
        try:
            raise_errors(errors, f"of {self._items} items")
            return (values if self._assemble is None else self._assemble(values)), None
        except Exception as error:
            return None, error

    def _values(self) -> list[Any]:
        values: list[Any] = []
        for run in self._in_order():
            some, error = run.open(self._label)
            values += some if error is None else [error] * (run.hi - run.lo)
        if len(values) < self._items:
            self._raise_lost()
        return values

    def _in_order(self) -> list[Run]:
        return [self._runs[lo] for lo in sorted(self._runs)]

    def _find_run(self, index: int) -> Run | None:
        """Return the run that holds an item, if it is here."""
        starts = self._starts
        if len(starts) != len(self._runs):
            starts = self._starts = sorted(self._runs.copy())
        place = bisect_right(starts, index) - 1
        if place < 0:
            return None
        run = self._runs[starts[place]]
        return run if index < run.hi else None

    def _wait_item(self, index: int) -> Any:
        run = self._find_run(index)
        if run is None:
            self._wait_for(lambda: self._find_run(index) is not None or self.done())
            run = self._find_run(index)
        if run is None:
            self._raise_lost()
            raise TaskLost(f"item {index} was not reported")
        values = self._values_of(run)
        return values[index - run.lo]

    def __len__(self) -> int:
        return self._items

    def __bool__(self) -> bool:
        return True  # a result, even if of no items

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            index = key + self._items if key < 0 else key
            if not 0 <= index < self._items:
                raise IndexError(f"result {key} of {self._items}")
            return self._wait_item(index)
        if isinstance(key, slice):
            return [self._wait_item(index) for index in range(*key.indices(self._items))]
        return super().__getitem__(key)

    # ---------------------------------------------------------------- metadata, by run

    def _parts(self) -> list[Part]:
        parts = [
            Part(
                run.reply.id,
                run.reply,
                run.received,
                [r for r in self._map_records if r.task == run.reply.id and self._item_of(r) in range(run.lo, run.hi)],
                self._task_data.get(run.reply.id),
            )
            for run in self._in_order()
        ]
        seen = {record.task for record in self._map_records} - {run.reply.id for run in self._arrived}
        return parts + [Part(task, None, 0.0, [r for r in self._map_records if r.task == task]) for task in seen]

    def _log(self) -> Sequence[Output]:
        return self._map_records

    def _known(self) -> dict[int, list[tuple[Result, Sequence[Any]]]]:
        known: dict[int, list[tuple[Result, Sequence[Any]]]] = {task: [] for task in self._tasks}
        for run in self._arrived.copy():
            known[run.reply.id].append((run.reply, run.frames))
        return known

    def _hold(self) -> None:
        super()._hold()
        for run in self._arrived.copy():
            run.needed = True

    def _read_again(self, reply: Result) -> tuple[Any, Exception | None]:
        run = next(run for run in self._arrived.copy() if run.reply is reply)
        return run.open(self._label)

    def _left_of(self, task: int) -> int | None:
        return self._tasks[task][2]

    def _is_sealed(self) -> bool:
        return self._sealed

    def _stands_for(self) -> tuple[Any, ...]:
        return placeholders.items_of, ([(task, items) for task, (_, items, _) in self._tasks.items()],)

    def _engines(self) -> tuple[int, ...]:
        return ()

    def _ended_engines(self) -> list[tuple[int, bool]]:
        return []  # an engine may get more items until all are done

    def _total(self) -> int:
        return self._items

    def _item_of(self, record: Output) -> int:
        return self._tasks[record.task][0] + record.lo

    def _open_tasks(self) -> list[int]:
        return [task for task, (_, _, left) in self._tasks.items() if left > 0]

    @property
    def progress(self) -> int:
        """How many items have ended."""
        return self._reported

    @property
    def serial_time(self) -> float:
        """Seconds of run time on engines, summed."""
        return sum(run.reply.duration for run in self._arrived.copy())

    def _last_received(self) -> float:
        return max((run.received for run in self._arrived.copy()), default=0.0) or time.time()

    def __repr__(self) -> str:
        label = f" {self._label!r}" if self._label else ""
        return f"<{type(self).__name__}{label}: {self._reported} of {self._items} items done>"
