"""Every message of the system, declared once.

A message on the wire is multipart: one MessagePack header, then buffers (*frames*). The header is an array whose first
item names the message; the rest are the fields in the order given here. Frames belong, in order, to those items of the
header that say how many they have (`frames`). The controller never opens a payload or a frame.

A request is an imperative (`Submit`, `Run`), a fact a past form (`Done`, `EngineExited`).

**Numbers.** Messages that must not be lost (`Numbered`) are numbered by their sender, from 1 without a gap on each way,
and kept by it until the receiver has said that it has them (`ack`, `Ack`, `have`). When a connection breaks, or the
controller was restarted, the peer says its hello again, each side says up to which number it has heard, and what is
missing is sent again. A number heard before is dropped; after a gap everything numbered is, until the hello.

Change anything here and raise `VERSION`: peers of different versions refuse each other at hello, with a sentence.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .archive import Fetch, Fetched, Find, Found, Purge, Queried, Query, Recall, Recalled, TaskInfo
from .asking import Answer, Ask, AskEngine
from .death import DeathCertificate
from .fleet import ClearSetup, QueueQuery, Restart, Retire, Scale, Shutdown, Signal, StatusQuery, WaitEngines
from .hosts import EngineExited, NannyHello, NannyWelcome, Running, StartEngines, StopEngine
from .objects import (
    Drop,
    Lacking,
    Need,
    ObjectId,
    ObjectInfo,
    ObjectsQuery,
    Pull,
    Pulled,
    Source,
    StoreLeft,
    StoreQuery,
    StoreSeen,
    Unpulled,
    Vanished,
)
from .parts import (
    Call,
    Count,
    Dependency,
    EngineInfo,
    Function,
    Options,
    Outcome,
    Output,
    Result,
    Status,
    Task,
)

__all__ = [  # of what is declared beside this file: users look here
    "Answer",
    "Ask",
    "AskEngine",
    "Call",
    "ClearSetup",
    "DeathCertificate",
    "Dependency",
    "Drop",
    "EngineExited",
    "EngineInfo",
    "Fetch",
    "Fetched",
    "Find",
    "Found",
    "Function",
    "Lacking",
    "NannyHello",
    "NannyWelcome",
    "Need",
    "ObjectInfo",
    "ObjectsQuery",
    "Options",
    "Outcome",
    "Output",
    "Pull",
    "Pulled",
    "Purge",
    "Queried",
    "Query",
    "QueueQuery",
    "Recall",
    "Recalled",
    "Restart",
    "Result",
    "Retire",
    "Running",
    "Scale",
    "Shutdown",
    "Signal",
    "Source",
    "StartEngines",
    "Status",
    "StatusQuery",
    "StopEngine",
    "StoreLeft",
    "StoreQuery",
    "StoreSeen",
    "Task",
    "TaskInfo",
    "Unpulled",
    "Vanished",
    "WaitEngines",
]

VERSION = 5


class Numbered(msgspec.Struct, array_like=True, kw_only=True):
    """A message that is kept until its receiver has it."""

    seq: Count = 0
    """Its number on its way from sender to receiver; 0 for none: then it may be lost."""


# ----------------------------------------------------------------------------------------------- client -> controller


class ClientHello(msgspec.Struct, array_like=True, tag=True):
    """First message of a client, and said again when its connection was broken; answered by `Welcome` or `Refused`."""

    version: int
    name: str = ""
    pid: int = 0
    host: str = ""
    have: Count = 0
    """Number of the last `Results` or `Outputs` it has."""
    welcomed: bool = False
    """It was welcomed before: a controller that does not know it has lost its tasks."""
    cancel_on_exit: bool = False
    """Should it vanish, its tasks are to be cancelled."""
    patience_s: float | None = None
    """With `cancel_on_exit`: when it has been away for so long; None: as long as the controller thinks fit."""


class Submit(Numbered, array_like=True, tag=True):
    """Run these tasks. Functions are those the controller does not have from this client yet."""

    functions: list[Function]
    options: list[Options]
    tasks: list[Task]


class Forget(Numbered, array_like=True, tag=True):
    """These functions will not be named again without being sent again (client to controller, controller to engine)."""

    digests: list[bytes]


class Put(Numbered, array_like=True, tag=True):
    """I have made these objects, and hold each by a handle. Said before any task that needs them."""

    objects: list[ObjectInfo]


class Release(Numbered, array_like=True, tag=True):
    """I let go of these: a handle each, as often as they are named. A client has one for each time that it was sent an
    object, in a `Result`, or has `Put` it.
    """

    objects: list[ObjectId]


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
    after: Count = 0
    """Number of the last `Numbered` message said before. If that has not come, this means nothing yet: the tasks may be
    in it. It is asked again, after what is missing."""


class Goodbye(msgspec.Struct, array_like=True, tag=True):
    """The sender leaves; nothing need be sent to it any more. A client's unfinished tasks go on unless `cancel`."""

    cancel: bool = False


class Ping(msgspec.Struct, array_like=True, tag=True):
    """Are you there? Answered by `Pong`. Said by any peer that has heard nothing for a while."""


class Ack(msgspec.Struct, array_like=True, tag=True):
    """Everything up to that number has come (and, if the controller says so, will survive its death)."""

    have: Count


# ----------------------------------------------------------------------------------------------- controller -> client


