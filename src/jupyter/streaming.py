"""Output printed as it comes while the program does something else: a thread, while a `with` block runs."""

from __future__ import annotations

import contextvars
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .live import Follower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client.results.futures import AsyncResult


@contextmanager
def streamed(result: AsyncResult) -> Iterator[None]:
    """Print a result's output while the block runs, and at its end all that came until then."""
    follower = Follower(result, progress_after_s=None)
    over = threading.Event()

    def follow() -> None:
        while not over.is_set() and not follower.follow(0.1):
            pass

    context = contextvars.copy_context()  # in a notebook: of which cell it is output
    thread = threading.Thread(target=context.run, args=(follow,), name="enginery-output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        follower.finish()
