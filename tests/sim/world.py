"""A whole cluster in one process, in virtual time, by a seed.

The controller's core is the real one. Engines, nannies and clients are models (`models`) that do to it what real ones
may do, and worse. Here is what connects them: time, and a network that delays messages at random (in order on each
connection, as ZeroMQ keeps them). Every message is encoded and decoded for real, so one that cannot cross the wire
fails here. The books of the controller are checked after every turn.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from enginery.controller.core import Core
from enginery.controller.records import TaskState
from enginery.ids import Peer, TaskId, show_task
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models import Client, Nanny

CONTROLLER = Peer(b"controller")


class World:
    """Time, the network, and the controller's turns."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.verbose = verbose
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list = []
        self._numbers = itertools.count()
        self._last_arrival: dict[tuple[bytes, bytes], float] = {}
        self.in_flight: dict[bytes, list] = defaultdict(list)
        self.peers: dict[bytes, Any] = {}
        """Who can be sent to."""
        self.turn_due = False
        self.turns = 0
        self.check_every = 1
        """Turns until the books are checked again; it takes long when there are many tasks."""
        self.tick_at = float("inf")
        self.started: dict[tuple[int, int], int] = defaultdict(int)
        """How often each (task, item) was begun."""
        self.ended: dict[tuple[int, int], float] = {}
        """When its client heard of the end of each (task, item)."""
        self.struck: set[tuple[int, int]] = set()
        """What was interrupted by a signal that somebody sent."""
        self.hosts_lost = False
        self.roots: dict[int, int] = {}
        """The tasks that clients know, for the calls that engines were given."""
        self.lag = self.random.choice([0.0002, 0.001, 0.01])
        self.core = Core("sim", 1, 0.0)
        self.nannies: list[Nanny] = []
        self.clients: list[Client] = []

    @contextmanager
    def blame(self) -> Iterator[None]:
        """Whatever fails within says which seed it was."""
        try:
            yield
        except BaseException as error:
            error.add_note(
                f"seed {self.seed}, at {self.now:.6f} s. See it happen: "
                f"ENGINERY_SIM_SEED={self.seed} python -m pytest tests/sim -k replay -s"
            )
            raise

    def trace(self, text: str) -> None:
        if self.verbose:
            print(f"{self.now:12.6f}  {text}")

    # -- time

    def after(self, delay: float, function: Callable[..., object], *args: Any) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), function, args))

    def run(self, until: float) -> None:
        """Let everything happen that does until then."""
        events = self._events
        while events and events[0][0] <= until:
            when, _, function, args = heapq.heappop(events)
            self.now = max(self.now, when)
            function(*args)
        self.now = max(self.now, until)

    def run_while(self, busy: Callable[[], bool], until: float) -> None:
        """Let things happen while there is something to do, but not beyond that time: then something hangs."""
        while busy():
            assert self.now < until, f"not over at {self.now:.1f} s: {self.describe()}"
            self.run(self.now + 1.0)

    def describe(self) -> str:
        state = self.core.state
        tasks = [
            f"{show_task(TaskId(task.root))} [{task.lo}, {task.hi}) {TaskState(task.state).name} at {task.engine}"
            for task in list(state.tasks.values())[:5]
        ]
        return (
            f"{len(state.tasks)} tasks in the books, e.g. {tasks}; engines {list(state.engines.values())}; "
            f"stops {list(state.stops)[:5]}; unanswered {[client.unanswered()[:5] for client in self.clients]}; "
            f"requests {[client.open_requests() for client in self.clients]}"
        )

    # -- the network

    def send(self, source: bytes, target: bytes, message: Any, frames: Any = ()) -> None:
        delay = self.random.expovariate(1 / self.lag)
        if self.random.random() < 0.02:
            delay += self.random.uniform(0, 0.05)
        link = (source, target)
        when = max(self.now + delay, self._last_arrival.get(link, 0.0) + 1e-9)
        self._last_arrival[link] = when
        letter = [source, target, codec.encode(message), list(frames), True]
        self.in_flight[source].append(letter)
        self.after(when - self.now, self._arrive, letter)

    def _arrive(self, letter: list) -> None:
        source, target, header, frames, exists = letter
        self.in_flight[source].remove(letter)
        if not exists:
            return
        if target == CONTROLLER:
            message = codec.decode_to_controller(header)
            if self.verbose:
                self.trace(f"{source.decode()} -> {message}")
            self.core.receive(Peer(source), message, frames, self.now)
            if not self.turn_due:
                self.turn_due = True
                self.after(self.random.uniform(0, self.lag), self.turn)
            return
        peer = self.peers.get(target)
        if peer is not None:
            peer.receive(target, header, frames)

    def cut(self, source: bytes) -> None:
        """What a killed process had not got out to the network is lost: a random tail of what it sent last."""
        letters = self.in_flight[source]
        if letters and self.random.random() < 0.5:
            for letter in letters[self.random.randrange(len(letters)) :]:
                letter[4] = False

    # -- the controller

    def turn(self) -> None:
        self.turn_due = False
        core = self.core
        core.tick(self.now)
        turn = core.take()
        self.turns += 1
        tasks = core.state.tasks
        if not self.turns % self.check_every:
            core.state.check()
        for envelope in turn.messages:
            if self.verbose and not isinstance(envelope.message, m.Pong):
                self.trace(f"    {envelope.peer.decode()} <- {envelope.message}")
            if isinstance(envelope.message, m.Run):
                self.roots.update((call.id, tasks[call.id].root) for call in envelope.message.calls)
            if envelope.peer not in self.peers:
                core.undelivered(envelope, self.now)
                core.state.check()
            else:
                self.send(CONTROLLER, envelope.peer, envelope.message, envelope.frames)
        deadline = core.deadline()
        if deadline is not None and (deadline < self.tick_at or self.tick_at <= self.now):
            self.tick_at = max(deadline, self.now)
            self.after(self.tick_at - self.now, self._tick, self.tick_at)

    def _tick(self, when: float) -> None:
        if when == self.tick_at:
            self.tick_at = float("inf")
            self.turn()

    # -- judging

    def is_busy(self) -> bool:
        """Whether anything asked is not answered yet, or anything of those who left not settled."""
        state = self.core.state
        return bool(
            state.tasks
            or state.stops
            or any(client.unanswered() or client.open_requests() for client in self.clients if not client.left)
        )

    def judge(self) -> None:
        """Assert that everything asked was answered once, and that the books are empty."""
        state = self.core.state
        state.check()
        for client in self.clients:
            if not client.left:
                client.account()
        assert not state.tasks, f"{len(state.tasks)} tasks are still in the books"
        assert not state.stops
        assert not state.pieces
        assert not state.pools
        assert not state.waiters
        assert not any(engine.withdrawals or engine.held for engine in state.engines.values())
        assert all(client.unfinished == 0 for client in state.clients.values())
        for entry in state.functions.entries.values():
            assert entry.owners <= set(state.clients), f"{entry.digest!r} is kept for a client that is gone"
