"""Every message of the system, declared once.

A message on the wire is multipart: one MessagePack header, then buffers (*frames*). The header is an array whose first
item names the message; the rest are the fields in the order given here. Frames belong, in order, to those items of the
header that say how many they have (`frames`). The controller never opens a payload or a frame.

A request is an imperative (`Submit`, `Run`), a fact a past form (`Done`, `EngineExited`).

Change anything here and raise `VERSION`: peers of different versions refuse each other at hello, with a sentence.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

import msgspec

from .death import DeathCertificate as DeathCertificate  # noqa: PLC0414, TC001 - for whoever imports it from here

Count = Annotated[int, msgspec.Meta(ge=0)]

VERSION = 1


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


# --------------------------------------------------------------------------------------------------------- parts


class Function(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A pickled function and its name, the digest of the pickle.

    A digest that starts with `!` names an operation built into the engine and is never accompanied by a pickle.
    """

    digest: bytes
    pickled: bytes


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


class Task(msgspec.Struct, array_like=True, gc=False):
    """One call, as its client submits it."""

    id: int
    function: bytes
    payload: bytes
    """The pickled arguments `(args, kwargs)`; for a divisible task, the pickled list of its items' argument tuples."""
    frames: Count = 0
    """How many frames of the message hold this task's out-of-band buffers."""
    options: Count = 0
    """Index into `Submit.options`."""
    items: Count = 0
    """0 for a plain call; for a divisible task (a batch of `map`) how many items it has."""
    copies: Count = 1
    """With `ordered` targets: this many tasks with ids `id, id+1, ...`, one for each target in turn, sharing payload
    and frames."""


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


# ----------------------------------------------------------------------------------------------- client -> controller


class ClientHello(msgspec.Struct, array_like=True, tag=True):
    """First message of a client; answered by `Welcome` or `Refused`."""

    version: int
    name: str = ""
    pid: int = 0
    host: str = ""


class Submit(msgspec.Struct, array_like=True, tag=True):
    """Run these tasks. Functions are those the controller does not have from this client yet."""

    functions: list[Function]
    options: list[Options]
    tasks: list[Task]


class Forget(msgspec.Struct, array_like=True, tag=True):
    """These functions will not be named again without being sent again (client to controller, controller to engine)."""

    digests: list[bytes]


class Cancel(msgspec.Struct, array_like=True, tag=True):
    """Stop these tasks. Answered by a `Reply` with the list of those that can no longer run because of this request,
    sent when that is true of all of them; the tasks themselves end with a `Result` as always.

    A running task is interrupted; if it has not ended `grace_s` later, its engine is killed and replaced. With
    `grace_s` None the engine is never killed and the reply may leave the task out.
    """

    request: int
    tasks: list[int]
    grace_s: float | None = None
    interrupt: bool = True
    """False: withdraw what has not started, leave running tasks alone."""


class Scale(msgspec.Struct, array_like=True, tag=True):
    """Have n engines. Answered when the ones to start answer and the ones to stop are gone."""

    request: int
    n: int


class Restart(msgspec.Struct, array_like=True, tag=True):
    """Replace these engines (all: None) by fresh ones under the same ids. Answered when they answer."""

    request: int
    engines: list[int] | None = None


class Signal(msgspec.Struct, array_like=True, tag=True):
    """Send a signal to engine processes (all: None). Answered when it is passed on to their nannies."""

    request: int
    signal: int
    engines: list[int] | None = None


class Shutdown(msgspec.Struct, array_like=True, tag=True):
    """Stop the whole cluster. Answered before the controller ends (from a client), or asked by the head nanny."""

    request: int = 0


class StatusQuery(msgspec.Struct, array_like=True, tag=True):
    """How is the cluster? Answered by a `Reply` whose value is a `ClusterStatus` as a map."""

    request: int


class WaitEngines(msgspec.Struct, array_like=True, tag=True):
    """Answer when at least n engines are ready (None: all that the cluster is to have); an error if that cannot be."""

    request: int
    n: int | None = None


class Goodbye(msgspec.Struct, array_like=True, tag=True):
    """The sender leaves; nothing need be sent to it any more. A client's unfinished tasks go on unless `cancel`."""

    cancel: bool = False


class Ping(msgspec.Struct, array_like=True, tag=True):
    """Are you there? Answered by `Pong`. Said by any peer that has heard nothing for a while."""


# ----------------------------------------------------------------------------------------------- controller -> client


class Welcome(msgspec.Struct, array_like=True, tag=True):
    """The hello is accepted (to a client)."""

    client: int
    """The client's number: its task ids begin at `ids.first_task_id(client)`."""
    cluster: str
    controller_pid: int
    engines: list[EngineInfo]


class Results(msgspec.Struct, array_like=True, tag=True):
    """Tasks that ended (controller to client); frames in order of the results."""

    results: list[Result]


class Outputs(msgspec.Struct, array_like=True, tag=True):
    """Output of tasks (engine to controller to client); arrives before the result that counts it."""

    records: list[Output]


class Engines(msgspec.Struct, array_like=True, tag=True):
    """Engines whose state changed."""

    engines: list[EngineInfo]


class Reply(msgspec.Struct, array_like=True, tag=True):
    """The answer to the request of that number: a value, or an error in one sentence."""

    request: int
    value: Any = None
    error: str | None = None


