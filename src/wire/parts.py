"""What messages are made of: tasks, calls, results, output, ends of engines; each declared once.

See `messages`, whose `VERSION` covers these too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from ..ids import MAX_TASK
from .objects import ObjectInfo  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Count = Annotated[int, msgspec.Meta(ge=0)]

Copies = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
"""There are no more engines; each is given an id."""

TaskNo = Annotated[int, msgspec.Meta(ge=0, le=MAX_TASK)]
"""A task id as somebody may say it, who may be wrong. The journal can hold no others."""


class Status(IntEnum):
    """How a task ended. Every task ends once, in one of these."""

    OK = 0
    """`payload` is the pickled value (for a divided task: the pickled list of values of its items)."""
    ERROR = 1
    """User code raised; `payload` is the pickled `serialize.Failure`."""
    CANCELLED = 2
    """Withdrawn before it started, or stopped while it ran. `payload` is a sentence in UTF-8."""
    TIMEOUT = 3
    """Stopped at its time limit. `payload` is a sentence in UTF-8."""
    LOST = 4
    """Its engine died. `payload` is an encoded `DeathCertificate`."""
    REFUSED = 5
    """It can never run (no such engine, unknown function). `payload` is a sentence in UTF-8."""
    UNKNOWN = 6
    """What became of it can no longer be told, for the reason in `payload`, a sentence in UTF-8."""
    UNMET = 7
    """Its function cannot run on this engine, for the reason in `payload`, a sentence in UTF-8: from an engine to the
    controller, which tries the others; to a client when none is left."""
    IMPOSSIBLE = 8
    """What it depends on has ended in a way that it was not to come after. `payload` is a sentence in UTF-8."""
    INHERITED = 9
    """A task whose value is among its arguments has ended without one. `payload` is an encoded `given.Inherited`, which
    says how; frames are those of that end."""
    INVALID = 10
    """It names a task to come after, or a value, that is not known. `payload` is a sentence in UTF-8."""


COROUTINE = b"c"
"""First byte of the digests of users' coroutine functions."""


def is_coroutine(digest: bytes, hi: int) -> bool:
    """Return whether a call (of that function, with items up to there) is a coroutine: one of several that an engine
    runs at once. The items of a divisible call are not, unless there is but one: they are awaited one after another.
    """
    return digest[:1] == COROUTINE and hi <= 1


