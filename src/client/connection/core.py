"""The client's books, without its socket: what was asked, what is to be sent, and whether the controller is there.

Rules of this file. No thread, clock or socket in here: `now` is an argument. Submitting threads and the I/O thread
share one core, and only these may be touched by any thread, each by single operations that are atomic in Python:
`sinks`, `requests`, `outbox`, `lost`, `sends.add`, `leases`, `room`. What makes messages (`take`, `take_single`,
`unsay`) is for whoever holds the lock of the socket, `unsay` for anybody; everything else belongs to the I/O thread.

Whoever is registered is answered: `lose` marks the core lost *before* it fails all that is registered, and submitters
look at `lost` *after* registering. So a submission either is failed by `lose` or notices by itself.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...errors import ClusterError, ControllerLost
from ...ids import ClientNo, first_task_id
from ...streams import Incoming, Outgoing, Verdict
from ...wire import messages as m
from ...wire.parts import with_frames
from ..results.leases import Leases
from ..results.sending import Sends
from .ended import Ended
from .incarnations import Incarnations
from .requests import RequestFuture
from .room import ENTRY_BYTES, LARGE_BYTES, Room
from .submission import compose, compose_again

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .sink import Sink

QUIET_S = 5.0
"""Having heard nothing for so long, ask."""

SILENT_S = 60.0
"""Having heard nothing for so long, though we asked and are connected, the controller is lost. It may be slow; it may
be stopped."""

BROKEN_S = 5.0
"""The connection broke, and the controller has no journal: if it does not welcome us again within this time, it is
lost."""

GONE_S = 120.0
"""The same where another controller may take over, or a network heal. (A cluster of this host is looked at: when that
has ended, it is lost at once.)"""

LATE_S = 1.0
"""Who looks so much later than it meant to was stopped itself, or kept from it, and has heard nothing for that reason:
it waits once more."""

ACK_EVERY = 32
"""So many messages of the controller are confirmed with one of ours."""

ACK_S = 1.0
"""What has come is confirmed after so long in any case."""

BATCH_TASKS = 1000
BATCH_BYTES = 1 << 20
"""A message ends after so many tasks or bytes, so that the controller can begin while the rest is written."""

THREAD_S = 20e-6
"""A task that starts a thread takes longer."""

FUNCTIONS_MAX_BYTES = 64 << 20
"""How many bytes of pickled functions the controller keeps for us; beyond, the least used are forgotten."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A task to be sent. Not tracked by the garbage collector, which would look at each in a flood, for nothing."""

    task: m.Task
    function: m.Function
    options: m.Options
    frames: Sequence[Any]


