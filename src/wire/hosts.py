"""What a controller and the nannies of hosts say to one another about hosts and the processes there.

See `messages`, which they belong to, and whose `VERSION` covers them. What they say about objects is in `objects`.
"""

from __future__ import annotations

import msgspec

from .death import DeathCertificate  # noqa: TC001 - msgspec reads the annotations
from .objects import ObjectId, ObjectInfo, Source  # noqa: TC001 - as above


class NannyHello(msgspec.Struct, array_like=True, tag=True):
    """First message of a nanny, said again when its connection was broken; answered by `NannyWelcome` or `Refused`."""

    version: int
    host: str
    pid: int
    cores: int
    engines: int
    """How many engines it was started for; the controller says which ids they get."""
    head: bool = False
    """It started this controller."""
    welcomed: bool = False
    """It was welcomed before."""
    resources: dict[str, float] = {}
    """What the host offers to tasks, by name."""
    store: Source | None = None
    """Its store of objects; None: it has none, and values go in frames. Its address is empty if it serves no others."""


class NannyWelcome(msgspec.Struct, array_like=True, tag=True):
    """The nanny is one of the cluster's."""

    session: int = 0
    """It may have been told something before: it is to say what it runs in a `Running` of this number; 0: it is new."""


class Running(msgspec.Struct, array_like=True, tag=True):
    """What a nanny runs: the truth, by which the controller corrects its books."""

    session: int
    """That of the welcome it answers: what was said before another one is void."""
    running: list[tuple[int, int]]
    """Its engine processes, asked for or running: `(engine, incarnation)` each."""
    ended: list[DeathCertificate]
    """The last end of each of its engines, heard of or not."""
    objects: list[ObjectInfo] = []
    """The objects in its store, whole."""
    orphans: list[ObjectId] = []
    """Of these, those whose makers have ended, or are elsewhere."""


class StartEngines(msgspec.Struct, array_like=True, tag=True):
    """Start engine processes: `(engine, incarnation)` each."""

    engines: list[tuple[int, int]]
    of: int = 0
    """How many engines the host has, these included."""


class StopEngine(msgspec.Struct, array_like=True, tag=True):
    """Send a signal to one engine process (SIGKILL ends it for sure). Answered by `EngineExited` if it ends."""

    engine: int
    incarnation: int
    signal: int


class EngineExited(msgspec.Struct, array_like=True, tag=True):
    """An engine process has ended (or could not be started: `pid` 0 and a reason)."""

    certificate: DeathCertificate
