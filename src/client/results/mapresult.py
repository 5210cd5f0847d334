"""`AsyncMapResult`: the results of a map, item by item, though items travel and are kept in runs.

A run is what one `Result` brought: the values of items `lo <= i < hi`, pickled together, or one error for them. Runs
never overlap. They are unpickled when somebody reads them, and a million items cost what a few hundred runs cost.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from ... import placeholders
from ...errors import TaskLost
from .futures import DATA, AsyncResult, fresh, raise_errors
from .leases import Lease
from .lightfuture import CANCELLED, FINISHED, PENDING
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK, error_of, value_of
from .several import SeveralResult
from .splitting import ItemsPiece, Pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ...errors import NoSuchTask
    from ...wire.messages import Options, Output, Result
    from ...wire.parts import Part as Piece
    from .futures import Canceller
    from .metadata import Part


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
            opened = self._read(label)
            if self._opened is None:
                self._opened = opened
            if not (self.needed or type(self.frames) is Lease):
                self.frames = ()  # after that: who reads what is gone finds what was read
                if opened[1] is None:
                    self.reply.payload = b""
        return self._opened or opened

    def release(self, gone: NoSuchTask) -> None:
        """Hold the values no longer; who asks for them gets this error."""
        self._opened, self.frames = ([], gone), ()
        self.reply.payload = b""

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


class AsyncMapResult(SeveralResult):
    """The results of `map`, in order, as they arrive.

        for value in client.map(f, xs): ...       # waits only for what it yields next
        results = client.map(f, xs).get()         # all of them
        client.map(f, xs)[3]                      # that one, as soon as it is there

    An item that raises fails alone: iteration raises when it comes to it, `get()` raises it (CompositeError if there
    are several), all other items can still be had by index. With `return_exceptions` errors are values. With
    `ordered=False` iteration yields what comes first; `get()` and indices keep the order of the input.
    """

    _is_map = True
    _what = "items"

    def __init__(
        self,
        link: Canceller,
        task: int,
        submitted: float,
        options: Options | None,
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> None:
        super().__init__(link, task, submitted, options)
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._tasks: dict[int, list[int]] = {}
        """Task id: first item, number of items, number of items not reported."""
        self._runs: dict[int, Run] = {}
        self._arrived: list[Run] = []
        self._count = 0
        self._reported = 0
        self._sealed = False
        self._map_records: list[Output] = []
        self._task_data: dict[int, bytes] = {}
        self._starts: list[int] = []
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- while the input is read

    def _add_task(self, task: int, items: int) -> None:
        """A task for the next items is about to be submitted."""
        self._tasks[task] = [self._count, items, items]
        self._count += items

    def _seal(self) -> None:
        """All tasks are submitted: what is reported now can be all there is."""
        with self._lock:
            self._sealed = True
            over = self._reported == self._count
        if over:
            self._end()

    # ---------------------------------------------------------------- filed by the I/O thread

    def _accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
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
        failed = reply.status != OK and not self._return_exceptions
        self._failed = self._failed or failed
        if self._pieces is not None:
            self._pieces.notify(reply.id, failed=failed)
            if left <= 0:
                self._pieces.settle(reply.id)
        with self._lock:
            self._reported += hi - lo
            over = self._sealed and self._reported == self._count
        if over:
            self._end()
        self._notify()
        return left <= 0

    def _new_run(self, lo: int, hi: int, reply: Result, frames: Sequence[Any], now: float) -> Run:
        return Run(lo, hi, reply, frames, now)

    def _add_output(self, record: Output) -> None:
        """Take something that an item printed, displayed or published."""
        if record.kind == DATA:
            self._task_data[record.task] = record.data
            return
        if self._late is not None and self._late(record):
            return
        self._map_records.append(record)

    def _end(self) -> None:
        statuses = self._statuses()
        state = CANCELLED if statuses == {STATUS_CANCELLED} else FINISHED
        if self._state == PENDING:
            self._settle(state, failed=bool(statuses - {OK}))

    def _statuses(self) -> set[int]:
        return {run.reply.status for run in self._arrived.copy()}

    # ---------------------------------------------------------------- reading

    def _values_of(self, run: Run) -> list[Any]:
        values, error = run.open(self._label)
        if error is None:
            return values
        if self._return_exceptions:
            return [error] * (run.hi - run.lo)
        raise fresh(error)

    def _next_run(self, position: int) -> Run | None:
        """Return the run after so many items (ordered) or runs (unordered), if it is here."""
        if self._ordered:
            return self._runs.get(position)
        return self._arrived[position] if position < len(self._arrived) else None

    def _is_last(self, position: int) -> bool:
        if not self._sealed:
            return False
        return position == self._count if self._ordered else self._reported == self._count

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
        position = 0
        while True:
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
                await self._wait_news(lambda at=position: self._comes(at))  # type: ignore[misc] # bound now

    def _collect(self) -> tuple[list[Any], list[Exception]]:
        values, errors = self._gathered()
        return values, [] if self._return_exceptions else errors

    def _gathered(self) -> tuple[list[Any], list[Exception]]:
        """Return all values in order, errors among them, and the errors."""
        values: list[Any] = []
        errors: list[Exception] = []
        for run in self._in_order():
            some, error = run.open(self._label)
            if error is None:
                values += some
            else:
                values += [error] * (run.hi - run.lo)
                errors.append(error)
        if self._lost is not None and len(values) < self._count:
            return [self._lost] * self._count, [self._lost]
        return values, errors

    def _read(self) -> tuple[Any, Exception | None]:
        if self._lost is not None and self._reported < self._count:
            return None, self._lost
        return super()._read()

    def _values(self) -> Any:
        if self._reported < self._count:
            self._raise_lost()
        return super()._values()

    def _raising(self) -> Any:
        raise_errors(self._gathered()[1], f"of {self._count} items")
        return self._outcome()

    def _errors(self) -> list[Exception]:
        found = [run.open(self._label)[1] for run in self._arrived.copy() if run.reply.status != OK]
        return [error for error in found if error is not None]

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

    def _has(self, index: int) -> bool:
        return self._find_run(index) is not None

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        run = self._find_run(index)
        if run is None:
            return None, self._lost or TaskLost(f"item {index} was not reported")
        values, error = run.open(self._label)
        if error is None:
            return values[index - run.lo], None
        return (error, None) if self._return_exceptions else (None, error)

    def _value_engines(self) -> Sequence[int]:
        return [run.reply.engine for run in self._in_order() for _ in range(run.lo, run.hi)]

    def __len__(self) -> int:
        return self._count

    def split(self) -> tuple[AsyncResult, ...]:
        """Return a result for each task, in order: the values of the items that travelled in it.

            for one in concurrent.futures.as_completed(client.map(f, xs).split()):
                print(one.engine_id, one.get())

        See `AsyncResult.split`.
        """
        pieces = self._pieces
        if pieces is None:
            fresh = Pieces({task: ItemsPiece(self, task) for task in self._tasks})
            pieces = self.__dict__.setdefault("_pieces", fresh)
            for task, (_, _, left) in self._tasks.items():
                if left <= 0:
                    pieces.settle(task)
            if self._lost is not None:
                pieces.fail(self._lost)
        return pieces.results

    # ---------------------------------------------------------------- metadata, by run

    def _parts(self) -> list[Part]:
        printed = self._printed()
        runs = self._runs_by_task()
        return [part for task in self._tasks for part in self._parts_of(task, runs.get(task, []), printed)]

    def _runs_by_task(self) -> dict[int, list[Run]]:
        runs: dict[int, list[Run]] = {}
        for run in self._in_order():
            runs.setdefault(run.reply.id, []).append(run)
        return runs

    def _runs_of(self, task: int) -> list[Run]:
        first, items, left = self._tasks[task]
        if left > 0:
            return [self._runs[lo] for lo in sorted(lo for lo in self._runs.copy() if first <= lo < first + items)]
        found, lo = [], first
        while lo < first + items:  # they are all there, one after another
            found.append(self._runs[lo])
            lo = found[-1].hi
        return found

    def _printed(self) -> dict[int, list[Output]]:
        """Return what was printed, by task."""
        printed: dict[int, list[Output]] = {}
        for record in self._map_records:
            printed.setdefault(record.task, []).append(record)
        return printed

    def _parts_of(
        self, task: int, runs: Sequence[Run] | None = None, printed: dict[int, list[Output]] | None = None
    ) -> list[Part]:
        """Return what is known of one task: of each run of its items that is here, and of the rest."""
        runs = self._runs_of(task) if runs is None else runs
        records = (self._printed() if printed is None else printed).get(task, [])
        data = self._task_data.get(task)
        parts = []
        for run in runs:
            mine = [record for record in records if run.lo <= self._item_of(record) < run.hi]
            parts.append(self._part_of(task, run.reply, run.received, mine, data))
        if self._tasks[task][2] > 0:
            rest = [r for r in records if not any(run.lo <= self._item_of(r) < run.hi for run in runs)]
            parts.append(self._part_of(task, None, 0.0, rest, data))
        return parts

    def _errors_of(self, task: int) -> list[Exception | None]:
        """Return the errors of the parts of one task, None where there is none."""
        errors = [run.open(self._label)[1] for run in self._runs_of(task)]
        return [*errors, self._lost] if self._tasks[task][2] > 0 else errors

    @property
    def error(self) -> Any:
        """The error of each part, without waiting: None while it is pending, or if there is none."""
        runs = self._runs_by_task()
        found: list[Exception | None] = []
        for task, (_, _, left) in self._tasks.items():
            found += [run.open(self._label)[1] for run in runs.get(task, [])]
            if left > 0:
                found.append(self._lost)
        return found

    def _log(self) -> Sequence[Output]:
        return self._map_records

    def _known(self) -> dict[int, list[Piece]]:
        known: dict[int, list[Piece]] = {task: [] for task in self._tasks}
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

    def _is_sealed(self) -> bool:
        return self._sealed

    def _stands_for(self) -> tuple[Any, ...]:
        return placeholders.items_of, ([(task, self._items_in(task)) for task in self._tasks], self._assemble)

    def _items_in(self, task: int) -> int:
        return self._tasks[task][1]

    def _engines(self) -> tuple[int, ...]:
        return ()

    def _ended_engines(self) -> list[tuple[int, bool]]:
        return []  # an engine may get more items until all are done

    def _item_of(self, record: Output) -> int:
        return self._tasks[record.task][0] + record.lo

    def _release(self) -> NoSuchTask:
        gone = super()._release()
        for run in self._runs.values():
            run.release(gone)
        return gone

    def _release_task(self, task: int, gone: NoSuchTask) -> None:
        """Hold the values of the items of one task no longer."""
        for run in self._arrived.copy():
            if run.reply.id == task:
                run.release(gone)

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
        return f"<{type(self).__name__}{label}: {self._reported} of {self._count} items done>"
