"""How long to wait, as people say it and as clocks do."""

from __future__ import annotations

import time


def limit_of(timeout: float | None) -> float | None:
    """Return for how long to wait; None: as long as it takes, which people write as None or -1.

    >>> limit_of(-1), limit_of(2.5)
    (None, 2.5)
    """
    return None if timeout is None or timeout < 0 else timeout


def deadline_of(limit: float | None) -> float | None:
    """Return until when to wait, by `time.monotonic`."""
    return None if limit is None else time.monotonic() + limit


def left_until(deadline: float | None) -> float | None:
    """Return how long there still is to wait; 0 if no longer."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
