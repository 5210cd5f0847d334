"""One way of a conversation whose messages are numbered: what was sent and may be lost, and what has come.

Both ends of every way use these: client to controller and back, engine to controller. Pure; see `wire.messages` for the
protocol.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .wire.messages import Numbered


class Outgoing:
    """The sender's end: numbers messages, and keeps them until the receiver has them."""

    __slots__ = ("_kept", "last", "nbytes")

    def __init__(self, last: int = 0) -> None:
        self.last = last
        """The number of the last message."""
        self.nbytes = 0
        """What is kept weighs so much, as far as its sender has said."""
        self._kept: deque[tuple[Numbered, Sequence[Any], int]] = deque()

    def number(self, message: Numbered, frames: Sequence[Any] = (), nbytes: int = 0) -> None:
        """Give a message of that weight the next number and keep it, with its frames. To be sent in this order."""
        self.last += 1
        message.seq = self.last
        self.nbytes += nbytes
        self._kept.append((message, frames, nbytes))

    def put_back(self, message: Numbered, frames: Sequence[Any] = (), nbytes: int = 0) -> None:
        """Keep a message that has its number already: of a sender that starts again from its records."""
        self.nbytes += nbytes
        self._kept.append((message, frames, nbytes))
        self.last = max(self.last, message.seq)

    def acked(self, have: int) -> None:
        """The receiver has everything up to that number: let go of it."""
        kept = self._kept
        while kept and kept[0][0].seq <= have:
            self.nbytes -= kept.popleft()[2]

    def since(self, number: int) -> list[tuple[Numbered, Sequence[Any]]]:
        """Return what is kept beyond that number, in order."""
        kept = list(takewhile(lambda one: one[0].seq > number, reversed(self._kept)))
        kept.reverse()
        return [(message, frames) for message, frames, _ in kept]

    def after(self, have: int) -> list[tuple[Numbered, Sequence[Any]]]:
        """Return what the receiver misses, which has everything up to that number."""
        self.acked(have)
        return [(message, frames) for message, frames, _ in self._kept]

    @property
    def confirmed(self) -> int:
        """The receiver has said that it has everything up to this number."""
        return self._kept[0][0].seq - 1 if self._kept else self.last

    def clear(self) -> None:
        """Let go of everything: nobody waits for it any more."""
        self._kept.clear()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)


class Verdict(Enum):
    """What to do with a message that has come."""

    TAKE = 1
    """It is the next one."""
    DROP = 2
    """It has come before."""
    GAP = 3
    """One before it is missing: drop it, and have the sender say its hello again."""


class Incoming:
    """The receiver's end: knows which number is next."""

    __slots__ = ("have",)

    def __init__(self, have: int = 0) -> None:
        self.have = have
        """The number of the last message that was taken."""

    def judge(self, seq: int) -> Verdict:
        """Say what to do with the message of that number; one without a number (0) is taken as it is."""
        if seq == self.have + 1:
            self.have = seq
            return Verdict.TAKE
        if not seq:
            return Verdict.TAKE
        return Verdict.DROP if seq <= self.have else Verdict.GAP