class Core:
    """Everything a client knows about its cluster. See the rules at the top of the file."""

    def __init__(self, hello: m.ClientHello, now: float) -> None:
        self.hello = hello
        self.sinks: dict[int, Sink] = {}
        """Tasks that have not ended, by id."""
        self._ended = Ended()
        self.requests: dict[int, RequestFuture] = {}
        self.sends = Sends()
        self.leases = Leases()
        self.outbox: deque[Entry | msgspec.Struct] = deque([hello])
        """What is to be sent, in order."""
        self.lost: Exception | None = None
        """Why nothing will come any more."""
        self.welcomed = RequestFuture()
        """Resolved when the hello is answered; failed if it never will be."""
        self.client: int | None = None
        self.cluster = ""
        self.controller_pid = 0
        self.engines: dict[int, m.EngineInfo] = {}
        self.incarnations = Incarnations()
        self.on_fleet: Callable[[], None] | None = None
        """Is called when engines have come or gone."""
        self._request_numbers = count(1)
        self._sent: dict[bytes, int] = {}
        """Functions that the controller has from us, and their sizes; the least used first."""
        self._sent_bytes = 0
        self._heard = now
        self._pinged = False
        self._broken_at: float | None = None
        self.far_store: m.Source | None = None
        """Where objects can be had by who is on another host than the cluster."""
        self.durable = False
        """Another controller takes over if this one dies."""
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self.room = Room(self.outbox, self._outgoing)
        self._dependent: dict[int, list[Entry]] = {}
        """The tasks of messages, by number, that say what had come of others."""
        self._acked = 0
        """What the controller was told that we have."""
        self._ack_at: float | None = None
        self._asked: dict[int, msgspec.Struct] = {}
        """Requests without an answer, to be asked again when the connection is back."""
        self._greeting = True
        """A hello is not answered yet."""
        self._resume_after: int | None = None
        """The controller has what we sent up to that number: the rest is to be sent again, before anything new."""
        self.interrupted = ""
        """What there is to say of an interruption, once (for the log); empty when said."""

    # ------------------------------------------------------------------------------------------------ in

    def receive(self, message: m.ToClient, frames: Sequence[Any], now: float, wall: float = 0.0) -> None:
        """Take a message of the controller's. `wall` is the time for people, `now` that of `tick`."""
        self._heard = now
        self._pinged = False
        if isinstance(message, m.Numbered) and not self._is_next(message, now):
            return
        match message:
            case m.Results():
                if message.ack:
                    self._on_acked(message.ack)
                self._on_results(message.results, frames, wall)
            case m.Outputs():
                for record in message.records:
                    sink = self.sinks.get(record.task) or self._ended.find(record.task)
                    if sink is not None:
                        sink._add_output(record)
            case m.Reply():
                request = self.requests.pop(message.request, None)
                self._asked.pop(message.request, None)
                if request is not None:
                    error = None if message.error is None else ClusterError(message.error)
                    request.resolve(message.value, error)
            case m.Found() | m.Fetched() | m.Queried() | m.Recalled():
                if isinstance(message, m.Fetched):
                    frames = self._leased(message.results, frames)
                request = self.requests.pop(message.request, None)
                self._asked.pop(message.request, None)
                if request is not None:
                    request.resolve((message, frames), None)
            case m.Engines():
                self._on_engines(message.engines, wall)
            case m.Welcome():
                self._on_welcome(message, wall)
            case m.Farewell():
                self.lose(ControllerLost(f"{message.reason}; this client is of no more use"))
            case m.Refused():
                if self.client is None:
                    self.lose(ClusterError(f"the controller refuses this client: {message.reason}"))
                else:
                    self.lose(ControllerLost(f"the controller refused a message of this client: {message.reason}"))
            case m.Ack():
                self._on_acked(message.have)
            case m.Hold():
                self.room.hold(on=message.on)
            case m.Resume():
                self._greet()
            case m.Pong():
                pass

    def _is_next(self, message: m.Numbered, now: float) -> bool:
        """Return whether a numbered message is to be taken; if one before it is missing, ask for it."""
        verdict = self._incoming.judge(message.seq)
        if verdict is Verdict.GAP:
            self._greet()
        elif self._incoming.have - self._acked >= ACK_EVERY:
            self._ack()
        elif self._ack_at is None:
            self._ack_at = now + ACK_S
        return verdict is Verdict.TAKE

    def _on_acked(self, have: int) -> None:
        self._outgoing.acked(have)
        self.sends.confirm(have)
        if self._dependent:
            for seq in list(self._dependent):  # a copy: a submitting thread may add one
                if seq > have:
                    break
                del self._dependent[seq]

    def _ack(self) -> None:
        self._acked = self._incoming.have
        self._ack_at = None
        self.outbox.append(m.Ack(self._acked))

    def _greet(self) -> None:
        """Have the hello said again, before anything else."""
        if not self._greeting and self.lost is None:
            self._greeting = True
            hello = msgspec.structs.replace(self.hello, have=self._incoming.have, welcomed=self.client is not None)
            self.hello = hello
            self.outbox.appendleft(hello)

    def _on_results(self, results: list[m.Result], frames: Sequence[Any], wall: float) -> None:
        sinks = self.sinks
        at = 0
        for result in results:
            parts: Sequence[Any] = ()
            if result.frames:
                parts = frames[at : at + result.frames]
                at += result.frames
            elif result.objects:
                parts = self.leases.new(result.objects[0])
                self._ack_at = self._heard  # at once: what is not confirmed is kept for others when we end
            sink = sinks.get(result.id)
            if sink is not None and sink._accept(result, parts, wall):
                sinks.pop(result.id, None)
                if result.duration > THREAD_S:
                    self._ended.add(result.id, sink)

    def _leased(self, results: list[m.Result], frames: Sequence[Any]) -> list[Sequence[Any]]:
        """Return the frames of each result; in their place a lease, where the value is an object."""
        return [
            self.leases.new(result.objects[0]) if result.objects else parts
            for result, parts in with_frames(results, frames)
        ]

    def _on_engines(self, engines: list[m.EngineInfo], wall: float) -> None:
        self.incarnations.learn(engines, wall)
        known = dict(self.engines)
        for engine in engines:
            if engine.state == "dead":
                known.pop(engine.id, None)
            else:
                known[engine.id] = engine
        self.engines = dict(sorted(known.items()))  # replaced, not changed: other threads may be reading it
        if self.on_fleet is not None:
            self.on_fleet()

    def _on_welcome(self, message: m.Welcome, wall: float) -> None:
        if self.client is not None and self.client != message.client:
            self.lose(ControllerLost("the controller was restarted and does not know this client any more"))
            return
        again = self.client is not None
        if again and self.controller_pid != message.controller_pid:
            self.interrupted = f"another controller of cluster {message.cluster} has taken over; nothing is lost"
        self.client = message.client
        self.cluster = message.cluster
        self.controller_pid = message.controller_pid
        self.durable = message.durable
        self.far_store = message.store
        self.room.welcomed(message)
        self.incarnations.learn(message.engines, wall)
        self.engines = {engine.id: engine for engine in message.engines if engine.state != "dead"}
        if self.on_fleet is not None:
            self.on_fleet()
        self._broken_at = None
        if again:  # what was sent since may have gone to nobody
            self._resume_after = message.have
            self.sends.confirm(message.have)
        self._greeting = False
        self.welcomed.resolve(None, None)

    # ------------------------------------------------------------------------------------------------ liveness

    def connected(self, now: float) -> None:
        """The connection is there (again)."""
        if self._broken_at is not None:
            self._heard = now
            self._greeting = False
            self._greet()

    def broken(self, now: float) -> None:
        """The connection broke; ZeroMQ goes on trying."""
        if self._broken_at is None:
            self._broken_at = now

    @property
    def is_broken(self) -> bool:
        """Whether the connection is broken, and nobody has welcomed us again."""
        return self._broken_at is not None

    def gone(self, why: str = "") -> None:
        """The cluster has ended, without a word to us: nobody will take over."""
        self.lose(ControllerLost(f"cluster {self._name()} has ended{why and ': '}{why}"))

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.lost is not None:
            return
        if self._broken_at is not None:
            if now - self._broken_at >= self._patience_s() + LATE_S:
                self._broken_at = now
            elif now - self._broken_at >= self._patience_s():
                self.lose(ControllerLost(f"the connection to the controller of cluster {self._name()} broke"))
            return
        if self._ack_at is not None and now >= self._ack_at:
            self._ack()
        silent_s = now - self._heard
        if silent_s >= SILENT_S + LATE_S or (silent_s >= QUIET_S and not self._pinged):
            self._heard = max(self._heard, now - QUIET_S)
            self._pinged = True
            self.outbox.append(m.Ping())
        elif silent_s >= SILENT_S:
            self.lose(ControllerLost(f"the controller of cluster {self._name()} has not answered for {SILENT_S:.0f} s"))

    def _patience_s(self) -> float:
        return GONE_S if self.durable else BROKEN_S

    def deadline(self) -> float:
        """Return when `tick` must be called at the latest."""
        if self._broken_at is not None:
            return self._broken_at + self._patience_s()
        at = self._heard + (SILENT_S if self._pinged else QUIET_S)
        return at if self._ack_at is None else min(at, self._ack_at)

    def lose(self, error: Exception) -> None:
        """Nothing will come any more: everything registered fails with this error, and everything later."""
        if self.lost is not None:
            return
        self.lost = error
        for registered in (self.sinks, self.requests):
            while registered:
                try:
                    _, waiter = registered.popitem()
                except KeyError:  # a submitter took its own out
                    continue
                if isinstance(waiter, RequestFuture):
                    waiter.resolve(None, error)
                else:
                    waiter._fail(error)
        self.engines = {}
        self.sends.lose(error)
        self.welcomed.resolve(None, error)

    def _name(self) -> str:
        return self.cluster or "?"

    # ------------------------------------------------------------------------------------------------ out

    def first_task(self) -> int:
        """Return the smallest task id of this client."""
        assert self.client is not None, "tasks are submitted after the welcome"
        return first_task_id(ClientNo(self.client))

    def next_request(self) -> int:
        """Return a number no request of ours has had."""
        return next(self._request_numbers)

    def take(self) -> list[tuple[msgspec.Struct, Sequence[Any]]]:
        """Return the messages to send, in order, each with its frames, and have nothing more to send."""
        messages: list[tuple[msgspec.Struct, Sequence[Any]]] = []
        outbox = self.outbox
        if self._greeting and self.client is not None:
            # Until we are welcomed only the hello leaves: what comes after it would be dropped and sent again.
            if self._is_hello_next():
                messages.append((self.hello, ()))
                outbox.popleft()
            if outbox and isinstance(outbox[-1], m.Goodbye):
                messages.append((m.Goodbye(outbox[-1].cancel), ()))
            return messages
        if self._resume_after is not None:
            messages += [self._anew(*sent) for sent in self._outgoing.after(self._resume_after)]
            messages += [(request, ()) for request in self._asked.values()]
            self._resume_after = None
        released = self.leases.take()  # before the tasks are, and said after them: they may need these objects
        batch: list[Entry] = []
        nbytes = 0
        while True:
            try:
                entry = outbox.popleft()
            except IndexError:
                break
            if isinstance(entry, Entry):
                batch.append(entry)
                size = len(entry.task.payload)
                if size > LARGE_BYTES or entry.frames:
                    size = self.room.taken(entry)
                nbytes += size + ENTRY_BYTES
                if len(batch) < BATCH_TASKS and nbytes < BATCH_BYTES:
                    continue
                self._close(batch, messages, nbytes)
            else:
                self._close(batch, messages, nbytes)
                self._single(entry, messages)
            batch, nbytes = [], 0
        self._close(batch, messages, nbytes)
        if released:
            self._single(m.Release(released), messages)
        return messages

    @property
    def has_to_send(self) -> bool:
        """Whether `take` would return something."""
        if self._greeting and self.client is not None:
            return self._is_hello_next()
        return bool(self.outbox) or self._resume_after is not None or self.leases.has_returned

    def _is_hello_next(self) -> bool:
        return bool(self.outbox) and isinstance(self.outbox[0], m.ClientHello)

    @property
    def is_calm(self) -> bool:
        """Whether a message may be sent past the outbox."""
        return not (self._greeting or self.outbox) and self._resume_after is None

    def take_single(self, entry: Entry) -> m.Submit:
        """Return the message that submits one task, past the outbox, when all is calm."""
        options = entry.options
        if options.after is None and options.follow is None:
            functions: list[m.Function] = []
            self._name_function(entry.function, functions)
            message = m.Submit(functions, [options], [entry.task])
        else:
            message, _, _ = compose([entry], self._name_function)
            self._dependent[self._outgoing.last + 1] = [entry]
        self._outgoing.number(message, (), len(entry.task.payload) + ENTRY_BYTES)
        return message

    def unsay(self) -> None:
        """It is not certain that what `take_single` returned was sent: have the hello said, and the missing sent."""
        self._greet()

    def _anew(self, message: m.Numbered, frames: Sequence[Any]) -> tuple[msgspec.Struct, Sequence[Any]]:
        """Return what is to be sent in place of a message that may not have come."""
        batch = self._dependent.get(message.seq)
        return (message, frames) if batch is None else compose_again(batch, cast("m.Submit", message))[:2]

    def _single(self, message: msgspec.Struct, messages: list[tuple[msgspec.Struct, Sequence[Any]]]) -> None:
        request = getattr(message, "request", None)
        if request is not None and request in self.requests:
            self._asked[request] = message
        if isinstance(message, m.Cancel):
            message.after = self._outgoing.last
        if isinstance(message, m.Goodbye) and self._incoming.have > self._acked:
            self._acked = self._incoming.have
            messages.append((m.Ack(self._acked), ()))
        if isinstance(message, m.Numbered):
            self._outgoing.number(message)
        messages.append((message, ()))

    def _close(self, batch: list[Entry], messages: list[tuple[msgspec.Struct, Sequence[Any]]], nbytes: int) -> None:
        """Make one Submit of these tasks."""
        if not batch:
            return
        message, frames, depends = compose(batch, self._name_function)
        self._outgoing.number(message, frames, nbytes)
        self.room.look()
        if depends:
            self._dependent[message.seq] = batch
        if self.sends.waiting:
            self.sends.number(message.tasks, message.seq)
        messages.append((message, frames))
        if self._sent_bytes > FUNCTIONS_MAX_BYTES:
            self._forget({entry.function.digest for entry in batch}, messages)

    def _name_function(self, function: m.Function, functions: list[m.Function]) -> None:
        digest = function.digest
        size = self._sent.pop(digest, None)
        if size is None:
            if digest.startswith(b"!"):
                return
            functions.append(function)
            size = len(function.pickled)
            self._sent_bytes += size
        self._sent[digest] = size  # at the end: most lately used

    def _forget(self, keep: set[bytes], messages: list[tuple[msgspec.Struct, Sequence[Any]]]) -> None:
        forgotten: list[bytes] = []
        for digest in list(self._sent):
            if self._sent_bytes <= FUNCTIONS_MAX_BYTES // 2:
                break
            if digest not in keep:
                self._sent_bytes -= self._sent.pop(digest)
                forgotten.append(digest)
        if forgotten:
            message = m.Forget(forgotten)
            self._outgoing.number(message)
            messages.append((message, ()))
