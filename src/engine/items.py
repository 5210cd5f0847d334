"""Running a divisible call: many items of one function, in slices of about a millisecond.

Values are collected and pickled together, at most a millisecond of work at a time, so that quick items cost next to
nothing each; an item of a millisecond or more is a result of its own and leaves at once. The inner loop announces every
item (to the flight recorder, and to whoever wants to take the tail of the call back, see `books`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .report import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..wire.messages import Call
    from .functions import Function
    from .parts import Parts
    from .report import Reporter

SLICE_S = 1e-3
"""The work done between two looks at the clock, and in one result of several items."""

QUICK_S = 0.5e-3
"""Before something that takes longer (or an unknown time), what is ready is sent."""

FLUSH_S = 2e-3
"""How long results are collected while quick calls or items follow one another."""


PYPLOT = "matplotlib.pyplot"
"""Once this module is loaded, a task may have drawn figures."""


def run_items(parts: Parts, reporter: Reporter, call: Call, entry: Function, frames: Sequence[Any]) -> None:
    """Run the items of a claimed call, as far as they stay ours; all results are in the outbox afterwards, or sent."""
    _ItemRun(parts, reporter, call, entry).run(frames)


class _ItemRun:
    """One call of items. `values` are those of the items from `base` on that are not pickled yet."""

    def __init__(self, parts: Parts, reporter: Reporter, call: Call, entry: Function) -> None:
        self.current = parts.current
        self.position = parts.slots
        self.books = parts.books
        self.functions = parts.functions
        self.load = parts.values.load
        self.link = parts.link
        self.output = parts.output
        self.coroutines = parts.coroutines
        self.show_figures = parts.show_figures
        self.control_waker = parts.control_waker
        self.clock = parts.clock
        self.epoch = parts.current.epoch
        self.reporter = reporter
        self.call = call
        self.entry = entry
        self.claim = self.books.open(call)
        self.values: list[Any] = []
        self.base = self.slice_lo = call.lo
        self.base_at = self.slice_at = self.clock()

    def run(self, frames: Sequence[Any]) -> None:
        self.current.interrupted = False
        try:
            try:
                self._arm()
                function, rows = self._unpickle(frames)
            finally:
                self.current.armed = False
        except BaseException as error:
            self._fail_rest(error)
            return
        self.base_at = self.slice_at = self.clock()
        self._loop(function, rows)

    def _arm(self) -> None:
        current = self.current
        current.armed = True
        if current.target == current.task:
            current.strike()

    def _unpickle(self, frames: Sequence[Any]) -> tuple[Callable[[Any], Any], Sequence[Any]]:
        function = self.entry.call or self.functions.load(self.entry)
        items = self.load(self.call.payload, frames)
        if isinstance(items, tuple):
            rows: Sequence[Any] = list(zip(*items, strict=True))
            single = _spread(function)
        else:
            rows, single = items, function
        if len(rows) < self.call.hi:
            raise ValueError(f"the call is for items up to {self.call.hi}, but there are only {len(rows)}")
        return single, rows

    def _loop(self, function: Callable[[Any], Any], rows: Sequence[Any]) -> None:
        current, position, claim, advance = self.current, self.position, self.claim, self._advance
        append = self.values.append
        lo, hi = self.call.lo, self.call.hi
        cursor = enumerate(rows if (lo, hi) == (0, len(rows)) else rows[lo:hi], lo)
        while True:
            try:
                try:
                    self._arm()
                    for i, item in cursor:
                        position[1] = i
                        if i >= claim.stop and not advance(i):
                            break
                        append(function(item))
                finally:
                    current.armed = False
            except BaseException as error:
                if current.interrupted:
                    self._emit(self.clock())
                    self._fail_rest(error)
                    return
                self._fail_item(error)
                continue
            break
        now = self.clock()
        self._measure(self.base + len(self.values), now)
        self._finish_output()
        self._emit(now)
        self.books.close(claim)

    def _advance(self, item: int) -> bool:
        """The slice is over, or somebody wants to talk: report, and ask whether and how far to go on from `item`."""
        self.current.armed = False
        self.output.catch_up()
        now = self.clock()
        self._measure(item, now)
        if now - self.base_at >= SLICE_S / 2:  # a slice is seldom exactly one millisecond
            self._emit(now)
        self._flush_if_due(now)
        self.coroutines.turn(now)
        estimate = self.entry.estimate_s
        size = 1 if estimate >= SLICE_S else max(1, round(SLICE_S / max(estimate, 1e-9)))
        if not self.books.advance(self.claim, item, size):
            return False
        if size > 1 or self.link.pending:
            self.control_waker.nudge()
        self.slice_lo, self.slice_at = item, self.clock()
        self._arm()
        return True

    def _measure(self, item: int, now: float) -> None:
        done = item - self.slice_lo
        if done > 0:
            self.entry.learn((now - self.slice_at) / done)
            self.slice_lo, self.slice_at = item, now

    def _flush_if_due(self, now: float) -> None:
        if self.link.pending and (self.entry.estimate_s >= QUICK_S or now - self.link.flushed_at >= FLUSH_S):
            self.link.flush()

    def _emit(self, now: float) -> None:
        """Pickle the values there are into results."""
        values = self.values
        if values:
            hi = self.base + len(values)
            run = Run(self.call.id, self.base, hi, self.epoch + self.base_at, now - self.base_at)
            self.reporter.add_values(run, self.entry.name, values, keep=self.call.keep)
            self.base = hi
            values.clear()
        self.base_at = now

    def _fail_item(self, error: BaseException) -> None:
        """The item after the values raised: it alone has failed."""
        self.output.catch_up()
        now = self.clock()
        item = self.base + len(self.values)
        self._measure(item + 1, now)
        since = now if self.values else self.base_at
        self._emit(now)
        run = Run(self.call.id, item, item + 1, self.epoch + since, now - since)
        self.reporter.add_error(run, error, self.entry.hide)
        self._flush_if_due(now)
        self.base = self.slice_lo = item + 1
        self.base_at = self.slice_at = self.clock()

    def _fail_rest(self, error: BaseException) -> None:
        """Something ended the whole call: all items that have no result yet share the error."""
        hi = self.books.close(self.claim)
        now = self.clock()
        self._finish_output()
        if self.base < hi:
            run = Run(self.call.id, self.base, hi, self.epoch + self.base_at, now - self.base_at)
            self.reporter.add_error(run, error, self.entry.hide)

    def _finish_output(self) -> None:
        if PYPLOT in sys.modules:
            self.show_figures()
        self.output.descriptors.flush()
        self.output.catch_up()
        if self.output.used:
            self.output.finish()


def _spread(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda row: function(*row)
