"""`LazyMap`: what `imap` returns, a map that is read as its results are consumed.

Nothing of it runs by itself: in `next()` the consumer's own thread reads input and submits it, as far as the window
allows, then waits for the next result. Three numbers say where it is:

    consumed <= delivered <= read <= consumed + bound

*Read* of the input, *delivered* by the flow (unpickled, in hand), *consumed* by whoever iterates.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import SerializationError
from ...wire.messages import Task
from ...wire.parts import COROUTINE
from ..calls.arguments import pack_items, to_object
from ..connection.core import Entry
from ..results.timeouts import left_until
from .batches import check_map, width
from .flow import Flow, Mean, Window
from .inputs import cut, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from ...wire.messages import Function, ObjectInfo, Options
    from ..client import Client
    from ..connection.link import Link
    from ..results.mapresult import Run
    from .inputs import Input, Items


class LazyMap:
    """The results of `imap`: an iterator, also for `async for`, that reads its input as it is consumed.

        for value in client.imap(f, endless()): ...
        with client.imap(f, xs) as values: ...       # what is under way at the end of the block is cancelled

    No more than `max_outstanding` items are ever read beyond those that were consumed; what was consumed is let go of.
    An item that failed raises when its turn comes; whoever iterates on gets the next (`for` ends, as with any
    exception). What the input raises comes out as it is, after the results of the items before it, and ends the
    iteration. To be used by one thread or coroutine at a time; `cancel` and `close` may come from any. When nobody
    holds it any more, it closes itself.
    """

    def __init__(
        self,
        link: Link,
        function: Function,
        rows: Input,
        options: Options,
        *,
        engines: Callable[[], int],
        window: Window,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> None:
        self._flow = Flow(link, ordered=ordered)
        self._link = link
        self._function = function
        self._rows = rows
        self._options = options
        self._engines = engines
        self._window = window
        self._return_exceptions = return_exceptions
        self._ahead = 0
        """How many items count as consumed while `next` waits for them."""
        self._check_submit: Callable[[], object] = lambda: None
        """Raises if nothing more may be submitted."""
        self._goes_on = False
        """What is under way goes on when nobody holds this any more."""
        self._run: Run | None = None
        """Taken from the flow, to be opened."""
        self._values: list[Any] = []
        """In hand, the next one last."""
        self._failing: tuple[Exception, int] | None = None
        """What the next so many items raise."""
        self._consumed = self._delivered = 0
        self._refill_at: float = 0
        """There is room for another task when so many are consumed."""
        self._row_s = Mean()
        self._row_nbytes = Mean()
        self._exhausted = False
        self._error: Exception | None = None
        """What the input raised."""
        self._ended: Callable[[], Exception] | None = None
        """Makes what `next` raises from now on."""

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)
        if flow is not None and not self._goes_on and not sys.is_finalizing():
            flow.close()

    # ---------------------------------------------------------------- iteration

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        self._advance(None)
        self._consumed += 1
        return self._values.pop()

    def _advance(self, deadline: float | None) -> None:
        """Have the next value in hand; TimeoutError if it is not here in time."""
        if self._consumed >= self._refill_at:
            self._fill()
        while not self._values:
            seen = self._flow.changes
            if not self._get_ready() and not self._flow.wait(seen, left_until(deadline)):
                raise TimeoutError("the next result is not there yet; its task goes on")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            if self._consumed >= self._refill_at:
                self._fill()
            while not self._values:
                seen = self._flow.changes
                if not self._get_ready():
                    await self._flow.wait_async(seen)
        except StopIteration:
            raise StopAsyncIteration from None
        self._consumed += 1
        return self._values.pop()

    def _get_ready(self) -> bool:
        """Have the next value in hand; return False if it is not here yet. Raises what is to be raised in its place."""
        if self._ended is not None:
            raise self._ended()
        if self._failing is not None:
            error, left = self._failing
            self._failing = (error, left - 1) if left > 1 else None
            self._consumed += 1
            raise error
        run = self._run = self._run or self._flow.take(self._delivered)
        if run is not None:
            values, failed = run.open(self._options.label)  # (after an interrupt here it is still at hand)
            size = run.hi - run.lo
            self._run = None
            self._delivered += size
            if failed is None:
                values.reverse()
                self._values = values
            elif self._return_exceptions:
                self._values = [failed] * size
            else:
                self._failing = failed, size
            return True
        self._fill()  # what an item takes may be known by now, and allow for more
        if self._exhausted and self._delivered == self._rows.read:
            self._end(StopIteration)
            error_of_input, self._error = self._error, None
            raise StopIteration if error_of_input is None else error_of_input
        self._link.check()
        return False

    # ---------------------------------------------------------------- reading and submitting

    def _begin(self, ahead: int) -> None:
        """Read and submit all that there is room for; raise what the input raises. From then on, read so many further
        ones while `next` waits.
        """
        self._fill(eager=True)
        if self._error is not None:
            self.close()
            error, self._error = self._error, None
            raise error
        self._ahead = ahead
        self._refill_at -= ahead

    def _fill(self, *, eager: bool = False) -> None:
        """Read and submit input as far as there is room, until the next result is there (if not `eager`)."""
        rows, flow = self._rows, self._flow
        if self._ended is not None:
            raise self._ended()
        while not self._exhausted and self._link.core.lost is None:
            nbytes = (self._row_nbytes.value or float(rows.row_nbytes)) + (flow.result_nbytes.value or 0.0)
            item_s, row_s = flow.item_s.value, self._row_s.value or 0.0
            bound, portion = self._window.limits(self._engines(), rows.read, item_s, nbytes, row_s)
            self._refill_at = rows.read + portion - bound - self._ahead
            if self._consumed < self._refill_at:
                return
            first, began = rows.read, time.perf_counter()
            try:
                items, count = rows.take(portion)
            except Exception as error:
                self._exhausted, self._error = True, error
                items, count = rows.take_rest()
            self._row_s.add(time.perf_counter() - began, max(1, count))
            self._exhausted = self._exhausted or count < portion
            self._submit(items, first, count)
            if not eager and (self._values or self._failing is not None or flow.has(self._delivered)):
                break
        if self._exhausted and self._ended is None:
            self._refill_at = float("inf")

    def _submit(self, items: Items, first: int, count: int) -> None:
        """Submit items as a task; those that cannot be pickled fail alone, here."""
        if not count:
            return
        self._check_submit()
        try:
            payload, frames = pack_items(items, first)
        except SerializationError as error:
            if count == 1:
                self._flow.file_error(first, error)
                return
            half = count // 2
            self._submit(cut(items, 0, half), first, half)
            self._submit(cut(items, half, count), first + half, count - half)
            return
        self._row_nbytes.add(len(payload) + sum(frame.nbytes for frame in frames), count)
        link, function = self._link, self._function
        objects: tuple[ObjectInfo, ...] = ()
        if frames:
            payload, frames, objects = to_object(link.store, payload, frames)
        task = link.new_tasks()
        self._flow.add_task(task, first, count)
        message = Task(task, function.digest, payload, len(frames), items=count, objects=objects)
        try:
            link.submit(self._flow, Entry(message, function, self._options, frames), time.time())
        except BaseException as error:
            self._flow.drop_task(task)
            if not isinstance(error, Exception):  # of the rest, what of it is submitted is not known
                self._end(partial(CancelledError, "the imap was interrupted while it submitted items"))
            raise

    # ---------------------------------------------------------------- the end

    def cancel(self, *, grace_s: float | None = None, interrupt: bool = True) -> bool:
        """Read no more input, and stop what is under way; return whether nothing of it runs on.

            values.cancel(grace_s=5)      # an engine whose item still runs in five seconds is replaced

        As `AsyncResult.cancel`: unstarted items are withdrawn, running ones interrupted (unless `interrupt` is False);
        in a coroutine it does not wait, and returns False. Who iterates gets CancelledError.
        """
        self._end(partial(CancelledError, "the imap was cancelled"))
        self._flow.shut()
        tasks = self._flow._open_tasks()
        if not tasks:
            return True
        reply = self._link.cancel(tasks, grace_s=grace_s, interrupt=interrupt)
        if not self._link.may_wait():
            return False
        self._flow._await_stopped(reply.result())
        return self._flow.done()

    def close(self) -> None:
        """Read no more input, and have what is under way cancelled, without waiting; the iteration is over.

            values = client.imap(f, endless())
            best = next(value for value in values if value > 0.99)
            values.close()

        The end of a `with` block does the same.
        """
        self._end(StopIteration)
        self._flow.close()

    def _end(self, error: Callable[[], Exception]) -> None:
        if self._ended is None:
            self._ended = error
        self._refill_at = 0  # so that `next` looks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """Do the same as `close`, for `contextlib.aclosing`.

        async with aclosing(client.imap(f, xs)) as values: ...
        """
        self.close()

    # ---------------------------------------------------------------- looks

    def __reduce__(self) -> Any:
        raise TypeError("an imap reads its input here and cannot travel; pass on what it yields")

    def __length_hint__(self) -> int:
        length = self._rows.read if self._exhausted else self._rows.length
        return NotImplemented if length is None else max(0, length - self._consumed)

    def __repr__(self) -> str:
        label = f" {self._options.label!r}" if self._options.label else ""
        return f"<LazyMap{label}: {self._consumed} items consumed, {self._rows.read} read>"


def lazy_map(
    client: Client,
    options: Options,
    f: Callable[..., Any],
    sequences: Sequence[Iterable[Any]],
    *,
    ordered: bool = True,
    max_outstanding: int | str = "auto",
    chunksize: int | str = "auto",
    return_exceptions: bool = False,
    seed: Any = None,
) -> LazyMap:
    """Return the results to come of a function on each row of some sequences, of which nothing is read yet."""
    check_map(f, sequences)
    function, rows = seeded(f, sequences, seed)
    packed = client._functions.get(function)
    window = Window(max_outstanding, chunksize, length=rows.length, awaits=packed.digest[:1] == COROUTINE)
    return LazyMap(
        client._link,
        packed,
        rows,
        options,
        engines=partial(width, client, options),
        window=window,
        ordered=ordered,
        return_exceptions=return_exceptions,
    )
