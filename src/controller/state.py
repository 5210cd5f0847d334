"""The controller's books: every task, client, engine and nanny, the queues, and the moments to come.

Only the state, and the small steps that keep its parts in agreement. What to do about events is decided in `intake`,
`outcomes`, `stopping`, `fleet` and `placement`. `check()` states the invariants that hold between turns.
"""

from __future__ import annotations

import itertools
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import msgspec

from ..ids import CONTROLLER_NO, COUNT_BITS, ClientNo, Peer, TaskId, client_of
from ..wire.messages import Engines, Reply, Result, Status
from . import checks, handles, memory, pools, resources
from .functions import FunctionStore
from .graph import Graph
from .journal.ledger import (
    LOST_PAYLOAD,
    TOO_LARGE,
    EngineGone,
    EngineIs,
    Heard,
    Killed,
    Lacked,
    Piece,
    Returned,
    Whole,
)
from .objects import Objects
from .outbox import Outbox
from .pulls import Pulls
from .queues import FairQueue
from .records import Client, Engine, EngineState, Nanny, Setup, Task, TaskState, Unmet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .fetches import Fetching
    from .homes import Home
    from .journal.ledger import Entry, Lookup
    from .requests import Waiter
    from .stock import Stocktaking
    from .stopping import Stop

EPOCH_BITS = 28
"""Room for so many numbers of pieces and of requests by each controller that a cluster has had."""

WINDOW_S = 0.05
"""How much work an engine is given ahead. Long enough to hide a round trip and a burst of other work in the controller,
short enough that little has to be taken back when another engine falls idle."""

CALL_OVERHEAD_S = 8e-6
"""What a call costs its engine beyond the user's code: unpickling, books, pickling the result."""

ITEM_OVERHEAD_S = 2e-7
"""The same for an item of a divisible call."""


COROUTINE_S = 1e-4
"""What a coroutine counts in its engine's load: most of the time that it takes, it waits. So many as an engine may have
at once count much less than a window."""


