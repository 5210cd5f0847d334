"""The event loop of an engine's main thread.

It runs only while the main thread has nothing else to do, is between two calls, or awaits a coroutine for a call; never
while a call runs. What user code has left on it is run under a guard, which knows whose code it is (`OF_TASK`, in the
context that asyncio hands from each piece of work to those that it begets), and where an interrupt may strike.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from ..recorder import NO_TASK
from .current import OF_TASK

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence, Sequence

    from .current import Current


class EngineLoop(asyncio.SelectorEventLoop):
    """An event loop for user code that can be interrupted, and for ours that cannot.

    `struck(owner)` is told when an interrupt, or `SystemExit`, came out of something of that task's. `nudge` wakes the
    main thread when something was scheduled by another thread and the loop does not run.
    """

    def __init__(self, current: Current, struck: Callable[[int], None], nudge: Callable[[], None]) -> None:
        self._current = current
        self._struck = struck
        self._nudge = nudge
        self._stirred = True
        """Something was scheduled since `has_pending` last found nothing."""
        self._driven = False
        self._waiting = False
        self.record: MutableSequence[int] | memoryview[int] = [NO_TASK]
        """Where the task whose code runs is written down, should the process die (the flight recorder's `step`)."""
        self.after_step: Callable[[], None] = lambda: None
        """Is called when something of a task's has run, while it still counts as running."""
        self._bare = contextvars.Context()
        """For what belongs to no task."""
        super().__init__()

    # ------------------------------------------------------------------------------------------ what is scheduled

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override] # of any callback
        """Schedule a call, guarded if it belongs to a task."""
        self._stirred = True
        context = contextvars.copy_context() if context is None else context
        owner = context.get(OF_TASK, NO_TASK)
        if owner == NO_TASK:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(self.guarded, owner, callback, args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override] # of any callback
        """Schedule a call for later, guarded if it belongs to a task."""
        self._stirred = True
        context = contextvars.copy_context() if context is None else context
        owner = context.get(OF_TASK, NO_TASK)
        if owner == NO_TASK:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, self.guarded, owner, callback, args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override] # of any callback
        """Schedule a call from another thread (or from a signal handler), guarded if it belongs to a task."""
        context = contextvars.copy_context() if context is None else context
        owner = context.get(OF_TASK, NO_TASK)
        if owner == NO_TASK:
            handle = super().call_soon_threadsafe(callback, *args, context=context)
        else:
            handle = super().call_soon_threadsafe(self.guarded, owner, callback, args, context=context)
        self._stirred = True
        if not self._driven:
            self._nudge()
        return handle

    def has_pending(self) -> bool:
        """Return whether anything may happen on the loop: something is scheduled, a task waits, or a descriptor is
        watched. Costs next to nothing when nothing was scheduled since it last said no.
        """
        if self._stirred:
            self._stirred = False  # before looking: another thread may schedule something meanwhile
            loop: Any = self
            watched = len(loop._selector.get_map()) - 1  # the loop's own pipe
            self._stirred = bool(loop._ready or loop._scheduled or watched or asyncio.all_tasks(self)) or self._stirred
        return self._stirred

    def guarded(self, owner: int, callback: Callable[..., object], args: Sequence[Any]) -> None:
        """Run something of a task's. An interrupt that strikes it goes no further."""
        current = self._current
        before = current.step, current.armed, current.interrupted
        current.step = owner
        self.record[0] = max(owner, NO_TASK)  # a front end's cell is no task
        try:
            try:
                current.armed = True
                callback(*args)
            finally:
                current.armed = False
                self.after_step()
        except (KeyboardInterrupt, SystemExit):  # an asyncio task has it as its result by now
            self._struck(owner)
        finally:
            current.step, current.armed, current.interrupted = before
            self.record[0] = before[0]

    # ------------------------------------------------------------------------------------------ running it

    def drive(self, fds: Sequence[int], timeout_s: float | None) -> None:
        """Run until one of the descriptors can be read, somebody calls `end_drive`, or the time is over."""
        for fd in fds:
            self.add_reader(fd, self.end_drive)
        timer = None if timeout_s is None else self.call_later(timeout_s, self.end_drive)
        self._waiting = True
        try:
            self._run(self.run_forever)
        finally:
            self._waiting = False
            for fd in fds:
                self.remove_reader(fd)
            if timer is not None:
                timer.cancel()

    def end_drive(self) -> None:
        """Have `drive` return when what is ready now has run. Elsewhere without effect."""
        if self._waiting:
            self.stop()

    def turn(self) -> None:
        """Run what is ready, without waiting."""
        self._bare.run(super().call_soon, self.stop)
        self._run(self.run_forever)

    def finish(self, task: asyncio.Task[Any]) -> None:
        """Run until that task is done, whatever its result."""
        task.add_done_callback(lambda _: self.stop(), context=contextvars.Context())
        while not task.done():  # user code may stop the loop
            self._run(self.run_forever)

    def _run(self, function: Callable[..., object], *args: Any) -> None:
        asyncio._set_running_loop(None)  # that of a cell, see `Coroutines.cell`
        current = self._current
        current.looping = self._driven = True
        try:
            self._bare.run(function, *args)
        finally:
            current.looping = self._driven = False
