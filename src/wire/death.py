"""What is told of an engine's end: by its nanny to the controller, and by that to whoever lost a task by it.

It is a part of messages (`EngineExited`) and the payload of a `LOST` result; known as one of `messages` everywhere.
"""

from __future__ import annotations

import msgspec


class DeathCertificate(msgspec.Struct, array_like=True, frozen=True):
    """What is known about the end of an engine process."""

    engine: int
    incarnation: int
    pid: int
    exit_code: int | None = None
    """Exit code, negative for a signal; None if nobody could see it (its host is lost)."""
    reason: str = ""
    """One clause for people: `killed by signal 9 (SIGKILL)`, `exited with code 3`, `its host left the cluster`."""
    task: int | None = None
    """The last task (or piece) that began, by the flight recorder; None if none did."""
    item: int = 0
    """For a divisible task, the item it was in; `recorder.AFTER_LAST` if the task was over and no other had begun."""
    memory_bytes: int = 0
    """Resident memory when last measured."""
    last_output: str = ""
    """The last lines it wrote to its file descriptors 1 and 2."""
    running: bool = True
    """In a `LOST` result: False if the task (or these items) had run, and only the result was lost with the engine."""
    since: float = 0.0
    """When the task (of a divisible one, the call with this item) began, by the flight recorder, in seconds of the
    epoch; 0 if none was running."""
    ended: float = 0.0
    """When the end was seen, in seconds of the epoch, by the same host's clock; 0 if unknown."""
    peak_bytes: int = 0
    """The most memory that was ever resident, in the process or in one that it had started and waited for; 0 if
    unknown."""
    memory_curve: list[tuple[float, int]] = []
    """Resident memory before the end, oldest first: how many seconds before, and bytes."""
    history: list[str] = []
    """Ends of other engines that the same task had caused: `engine 2 (killed by signal 11 (SIGSEGV))`."""
    coroutines: list[tuple[int, float]] = []
    """The coroutine tasks on record, in no order, and since when they ran; `recorder.OVER` if they had ended."""
    step: int | None = None
    """The task, of these, whose code ran on the event loop at the end; None: they all waited, or another task ran."""
