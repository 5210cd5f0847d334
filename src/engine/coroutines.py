"""Coroutines: awaited for a call, or left by a cell on the event loop of the main thread.

The loop is made when it is first needed. The main thread runs it instead of waiting plainly when something on it may
happen: a cell has left a background task, or somebody `hold`s it, to be called when a descriptor of theirs can be read.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections import abc, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..recorder import NO_TASK
from .current import OF_TASK, Awaited
from .loop import EngineLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, MutableSequence, Sequence

    from .current import Current

TURN_S = 1e-3
"""While calls follow one another, the loop gets its turn so often, if it takes no longer."""


class Coroutines:
    """The event loop of the main thread, and what is on it. All methods are for that thread, `interrupt` excepted."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._loop: EngineLoop | None = None
        self._holds = 0
        self._turned_at = 0.0
        self._work: deque[Callable[[], object]] = deque()
        self.nudge: Callable[[], None] = lambda: None
        """Wakes the main thread from a plain wait."""
        self.record: MutableSequence[int] | memoryview[int] = [NO_TASK]
        """See `EngineLoop.record`."""
        self.after_step: Callable[[], None] = lambda: None
        """See `EngineLoop.after_step`."""
        current.interrupt, current.stray = self.interrupt, self.interrupt_stray

    # ------------------------------------------------------------------------------------------ the loop

    @property
    def loop(self) -> EngineLoop:
        """The loop; made if there is none."""
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = EngineLoop(self._current, self._struck, self.nudge)
            loop.record, loop.after_step = self.record, self.after_step
        return loop

    @property
    def needs_loop(self) -> bool:
        """Whether the main thread is to run the loop while it waits."""
        return self._holds > 0 or (self._loop is not None and not self._loop.is_closed() and self._loop.has_pending())

    def hold(self) -> EngineLoop:
        """Have the loop run while the main thread waits, until `release`, and return it.

        Its `add_reader(fd, handler)` then works as usual. A handler runs in the loop, unarmed, also while a cell
        awaits something; to run user code, or anything long, it has it called outside (`do`).
        """
        self._holds += 1
        return self.loop

    def release(self) -> None:
        """Undo a `hold`."""
        self._holds -= 1

    def do(self, function: Callable[[], object]) -> None:
        """Have something called by the main thread as soon as no task runs, outside the loop (from a handler)."""
        self._work.append(function)
        self.end_wait()

    def end_wait(self) -> None:
        """There is something to be done outside the loop: end `wait`, after what is ready has run."""
        if self._loop is not None:
            self._loop.end_drive()

    @property
    def has_work(self) -> bool:
        """Whether there is something for `work`."""
        return bool(self._work)

    def work(self) -> None:
        """Call what is to be called outside the loop."""
        while self._work:
            self._work.popleft()()

    def wait(self, fds: Sequence[int], timeout_s: float | None) -> bool:
        """Wait until one of the descriptors can be read, something else is to be done, or the time is over, and run the
        loop meanwhile; False at once if there is no need to run it. May return early.
        """
        if not self.needs_loop:
            return False
        self.loop.drive(fds, timeout_s)
        self._turned_at = 0.0
        return True

    def turn(self, now: float) -> None:
        """Between two calls: let what is on the loop get on, if there is something and it has not just been its turn.

        `now` is by the clock of the calls.
        """
        if self.needs_loop and now - self._turned_at > TURN_S:
            self._turned_at = now
            self.loop.turn()

    # ------------------------------------------------------------------------------------------ cells and calls

    @contextmanager
    def cell(self, owner: int | None = None) -> Iterator[None]:
        """Have the code within find the loop running, as in a notebook: `asyncio.create_task` puts something on it.

        It belongs to the running task, or to that owner.
        """
        loop = self.loop
        token = OF_TASK.set(self._current.task if owner is None else owner)
        asyncio._set_running_loop(loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)
            OF_TASK.reset(token)

    def in_cell(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same with the loop running, as a cell."""

        @functools.wraps(execute)
        def executed(*args: Any, **kwargs: Any) -> Any:
            with self.cell():
                self._current.interrupted = False
                try:
                    return execute(*args, **kwargs)
                except asyncio.CancelledError as error:
                    if self._current.interrupted:
                        raise KeyboardInterrupt from error
                    raise

        return executed

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what the coroutine of the running task returns. If an interrupt breaks in, it is cancelled, and ends
        first.
        """
        loop, current = self.loop, self._current
        asyncio_running = asyncio._get_running_loop()
        if asyncio_running is not None and loop.is_running():
            coroutine.close()
            raise RuntimeError("a coroutine is awaited already: await this one in it")
        armed, current.armed = current.armed, False
        context = contextvars.copy_context()
        owner = current.origin()
        context.run(OF_TASK.set, owner)
        awaited = Awaited(owner)
        awaited.future = future = loop.create_task(Interruptible(coroutine, awaited), context=context)
        try:
            current.awaited[owner] = awaited
            if current.target == owner != NO_TASK:
                awaited.asked = 1
                loop.call_soon(self._cancel, awaited, context=contextvars.Context())
            loop.finish(future)
        finally:
            current.awaited.pop(owner, None)
            current.interrupted = awaited.interrupts > 0
            asyncio._set_running_loop(asyncio_running)
        try:
            value = future.result()
        except asyncio.CancelledError as error:
            if not awaited.interrupts:
                raise
            raise KeyboardInterrupt from error
        finally:
            current.armed = armed
        if awaited.asked > 0:  # too late for the coroutine, but it was meant for its task
            raise KeyboardInterrupt
        return value

    def adapt(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and can be called plainly."""
        called = function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)):
            return function

        @functools.wraps(function)
        def awaited(*args: Any, **kwargs: Any) -> Any:
            return self.run(function(*args, **kwargs))

        return awaited

    # ------------------------------------------------------------------------------------------ interrupts

    def interrupt(self, awaited: Awaited) -> None:
        """Have a coroutine cancelled (any thread), unless a signal does it first."""
        awaited.asked += 1
        self.loop.call_soon_threadsafe(self._cancel, awaited, context=contextvars.Context())

    def interrupt_stray(self, owner: int) -> None:
        """A signal that is meant for nobody in particular came while the loop ran, but not where it may strike: it is
        for the running task, if there is one, else for all coroutines that are awaited, or for the one named.
        """
        current = self._current
        if owner == NO_TASK:
            owner = current.task
        for awaited in list(current.awaited.values()):
            if owner in {NO_TASK, awaited.task}:
                self.interrupt(awaited)

    def _cancel(self, awaited: Awaited) -> None:
        """Cancel a coroutine; not if it was struck meanwhile, in the midst of a step."""
        if self._current.target == awaited.task:
            self._current.settle()
        if awaited.asked > 0:
            awaited.asked -= 1
            self._end(awaited)

    def _struck(self, owner: int) -> None:
        """An interrupt came out of something of a task's: what the task awaits is cancelled, if it has not ended."""
        awaited = self._current.awaited.get(owner)
        if awaited is not None:
            self._end(awaited)

    def _end(self, awaited: Awaited) -> None:
        awaited.interrupts += 1  # (whoever makes the future looks at it)
        if awaited.future is not None and not awaited.future.done():
            awaited.future.cancel()


class Interruptible(abc.Coroutine[Any, Any, Any]):
    """A coroutine to which an interrupt after the first is a KeyboardInterrupt, where else it would be cancelled again:
    code that went on then should not go on for ever.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Awaited) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def send(self, value: Any) -> Any:
        """Have it go on."""
        return self._coroutine.send(value)

    def throw(self, error: Any, *_rest: Any) -> Any:
        """Have it go on with an error."""
        if isinstance(error, asyncio.CancelledError) and self._awaited.interrupts > 1:
            error = KeyboardInterrupt()
        return self._coroutine.throw(error)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()

    def __await__(self) -> Any:
        """It is for an asyncio task only."""
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        """Show what the coroutine itself shows: its name, its frame."""
        return getattr(self._coroutine, name)


async def awaited_value(awaitable: Any) -> Any:
    """Return what an awaitable of any kind returns."""
    return await awaitable
