"""Results that have ended, as long as somebody holds them: threads of their tasks may still print.

Pure, and the I/O thread's own.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sink import Sink

ENDED_MAX = 4096
"""Of so many tasks that ended last, output is still taken."""


class Ended:
    """Who waited for the tasks that ended last; by id."""

    def __init__(self) -> None:
        self._sinks: dict[int, weakref.ref[Sink]] = {}

    def add(self, task: int, sink: Sink) -> None:
        """A task has ended."""
        if len(self._sinks) >= ENDED_MAX:
            for old in list(self._sinks)[: ENDED_MAX // 2]:
                del self._sinks[old]
        self._sinks[task] = weakref.ref(sink)

    def find(self, task: int) -> Sink | None:
        """Return who waited for that task, if anybody still holds the result."""
        ended = self._sinks.get(task)
        return None if ended is None else ended()
