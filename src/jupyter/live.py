"""Waiting for a result while its output is shown, in a notebook, a terminal or a script."""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ..ids import show_engines
from .bars import NotebookBar, TerminalBar
from .lines import Lines, grouped
from .panes import PLAIN, TICK_S, Board, Op
from .relay import hand_over, handlers, relay_late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..client.results.futures import AsyncResult
    from ..wire.messages import Output
    from .lines import Line

PROGRESS_AFTER_S = 2.0
"""A bar is shown for what takes longer."""

BAR_S = 0.5

_numbers = itertools.count(1)


def new_name() -> str:
    """Return a name for the displays of one cell that no other has, in this process or in another."""
    return f"px-{os.getpid()}-{time.time_ns():x}-{next(_numbers)}"


def find_notebook() -> Any:
    """Return the shell of a Jupyter kernel, if this program runs in one; else None."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


class NotebookFront:
    """Publishes to the notebook whose kernel this is."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def publish(self, op: Op) -> None:
        """Publish an output of the running cell, or a new state of one."""
        transient = {} if op.display_id is None else {"display_id": op.display_id}
        self._shell.display_pub.publish(
            data=op.bundle, metadata=op.metadata or {}, transient=transient, update=op.update
        )


class TextFront:
    """Prints what there is as text."""

    def publish(self, op: Op) -> None:
        """Print the text of an output."""
        text = op.bundle.get(PLAIN)
        if text:
            print(text, flush=True)  # noqa: T201 - what it is for


Front = NotebookFront | TextFront


def find_front() -> Front:
    """Return what shows things here."""
    shell = find_notebook()
    return TextFront() if shell is None else NotebookFront(shell)


class PaneViewer:
    """Shows output in panes of a notebook."""

    def __init__(self, front: Front, engines: Sequence[int]) -> None:
        self._front = front
        self._board = Board(engines, new_name(), time.monotonic())

    def take(self, record: Output) -> None:
        """Take a record."""
        self._board.take(record)

    def ended(self, engine: int, *, failed: bool) -> None:
        """The call of one engine is over."""
        self._board.ended(engine, failed=failed)

    def flush(self, *, final: bool = False) -> None:
        """Publish what is due."""
        for op in self._board.flush(time.monotonic(), final=final):
            self._front.publish(op)


class LineViewer:
    """Prints output as lines, as it comes."""

    def __init__(self, bar: TerminalBar | NotebookBar | None = None) -> None:
        self._lines = Lines(colours=sys.stdout.isatty())
        self._bar = bar

    def take(self, record: Output) -> None:
        """Take a record."""
        self._print(self._lines.take(record))

    def ended(self, engine: int, *, failed: bool) -> None:
        """The call of one engine is over."""
        self._print(self._lines.ended(engine, failed=failed))

    def _print(self, lines: list[Line]) -> None:
        if lines and self._bar is not None:
            self._bar.hide()
        for line in lines:
            print(line.text, file=sys.stderr if line.stream == "stderr" else sys.stdout)

    def flush(self, *, final: bool = False) -> None:
        """Have it written."""
        del final
        sys.stdout.flush()


class NoViewer:
    """Shows nothing: that comes later."""

    def take(self, record: Output) -> None:
        """Leave it."""

    def ended(self, engine: int, *, failed: bool) -> None:
        """Leave it."""

    def flush(self, *, final: bool = False) -> None:
        """Do nothing."""


