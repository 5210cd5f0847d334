"""How much may be under way to the controller before whoever submits has to wait.

A thread that submits waits when the controller says that memory is short there (`messages.Hold`), or when the
controller has not confirmed more than it has given us room for (`Welcome.room`), because it is slow, or away. The wait
ends when there is room, or nothing will come any more, or by Ctrl-C: then nothing was submitted.

Who cannot wait does not, and what it submits is sent all the same: the I/O thread, which brings the room that others
wait for; coroutines, whose loop would stand still; and whoever the controller gives no bounds to, a task in an engine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque

    from ...streams import Outgoing
    from ...wire.messages import Welcome
    from .core import Entry

ENTRY_BYTES = 700
"""What a task takes besides its arguments until it is confirmed."""

LARGE_BYTES = 1000
"""Arguments of fewer bytes, without frames, are not looked at while they wait to be sent."""


class Room:
    """What may be under way, and what is. Pure. `full` is for any thread, `posted` too, one at a time; the rest is
    the I/O thread's.
    """

    __slots__ = ("_limit", "_outbox", "_outgoing", "_posted", "_taken", "full", "held", "most")

    def __init__(self, outbox: deque[Any], outgoing: Outgoing) -> None:
        self.full = False
        """Whoever submits is to look closer: `is_over`."""
        self.held = False
        """The controller has said so."""
        self.most = sys.maxsize
        """With more than so many tasks in the outbox it is full."""
        self._limit = 0
        """How many bytes may be unconfirmed; 0: as many as come."""
        self._outbox = outbox
        self._outgoing = outgoing
        self._posted = 0
        """Bytes of large arguments that were put into the outbox, and of those taken out: two numbers, so that each is
        one side's only."""
        self._taken = 0

    def welcomed(self, message: Welcome) -> None:
        """The controller has said what it has room for."""
        self._limit = message.room
        self.most = message.room // ENTRY_BYTES or sys.maxsize
        self.hold(on=message.hold)

    def hold(self, *, on: bool) -> None:
        """The controller says whether memory is short there."""
        self.held = on
        self.full = self.full or on

    def posted(self, nbytes: int) -> None:
        """Arguments that are large, or have frames, will be in the outbox."""
        self._posted += nbytes
        self.look()

    def taken(self, entry: Entry) -> int:
        """Such arguments were taken out of the outbox; return their weight."""
        nbytes = weight_of(entry)
        self._taken += nbytes
        return nbytes

    def look(self) -> None:
        """There is more under way than before: it may be full."""
        self.full = self.full or self.is_over()

    def under_way(self) -> int:
        """Return how many bytes are not confirmed."""
        return self._outgoing.nbytes + self._posted - self._taken + ENTRY_BYTES * len(self._outbox)

    def is_over(self) -> bool:
        """Return whether whoever submits is to wait: from when the room is used up until half of it is free."""
        if self.held:
            return True
        return self._limit > 0 and self.under_way() > (self._limit // 2 if self.full else self._limit)


def weight_of(entry: Entry) -> int:
    """Return how many bytes the arguments of a task take."""
    frames: int = sum(frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in entry.frames)
    return len(entry.task.payload) + frames
