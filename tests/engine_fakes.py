"""An engine's parts without sockets, threads and IPython."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.engine.books import Books
from enginery.engine.coroutines import Coroutines
from enginery.engine.current import Current
from enginery.engine.functions import Functions
from enginery.engine.outbox import Outbox
from enginery.engine.output import OutputBuffer
from enginery.engine.parts import Parts
from enginery.engine.runner import Runner
from enginery.engine.values import Values
from enginery.objects.local import LocalStore
from enginery.recorder import COROUTINES, NO_TASK
from enginery.serialize import dumps, loads, to_exception
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeLink:
    """Stands for `TaskLink`: what is flushed is kept, message by message."""

    def __init__(self, outbox: Outbox, output: OutputBuffer, clock: FakeClock) -> None:
        self.sent: list[object] = []
        self.clock = clock
        self.flushed_at = clock.now
        self.flushes = 0
        self.lost_touch = False
        self.outbox = outbox
        self.output = output

    @property
    def pending(self) -> bool:
        return bool(self.outbox.results) or self.output.pending

    def flush(self) -> None:
        results, _frames = self.outbox.take()
        records = self.output.take()
        if records:
            self.sent.append(m.Outputs(records))
        if results:
            self.sent.append(m.Done(results))
        self.flushes += 1
        self.flushed_at = self.clock.now

    pump = flush

    def send(self, message: object) -> None:
        self.flush()
        self.sent.append(message)


class FakeClock:
    """Time passes when a test says so, and a little at each look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-7
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeWaker:
    def __init__(self) -> None:
        self.asleep = True
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1
        self.asleep = False

    def nudge(self) -> None:
        if self.asleep:
            self.wake()


class FakeEngine:
    """Parts, and functions by name."""

    def __init__(self, slots=None, store=None) -> None:
        self.slots = [-1, 0] if slots is None else slots
        self.since = [0.0]
        self.coroutine_slots = [NO_TASK] * COROUTINES
        self.coroutine_since = [0.0] * COROUTINES
        self.clock = FakeClock()
        self.current = Current()
        self.functions = Functions()
        self.outbox = Outbox()
        self.output = OutputBuffer(self.current, self.slots)
        self.link = FakeLink(self.outbox, self.output, self.clock)
        self.waker = FakeWaker()
        self.books = Books(self.current, self.slots, self.functions.estimate)
        self.coroutines = Coroutines(self.current)
        self.parts = Parts(
            engine=5,
            current=self.current,
            slots=self.slots,
            since=self.since,
            coroutine_slots=self.coroutine_slots,
            coroutine_since=self.coroutine_since,
            books=self.books,
            functions=self.functions,
            outbox=self.outbox,
            output=self.output,
            link=self.link,
            coroutines=self.coroutines,
            values=Values(store or LocalStore(None, b"")),
            control_waker=self.waker,
            clock=self.clock,
        )
        self.runner = Runner(self.parts)
        self.next_id = 1
        self.frames: dict[int, list] = {}

    def call(self, function: Callable, *args, announce: bool = False, estimate_s: float | None = None, **kwargs):
        payload, frames = dumps((args, kwargs))
        call = m.Call(self.next_id, self.name(function, estimate_s), payload, len(frames), announce=announce)
        self.frames[call.id] = list(frames)
        self.next_id += 1
        return call

    def batch(self, function: Callable, items, lo: int = 0, hi: int | None = None):
        payload, frames = dumps(items)
        hi = len(items) if hi is None else hi
        call = m.Call(self.next_id, self.name(function), payload, len(frames), lo=lo, hi=hi)
        self.frames[call.id] = frames
        self.next_id += 1
        return call

    def run(self, *calls: m.Call) -> list[m.Result]:
        """Run the calls to their end and return everything reported so far."""
        self.books.add(calls, [frame for call in calls for frame in self.frames.get(call.id, ())])
        self.runner.run_queue()
        return self.results()

    def name(self, function: Callable, estimate_s: float | None = None) -> bytes:
        digest = str(id(function)).encode()
        if digest not in self.functions.entries:
            self.functions.build_in(digest, function)
        if estimate_s is not None:
            self.functions.entries[digest].estimate_s = estimate_s
        return digest

    def results(self) -> list[m.Result]:
        """Everything reported so far, sent or not."""
        sent = [r for message in self.link.sent if isinstance(message, m.Done) for r in message.results]
        return sent + self.outbox.results


def value(result: m.Result):
    """Return the value, or the error as an exception."""
    found = loads(result.payload)
    return to_exception(found) if result.status == m.Status.ERROR else found


def item_values(results: list[m.Result], lo: int, hi: int) -> list:
    """Return the values or errors of items, checking that each has come exactly once."""
    found = {}
    for result in results:
        some = value(result)
        if result.status != m.Status.OK:
            some = [some] * (result.hi - result.lo)
        assert len(some) == result.hi - result.lo
        for i, item in enumerate(some, result.lo):
            assert i not in found
            found[i] = item
    assert sorted(found) == list(range(lo, hi))
    return [found[i] for i in range(lo, hi)]
