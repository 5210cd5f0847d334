"""A death certificate in words, for the error of whoever lost a task by it and for the log.

It is told by its parts, so that the message of the wire and the error of the client read the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

EARLIER = 5
"""How many points of the memory curve are told besides the last."""

STEADY = 0.05
"""A curve whose points differ by less than this share is told as one figure."""


class Account(Protocol):
    """What there is to tell: a `DeathCertificate` and an `EngineDied` both are one. Zero and empty mean unknown."""

    @property
    def engine(self) -> int: ...  # noqa: D102 - all of these as in `DeathCertificate`
    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def since(self) -> float: ...  # noqa: D102
    @property
    def ended(self) -> float: ...  # noqa: D102
    @property
    def memory_bytes(self) -> int: ...  # noqa: D102
    @property
    def peak_bytes(self) -> int: ...  # noqa: D102
    @property
    def memory_curve(self) -> Sequence[tuple[float, int]]: ...  # noqa: D102
    @property
    def last_output(self) -> str: ...  # noqa: D102
    @property
    def history(self) -> Sequence[str]: ...  # noqa: D102


def in_words(account: Account, doing: str) -> str:
    """Return a line that says how the engine ended and what it was doing, then what else is known, indented."""
    return "\n".join([in_a_line(account, doing), *_indented(_details(account))])


def in_a_line(account: Account, doing: str) -> str:
    """Return how the engine ended and what it was doing."""
    pid = f" (pid {account.pid})" if account.pid else ""
    return f"engine {account.engine}{pid} {account.reason or 'died'} {doing}".rstrip()


def _details(account: Account) -> list[str]:
    lines = []
    if account.since:
        begun = time.strftime("%H:%M:%S", time.localtime(account.since))
        ran = account.ended - account.since  # negative: the end is unknown, or a clock was set back
        lines.append(f"the call had run since {begun}" + (f", for {seconds(ran)}" if ran >= 0 else ""))
    if memory := _memory(account):
        lines.append(memory)
    if account.history:
        lines.append(f"it had also killed {_listed(account.history)}")
    if account.last_output:
        lines.append("last output:")
        lines += _indented(account.last_output.splitlines())
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _memory(account: Account) -> str:
    parts = []
    curve = account.memory_curve
    if curve:
        parts.append(f"{size(curve[-1][1])} {seconds(curve[-1][0])} before the end")
    elif account.memory_bytes:
        parts.append(f"{size(account.memory_bytes)} when last measured")
    if account.peak_bytes:
        parts.append(f"{size(account.peak_bytes)} at most")
    text = f"memory: {', '.join(parts)}" if parts else ""
    if len(curve) > 1:
        sizes = [nbytes for _, nbytes in curve]
        if max(sizes) - min(sizes) <= STEADY * max(sizes):
            text += f"; steady for {seconds(curve[0][0] - curve[-1][0])}"
        else:
            step = max(1, -(-(len(curve) - 1) // EARLIER))
            text += "; earlier: " + ", ".join(f"{size(nbytes)} ({seconds(ago)})" for ago, nbytes in curve[:-1:step])
    return text


def _listed(things: Sequence[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def size(nbytes: int) -> str:
    """Return an amount of memory for people.

    >>> size(3 << 20), size(4_200_000_000)
    ('3 MB', '3.9 GB')
    """
    return f"{nbytes / 2**20:.0f} MB" if nbytes < 1000 << 20 else f"{nbytes / 2**30:.1f} GB"


def seconds(duration_s: float) -> str:
    """Return a duration for people.

    >>> seconds(0.0041), seconds(1.25), seconds(58.04), seconds(7384)
    ('4 ms', '1.2 s', '58 s', '2 h 3 min')
    """
    if duration_s < 0.1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 60:
        return f"{duration_s:.1f} s" if duration_s < 10 else f"{duration_s:.0f} s"
    minutes = round(duration_s / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
