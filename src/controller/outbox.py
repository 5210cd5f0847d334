"""What a turn says: entries for the journal, then messages to send, grouped by receiver.

Order matters to receivers, and this is it: single messages (`say`), work for engines, output before the results that
count it, and last the answers to requests, which may speak of results just sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..wire.messages import Function, Outputs, Results, Run
from .journal.ledger import Assigned, Delivered
from .memory import weigh_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from ..ids import Peer
    from ..wire.messages import Call
    from .journal.ledger import Entry, Lookup
    from .records import Client, Engine


class Envelope(NamedTuple):
    """A message, its receiver and its frames."""

    peer: Peer
    message: msgspec.Struct
    frames: Sequence[Any] = ()


class Turn(NamedTuple):
    """The answer of the core: commit the entries, then send the messages in this order; and look these things up."""

    entries: list[Entry]
    """For the journal; always empty without one."""
    messages: list[Envelope]
    lookups: Sequence[Lookup] = ()
    """Of the journal, when the entries are written."""
    calm: bool = False
    """A flood of tasks is over: memory that it took can be given back to the system."""


class _Work:
    """What one engine is to be sent."""

    __slots__ = ("calls", "engine", "frames", "functions")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.functions: list[Function] = []
        self.calls: list[Call] = []
        self.frames: list[Any] = []


class Outbox:
    """Collects what a turn says."""

    def __init__(self, note: Callable[[Entry], None]) -> None:
        self._note = note
        self._singles: list[Envelope] = []
        self._work: dict[int, _Work] = {}
        self._clients: dict[int, Client] = {}
        self._answers: list[Envelope] = []

    def say(self, peer: Peer, message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
        """Send a single message."""
        self._singles.append(Envelope(peer, message, frames))

    def answer(self, peer: Peer, message: msgspec.Struct) -> None:
        """Send an answer, after everything else of this turn."""
        self._answers.append(Envelope(peer, message))

    def work_for(self, engine: Engine) -> _Work:
        """Return the collection to add calls, functions and frames to."""
        work = self._work.get(engine.id)
        if work is None:
            work = self._work[engine.id] = _Work(engine)
        return work

    def to_client(self, client: Client) -> None:
        """The client's record has something to send."""
        self._clients[client.no] = client

    def take(self) -> list[Envelope]:
        """Return everything, in order, and be empty."""
        if not (self._singles or self._work or self._clients or self._answers):
            return []
        messages, self._singles = self._singles, []
        if self._work:
            for work in self._work.values():
                if work.calls:
                    engine = work.engine
                    engine.acked = engine.incoming.have
                    messages.append(Envelope(engine.peer, Run(work.functions, work.calls, engine.acked), work.frames))
                    self._note(Assigned(engine.id, [call.id for call in work.calls]))
            self._work = {}
        if self._clients:
            for client in self._clients.values():
                if client.outputs:
                    self._deliver(client, Outputs(client.outputs), (), messages)
                    client.outputs = []
                if client.results:
                    client.acked = client.incoming.have
                    self._deliver(client, Results(client.results, client.acked), client.frames, messages)
                    client.results, client.frames = [], []
            self._clients = {}
        if self._answers:
            messages += self._answers
            self._answers = []
        return messages

    def _deliver(
        self, client: Client, message: Results | Outputs, frames: Sequence[Any], messages: list[Envelope]
    ) -> None:
        """Number a message to a client, and send it if it is there; what is for one that is gone is only written."""
        if client.peer:
            client.outgoing.number(message, frames, weigh_message(message, frames))
            if client.away_since is None:
                messages.append(Envelope(client.peer, message, frames))
        self._note(Delivered(client.no, message, frames))
