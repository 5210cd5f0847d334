"""Whether a controller that exists hangs: deadlocked, stopped for good, or lost in a loop.

It says something to its nanny every few seconds, and its main thread goes to wait at least as often. One that does
neither for `HUNG_S` does nothing for anybody. Only both together say so. Without the first, a network that is cut
between the two, or a disk that the messages wait for, would be taken for its fault; without the second, a nanny that
does not look for a while would.
"""

from __future__ import annotations

HUNG_S = 30.0
"""After this, a controller hangs. It is more than a hiccup of the host, and less than clients wait for an answer."""

STEP_S = 4.0
"""What lies between two looks counts for no more than this: who looks later was itself kept from running."""


class Watch:
    """Watches one controller's process."""

    def __init__(self) -> None:
        self._silent_s = 0.0
        self._looked: float | None = None
        self._steps: int | None = None

    def on_heard(self) -> None:
        """It has said something."""
        self._silent_s = 0.0

    def look(self, now: float, steps: int | None) -> bool:
        """Return whether it hangs; if so, true once.

        `steps` is how often its main thread has gone to wait so far; None if that is not known, or if somebody has it
        under a debugger, who then decides how long it stands still.
        """
        before, self._looked = self._looked, now
        if before is None or steps is None or steps != self._steps:
            self._silent_s = 0.0
        else:
            self._silent_s += min(now - before, STEP_S)
        self._steps = steps
        if self._silent_s < HUNG_S:
            return False
        self._silent_s = 0.0
        return True
