"""A whole cluster in one process, in virtual time, by a seed.

The controller's core is the real one. Engines, nannies and clients are models (`models`) that do to it what real ones
may do, and worse. Here is what connects them: time, and a network that delays messages at random (in order on each
connection, as ZeroMQ keeps them) and whose connections break: then what was under way is lost, and what a peer says
meanwhile waits in its socket. Every message is encoded and decoded for real, so one that cannot cross the wire fails
here. The books of the controller are checked after every turn.

The controller dies too, between turns and in the midst of one: what it had committed is in its journal (the real one,
in memory), and another takes over. Or the disk is full for some turns, and the journal begins anew.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from enginery.controller.core import Core
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.restore import restore
from enginery.controller.journal.store import Store as Journal
from enginery.controller.records import TaskState
from enginery.ids import Peer, TaskId, show_task
from enginery.wire import codec
from enginery.wire import messages as m
from graphs import future_of
from stores import judge_drops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enginery.client.results.futures import AsyncResult
    from enginery.controller.journal.ledger import Lookup
    from graphs import Links
    from models import Client, Nanny
    from stores import Store

CONTROLLER = Peer(b"controller")


class World:
    """Time, the network, and the controller's turns."""

    def __init__(self, seed: int, *, durable: bool = True, verbose: bool = False, memory_limit: int = 0) -> None:
        self.seed = seed
        self.memory_limit = memory_limit
        self.verbose = verbose
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list = []
        self._numbers = itertools.count()
        self._last_arrival: dict[tuple[bytes, bytes], float] = {}
        self.in_flight: dict[bytes, list] = defaultdict(list)
        self.peers: dict[bytes, Any] = {}
        """Who is there, by address."""
        self.down: set[bytes] = set()
        """Addresses whose connection is broken."""
        self.broken: set[bytes] = set()
        """Addresses whose connection was broken once."""
        self.backlog: dict[bytes, list] = defaultdict(list)
        """What was said into a broken connection: the sender's socket keeps it."""
        self.turn_due = False
        self.turns = 0
        self.check_every = 1
        """Turns until the books are checked again; it takes long when there are many tasks."""
        self.tick_at = float("inf")
        self.started: dict[tuple[int, int], int] = defaultdict(int)
        """How often each (task, item) was begun."""
        self.over: set[tuple[int, int]] = set()
        """Each (task, item) whose code has run to its end."""
        self.ended: dict[tuple[int, int], float] = {}
        """When its client heard of the end of each (task, item)."""
        self.struck: set[tuple[int, int]] = set()
        """What was interrupted by a signal that somebody sent."""
        self.hosts_lost = False
        self.has_objects = False
        """Hosts have stores, and some values are objects."""
        self.large = 0.3
        """How many values are."""
        self.memory = 1 << 40
        """How many bytes of objects a host may have in memory."""
        self.pull_s = 0.01
        """How long a piece of an object takes from one host to another."""
        self.stores: dict[bytes, Store] = {}
        self.values: dict[bytes, bytes] = {}
        """What each object is, dropped ones too."""
        self.harmed: set[bytes] = set()
        """Objects of which a copy was lost with its host, or was removed by somebody."""
        self.deprived: set[int] = set()
        """Tasks that needed what was lost so."""
        self.given_back: set[tuple[int, int, int, int]] = set()
        """Each (task, item, engine, incarnation) that this engine gave back before it began."""
        self.roots: dict[int, int] = {}
        """The tasks that clients know, for the calls that engines were given."""
        self.has_dependents = False
        self.links: dict[int, Links] = {}
        """What tasks depend on, where they do."""
        self.asked: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        """The engines that could not run each (task, item)."""
        self.offers: dict[str, float] = {}
        """What each host offers to tasks."""
        self.has_threads = seed % 4 == 0  # not in all: what once went wrong shall go on as it did
        """Tasks leave threads behind, which print."""
        self.lag = self.random.choice([0.0002, 0.001, 0.01])
        self.store = Journal(":memory:") if durable else None
        self.doom = ""
        """Where in its next turn the controller dies."""
        self.summaries = self.random.choice([0.0, 0.02, 0.3])
        """How often the journal is put in short."""
        self.full_disks = self.random.choice([0.0, 0.0, 0.002, 0.02])
        """How often the disk under the journal is full for a while."""
        self.full_turns = 0
        self.was_full = False
        """For so many turns it still is. No controller dies meanwhile: then its tasks are lost, as it has said."""
        self.alive = False
        self.core: Core
        self.begin_controller()
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

    def next_number(self) -> int:
        """Return a number that nothing else has."""
        return next(self._numbers)

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
        if source in self.down:
            self.backlog[source].append((codec.encode(message), list(frames)))
        else:
            self._post(source, target, codec.encode(message), list(frames))

    def _post(self, source: bytes, target: bytes, header: bytes, frames: list) -> None:
        delay = self.random.expovariate(1 / self.lag)
        if self.random.random() < 0.02:
            delay += self.random.uniform(0, 0.05)
        link = (source, target)
        when = max(self.now + delay, self._last_arrival.get(link, 0.0) + 1e-9)
        self._last_arrival[link] = when
        letter = [source, target, header, frames, True]
        self.in_flight[source].append(letter)
        self.after(when - self.now, self._arrive, letter)

    def _arrive(self, letter: list) -> None:
        source, target, header, frames, exists = letter
        self.in_flight[source].remove(letter)
        if not exists:
            return
        if target == CONTROLLER:
            if not self.alive:
                return
            message = codec.decode_to_controller(header)
            if self.verbose:
                self.trace(f"{source.decode()} -> {message}")
            self.core.receive(Peer(source), message, frames, self.now)
            self._schedule_turn(self.random.uniform(0, self.lag))
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

    def break_link(self, address: bytes, *, dead: bool = False) -> None:
        """A connection breaks: some of what is under way to the controller still arrives (none, if it is `dead`), some
        is lost, some is still in the sender's socket; of what is under way from it some arrives, and the rest is lost.
        """
        if address in self.down:
            return
        self.down.add(address)
        self.broken.add(address)
        going = [letter for letter in self.in_flight[address] if letter[4]]
        arrives = 0 if dead else self.random.randint(0, len(going))
        lost = self.random.randint(arrives, len(going))
        for letter in going[arrives:]:
            letter[4] = False
        self.backlog[address] = [(letter[2], letter[3]) for letter in going[lost:]]
        coming = [letter for letter in self.in_flight[CONTROLLER] if letter[1] == address and letter[4]]
        for letter in coming[self.random.randint(0, len(coming)) :]:
            letter[4] = False

    def mend_link(self, address: bytes) -> None:
        """A connection is there again, if both ends are. What waited leaves, then its owner says hello."""
        if address not in self.down or not self.alive:
            return
        self.down.discard(address)
        for header, frames in self.backlog.pop(address, []):
            self._post(address, CONTROLLER, header, frames)
        peer = self.peers.get(address)
        if peer is not None:
            peer.reconnected()

    # -- the controller

    def begin_controller(self) -> None:
        """A controller begins, where the last one ended."""
        state = None
        if self.store is not None:
            epoch = self.store.begin("life")
            state = restore(self.store.load(), "sim", epoch, self.store.last_client(), self.now)
            state.check()
        self.core = Core("sim", 1, self.now, state, memory_limit=self.memory_limit)
        self.alive = True
        self.trace(f"a controller begins, with {len(self.core.state.tasks)} tasks")
        for address in sorted(self.down):
            self.after(self.random.uniform(0.001, 0.3), self.mend_link, address)
        self._schedule_turn(0.0)

    def doom_controller(self, where: str) -> None:
        """The controller dies: now, or in its next turn, before it commits or before all it says has left."""
        if not self.alive or self.store is None or self.full_turns:
            return
        if where == "now":
            self.kill_controller()
        else:
            self.doom = where

    def kill_controller(self) -> None:
        self.trace("the controller dies")
        self.alive, self.doom, self.tick_at = False, "", float("inf")
        for address in sorted(self.peers):
            self.break_link(address, dead=True)
        self.after(self.random.uniform(0.05, 1.0), self.begin_controller)

    def _schedule_turn(self, delay: float) -> None:
        if not self.turn_due:
            self.turn_due = True
            self.after(delay, self.turn)

    def turn(self) -> None:
        self.turn_due = False
        if not self.alive:
            return
        core = self.core
        core.tick(self.now)
        turn = core.take()
        self.turns += 1
        if self.doom == "before commit":
            self.kill_controller()
            return
        if self.store is not None and self._disk_is_full(core):
            pass  # of all the entries of these turns nothing is written down
        elif self.store is not None:
            purging = any(isinstance(lookup.message, m.Purge) for lookup in turn.lookups)
            summary = core.summary() if purging or self.random.random() < self.summaries else None
            if turn.entries or summary is not None:
                self.store.commit(turn.entries, summary)
            if summary is not None and not purging and self.random.random() < 0.2:
                self.store.expire(0.0, 0)
        self._look_up(turn.lookups, core)
        tasks = core.state.tasks
        if not self.turns % self.check_every:
            core.state.check()
            assert not core.state.objects.touched, "somebody let go of an object, and nobody looked"
        messages = turn.messages
        if self.doom:
            messages = messages[: self.random.randint(0, len(messages))]
        for envelope in messages:
            if self.verbose and not isinstance(envelope.message, m.Pong):
                self.trace(f"    {envelope.peer.decode()} <- {envelope.message}")
            if isinstance(envelope.message, m.Run):
                self.roots.update((call.id, tasks[call.id].root) for call in envelope.message.calls)
            if isinstance(envelope.message, m.Drop):
                judge_drops(self, envelope.message)
            if envelope.peer not in self.peers or envelope.peer in self.down:
                core.lost(envelope.peer, self.now)
                core.state.check()
            else:
                self.send(CONTROLLER, envelope.peer, envelope.message, envelope.frames)
        if self.doom:
            self.kill_controller()
            return
        deadline = core.deadline()
        if deadline is not None and (deadline < self.tick_at or self.tick_at <= self.now):
            self.tick_at = max(deadline, self.now)
            self.after(self.tick_at - self.now, self._tick, self.tick_at)

    def by_id(self, id_: int) -> AsyncResult:
        """Return a future for a task that was asked for by its id, and of which nothing has come."""
        future = future_of(id_, next(client.submitted[id_][2] for client in self.clients if id_ in client.submitted))
        future._fetched = True
        return future

    def _look_up(self, lookups: Sequence[Lookup], core: Core) -> None:
        """Have the journal tell the controller what it asks, if it can, after a while."""
        for lookup in lookups:
            message, frames = m.Reply(lookup.message.request, error="the disk is full"), []
            if not self.full_turns:
                steps = Archive(self.store).answer(lookup.message, {})
                while True:
                    try:
                        next(steps)
                    except StopIteration as end:
                        message, frames = end.value
                        break
            delay = self.random.uniform(0, 0.01)
            self.after(delay, self._looked_up, core, lookup.peer, codec.encode(message), frames)

    def _looked_up(self, core: Core, peer: bytes, header: bytes, frames: list) -> None:
        if core is not self.core or not self.alive:
            return
        if core.answered(Peer(peer), codec.decode_to_client(header), frames):
            self._schedule_turn(0.0)
        elif peer not in self.peers or peer in self.down:
            core.lost(peer, self.now)
        else:
            self._post(CONTROLLER, peer, header, frames)

    def give_up(self, peer: Peer) -> None:
        """Have the controller wait for somebody no longer."""
        self.core.receive(peer, m.Goodbye(), (), self.now)
        self._schedule_turn(0.0)

    def _disk_is_full(self, core: Core) -> bool:
        """Say whether nothing can be written in this turn; when that is over, the journal begins anew."""
        assert self.store is not None
        if self.full_turns:
            self.full_turns -= 1
            if not self.full_turns:
                self.trace("the journal begins anew")
                self.store.resume(core.books())
            return True
        if self.random.random() < self.full_disks and not self.doom:
            self.trace("the disk is full")
            self.store.suspend()
            self.full_turns = self.random.choice([1, 3, 30])
            self.was_full = True
            return True
        return False

    def _tick(self, when: float) -> None:
        if when == self.tick_at and self.alive:
            self.tick_at = float("inf")
            self.turn()

    def options_of(self, root: int) -> m.Options | None:
        """Return how a task wants to be run, if it is a client's."""
        return next((client.submitted[root][0] for client in self.clients if root in client.submitted), None)

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
        assert not any(engine.withdrawals for engine in state.engines.values())
        assert all(client.unfinished == 0 for client in state.clients.values())
        for entry in state.functions.entries.values():
            assert entry.owners <= set(state.clients), f"{entry.digest!r} is kept for a client that is gone"
