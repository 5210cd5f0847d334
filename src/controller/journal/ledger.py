"""What is written down so that the next controller can go on: the entries that a turn hands to the journal.

They are committed, all of a turn at once, before any message of that turn leaves. `store` keeps them, `restore` makes
the books from them. What is not here is forgotten when the controller dies: who waits for what (clients ask again),
how long functions take (it is learned again), and what engines and nannies have to say themselves (they are asked).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...ids import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...wire.messages import Fetch, Find, Numbered, Purge, Query, Recall, Submit
    from ...wire.parts import Part


LOST_PAYLOAD = b"\xc1 too large for the journal"
"""Stands in the records for arguments that were too large: no pickle begins so."""

TOO_LARGE = "its arguments were too large for the journal, and the controller that had them has died"
"""What there is to say of a task with such arguments, when it would have to be given to an engine."""


class Submitted(NamedTuple):
    """A client's message with tasks."""

    client: int
    message: Submit
    frames: Sequence[Any]


class Delivered(NamedTuple):
    """A message with results or output for a client; number 0 if the client is gone."""

    client: int
    message: Numbered
    frames: Sequence[Any] = ()


class Heard(NamedTuple):
    """All numbered messages of a peer up to this one have been taken; 0: it is another peer from now on, or gone."""

    peer: bytes
    have: int


class Acked(NamedTuple):
    """A client has all numbered messages up to this one."""

    client: int
    have: int


