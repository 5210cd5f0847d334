"""What the controller knows of a task, a client, an engine and a nanny. Plain records: no behaviour but arithmetic."""

from __future__ import annotations

from collections import deque
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..ids import ClientNo, EngineId, Incarnation, Peer, control_peer, engine_peer
from ..streams import Incoming, Outgoing
from ..wire.messages import EngineInfo, ObjectInfo, Options, Output, Result, Source
from ..wire.parts import is_coroutine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.messages import EngineHello
    from .asking import Question
    from .unheard import Unheard


class TaskState(IntEnum):
    """Where a task is.

    WAITING -> ASSIGNED -> ENDED, back from ASSIGNED to WAITING when it is given back or tried again, and from WAITING
    to ENDED when it is withdrawn. One that depends on others is BLOCKED before all that, and so is one that has to keep
    its place behind such a one; from there it may end, too.
    """

    WAITING = 0
    ASSIGNED = 1
    ENDED = 2
    BLOCKED = 3


class Unmet(NamedTuple):
    """Engines on which what a task needs is not there."""

    engines: frozenset[tuple[int, int]]
    """Engine and incarnation each."""
    sentence: str
    """What the last of them said."""


class Task(msgspec.Struct, gc=False):
    """One call, or one piece of a divisible call: the unit that is queued, assigned and taken back.

    Not tracked by the garbage collector: a million of them may wait, and none is ever part of a cycle.
    """

    id: int
    client: int
    function: bytes
    payload: bytes
    options: Options
    frames: Sequence[Any] = ()
    root: int = 0
    """The id its client knows it by; differs from `id` for a piece that was split off."""
    lo: int = 0
    hi: int = 0
    """The items `lo <= i < hi` still to be reported here; both 0 for a plain call. `lo` rises as results come."""
    state: int = TaskState.WAITING
    engine: int = -1
    attempt: int = 0
    """How many attempts have failed."""
    cost_s: float = 0.0
    """What it is charged for in its engine's load."""
    order: int = 0
    """Its place among all that its engine was given, which is the order in which the engine runs them."""
    early: list[tuple[int, int]] | None = None
    """Runs of items reported ahead of `lo`."""
    deaths: list[str] | None = None
    """The engines that ended while they ran it: `engine 2 (killed by signal 11 (SIGSEGV))`. Replaced, never changed."""
    unmet: Unmet | None = None
    """Where what it needs is not there, if it was sent on for that."""
    weight: int = 0
    """How many bytes it has here, if that is not just its payload: see `memory`."""
    objects: tuple[ObjectInfo, ...] = ()
    """The objects among its arguments, each once."""
    home: Peer = Peer(b"")
    """The nanny of the host that has most of them, at which it waits (`homes`); empty for any other task."""

    @property
    def is_coroutine(self) -> bool:
        """Whether it is one of several that an engine may run at once."""
        return is_coroutine(self.function, self.hi)


class Client:
    """A client, present or away."""

    __slots__ = (
        "acked",
        "away_since",
        "cancel_on_exit",
        "digests",
        "ended",
        "frames",
        "held_bytes",
        "host",
        "incoming",
        "is_engine",
        "name",
        "no",
        "outgoing",
        "outputs",
        "owes_ack",
        "patience_s",
        "peer",
        "pid",
        "purged",
        "results",
        "unacked",
        "unfinished",
        "unheard",
        "used_s",
    )

    def __init__(self, no: ClientNo, peer: Peer, name: str, pid: int, host: str) -> None:
        self.no = no
        self.peer = peer
        self.name = name
        self.pid = pid
        self.host = host
        self.away_since: float | None = None
        self.ended = False
        """Its process has ended, as the nanny of its host says: it will hold no object any more."""
        self.cancel_on_exit = False
        self.patience_s: float | None = None
        """How long it may be away before its tasks are cancelled, if it says."""
        self.incoming = Incoming()
        self.acked = 0
        """What it was told that we have."""
        self.owes_ack = False
        """It keeps much until it is told that we have it."""
        self.outgoing = Outgoing()
        self.purged: set[int] = set()
        """Tasks whose results it has not confirmed, and which nobody is to have who asks for them by id."""
        self.unheard: Unheard | None = None
        """Finds results in that, once somebody has asked for some."""
        self.used_s = 0.0
        """Engine time given to it, as the fair queue counts it."""
        self.unfinished = 0
        self.held_bytes = 0
        """What its tasks have here besides their places in the books."""
        self.unacked = 0
        """It has sent so much since it was last told that we have it."""
        self.is_engine = False
        """It is in the process of an engine."""
        self.digests: set[bytes] = set()
        """Functions it may name without sending them again."""
        self.outputs: list[Output] = []
        self.results: list[Result] = []
        self.frames: list[Any] = []
        """What the next message to it will carry."""


class Setup(NamedTuple):
    """A call that every engine has run before anything else."""

    no: int
    """Its number in the journal; the order is that of the list."""
    name: str
    payload: bytes
    """The arguments of `!setup`: what tells it from others."""
    objects: tuple[ObjectInfo, ...] = ()
    """The objects among these."""


class EngineState(StrEnum):
    """Life of an engine id. `DYING`: its process has ended, messages it sent before may still be on their way."""

    STARTING = "starting"
    READY = "ready"
    AWAY = "away"
    """Its connection was broken, or we were: it is given nothing until it has said what it has."""
    DYING = "dying"
    FAILED = "failed"
    """Given up: its process ended before it was ready, again and again."""


