"""The main thread: claims calls, runs them, reports, and waits for more.

```
wait for messages -> books -> claim a call -> user code -> outbox -> (queue empty, or 2 ms) -> one Done
```

A finished result never waits behind a long call: it is sent before a call that is known to be long or not known at all,
and the control thread sends it when a call turns out longer than thought.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import SerializationError
from ..recorder import AFTER_LAST, NO_TASK
from ..serialize import PROTOCOL, dumps
from ..wire.messages import Result, Started
from .items import FLUSH_S, PYPLOT, QUICK_S, run_items
from .pending import Pending
from .report import Reporter, failed, unpicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..wire.messages import Call, ObjectInfo, Status
    from .functions import Function
    from .parts import Parts

_SMALL = frozenset({int, float, bool, type(None)})
"""Exact types of results for which the C pickler is asked without further thought."""

FLUSH_C_S = 20e-6
"""Who calls C code that prints takes longer; after less than this, C's buffers are not looked at."""

ASKED_MAX = 3
"""How often a call that has come without its function is asked for anew."""

_NONE_YET = object()
"""The call has not returned a value."""


class Runner:
    """Runs what is in the books. All methods are for the main thread, `refuse` excepted."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reporter = Reporter(parts.engine, parts.current, parts.outbox, parts.output, parts.values)
        self._pending = Pending(parts)
        self._missed: Counter[int] = Counter()
        """How often calls have come without their function."""

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until `stopping`."""
        books, functions, link = self._parts.books, self._parts.functions, self._parts.link
        coroutines = self._parts.coroutines

        def has_work() -> bool:
            return bool(books.queue) or functions.has_doomed or coroutines.has_work or stopping()

        while not stopping():
            if functions.has_doomed:
                functions.sweep(books.functions_in_use())
            link.wait(has_work)
            self._parts.current.epoch = time.time() - self._parts.clock()  # per burst: clocks are set now and then
            self.run_queue()
            if coroutines.has_work:
                coroutines.work()
            coroutines.turn(self._parts.clock())

    def run_queue(self) -> None:
        """Run the calls in the books until there are none; their results are in the outbox then, or sent."""
        # What a quick call touches is local here: this loop is what a task costs an engine.
        parts = self._parts
        current, books, functions, link, output = parts.current, parts.books, parts.functions, parts.link, parts.output
        coroutines, pending = parts.coroutines, self._pending
        lock, queue, popleft, entries = books.lock, books.queue, books.queue.popleft, functions.entries
        engine, results, waker = parts.engine, parts.outbox.results, parts.control_waker
        slots, since, epoch = parts.slots, parts.since, current.epoch
        clock, to_pickle, small = parts.clock, pickle.dumps, _SMALL
        descriptors, show_figures, modules, pyplot = output.descriptors, parts.show_figures, sys.modules, PYPLOT
        ready, flush = descriptors.ready, descriptors.flush
        values, load_arguments = parts.values, parts.values.load
        args: Any
        kwargs: Any
        value: Any
        frames: Any
        buffers: Sequence[Any] = ()
        objects: tuple[ObjectInfo, ...] = ()
        started = clock()
        while True:
            with lock:
                if current.target != NO_TASK:
                    current.settle()
                if not queue:
                    return
                call = popleft()
                current.task = task = call.id
            current.outputs = 0
            frames = books.take_frames(call) if call.frames else ()
            entry = entries.get(call.function)
            if entry is None:
                self._miss(call)
                current.task = NO_TASK
                continue
            if entry.awaits and call.hi <= 1 and pending.is_full:
                pending.wait_for_room()
            if call.announce:
                link.send(Started(task))
                started = clock()
            elif results:
                if entry.estimate_s > QUICK_S:
                    link.pump()
                    started = clock()
                elif waker.asleep:
                    waker.wake()
            slots[0] = task  # in this order: whenever death comes, nothing that has run seems not to have
            slots[1] = call.lo
            since[0] = began = epoch + started
            if call.hi > 1 or (call.hi and not entry.awaits):
                run_items(parts, self._reporter, call, entry, frames)
                ended = clock()
            elif entry.awaits:
                pending.begin(call, entry, frames, started)
                ended = clock()
            else:
                status = 0
                value = _NONE_YET
                try:
                    try:
                        current.armed = True
                        if current.target == task:
                            current.strike()
                        function = entry.call or functions.load(entry)
                        args, kwargs = load_arguments(call.payload, frames)
                        value = function(*args, **kwargs)
                        if type(value) in small:
                            payload = to_pickle(value, PROTOCOL)
                        else:
                            payload, buffers = dumps(value, pieces=True)
                        if buffers or call.keep:
                            payload, buffers, objects = values.pack(payload, buffers, keep=call.keep)
                    finally:
                        current.armed = False
                except BaseException as error:
                    status, payload, buffers = _failure(error, entry, value)
                    values.abandon()
                    objects = ()
                ended = clock()
                duration = ended - started
                entry.learn(duration)
                if duration > FLUSH_C_S:
                    flush()
                if pyplot in modules:
                    show_figures()
                if ready(0) or descriptors.reading:
                    descriptors.read()
                if output.used:
                    output.finish()
                if objects:
                    result = Result(task, status, payload, 0, engine, began, duration, current.outputs)
                    result.objects = objects
                    results.append(result)
                    values.claim()
                    objects = ()
                elif buffers:
                    count = len(buffers)
                    result = Result(task, status, payload, count, engine, began, duration, current.outputs)
                    parts.outbox.add(result, buffers)
                    buffers = ()
                else:
                    results.append(Result(task, status, payload, 0, engine, began, duration, current.outputs))
            slots[1] = AFTER_LAST
            current.task = NO_TASK
            args = kwargs = value = frames = None  # they may be large, and the next call long in coming
            if ended - link.flushed_at > FLUSH_S:
                link.pump()
                if coroutines.has_work:  # a front end waits, and more calls may come for ever
                    return
                coroutines.turn(ended)
                ended = clock()
            started = ended

    def _miss(self, call: Call) -> None:
        """A call has come without its function: what brought that was lost, so something is amiss. We ask anew what
        there is to do here: the call is not ours then, and comes again, or goes elsewhere.
        """
        self._missed[call.id] += 1
        if self._missed[call.id] > ASKED_MAX:  # that would not help
            del self._missed[call.id]
            self.refuse(call, f"engine {self._parts.engine} was not given the function {call.function.hex()}")
            return
        self._parts.link.lost_touch = True
        self._parts.control_waker.wake()

    def refuse(self, call: Call, sentence: str) -> None:
        """Report a call that cannot be run."""
        self._reporter.refuse(call, sentence)


def _failure(error: BaseException, entry: Function, value: Any) -> tuple[Status, bytes, Sequence[Any]]:
    if value is not _NONE_YET and isinstance(error, SerializationError):
        error = unpicklable(value, f"the result of {entry.name}", error)
    return failed(error, entry.hide)
