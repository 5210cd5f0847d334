"""Progress: a bar that says how many of how many are done, in a notebook or on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .panes import Op

WIDTH = 30


class Publisher(Protocol):
    """Who publishes to a notebook."""

    def publish(self, op: Op) -> None:
        """Publish an output, or a new state of one."""


def shown_seconds(seconds: float) -> str:
    """Return a duration as people read it.

    >>> shown_seconds(75.2), shown_seconds(3.14)
    ('1:15', '3.1 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar_text(done: int, total: int, seconds: float, what: str, note: str = "") -> str:
    """Return the state of a bar as text."""
    filled = WIDTH * done // total if total else WIDTH
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {_words(done, total, seconds, what, note)}"


def _words(done: int, total: int, seconds: float, what: str, note: str) -> str:
    return f"{done}/{total} {what}, {shown_seconds(seconds)}{note and '; '}{note}"


def bar_bundle(done: int, total: int, seconds: float, what: str, note: str = "") -> dict[str, Any]:
    """Return the state of a bar for a notebook."""
    html = (
        f'<progress value="{done}" max="{max(total, 1)}" style="width:20em;vertical-align:middle"></progress> '
        f"{_words(done, total, seconds, what, note)}"
    )
    return {"text/plain": bar_text(done, total, seconds, what, note), "text/html": html}


class TerminalBar:
    """A bar on one line of stderr, which it gives back; none where stderr is no terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._there = False
        self._live = sys.stderr.isatty()

    def show(self, done: int, total: int, seconds: float, note: str = "") -> None:
        """Show this state."""
        if self._live:
            sys.stderr.write(f"\r{bar_text(done, total, seconds, self._what, note)}\x1b[K")
            sys.stderr.flush()
            self._there = True

    def hide(self) -> None:
        """Make room for something else on the line."""
        if self._there:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._there = False

    def finish(self, done: int, total: int, seconds: float, note: str = "") -> None:
        """Leave the last state."""
        if self._live:
            self.show(done, total, seconds, note)
            sys.stderr.write("\n")
            self._there = False


class NotebookBar:
    """A bar as an output of the running cell."""

    def __init__(self, front: Publisher, name: str, what: str) -> None:
        self._front = front
        self._name = name
        self._what = what
        self._last: dict[str, Any] = {}
        self._there = False

    def show(self, done: int, total: int, seconds: float, note: str = "") -> None:
        """Show this state."""
        from .panes import Op  # noqa: PLC0415 - light until it is used

        bundle = bar_bundle(done, total, seconds, self._what, note)
        if bundle != self._last:
            self._front.publish(Op(bundle, self._name, self._there))
            self._last = bundle
            self._there = True

    def hide(self) -> None:
        """It is in nobody's way."""

    def finish(self, done: int, total: int, seconds: float, note: str = "") -> None:
        """Leave the last state."""
        self.show(done, total, seconds, note)