class Engine:
    """An engine id and its present incarnation."""

    __slots__ = (
        "acked",
        "asked_at",
        "assigned",
        "begun",
        "control",
        "coroutines",
        "direct",
        "dismissed",
        "failures",
        "finished",
        "given",
        "has_control",
        "held",
        "hello",
        "host",
        "id",
        "in_setup",
        "incarnation",
        "incoming",
        "key",
        "killed",
        "known",
        "load_s",
        "nanny",
        "owes_ack",
        "peer",
        "pid",
        "pinned",
        "questions",
        "reason",
        "retiring",
        "session",
        "setup_failures",
        "state",
        "taking",
        "threads",
        "version",
        "withdrawals",
    )

    def __init__(self, engine: EngineId, nanny: Peer, host: str, last: int = 0) -> None:
        """Begin after the `last` incarnation that this id has had."""
        self.id = engine
        self.nanny = nanny
        self.host = host
        self.direct: deque[Task] = deque()
        """Tasks addressed to this engine that wait here, in order."""
        self.failures = 0
        """Processes in a row that ended before they were ready."""
        self.retiring = False
        """To be stopped as soon as it has nothing to do, and not to be replaced."""
        self.incarnation = Incarnation(last)
        self.version = last << 32
        """Rises with every change; never again what it was, also when the id has gone and come again."""
        self.renew()

    def renew(self) -> None:
        """Begin the next incarnation, which knows nothing and has nothing."""
        self.incarnation = Incarnation(self.incarnation + 1)
        self.key = (int(self.id), int(self.incarnation))
        """Which process it is: engine and incarnation."""
        self.state = EngineState.STARTING
        self.pid = 0
        self.peer = engine_peer(self.id, self.incarnation)
        self.control = control_peer(self.id, self.incarnation)
        self.has_control = False
        """Its control socket has been heard of."""
        self.hello: EngineHello | None = None
        """What it said when that had not been."""
        self.known: set[bytes] = set()
        self.assigned: dict[int, Task] = {}
        """In the order in which the engine begins them."""
        self.coroutines = 0
        """How many of these are coroutines."""
        self.pinned: dict[int, Task] = {}
        """Those of a pool of which not only targets say who may run them (`pools`)."""
        self.held: dict[str, float] = {}
        """What these take of the resources of the host."""
        self.threads = 0
        """How many threads numerical libraries are to have there, as it says; 0: that is theirs to decide."""
        self.incoming = Incoming()
        self.acked = 0
        """What it was told that we have."""
        self.session = 0
        """Of the last welcome that asked what it holds."""
        self.owes_ack = False
        """It keeps much until it is told that we have it."""
        self.killed = False
        """Its nanny was told to kill it."""
        self.given = 0
        """How many tasks it was given."""
        self.begun = 0
        """The `order` of the latest task of which a result has come: all before that one have begun,
        and have run if they are not coroutines."""
        self.finished = 0
        """How many tasks, or pieces of such, have ended there."""
        self.load_s = 0.0
        self.taking = 0
        """Number of the unanswered request to give back unstarted work; 0 for none."""
        self.asked_at: float | None = None
        """Since when it has not answered a request to give something back."""
        self.withdrawals: dict[int, list[int]] = {}
        """Unanswered requests to give back tasks by name, in order to stop them."""
        self.questions: dict[int, Question] = {}
        """Of clients, passed on and not answered."""
        self.in_setup = False
        """It may have set-up to run."""
        self.setup_failures: dict[bytes, str] = {}
        """Set-up that has failed there, by its payload: its name and the error."""
        self.reason = ""
        """Why we ended it, if we did."""
        self.dismissed = False
        """It was told to exit."""
        self.version += 1

    @property
    def plain(self) -> int:
        """How many tasks it was given that keep it to themselves."""
        return len(self.assigned) - self.coroutines

    def find_running(self) -> Task | None:
        """Return the first of these: the running one, if any runs."""
        for task in self.assigned.values():
            if not task.is_coroutine:
                return task
        return None

    @property
    def is_laden(self) -> bool:
        """Whether it has something to do besides what it runs: something given after the first task that is not a
        coroutine (coroutines before that have begun), or items of that beyond the one that may be running.
        """
        running = self.find_running()
        if running is None:
            return False
        return running.hi - running.lo > 1 or next(reversed(self.assigned.values())) is not running

    @property
    def is_running(self) -> bool:
        """Whether its process is there and may run tasks, as far as we know."""
        return self.state in (EngineState.READY, EngineState.AWAY)

    def info(self) -> EngineInfo:
        """Return what clients are told."""
        state = self.state if self.state in (EngineState.STARTING, EngineState.READY, EngineState.AWAY) else "dead"
        return EngineInfo(self.id, self.incarnation, str(state), self.pid, self.host)

    def __repr__(self) -> str:
        return f"<Engine {self.id}.{self.incarnation} {self.state}: {len(self.assigned)} assigned, {self.load_s:.3f} s>"


class Nanny:
    """A host agent and the engine ids that live on its host."""

    __slots__ = (
        "asked",
        "away_since",
        "cores",
        "engines",
        "head",
        "host",
        "peer",
        "pid",
        "resources",
        "session",
        "stock",
        "store",
        "wanted",
    )

    def __init__(self, peer: Peer, host: str, pid: int, cores: int, *, head: bool) -> None:
        self.peer = peer
        self.host = host
        self.pid = pid
        self.cores = cores
        self.head = head
        self.resources: dict[str, float] = {}
        """What the host offers, by name."""
        self.store: Source | None = None
        """Where its objects are, if it has a store."""
        self.session = 0
        """Of the last welcome that asked what it runs."""
        self.asked: set[tuple[int, int]] = set()
        """The engine processes that were its own by then."""
        self.stock: set[bytes] = set()
        """The objects that its store had by then."""
        self.wanted: int | None = None
        """So many engines are to be started there as soon as it has said what it runs."""
        self.away_since: float | None = None
        self.engines: set[EngineId] = set()