class Welcome(msgspec.Struct, array_like=True, tag=True):
    """The hello is accepted (to a client)."""

    client: int
    """The client's number: its task ids begin at `ids.first_task_id(client)`."""
    cluster: str
    controller_pid: int
    engines: list[EngineInfo]
    have: Count = 0
    """Number of the last numbered message that has come from the client."""
    durable: bool = False
    """There is a journal: should the controller die, another takes over."""
    store: Source | None = None
    """The store of the head host, for a client that is on another and has none."""
    room: Count = 0
    """How many bytes the client may have said that the controller has not confirmed, before whoever submits waits; 0:
    as many as it likes."""
    hold: bool = False
    """As in `Hold`."""


class Hold(msgspec.Struct, array_like=True, tag=True):
    """Memory is short here: whoever submits tasks to you is to wait (`on`), or need not any more. What you have said,
    and what cannot wait, is taken all the same.
    """

    on: bool


class Resume(msgspec.Struct, array_like=True, tag=True):
    """To any peer: say your hello again, something between us was lost."""


class Results(Numbered, array_like=True, tag=True):
    """Tasks that ended (controller to client); frames in order of the results."""

    results: list[Result]
    ack: Count = 0
    """As `Ack.have`, to the client."""


class Outputs(Numbered, array_like=True, tag=True):
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
    """First message on an engine's task socket, said again when one of its connections was broken; answered by
    `EngineWelcome` or `Refused`.
    """

    version: int
    engine: int
    incarnation: int
    pid: int
    host: str = ""
    threads: int = 0
    """How many threads numerical libraries are to have there; 0: nobody says."""


class ControlHello(msgspec.Struct, array_like=True, tag=True):
    """First message on an engine's control socket, sent before `EngineHello`; not answered."""

    engine: int
    incarnation: int


class EngineWelcome(msgspec.Struct, array_like=True, tag=True):
    """The engine may expect work."""

    have: Count = 0
    """Number of the last numbered message that has come from the engine."""
    session: int = 0
    """The engine may have been given something: it is to send again what is missing, then `Holding` with this number.
    0: it is fresh and holds nothing."""


class Holding(msgspec.Struct, array_like=True, tag=True):
    """What an engine has to do, on its task socket, after all results of what it has done: the truth, by which the
    controller corrects its books. What it does not name, and has sent no result of, it never got or has given back.
    """

    session: int
    """That of the welcome it answers: what was said to another controller, or before another break, is void."""
    calls: list[int]
    """Not started, in order."""
    running: int | None = None
    """The call that runs."""
    hi: int = -1
    """For a call of items: it goes on to there only; -1: as far as it was told."""
    elapsed_s: float = 0.0
    """Since when it runs."""
    functions: list[bytes] = []
    """Digests of the functions it has."""
    coroutines: list[tuple[int, float]] = []
    """The coroutine tasks that were begun and have not ended, and since how many seconds they run."""


class Run(msgspec.Struct, array_like=True, tag=True):
    """Run these calls in order, after those you have. Functions are those the engine has not been given yet."""

    functions: list[Function]
    calls: list[Call]
    ack: Count = 0
    """As `Ack.have`, to the engine."""


class Done(Numbered, array_like=True, tag=True):
    """Calls, or runs of items, that ended (engine to controller, on its task socket).

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
    session: int = 0
    """The last one in which the engine has told what it holds: what it gave back before is accounted for by that."""


class Interrupt(msgspec.Struct, array_like=True, tag=True):
    """To an engine's control socket: raise KeyboardInterrupt in this task if it runs now; else do nothing."""

    task: int


class Exit(msgspec.Struct, array_like=True, tag=True):
    """To an engine's control socket, or to a nanny: end now."""


FromClient = (
    ClientHello
    | Submit
    | Forget
    | Put
    | Release
    | ObjectsQuery
    | Cancel
    | Scale
    | Restart
    | Retire
    | Signal
    | Shutdown
    | StatusQuery
    | WaitEngines
    | ClearSetup
    | AskEngine
    | Find
    | Fetch
    | Purge
    | Query
    | Recall
    | QueueQuery
    | Goodbye
    | Ping
    | Ack
)
FromEngine = EngineHello | ControlHello | Holding | Done | Started | Outputs | GivenBack | Answer | Goodbye | Ping
FromNanny = (
    NannyHello
    | Running
    | EngineExited
    | Need
    | Pulled
    | Unpulled
    | Vanished
    | StoreLeft
    | StoreSeen
    | Shutdown
    | Goodbye
    | Ping
)
ToController = FromClient | FromEngine | FromNanny
ToClient = (
    Welcome
    | Hold
    | Results
    | Outputs
    | Ack
    | Engines
    | Reply
    | Found
    | Fetched
    | Queried
    | Recalled
    | Resume
    | Refused
    | Pong
    | Farewell
)
ToEngine = EngineWelcome | Run | Forget | Ack | TakeBack | Interrupt | Ask | Exit | Resume | Refused | Pong | Farewell
ToNanny = (
    NannyWelcome
    | StartEngines
    | StopEngine
    | Drop
    | Pull
    | Lacking
    | StoreQuery
    | Exit
    | Resume
    | Refused
    | Pong
    | Farewell
)
ToPeer = ToClient | ToEngine | ToNanny