class Refused(msgspec.Struct, array_like=True, tag=True):
    """The hello, or a malformed message, is refused, with the reason; a refused hello need not be tried again."""

    reason: str


class Pong(msgspec.Struct, array_like=True, tag=True):
    """Yes."""


class Farewell(msgspec.Struct, array_like=True, tag=True):
    """The controller stops, with the reason; nothing more will come."""

    reason: str = "the cluster was stopped"


# ----------------------------------------------------------------------------------------------- controller <-> engine


class EngineHello(msgspec.Struct, array_like=True, tag=True):
    """First message on an engine's task socket; answered by `EngineWelcome` or `Refused`."""

    version: int
    engine: int
    incarnation: int
    pid: int
    host: str = ""


class ControlHello(msgspec.Struct, array_like=True, tag=True):
    """First message on an engine's control socket, sent before `EngineHello`; not answered."""

    engine: int
    incarnation: int


class EngineWelcome(msgspec.Struct, array_like=True, tag=True):
    """The engine may expect work."""


class Run(msgspec.Struct, array_like=True, tag=True):
    """Run these calls in order, after those you have. Functions are those the engine has not been given yet."""

    functions: list[Function]
    calls: list[Call]


class Done(msgspec.Struct, array_like=True, tag=True):
    """Calls, or runs of items, that ended (engine to controller, on either socket).

    For a call with items, `lo` and `hi` count as in the `Call`. A call of items is over when results for all the items
    it still holds have come.
    """

    results: list[Result]


class Started(msgspec.Struct, array_like=True, tag=True):
    """An announced call starts now."""

    task: int


class TakeBack(msgspec.Struct, array_like=True, tag=True):
    """To an engine's control socket: give back unstarted work.

    With `tasks`: those named, as far as they have not started; of a named call of items that runs, the items that have
    not. Without: about half of what you hold unstarted, the last first; the running call may give up its tail too.
    Calls marked `fixed` are only given back by name.
    """

    request: int
    tasks: list[int] | None = None


class GivenBack(msgspec.Struct, array_like=True, tag=True):
    """The answer to `TakeBack` (possibly empty), on the control socket.

    `calls` were not started and will not be. `tails` are `(task, new_hi)`: the running call of items goes on to
    `new_hi` only; the items from there to its former end will not be run.
    """

    request: int
    calls: list[int]
    tails: list[tuple[int, int]]


class Interrupt(msgspec.Struct, array_like=True, tag=True):
    """To an engine's control socket: raise KeyboardInterrupt in this task if it runs now; else do nothing."""

    task: int


class Exit(msgspec.Struct, array_like=True, tag=True):
    """To an engine's control socket, or to a nanny: end now."""


# ----------------------------------------------------------------------------------------------- controller <-> nanny


class NannyHello(msgspec.Struct, array_like=True, tag=True):
    """First message of a nanny; answered by `NannyWelcome` or `Refused`."""

    version: int
    host: str
    pid: int
    cores: int
    engines: int
    """How many engines it was started for; the controller says which ids they get."""
    head: bool = False
    """It started this controller."""


class NannyWelcome(msgspec.Struct, array_like=True, tag=True):
    """The nanny is one of the cluster's."""


class StartEngines(msgspec.Struct, array_like=True, tag=True):
    """Start engine processes: `(engine, incarnation)` each."""

    engines: list[tuple[int, int]]


class StopEngine(msgspec.Struct, array_like=True, tag=True):
    """Send a signal to one engine process (SIGKILL ends it for sure). Answered by `EngineExited` if it ends."""

    engine: int
    incarnation: int
    signal: int


class EngineExited(msgspec.Struct, array_like=True, tag=True):
    """An engine process has ended (or could not be started: `pid` 0 and a reason)."""

    certificate: DeathCertificate


FromClient = (
    ClientHello
    | Submit
    | Forget
    | Cancel
    | Scale
    | Restart
    | Signal
    | Shutdown
    | StatusQuery
    | WaitEngines
    | Goodbye
    | Ping
)
FromEngine = EngineHello | ControlHello | Done | Started | Outputs | GivenBack | Goodbye | Ping
FromNanny = NannyHello | EngineExited | Shutdown | Goodbye | Ping
ToController = (
    ClientHello
    | Submit
    | Forget
    | Cancel
    | Scale
    | Restart
    | Signal
    | Shutdown
    | StatusQuery
    | WaitEngines
    | Goodbye
    | Ping
    | EngineHello
    | ControlHello
    | Done
    | Started
    | Outputs
    | GivenBack
    | NannyHello
    | EngineExited
)
ToClient = Welcome | Results | Outputs | Engines | Reply | Refused | Pong | Farewell
ToEngine = EngineWelcome | Run | Forget | TakeBack | Interrupt | Exit | Refused | Pong | Farewell
ToNanny = NannyWelcome | StartEngines | StopEngine | Exit | Refused | Pong | Farewell
ToPeer = (
    Welcome
    | Results
    | Outputs
    | Engines
    | Reply
    | Refused
    | Pong
    | Farewell
    | EngineWelcome
    | Run
    | Forget
    | TakeBack
    | Interrupt
    | Exit
    | NannyWelcome
    | StartEngines
    | StopEngine
)
