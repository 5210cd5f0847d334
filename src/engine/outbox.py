"""Results that are ready and not yet sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.messages import Result


class Outbox:
    """Results in order, and their frames in the same order.

    The main thread adds without a lock; takers exclude one another (they hold the link's lock). That is safe because
    appending, slicing and deleting a slice are each one step, and takers touch only what was there when they looked.
    """

    def __init__(self) -> None:
        self.results: list[Result] = []
        """For the runner, which appends results without frames directly."""
        self._frames: list[Any] = []

    def add(self, result: Result, frames: Sequence[Any] = ()) -> None:
        """Add a result; `result.frames` must say how many frames it has."""
        if frames:
            self._frames.extend(frames)  # before the result: whoever sees the result finds its frames
        self.results.append(result)

    def take(self) -> tuple[list[Result], list[Any]]:
        """Return all results and their frames, and empty the box."""
        results = self.results[:]
        del self.results[: len(results)]
        if not self._frames:
            return results, []
        count = sum(result.frames for result in results)
        frames = self._frames[:count]
        del self._frames[:count]
        return results, frames