class Function(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A pickled function and its name, the digest of the pickle.

    A digest that starts with `!` names an operation built into the engine and is never accompanied by a pickle; those
    of users' functions start with `f`, or with `c` if they are coroutine functions.
    """

    digest: bytes
    pickled: bytes


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """What is known of the end of a task."""

    task: int
    ok: bool
    engines: tuple[int, ...] = ()
    """Where it, or a part of it, ran."""
    why: str = ""
    """How it ended, if not `ok`, in words that go on from "task 3-17, which"."""
    over: bool = True
    """False: this is of some of its items, and others are to come."""


class Dependency(msgspec.Struct, array_like=True, frozen=True):
    """Tasks that a task comes after."""

    tasks: tuple[TaskNo, ...]
    all: bool = True
    """All of them; False: the first will do."""
    success: bool = True
    """One that has succeeded counts."""
    failure: bool = False
    """One that has failed counts."""
    known: tuple[Outcome, ...] = ()
    """What the client knows of some of them: the controller may have forgotten what it has told."""
    by_id: tuple[int, ...] = ()
    """Those that the client knows by their ids, and not by what it was told of them: what it does not say of them may
    yet have been told, and the journal is to be asked."""


class Options(msgspec.Struct, array_like=True, frozen=True):
    """How a task wants to be run; one `Options` serves many tasks of a `Submit`."""

    targets: tuple[int, ...] | None = None
    """Engines that may run it; None for any."""
    priority: int = 0
    """Higher goes first among the waiting tasks of the same client."""
    retries: int = 0
    """Further attempts allowed after an error or the death of its engine."""
    timeout_s: float | None = None
    """Limit on the run time of one attempt, from its start."""
    label: str | None = None
    ordered: bool = False
    """Addressed to one engine (a direct view): run there in order of submission, never taken back and moved."""
    setup: str | None = None
    """The task (`ordered`, of the operation `!setup`) is set-up, by this name: it is kept, and run before anything else
    on every engine that comes later. Only here `targets` may be of no engine, and `copies` 0."""
    after: Dependency | None = None
    """It is to begin after these."""
    follow: Dependency | None = None
    """It is to begin after these, on an engine where they (or one of them, if not `all`) ran."""
    resources: tuple[tuple[str, float], ...] = ()
    """What it takes while it runs of what hosts offer, by name, in order of the names."""
    keep: bool = False
    """Its value is to be an object, however small, and stay where it is."""


class Task(msgspec.Struct, array_like=True, gc=False):
    """One call, as its client submits it."""

    id: TaskNo
    function: bytes
    payload: bytes
    """The pickled arguments `(args, kwargs)`; for a divisible task, the pickled list of its items' argument tuples."""
    frames: Count = 0
    """How many frames of the message hold this task's out-of-band buffers."""
    options: Count = 0
    """Index into `Submit.options`."""
    items: Count = 0
    """0 for a plain call; for a divisible task (a batch of `map`) how many items it has."""
    copies: Copies = 1
    """With `ordered` targets: this many tasks with ids `id, id+1, ...`, one for each target in turn, sharing payload
    and frames."""
    needs: tuple[TaskNo, ...] = ()
    """Tasks whose values are among its arguments and still to come, each once; what the client has of them, and all of
    the others, is in the payload: see `given`."""
    objects: tuple[ObjectInfo, ...] = ()
    """The objects among its arguments, each once; also that which the payload refers to, and those of the results that
    it was given."""


class Call(msgspec.Struct, array_like=True, gc=False):
    """One call, as an engine is told to run it."""

    id: int
    function: bytes
    payload: bytes
    frames: Count = 0
    lo: Count = 0
    hi: Count = 0
    """For a divisible task: run items `lo <= i < hi` only. Both 0 for a plain call."""
    fixed: bool = False
    """Addressed to this engine: never given back unasked."""
    announce: bool = False
    """Send `Started` when it starts (it has a time limit, or somebody wants to know)."""
    keep: bool = False
    """As `Options.keep`."""


class Result(msgspec.Struct, array_like=True, gc=False):
    """What became of a task, or of a run of items of a divisible one."""

    id: int
    status: int
    payload: bytes
    frames: Count = 0
    engine: int = -1
    started: float = 0.0
    """Seconds since the epoch, by the engine's clock; 0 if it never started."""
    duration: float = 0.0
    """Seconds of run time."""
    outputs: int = 0
    """How many output records of this task precede this result."""
    lo: int = 0
    hi: int = 0
    """For a divisible task: these items (`lo <= i < hi`), counted in the task as its client submitted it."""
    objects: tuple[ObjectInfo, ...] = ()
    """The object that the payload refers to, if it does."""


Part = tuple[Result, "Sequence[Any]"]
"""A result (of a task, or of some of its items) and its frames."""


def with_frames(results: Iterable[Result], frames: Sequence[Any]) -> list[Part]:
    """Return each result with its frames, which come in the same order."""
    found: list[Part] = []
    at = 0
    for result in results:
        found.append((result, frames[at : at + result.frames] if result.frames else ()))
        at += result.frames
    return found


class Output(msgspec.Struct, array_like=True, gc=False):
    """Something a task printed or displayed."""

    task: int
    kind: str
    """`stdout`, `stderr`, or a kind of rich output (`display`, `result`, ...)."""
    data: Any
    """Text for streams; a MessagePack value for rich output."""
    engine: int = -1
    lo: int = 0
    """For an item of a divisible task: the item."""


class EngineInfo(msgspec.Struct, array_like=True, frozen=True):
    """One engine, as clients see it."""

    id: int
    incarnation: int
    state: str
    """`starting`, `ready` or `dead` (a dead one is shown once, then left out)."""
    pid: int = 0
    host: str = ""