class Follower:
    """Follows one result: takes its output, as it comes, to a viewer, and counts who is done for a bar.

    `follow` may be called again, to go on after an interruption.
    """

    def __init__(
        self,
        result: AsyncResult,
        *,
        stream: bool = True,
        progress_after_s: float | None = PROGRESS_AFTER_S,
        what: str = "engines",
    ) -> None:
        self._result = result
        self._front = find_front()
        self._bar: TerminalBar | NotebookBar
        if isinstance(self._front, NotebookFront):
            self._bar = NotebookBar(self._front, new_name(), what)
        else:
            self._bar = TerminalBar(what)
        self._viewer: PaneViewer | LineViewer | NoViewer
        if not stream:
            self._viewer = NoViewer()
        elif isinstance(self._front, NotebookFront):
            self._viewer = PaneViewer(self._front, result._engines())
        else:
            self._viewer = LineViewer(self._bar)
        self._began = time.monotonic()
        self._bar_at = float("inf") if progress_after_s is None else self._began + progress_after_s
        self._bar_shown = False
        self._taken = 0
        self._ended: set[int] = set()
        self._finished = False

    def follow(self, timeout_s: float | None = None, interval_s: float = TICK_S) -> bool:
        """Show output until the result is done, or the time is over; return whether it is done."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            done = self._result.done()  # asked first: all output of what is done is here
            self.look()
            if done:
                self.finish()
                return True
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            if now >= self._bar_at:
                self._bar_at = now + max(BAR_S, interval_s)
                self._bar_shown = True
                self._bar.show(*self._state())
            left = interval_s if deadline is None else min(interval_s, deadline - now)
            self._result._wait_done(max(0.0, left))

    def look(self) -> None:
        """Take what has come, and show what is due."""
        result, viewer = self._result, self._viewer
        records = result._log()[self._taken :]
        self._taken += len(records)
        hand_over(result, self._taken)
        for record in records:
            if record.kind not in handlers:
                viewer.take(record)
        for engine, failed in result._ended_engines():
            if engine not in self._ended:
                self._ended.add(engine)
                viewer.ended(engine, failed=failed)
        viewer.flush()

    def finish(self) -> None:
        """Show all there is, as it shall stay."""
        if self._finished:
            return
        self._finished = True
        relay_late(self._result)
        self.look()
        if self._bar_shown:
            if isinstance(self._bar, TerminalBar):
                self._bar.hide()
            else:
                self._bar.finish(*self._state())
            self._bar_shown = False
        self._viewer.flush(final=True)

    def _state(self) -> tuple[int, int, float, str]:
        result = self._result
        ended = dict(result._ended_engines())
        notes = []
        if failed := [engine for engine, is_failed in ended.items() if is_failed]:
            notes.append(f"failed: {show_engines(sorted(failed))}")
        if ended and (running := [engine for engine in result._engines() if engine not in ended]):
            notes.append(f"not done: {show_engines(running)}")
        return result.progress, result._total(), time.monotonic() - self._began, "; ".join(notes)


def display_outputs(result: AsyncResult, groupby: str) -> None:
    """Show the output that a result has so far, sorted."""
    front = find_front()
    records = list(result._log())
    hand_over(result, len(records))
    records = [record for record in records if record.kind not in handlers]
    engines = result._engines() or tuple(dict.fromkeys(record.engine for record in records))
    failed = {engine for engine, failed in result._ended_engines() if failed}
    for engine in failed:
        last = next((r for r in reversed(records) if r.engine == engine and r.kind == "error"), None)
        if last is not None:
            records = [record for record in records if record is not last]  # told with the error that is raised
    logs = {engine: [record for record in records if record.engine == engine] for engine in engines}
    name = new_name()
    for number, group in enumerate(grouped(logs, groupby, records)):
        if not group:
            continue
        board = Board(engines if groupby == "type" else (), f"{name}-{number}", 0.0)
        for record in group:
            board.take(record)
        for engine in engines:
            board.ended(engine, failed=False)
        for op in board.flush(0.0, final=True):
            front.publish(op)


def wait_interactive(result: AsyncResult, interval_s: float, timeout_s: float | None) -> bool:
    """Wait with a bar; return whether it is done."""
    what = "items" if result._is_map else "tasks"
    follower = Follower(result, stream=False, progress_after_s=0.0, what=what)
    done = follower.follow(timeout_s, max(0.02, interval_s))
    if done:
        follower._bar.finish(*follower._state())
    return done
