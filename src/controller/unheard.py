"""Results that a client was sent and has not confirmed, by task: it may have asked for them before they came.

A client that names a task as one to come says so before it has heard of the end; so if that task is not open, its
result is still here. The index is made when first asked for, and a message is looked through once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..wire.messages import Results
from ..wire.parts import with_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..streams import Outgoing
    from ..wire.parts import Part


class Unheard:
    """The results in what a client has not confirmed."""

    __slots__ = ("_last", "_messages", "_parts")

    def __init__(self) -> None:
        self._last = 0
        """The number of the last message that was looked through."""
        self._messages: deque[tuple[int, list[int]]] = deque()
        """The numbers of those that are kept, and the tasks that they speak of."""
        self._parts: dict[int, list[Part]] = {}

    def find(self, outgoing: Outgoing, tasks: Iterable[int]) -> dict[int, list[Part]]:
        """Return what there is of some tasks."""
        for message, frames in outgoing.since(self._last):
            self._last = message.seq
            if isinstance(message, Results):
                found = with_frames(message.results, frames)
                for part in found:
                    self._parts.setdefault(part[0].id, []).append(part)
                self._messages.append((message.seq, [part[0].id for part in found]))
        return {task: self._parts[task] for task in tasks if task in self._parts}

    def acked(self, have: int) -> None:
        """The client has everything up to that number: let go of it."""
        while self._messages and self._messages[0][0] <= have:
            for task in self._messages.popleft()[1]:
                parts = self._parts[task]
                parts.pop(0)  # they are in the order of the messages
                if not parts:
                    del self._parts[task]
