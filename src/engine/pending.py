"""Coroutine functions as tasks: several run at once.

The main thread begins one as it begins any call, in its turn, and goes on with the next as soon as it waits. Its steps
are run by the event loop, between calls and while there is nothing else to do (`coroutines`). Its result is reported
when it ends, whatever runs then.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import SerializationError
from ..recorder import OVER
from ..wire.messages import Result, Status
from .coroutines import Interruptible, awaited_value
from .current import OF_TASK, Awaited
from .items import PYPLOT
from .report import failed, unpicklable
from .values import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..wire.messages import Call
    from .functions import Function
    from .parts import Parts


class _Begun:
    """A coroutine task that has begun."""

    __slots__ = ("awaited", "began", "entry", "hi", "keep", "slot")

    def __init__(self, awaited: Awaited, entry: Function, slot: int, began: float, call: Call) -> None:
        self.awaited = awaited
        self.entry = entry
        self.slot = slot
        """Where it is on record."""
        self.hi = call.hi
        """1 if it is the one item of a divisible call, 0 for a plain call."""
        self.keep = call.keep
        self.began = began
        """In seconds of the epoch."""


class Pending:
    """The coroutine tasks that have begun and not ended. All methods are for the main thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._current = parts.current
        self._free = deque(range(len(parts.coroutine_slots)))
        """Slots of the flight recorder. The one that was left first is used first: see `recorder`."""
        self.is_full = False
        """No more can begin before one has ended."""

    def wait_for_room(self) -> None:
        """Let them get on until one has ended."""
        loop = self._parts.coroutines.loop
        while self.is_full:
            loop.drive((), None)

    def begin(self, call: Call, entry: Function, frames: Sequence[Any], started: float) -> None:
        """Begin the claimed call: its function is called, and what that returns is left to the loop."""
        parts, current, task = self._parts, self._current, call.id
        slot = self._free.popleft()
        self.is_full = not self._free
        awaited = Awaited(task, is_task=True, started=started)
        begun = _Begun(awaited, entry, slot, current.epoch + started, call)
        parts.coroutine_since[slot] = begun.began  # in this order: what was in the slot has ended, and is no matter
        parts.coroutine_slots[slot] = task
        with parts.books.lock:
            current.awaited[task] = awaited
        try:
            try:
                current.armed = True
                if current.target == task:
                    current.strike()
                if entry.raw is None:
                    parts.functions.load(entry)
                assert entry.raw is not None
                value = _call(entry.raw, call, parts.values.load(call.payload, frames))
            finally:
                current.armed = False
        except BaseException as error:
            self._fail(begun, error)
            return
        if not inspect.isawaitable(value):
            self._end(begun, value)
            return
        context = contextvars.copy_context()
        context.run(OF_TASK.set, task)
        coroutine = value if inspect.iscoroutine(value) else awaited_value(value)
        inside = Interruptible(coroutine, awaited)
        awaited.future = future = parts.coroutines.loop.create_task(inside, context=context)
        if awaited.interrupts:
            future.cancel()
        future.add_done_callback(lambda _: self._on_done(begun), context=contextvars.Context())

    def _on_done(self, begun: _Begun) -> None:
        future = begun.awaited.future
        assert future is not None
        try:
            value = future.result()
        except asyncio.CancelledError as error:
            shown: BaseException = error
            if begun.awaited.interrupts:
                shown = KeyboardInterrupt().with_traceback(error.__traceback__)
            self._fail(begun, shown)
        except BaseException as error:
            self._fail(begun, error)
        else:
            self._end(begun, value)

    def _end(self, begun: _Begun, value: Any) -> None:
        """Report a value. To pickle it may take code of the user's."""
        packed: list[Packed] = []
        told = [value] if begun.hi else value
        dump = self._parts.values.dump
        try:
            self._parts.coroutines.loop.guarded(
                begun.awaited.task, lambda: packed.append(dump(told, keep=begun.keep)), ()
            )
        except Exception as error:
            shown: BaseException = error
            if isinstance(error, SerializationError):
                shown = unpicklable(value, f"the result of {begun.entry.name}", error)
            self._fail(begun, shown)
        else:
            if packed:
                self._report(begun, Status.OK, packed[0])
            else:
                self._fail(begun, KeyboardInterrupt())

    def _fail(self, begun: _Begun, error: BaseException) -> None:
        """Report an error."""
        self._parts.values.abandon()
        status, payload, frames = failed(error, begun.entry.hide)
        self._report(begun, status, Packed(payload, frames))

    def _report(self, begun: _Begun, status: int, packed: Packed) -> None:
        """Report the end of a coroutine task, and strike it off the list: in this order, see `Books.holding`."""
        parts, awaited = self._parts, begun.awaited
        duration = parts.clock() - awaited.started
        begun.entry.learn(duration)
        loop, output = parts.coroutines.loop, parts.output
        if PYPLOT in sys.modules:
            loop.guarded(awaited.task, parts.show_figures, ())
        loop.guarded(awaited.task, output.descriptors.flush, ())
        output.finish(awaited.task)
        payload, frames, objects = packed
        result = Result(awaited.task, status, payload, len(frames), parts.engine, begun.began, duration)
        result.outputs, result.hi, result.objects = awaited.outputs, begun.hi, objects
        parts.outbox.add(result, frames)
        parts.values.claim()
        with parts.books.lock:
            del self._current.awaited[awaited.task]
        parts.coroutine_since[begun.slot] = OVER
        self._free.append(begun.slot)
        self.is_full = False
        parts.coroutines.end_wait()
        parts.control_waker.nudge()


def _call(function: Callable[..., Any], call: Call, arguments: Any) -> Any:
    """Call a function with the arguments of a plain call, or with the one item of a divisible one."""
    if not call.hi:
        args, kwargs = arguments
        return function(*args, **kwargs)
    if isinstance(arguments, tuple):
        return function(*(column[0] for column in arguments))
    return function(arguments[0])
