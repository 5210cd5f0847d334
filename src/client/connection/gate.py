"""Where threads that submit wait for room (`room`).

Nobody misses the moment: whoever looks at the room to wait, or to have others go on, does it under one lock; the I/O
thread looks after each round of its loop while the room is full, and whoever finds that it is not any more tells all.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .room import weight_of

if TYPE_CHECKING:
    from .core import Core, Entry


class Gate:
    """Where threads wait for room."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._condition = threading.Condition()

    def posted(self, entry: Entry) -> None:
        """A task with arguments that are large, or have frames, is about to be put into the outbox. For any thread."""
        nbytes = weight_of(entry)
        with self._condition:
            self._core.room.posted(nbytes)

    def wait(self) -> None:
        """Wait until there is room, or there is no controller any more. For threads that may wait."""
        with self._condition:
            self._condition.wait_for(self._may_go_on)
            self._condition.notify_all()  # the I/O thread looks again only while it is full

    def look(self) -> None:
        """Something was confirmed, or the controller has said something: have them go on if there is room."""
        with self._condition:
            if self._may_go_on():
                self._condition.notify_all()

    def _may_go_on(self) -> bool:
        room = self._core.room
        room.full = True  # now that somebody waits, until half is free
        room.full = room.is_over()
        return not room.full or self._core.lost is not None
