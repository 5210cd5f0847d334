"""`Sink`: who waits for a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...wire import messages as m


class Sink(Protocol):
    """Who waits for a task. All methods are called by the I/O thread."""

    def _accept(self, reply: m.Result, frames: Sequence[Any], now: float) -> bool:
        """Take a result; return whether it was the last under its task id."""

    def _add_output(self, record: m.Output) -> None:
        """Take something that the task printed or displayed."""

    def _fail(self, error: Exception) -> None:
        """Nothing will come any more."""
