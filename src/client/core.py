"""The client's books, without its socket: what was asked, what is to be sent, and whether the controller is there.

Rules of this file. No thread, clock or socket in here: `now` is an argument. Submitting threads and the I/O thread
share one core, and only these may be touched by any thread, each by single operations that are atomic in Python:
`sinks`, `requests`, `outbox`, `lost`. What makes messages (`take`, `take_single`, `unsay`) is for whoever holds the
lock of the socket; everything else belongs to the I/O thread.

Whoever is registered is answered: `lose` marks the core lost *before* it fails all that is registered, and submitters
look at `lost` *after* registering. So a submission either is failed by `lose` or notices by itself.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..errors import ClusterError, ControllerLost, TaskLost
from ..ids import ClientNo, first_task_id
from ..wire import messages as m
from .lightfuture import LightFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUIET_S = 5.0
"""Having heard nothing for so long, ask."""

SILENT_S = 60.0
"""Having heard nothing for so long, though we asked, the controller is lost. It may be slow; it may be stopped."""

BROKEN_S = 5.0
"""The connection broke, and no controller welcomed us again within this time: it is lost."""

BATCH_TASKS = 1000
BATCH_BYTES = 1 << 20
"""A message ends after so many tasks or bytes, so that the controller can begin while the rest is written."""

FUNCTIONS_MAX_BYTES = 64 << 20
"""How many bytes of pickled functions the controller keeps for us; beyond, the least used are forgotten."""


class Sink(Protocol):
    """Who waits for a task. All methods are called by the I/O thread."""

    def accept(self, reply: m.Result, frames: Sequence[Any], now: float) -> bool:
        """Take a result; return whether it was the last under its task id."""

    def add_output(self, record: m.Output) -> None:
        """Take something that the task printed or displayed."""

    def fail(self, error: Exception) -> None:
        """Nothing will come any more."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A task to be sent. Not tracked by the garbage collector, which would look at each in a flood, for nothing."""

    task: m.Task
    function: m.Function
    options: m.Options
    frames: Sequence[Any]