class State:
    """Everything the controller knows."""

    def __init__(self, cluster: str, *, epoch: int = 1, durable: bool = False) -> None:
        self.cluster = cluster
        self.epoch = epoch
        """How many controllers this cluster has had, this one included."""
        self.durable = durable
        """There is a journal, which wants to know."""
        self.journal_failure = ""
        """Why nothing is written down any more, if it is not."""
        self.entries: list[Entry] = []
        """For the journal, of this turn."""
        self.tasks: dict[int, Task] = {}
        """All tasks that have not ended, by id."""
        self.pieces: dict[int, set[int]] = {}
        """For a task that was divided: the ids of those of its pieces (itself included) that have not ended."""
        self.clients: dict[int, Client] = {}
        self.client_peers: dict[Peer, Client] = {}
        self.engines: dict[int, Engine] = {}
        self.gone: dict[int, int] = {}
        """Last incarnations of ids that are not there any more: should they come again, they go on counting."""
        self.engine_peers: dict[Peer, Engine] = {}
        """Both sockets of each engine's present incarnation."""
        self.nannies: dict[Peer, Nanny] = {}
        self.functions = FunctionStore()
        self.outbox = Outbox(self.note)
        self.common = FairQueue()
        """Waiting tasks that any engine may run, coroutines excepted."""
        self.coroutines = FairQueue()
        """Waiting coroutines that any engine may run."""
        self.pools: dict[pools.Pool, FairQueue] = {}
        """Waiting tasks that not every engine may run at any time. Of those that take resources, the pool that was
        served last is the last."""
        self.homes: dict[Peer, Home] = {}
        """Waiting tasks that any engine may run at any time, and that are better run on one host: by its nanny."""
        self.graph = Graph()
        """Tasks that wait for others."""
        self.objects = Objects()
        self.pulls = Pulls()
        self.inquiries: dict[int, Stocktaking] = {}
        """Questions to the stores that are not answered, by number."""
        self.keep_s = float("inf")
        """How long results are kept for whoever asks."""
        self.keep_bytes = float("inf")
        """How many bytes of these are kept."""
        self.idle: set[int] = set()
        """Ready engines that have nothing assigned but coroutines."""
        self.laden: set[int] = set()
        """Ready engines that have more than one thing to do: something after a task that is not a coroutine, or a
        second item of a divisible one."""
        self.open: list[tuple[float, int, int]] = []
        """Heap of (load, engine, version) of the engines that can take more; entries of old versions are void."""
        self.direct_ready: set[int] = set()
        """Engines that can take more and have tasks addressed to them waiting."""
        self.rebalance = False
        """Something changed that may make it worth taking work back."""
        self.looking = False
        """A closer look at engines with little work is due."""
        self.memory_limit = 0
        """How many bytes clients may have here, before they are to hold back; 0: as many as they like."""
        self.held_bytes = 0
        """What tasks take besides their places in the books."""
        self.peak = 0
        """So many tasks there were at the most since memory was last given back."""
        self.calm = False
        """It is time for that."""
        self.holding: set[int] = set()
        """Clients that were told to hold back."""
        self.stops: dict[int, Stop] = {}
        """Assigned tasks that are to be stopped, by id."""
        self.setups: list[Setup] = []
        """What every engine has run before anything else, in order."""
        self.sought: dict[int, dict[tuple[Peer, int], Fetching]] = {}
        """Open tasks that somebody fetches: by whom and with which request."""
        self.told: set[int] = set()
        """Of these, those of which a result came in this turn."""
        self.lookups: list[Lookup] = []
        """What is to be asked of the journal."""
        self.stopping = False
        self.pid = 0
        self.started = 0.0
        self.now = 0.0
        """The time of this turn, for decisions made when messages are taken."""
        self.retiring: set[int] = set()
        """Engines to be ended when they have nothing to do."""
        self.waiters: list[Waiter] = []
        """Who waits for engines to be ready or gone."""
        self.fleet_changed = False
        """An engine's state has changed, or somebody has come to wait for one: the waiters are to be looked through."""
        self.finished = 0
        """Tasks that have ended since the controller started."""
        self.ghosts: dict[int, Client] = {}
        """Stand-ins for clients that are gone for good, whose tasks go on."""
        self.heard: dict[Peer, Client | Engine] = {}
        """Whose numbered messages were taken in this turn."""
        self._news: dict[int, Engine] = {}
        self._changed: dict[int, Engine] = {}
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._tick_numbers = itertools.count()
        self.last_client = 0
        """The highest number that a client was given."""
        # No number of an earlier controller comes again: engines may still speak of those.
        self._piece_numbers = itertools.count((CONTROLLER_NO << COUNT_BITS) + (epoch << EPOCH_BITS) + 1)
        self._request_numbers = itertools.count((epoch << EPOCH_BITS) + 1)

    # ------------------------------------------------------------------------------------------------ the journal

    def note(self, entry: Entry) -> None:
        """Have something written down before the messages of this turn leave."""
        if self.durable:
            self.entries.append(entry)

    def take_entries(self) -> list[Entry]:
        """Return what is to be written down for this turn."""
        for peer, side in self.heard.items():
            self.note(Heard(peer, side.incoming.have))
        self.heard.clear()
        for engine in self._changed.values():
            if self.engines.get(engine.id) is engine:
                self.note(engine_is(engine))
            elif engine.id not in self.engines:
                self.note(EngineGone(engine.id, engine.incarnation))
        self._changed.clear()
        entries, self.entries = self.entries, []
        return entries

    def keep(self, engine: Engine) -> None:
        """An engine's record changed: write it down at the end of the turn."""
        self._changed[engine.id] = engine

    # ------------------------------------------------------------------------------------------------ time

    def at(self, when: float, function: Callable[..., None], *args: Any) -> None:
        """Have `function(*args, now)` called at that time. It cannot be withdrawn: the function sees if it is moot."""
        heappush(self._timers, (when, next(self._tick_numbers), function, args))

    def run_timers(self, now: float) -> None:
        """Call what is due."""
        self.now = now
        timers = self._timers
        while timers and timers[0][0] <= now:
            _, _, function, args = heappop(timers)
            function(*args, now)

    def next_timer(self) -> float | None:
        """Return when `run_timers` must be called at the latest."""
        return self._timers[0][0] if self._timers else None

    # ------------------------------------------------------------------------------------------------ numbers

    def next_client_no(self) -> ClientNo:
        """Return a number no client has had."""
        self.last_client += 1
        return ClientNo(self.last_client)

    def next_piece_id(self) -> int:
        """Return an id for a piece of a divided task."""
        return next(self._piece_numbers)

    def next_request(self) -> int:
        """Return a number for a question of ours to an engine."""
        return next(self._request_numbers)

    # ------------------------------------------------------------------------------------------------ clients

    def reply(self, peer: Peer, request: int, value: Any = None, error: str | None = None) -> None:
        """Answer a request, after the results of this turn."""
        self.outbox.answer(peer, Reply(request, value, error))

    def announce(self, engine: Engine) -> None:
        """Tell all clients of an engine's new state, at the end of the turn."""
        self._news[engine.id] = engine
        self.keep(engine)

    def flush_news(self) -> None:
        """Say what `announce` collected."""
        if self._news:
            news = Engines([engine.info() for engine in self._news.values()])
            self._news = {}
            for client in self.clients.values():
                if client.away_since is None:
                    self.outbox.say(client.peer, news)  # those who are away are told when they are welcomed again

    # ------------------------------------------------------------------------------------------------ tasks

    def is_open(self, root: int) -> bool:
        """Return whether a task (not a piece of one) is known, and its last result has not been delivered."""
        task = self.tasks.get(root)
        return root in self.pieces or (task is not None and task.root == root)

    def estimate_s(self, task: Task) -> float:
        """Return how long a task will keep an engine, as far as we know; a full window when we know nothing."""
        if task.is_coroutine:
            return COROUTINE_S
        entry = self.functions.entries[task.function]
        if entry.mean_s is None:
            return WINDOW_S
        if task.hi:
            return (entry.mean_s + ITEM_OVERHEAD_S) * (task.hi - task.lo)
        return entry.mean_s + CALL_OVERHEAD_S

    def queue_for(self, task: Task) -> FairQueue:
        """Return the queue in which this (not addressed) task waits."""
        if task.home:
            return self.homes[task.home].queue
        pool = pools.pool_of(task)
        if pool is None:
            return self.coroutines if task.is_coroutine else self.common
        queue = self.pools.get(pool)
        if queue is None:
            queue = self.pools[pool] = FairQueue()
        return queue

    def enqueue_again(self, task: Task) -> None:
        """A task was given back, or gets another attempt: it waits again, before those that came after it."""
        if task.payload is LOST_PAYLOAD:
            self.end(task, Result(task.id, Status.UNKNOWN, TOO_LARGE.encode(), lo=task.lo, hi=task.hi))
            return
        task.state = TaskState.WAITING
        task.engine = -1
        task.cost_s = 0.0
        task.home = Peer(b"")  # where it was is no place for it, or has no time for it
        if self.durable:
            last = self.entries[-1] if self.entries else None
            if isinstance(last, Returned):
                last.tasks.append(task.id)
            else:
                self.entries.append(Returned([task.id]))
        if task.options.ordered:
            targets = task.options.targets
            assert targets is not None
            engine = self.engines[targets[0]]
            engine.direct.appendleft(task)
            self.touch(engine)
        else:
            client = self.clients.get(task.client) or self.ghost(task.client)
            self.queue_for(task).push_front(client, task)

    def ghost(self, no: int) -> Client:
        """Return the stand-in for a client that is gone for good, whose tasks go on."""
        client = self.ghosts.get(no)
        if client is None:
            client = self.ghosts[no] = Client(ClientNo(no), Peer(b""), "gone", 0, "")
            client.away_since = 0.0
        return client

    def receiver_of(self, task: Task) -> Client | None:
        """Return whom to deliver a task's results and output to: if its client is gone, only the journal wants them; of
        a task of our own, nobody does.
        """
        client = self.clients.get(task.client)
        unheard = client is not None or not self.durable or task.client == CONTROLLER_NO
        return client if unheard else self.ghost(task.client)

    def end(self, task: Task, result: Result, frames: Sequence[Any] = ()) -> None:
        """A task has ended, with this (last) result."""
        self.deliver(task, result, frames)
        self.drop(task, result.status)

    def drop(self, task: Task, status: int | None = None) -> None:
        """Strike a task off the books: it has ended (with that status), or all it had went to its pieces."""
        task.state = TaskState.ENDED
        del self.tasks[task.id]
        self.functions.release(task.function)
        if task.objects:
            self.objects.let_go(task)
        over = True
        if task.root in self.pieces:
            pieces = self.pieces[task.root]
            pieces.discard(task.id)
            over = not pieces
            if over:
                del self.pieces[task.root]
        if over and task.client == CONTROLLER_NO:
            self.note(Whole(task.root, []))  # no result of it is delivered that would tell
        elif over:
            memory.leave(self, task)
            if self.graph.nodes:
                self.graph.end(task.root)
            self.finished += 1
            client = self.clients.get(task.client)
            if client is not None:
                client.unfinished -= 1
        if self.stops:
            stop = self.stops.pop(task.id, None)
            if stop is not None:
                stop.ended(self, task, status)

    def split_off(
        self, task: Task, lo: int, hi: int, *, attempt: int | None = None, unmet: Unmet | None = None
    ) -> Task:
        """Enter a task of its own that takes over some items of another, which keeps its own account of them."""
        if attempt is None:
            attempt = task.attempt
        piece = msgspec.structs.replace(
            task, id=self.next_piece_id(), lo=lo, hi=hi, attempt=attempt, cost_s=0.0, early=None
        )
        piece.unmet = unmet or task.unmet
        self.note_piece(piece)
        self.tasks[piece.id] = piece
        if piece.objects:
            self.objects.hold(piece)
        self.functions.entries[piece.function].unfinished += 1
        self.pieces.setdefault(task.root, {task.id}).add(piece.id)
        stop = self.stops.get(task.id)
        if stop is not None:
            self.note(stop.move([piece.id]))
            self.stops[piece.id] = stop
            stop.inherited(task.root)
        return piece

    def note_piece(self, piece: Task) -> None:
        """Have a piece written down, or a task that begins again, with what is known of it."""
        self.note(Piece(piece.id, piece.root, piece.lo, piece.hi, piece.attempt))
        if piece.deaths:
            self.note(Killed(piece.id, piece.deaths))
        if piece.unmet is not None:
            self.note(Lacked(piece.id, sorted(piece.unmet.engines), piece.unmet.sentence))

    def deliver(self, task: Task, result: Result, frames: Sequence[Any] = ()) -> None:
        """Pass a result on to the task's client, if it is still to be found."""
        result.id = task.root
        if self.graph.nodes:
            self.graph.take_result(task.root, result, frames)
        client = self.receiver_of(task)
        if result.objects:
            handles.deliver(self, client, result)
        if client is None:
            return
        if task.root in self.sought:
            self.told.add(task.root)
        client.results.append(result)
        if frames:
            client.frames.extend(frames)
        self.outbox.to_client(client)

    def refuse(self, task: Task, sentence: str) -> None:
        """End a task that can never run."""
        self.end(task, Result(task.id, Status.REFUSED, sentence.encode(), lo=task.lo, hi=task.hi))

    # ------------------------------------------------------------------------------------------------ engines

    def touch(self, engine: Engine) -> None:
        """An engine's load or state changed: put it where placement will find it."""
        engine.version += 1
        if engine.state is not EngineState.READY or engine.retiring:
            self.idle.discard(engine.id)
            self.laden.discard(engine.id)
            self.direct_ready.discard(engine.id)
            return
        plain = len(engine.assigned) - engine.coroutines
        if plain > 1 or (plain and engine.is_laden):
            self.laden.add(engine.id)
        else:
            self.laden.discard(engine.id)
        if plain:
            self.idle.discard(engine.id)
        elif engine.id not in self.idle:
            self.idle.add(engine.id)
            engine.load_s = COROUTINE_S * engine.coroutines  # no drift from rounding
            self.rebalance = True
        if plain < 2 or engine.load_s < WINDOW_S:
            heappush(self.open, (engine.load_s, engine.id, engine.version))
            if self.homes and engine.nanny in self.homes:
                self.homes[engine.nanny].offer(engine)
            if engine.direct:
                self.direct_ready.add(engine.id)
        if len(self.open) > 64 + 4 * len(self.engines):
            self.compact_open()

    def compact_open(self) -> None:
        """Leave out what is void."""
        engines = self.engines
        self.open = sorted(e for e in self.open if e[1] in engines and engines[e[1]].version == e[2])

    def unassign(self, engine: Engine, task: Task) -> None:
        """Take a task out of an engine's books; `touch` the engine afterwards."""
        del engine.assigned[task.id]
        engine.load_s -= task.cost_s
        engine.coroutines -= task.is_coroutine
        if engine.pinned:
            resources.unpin(engine, task)

    # ------------------------------------------------------------------------------------------------ truth

    def check(self) -> None:
        """Assert what must hold between turns. For tests and simulations: it looks at everything."""
        checks.check(self)

    def owner_of(self, root: int) -> int:
        """Return the number of the client that submitted a task."""
        return client_of(TaskId(root))


def engine_is(engine: Engine) -> EngineIs:
    """Return what is to be written down of an engine."""
    return EngineIs(
        engine.id,
        engine.incarnation,
        engine.nanny,
        engine.host,
        engine.pid,
        str(engine.state),
        engine.failures,
        engine.retiring,
        engine.reason,
    )