class Assigned(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Tasks were given to an engine, which runs them in this order after those it has."""

    engine: int
    tasks: list[int]


class Returned(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Assigned tasks wait again, as they are."""

    tasks: list[int]


class Piece(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """A task with this id waits. From now on these items of the root are its own and nobody else's (of a plain call:
    it takes the place of all others of the root).
    """

    id: int
    root: int
    lo: int
    hi: int
    attempt: int


class Whole(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """All there is left of a root: these pieces, each with its reported runs of items ahead of `lo`."""

    root: int
    pieces: list[tuple[int, int, int, int, list[tuple[int, int]]]]
    """`(id, lo, hi, attempt, early)`"""


class Stopped(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Assigned tasks are to be stopped: they end with this status, if they end by it."""

    tasks: list[int]
    status: int
    sentence: str
    grace_s: float | None
    interrupt: bool


class SetupCall(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """A task of the controller's own, with this id, waits for an engine, whose set-up of that number it is."""

    id: int
    setup: int
    engine: int


class Killed(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """A task was running in these engines when they ended."""

    task: int
    engines: list[str]


class Lacked(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """A task was sent on by these engines (with incarnation): what it needs is not there, as the last of them said."""

    task: int
    engines: list[tuple[int, int]]
    sentence: str


Move = Assigned | Returned | Piece | Whole | Stopped | SetupCall | Killed | Lacked
"""What happens to tasks between submission and end. Their order matters, among themselves only."""


def size_of(move: Move) -> int:
    """Return of how many tasks a move speaks."""
    match move:
        case Assigned(tasks=tasks) | Returned(tasks=tasks):
            return len(tasks)
        case Whole(pieces=pieces):
            return len(pieces)
    return 1


class ClientCame(NamedTuple):
    """A client has a number."""

    no: int
    peer: bytes
    name: str
    pid: int
    host: str
    cancel_on_exit: bool
    patience_s: float | None = None


class ClientLeft(NamedTuple):
    """A client will not come back."""

    no: int


class ClientEnded(NamedTuple):
    """The process of a client has ended, or not after all: whether it will hold objects."""

    no: int
    ended: bool = True


class ObjectIs(NamedTuple):
    """An object is held so now. Of tasks that hold it these tell themselves, and so does set-up."""

    id: bytes
    nbytes: int
    stores: list[bytes]
    """Those that have it."""
    handles: list[tuple[int, int]]
    """Clients, and how many each has."""
    kept: list[int]
    """The tasks whose results are kept."""


class ObjectGone(NamedTuple):
    """An object was dropped. That is remembered for a while: its stores may not have heard of it."""

    id: bytes


class EngineIs(NamedTuple):
    """An engine has this state now."""

    id: int
    incarnation: int
    nanny: bytes
    host: str
    pid: int
    state: str
    failures: int
    retiring: bool
    reason: str


class EngineGone(NamedTuple):
    """There is no engine of that id any more. Should there be one again, it goes on counting incarnations."""

    id: int
    incarnation: int


class NannyIs(NamedTuple):
    """A host's nanny is one of ours."""

    peer: bytes
    host: str
    pid: int
    cores: int
    head: bool
    resources: bytes = b"\x80"
    """What the host offers: a MessagePack map."""
    store: bytes = b"\xc0"
    """Where its store is: a `Source`, or nil."""


class NannyGone(NamedTuple):
    """A host is lost, or left."""

    peer: bytes


class FunctionCame(NamedTuple):
    """A client may name a function from now on; the pickle is empty if it has been written before."""

    digest: bytes
    owner: int
    pickled: bytes


class FunctionLeft(NamedTuple):
    """A client will not name a function any more; owner 0: nobody will."""

    digest: bytes
    owner: int


class SetupCame(NamedTuple):
    """Every engine is to have this set-up, after that of lower numbers."""

    no: int
    name: str
    payload: bytes
    objects: bytes = b"\x90"
    """The objects among its arguments: a MessagePack list of `ObjectInfo`."""


class SetupsCleared(NamedTuple):
    """No set-up is to be had any more."""


Entry = (
    Submitted
    | Delivered
    | Heard
    | Acked
    | Assigned
    | Returned
    | Piece
    | Whole
    | Stopped
    | SetupCall
    | Killed
    | Lacked
    | ClientCame
    | ClientLeft
    | ClientEnded
    | ObjectIs
    | ObjectGone
    | EngineIs
    | EngineGone
    | NannyIs
    | NannyGone
    | FunctionCame
    | FunctionLeft
    | SetupCame
    | SetupsCleared
)


CONTROLLER = Peer(b"")
"""Who asks, where the controller itself asks the journal."""


class Needed(NamedTuple):
    """The controller wants the results of tasks that others need; answered by a `Fetched`, without those of tasks that
    are not known; `left` are divisible ones of which there may be a part.
    """

    request: int
    tasks: list[int]


class Lookup(NamedTuple):
    """A client's question to the journal, or ours, to be answered from what was written so far."""

    peer: Peer
    message: Find | Fetch | Purge | Query | Recall | Needed
    engines: Mapping[int, int] = MappingProxyType({})
    """Where tasks are now, by id, for a `Query` that wants to know."""


class Summary(NamedTuple):
    """The books as they are: takes the place of all moves so far, and says which tasks have not ended."""

    moves: list[Move]
    open: Sequence[int]
    """Roots of all tasks that have not ended, sorted."""


class Books(NamedTuple):
    """The books in full, for a journal that begins anew in the midst of a controller's life."""

    epoch: int
    last_client: int
    entries: list[Entry]
    unheard: list[Delivered]
    """What clients have not confirmed, in order."""
    summary: Summary


class Saved(NamedTuple):
    """Everything that a store has, for `restore`."""

    clients: list[ClientCame]
    heard: dict[bytes, int]
    acked: dict[int, int]
    functions: dict[bytes, bytes]
    owners: list[tuple[bytes, int]]
    nannies: list[NannyIs]
    engines: list[EngineIs]
    gone: list[EngineGone]
    submitted: list[tuple[Submitted, frozenset[int] | None]]
    """Those with tasks that may not have ended, in order; with them the roots that had not when it was last looked
    (None: all).
    """
    ended: list[tuple[int, int, int]]
    """Results since then: `(root, lo, hi)`."""
    moves: list[Move]
    unheard: list[Delivered]
    """What clients have not confirmed, in order."""
    setups: Sequence[SetupCame] = ()
    needed: Sequence[Part] = ()
    """The results of tasks that others which have not ended depend on."""
    objects: Sequence[ObjectIs] = ()
    dropped: Sequence[bytes] = ()
    """Objects that were dropped lately."""
    gone_clients: frozenset[int] = frozenset()
    """Clients whose processes have ended."""