class RequestFuture(LightFuture[Any]):
    """The controller's answer to a request."""

    _value: Any = None
    _error: Exception | None = None

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check_wait = check  # type: ignore[method-assign] # a callable either way

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Take the answer. Called by the I/O thread."""
        if not self.done():
            self._value, self._error = value, error
            self._settle(failed=error is not None)

    def _outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"no answer after {timeout:g} s")


class Core:
    """Everything a client knows about its cluster. See the rules at the top of the file."""

    def __init__(self, hello: m.ClientHello, now: float) -> None:
        self.hello = hello
        self.sinks: dict[int, Sink] = {}
        """Tasks that have not ended, by id."""
        self.requests: dict[int, RequestFuture] = {}
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
        self._request_numbers = count(1)
        self._sent: dict[bytes, int] = {}
        """Functions that the controller has from us, and their sizes; the least used first."""
        self._sent_bytes = 0
        self._heard = now
        self._pinged = False
        self._broken_at: float | None = None
        self._doubtful: tuple[list[int], list[int]] = ([], [])
        """Tasks and requests that were under way when the connection broke."""

    # ------------------------------------------------------------------------------------------------ in

    def receive(self, message: m.ToClient, frames: Sequence[Any], now: float, wall: float = 0.0) -> None:
        """Take a message of the controller's. `wall` is the time for people, `now` that of `tick`."""
        self._heard = now
        self._pinged = False
        match message:
            case m.Results():
                self._on_results(message.results, frames, wall)
            case m.Outputs():
                for record in message.records:
                    sink = self.sinks.get(record.task)
                    if sink is not None:
                        sink.add_output(record)
            case m.Reply():
                request = self.requests.pop(message.request, None)
                if request is not None:
                    error = None if message.error is None else ClusterError(message.error)
                    request.resolve(message.value, error)
            case m.Engines():
                self._on_engines(message.engines)
            case m.Welcome():
                self._on_welcome(message)
            case m.Farewell():
                self.lose(ControllerLost(f"{message.reason}; this client is of no more use"))
            case m.Refused():
                if self.client is None:
                    self.lose(ClusterError(f"the controller refuses this client: {message.reason}"))
                else:
                    self.lose(ControllerLost(f"the controller refused a message of this client: {message.reason}"))
            case m.Pong():
                pass

    def _on_results(self, results: list[m.Result], frames: Sequence[Any], wall: float) -> None:
        sinks = self.sinks
        at = 0
        for result in results:
            parts: Sequence[Any] = ()
            if result.frames:
                parts = frames[at : at + result.frames]
                at += result.frames
            sink = sinks.get(result.id)
            if sink is not None and sink.accept(result, parts, wall):
                sinks.pop(result.id, None)

    def _on_engines(self, engines: list[m.EngineInfo]) -> None:
        known = dict(self.engines)
        for engine in engines:
            if engine.state == "dead":
                known.pop(engine.id, None)
            else:
                known[engine.id] = engine
        self.engines = dict(sorted(known.items()))  # replaced, not changed: other threads may be reading it

    def _on_welcome(self, message: m.Welcome) -> None:
        if self.client is not None and self.client != message.client:
            self.lose(ControllerLost("the controller was restarted and does not know this client any more"))
            return
        self.client = message.client
        self.cluster = message.cluster
        self.controller_pid = message.controller_pid
        self.engines = {engine.id: engine for engine in message.engines if engine.state != "dead"}
        self._broken_at = None
        self.welcomed.resolve(None, None)
        self._give_up_doubtful()

    def _give_up_doubtful(self) -> None:
        """The connection is back; what was on its way when it broke may be lost, and nobody would ever say so."""
        (tasks, requests), self._doubtful = self._doubtful, ([], [])
        what = (
            f"the connection to the controller of cluster {self._name()} broke and came back while this was under way"
        )
        for task in tasks:
            sink = self.sinks.pop(task, None)
            if sink is not None:
                sink.fail(TaskLost(f"{what}: whether the task ran is not known here"))
        for number in requests:
            request = self.requests.pop(number, None)
            if request is not None:
                request.resolve(None, ClusterError(f"{what}: ask again"))

    # ------------------------------------------------------------------------------------------------ liveness

    def connected(self, now: float) -> None:
        """The connection is there (again)."""
        if self._broken_at is not None:
            self._heard = now
            self.outbox.appendleft(self.hello)  # before anything that was queued meanwhile

    def broken(self, now: float) -> None:
        """The connection broke; ZeroMQ goes on trying."""
        if self._broken_at is None:
            self._broken_at = now
            self._doubtful = (list(self.sinks), list(self.requests))

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.lost is not None:
            return
        if self._broken_at is not None:
            if now - self._broken_at >= BROKEN_S:
                self.lose(ControllerLost(f"the connection to the controller of cluster {self._name()} broke"))
        elif now - self._heard >= SILENT_S:
            self.lose(ControllerLost(f"the controller of cluster {self._name()} has not answered for {SILENT_S:.0f} s"))
        elif now - self._heard >= QUIET_S and not self._pinged:
            self._pinged = True
            self.outbox.append(m.Ping())

    def deadline(self) -> float:
        """Return when `tick` must be called at the latest."""
        if self._broken_at is not None:
            return self._broken_at + BROKEN_S
        return self._heard + (SILENT_S if self._pinged else QUIET_S)

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
                    waiter.fail(error)
        self.engines = {}
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
        batch: list[Entry] = []
        nbytes = 0
        while True:
            try:
                entry = outbox.popleft()
            except IndexError:
                break
            if isinstance(entry, Entry):
                batch.append(entry)
                nbytes += len(entry.task.payload) + 50
                if len(batch) < BATCH_TASKS and nbytes < BATCH_BYTES:
                    continue
                self._close(batch, messages)
            else:
                self._close(batch, messages)
                messages.append((entry, ()))
            batch, nbytes = [], 0
        self._close(batch, messages)
        return messages

    def take_single(self, entry: Entry) -> m.Submit:
        """Return the message that submits one task, past the outbox, which must be empty."""
        functions: list[m.Function] = []
        self._name_function(entry.function, functions)
        return m.Submit(functions, [entry.options], [entry.task])

    def unsay(self, function: m.Function) -> None:
        """It is not certain that the controller was sent this function: send it again next time."""
        self._sent_bytes -= self._sent.pop(function.digest, 0)

    def _close(self, batch: list[Entry], messages: list[tuple[msgspec.Struct, Sequence[Any]]]) -> None:
        """Make one Submit of these tasks; options and functions that several share are in it once."""
        if not batch:
            return
        functions: list[m.Function] = []
        options_list: list[m.Options] = []
        places: dict[int, int] = {}
        frames: list[Any] = []
        tasks: list[m.Task] = []
        last_options, place, last_function = None, 0, None
        for entry in batch:
            task, function, options, parts = entry.task, entry.function, entry.options, entry.frames
            if options is not last_options:
                last_options = options
                place = places.setdefault(id(options), len(options_list))
                if place == len(options_list):
                    options_list.append(options)
            if place:
                task.options = place
            if function is not last_function:
                last_function = function
                self._name_function(function, functions)
            if parts:
                frames.extend(parts)
            tasks.append(task)
        messages.append((m.Submit(functions, options_list, tasks), frames))
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
            messages.append((m.Forget(forgotten), ()))
