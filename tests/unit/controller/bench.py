"""A workbench for the controller's core: tests speak for clients, engines and nannies, and hear what it says to them.

Every message is encoded and decoded on its way, in both directions, so one that cannot cross the wire fails here. After
every turn the books are checked. What the core says waits in the inbox of its receiver until a test takes it;
`nothing_else_was_said` fails if anything is left. The fixture `bench` asks that at the end of each test.

Clients and engines number what must not be lost, and keep it until the core has it, as real ones do; a message of the
core's that is out of turn fails the test. `lose_connection` and `come_back` are what they say. With a journal, entries
are committed before anything leaves, and the controller can `die` in mid-test; `restored_books_are_the_same` asks what
another would make of the records.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from enginery.controller import objects
from enginery.controller.core import Core
from enginery.controller.dependents import as_submitted
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.ledger import CONTROLLER
from enginery.controller.journal.restore import restore
from enginery.controller.journal.store import IN_MEMORY, Store
from enginery.ids import ClientNo, EngineId, Incarnation, Peer, control_peer, engine_peer, first_task_id
from enginery.streams import Incoming, Outgoing, Verdict
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from enginery.controller.journal.ledger import Lookup
    from enginery.controller.state import State

M = TypeVar("M", bound=msgspec.Struct)

BATCH_S = 0.005
"""How long a busy engine may collect results before it sends them."""

MANY = 1000
"""The books are not checked while there are more tasks: that looks at every one of them, after every turn."""

SETTLED_S = 0.05
"""After this, an engine whose end was reported has been dealt with."""

LIFE = "life"
"""The name of the run of the cluster in which a bench with a journal is."""


class Side:
    """A peer of the controller and its inbox."""

    def __init__(self, bench: Bench, name: bytes) -> None:
        self.bench = bench
        self.name = Peer(name)
        self.inbox: deque[tuple[msgspec.Struct, list[Any]]] = deque()
        self.pongs = 0
        self.outgoing = Outgoing()
        """What it numbered, and the core has not confirmed."""
        self.incoming = Incoming()
        self.repeated = 0
        """How many messages came that had come before."""
        self.numbers = False
        """Whether it numbers what must not be lost."""

    @property
    def names(self) -> list[bytes]:
        """The routing ids of its sockets."""
        return [self.name]

    def say(self, message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
        """Say something; numbered, it is kept until it is confirmed, else it is lost without a connection."""
        if self.numbers and isinstance(message, m.Numbered) and not message.seq:
            self.outgoing.number(message, list(frames))
        if self.name not in self.bench.unreachable:
            self.bench.tell(self.name, message, frames)

    def hear(self, message: msgspec.Struct, frames: list[Any]) -> None:
        """Take what the core says. Confirmations are dealt with at once."""
        have = message.have if isinstance(message, m.Ack) else getattr(message, "ack", 0)
        assert have <= self.outgoing.last, "it confirms what was never said"
        self.outgoing.acked(have)
        if isinstance(message, m.Pong):
            self.pongs += 1
        elif isinstance(message, m.Numbered) and message.seq:
            verdict = self.incoming.judge(message.seq)
            assert verdict is not Verdict.GAP, f"{message} came after number {self.incoming.have}"
            if verdict is Verdict.TAKE:
                self.inbox.append((message, frames))
            else:
                self.repeated += 1
        elif not isinstance(message, m.Ack):
            self.inbox.append((message, frames))

    def say_again(self, have: int) -> None:
        """Say what the core misses."""
        for message, frames in self.outgoing.after(have):
            self.bench.tell(self.name, message, frames)

    def lose_connection(self, *, noticed: bool = True) -> None:
        """Be out of reach. The core notices when it next says something, or now."""
        self.bench.unreachable.update(self.names)
        if noticed:
            for name in self.names:
                self.bench.core.lost(name, self.bench.now)
            self.bench.turn()

    def take_all(self, kind: type[M]) -> list[tuple[M, list[Any]]]:
        """Return the messages of a kind that came, with their frames."""
        mine = [letter for letter in self.inbox if isinstance(letter[0], kind)]
        self.inbox = deque(letter for letter in self.inbox if not isinstance(letter[0], kind))
        return mine  # type: ignore[return-value]

    def take(self, kind: type[M]) -> M:
        """Return the one message of a kind that came."""
        mine = self.take_all(kind)
        assert len(mine) == 1, f"{self.name!r}: {mine} instead of one {kind.__name__}; besides: {list(self.inbox)}"
        assert not mine[0][1], "a message with frames nobody looked at"
        return mine[0][0]

    def kinds(self) -> list[str]:
        """Return what waits in the inbox, in order, by kind."""
        return [type(message).__name__ for message, _ in self.inbox]


class ClientSide(Side):
    """A client: its tasks are numbered by its own count, its requests too."""

    def __init__(self, bench: Bench, name: bytes) -> None:
        super().__init__(bench, name)
        self.no = 0
        self.count = 0
        self.requests = 0
        self.frames: dict[int, list[Any]] = {}
        self.numbers = True
        self.cancel_on_exit = False
        self.handles: list[bytes] = []
        """Those that it was given with results."""

    def hello(self) -> m.Welcome:
        """Say hello, for the first time or again, and then what the core has missed."""
        have, welcomed = self.incoming.have, bool(self.no)
        self.say(m.ClientHello(m.VERSION, self.name.decode(), 7, "here", have, welcomed, self.cancel_on_exit))
        welcome = self.take(m.Welcome)
        assert not self.no or welcome.client == self.no, "it is taken for somebody else"
        self.no = welcome.client
        self.say_again(welcome.have)
        return welcome

    def come_back(self) -> m.Welcome:
        """Have a connection again, and notice."""
        self.bench.unreachable.discard(self.name)
        return self.hello()

    def confirm(self) -> None:
        """Say that everything has come."""
        self.say(m.Ack(self.incoming.have))

    def new_ids(self, n: int) -> list[int]:
        first = first_task_id(ClientNo(self.no)) + self.count
        self.count += n
        return list(range(first, first + n))

    def submit(
        self,
        n: int = 1,
        function: bytes = b"f",
        *,
        items: int = 0,
        payload: bytes = b"arguments",
        frames: Sequence[bytes] = (),
        sent: bool = True,
        needs: tuple[int, ...] = (),
        objects: tuple[m.ObjectInfo, ...] = (),
        **options: Any,
    ) -> list[int]:
        """Submit tasks, each with these frames and objects; return their ids. Not `sent`: without the function."""
        wanted = m.Options(**options)
        copies = len(wanted.targets or ()) if wanted.ordered else 1
        ids = self.new_ids(n * copies)
        tasks = [m.Task(id_, function, payload, len(frames), 0, items, copies, needs, objects) for id_ in ids[::copies]]
        functions = [m.Function(function, b"pickle of " + function)] if sent and function[:1] != b"!" else []
        self.say(m.Submit(functions, [wanted], tasks), [*frames] * n)
        return ids

    def ask(self, kind: type[msgspec.Struct], *arguments: Any, **fields: Any) -> int:
        self.requests += 1
        self.say(kind(self.requests, *arguments, **fields))
        return self.requests

    def cancel(self, tasks: list[int], grace_s: float | None = None, *, interrupt: bool = True) -> int:
        return self.ask(m.Cancel, tasks, grace_s, interrupt, after=self.outgoing.last)

    def results(self) -> list[m.Result]:
        """Return the results that came; the frames of each are in `self.frames` afterwards."""
        found = []
        for message, frames in self.take_all(m.Results):
            rest = list(frames)
            for result in message.results:
                self.handles.extend(info.id for info in result.objects)
                self.frames[result.id], rest = rest[: result.frames], rest[result.frames :]
                found.append(result)
            assert not rest, "more frames than the results have"
        return found

    def ended(self) -> dict[int, m.Status]:
        """Return how the plain tasks whose results came have ended."""
        results = self.results()
        ended = {result.id: m.Status(result.status) for result in results}
        assert len(ended) == len(results), "a task ended twice"
        return ended

    def runs(self) -> list[tuple[int, int, m.Status]]:
        """Return the runs of items (of one divisible task) whose results came."""
        return [(result.lo, result.hi, m.Status(result.status)) for result in self.results()]

    def answer(self, request: int) -> Any:
        reply = self.take(m.Reply)
        assert (reply.request, reply.error) == (request, None)
        return reply.value

    def error(self, request: int) -> str:
        reply = self.take(m.Reply)
        assert reply.request == request
        assert reply.error is not None, f"answered {reply.value}"
        return reply.error

    def news(self) -> list[tuple[int, str]]:
        """Return which engines changed to which states."""
        return [(engine.id, engine.state) for message, _ in self.take_all(m.Engines) for engine in message.engines]

    def output(self) -> list[str]:
        return [record.data for message, _ in self.take_all(m.Outputs) for record in message.records]


class EngineSide(Side):
    """An engine process: the calls it was given and has not answered are in `queue`."""

    def __init__(self, bench: Bench, engine: int, incarnation: int) -> None:
        super().__init__(bench, engine_peer(EngineId(engine), Incarnation(incarnation)))
        self.control = Side(bench, control_peer(EngineId(engine), Incarnation(incarnation)))
        self.id, self.incarnation = engine, incarnation
        self.queue: dict[int, m.Call] = {}
        self.functions: set[bytes] = set()
        self.frames: dict[int, list[Any]] = {}
        self.batch: list[m.Result] = []
        """What it runs by itself, in `Bench.work`."""
        self.numbers = True
        self.session = 0
        """That of its last welcome."""

    @property
    def names(self) -> list[bytes]:
        return [self.name, self.control.name]

    def hello(self) -> m.EngineWelcome:
        """Say hello, for the first time or again."""
        self.control.say(m.ControlHello(self.id, self.incarnation))
        self.say(m.EngineHello(m.VERSION, self.id, self.incarnation, 100 + self.id, "host"))
        welcome = self.take(m.EngineWelcome)
        self.session = welcome.session
        return welcome

    def come_back(
        self,
        running: int | None = None,
        hi: int = -1,
        elapsed_s: float = 0.0,
        *,
        holding: bool = True,
        coroutines: Iterable[tuple[int, float]] = (),
    ) -> None:
        """Have a connection again, and say what the core has missed and what is to be done here."""
        self.bench.unreachable.difference_update(self.names)
        self.say_again(self.hello().have)
        if holding:
            self.hold(running, hi, elapsed_s, coroutines)

    def hold(
        self,
        running: int | None = None,
        hi: int = -1,
        elapsed_s: float = 0.0,
        coroutines: Iterable[tuple[int, float]] = (),
    ) -> None:
        """Say what is to be done here."""
        assert not any(isinstance(message, m.Run) for message, _ in self.inbox), (
            "it has not looked at what it was given"
        )
        begun = dict(coroutines)
        waiting = [id_ for id_ in self.queue if id_ != running and id_ not in begun]
        functions = sorted(self.functions)
        self.say(m.Holding(self.session, waiting, running, hi, elapsed_s, functions, list(begun.items())))

    def calls(self) -> list[m.Call]:
        """Return the calls it was given since last asked."""
        found = []
        for message, frames in self.take_all(m.Run):
            assert message.calls, "a Run without a call"
            self.functions.update(function.digest for function in message.functions)
            rest = list(frames)
            for call in message.calls:
                assert call.function in self.functions or call.function[:1] == b"!", "a function it was never sent"
                self.frames[call.id], rest = rest[: call.frames], rest[call.frames :]
                self.queue[call.id] = call
                found.append(call)
            assert not rest, "more frames than the calls have"
        return found

    def given(self) -> list[int]:
        """Return the ids of the calls it was given since last asked."""
        return [call.id for call in self.calls()]

    def finish(
        self,
        *ids: int,
        status: m.Status = m.Status.OK,
        duration: float = 0.001,
        payload: bytes = b"value",
        frames: Sequence[bytes] = (),
        outputs: int = 0,
        control: bool = False,
        objects: tuple[m.ObjectInfo, ...] = (),
    ) -> None:
        """Report that these calls (all it has: none) ended so."""
        results = [
            m.Result(id_, status, payload, len(frames), -1, 1.0, duration, outputs, objects=objects)
            for id_ in ids or tuple(self.queue)
        ]
        for id_ in ids or tuple(self.queue):
            del self.queue[id_]
        (self.control if control else self).say(m.Done(results), [*frames] * len(results))

    def fail(self, *ids: int) -> None:
        self.finish(*ids, status=m.Status.ERROR, payload=b"failure")

    def finish_items(
        self,
        id_: int,
        lo: int,
        hi: int,
        status: m.Status = m.Status.OK,
        *,
        item_s: float = 0.001,
        outputs: int = 0,
    ) -> None:
        self.say(m.Done([m.Result(id_, status, b"values", 0, -1, 1.0, item_s * (hi - lo), outputs, lo, hi)]))

    def print(self, task: int, *texts: str, control: bool = False) -> None:
        side = self.control if control else self
        side.say(m.Outputs([m.Output(task, "stdout", text) for text in texts]))

    def asked_back(self) -> m.TakeBack:
        return self.control.take(m.TakeBack)

    def give_back(
        self, request: m.TakeBack, calls: Iterable[int] = (), tails: Iterable[tuple[int, int]] = ()
    ) -> list[int]:
        calls = list(calls)
        for id_ in calls:
            del self.queue[id_]
        self.control.say(m.GivenBack(request.request, calls, list(tails), self.session))
        return calls

    def give_nothing(self) -> None:
        """Answer all that asked for something back: there is nothing."""
        for request, _ in self.control.take_all(m.TakeBack):
            self.give_back(request)

    def choose_to_give(self, request: m.TakeBack) -> list[int]:
        """Return what a real engine would give back: what is named, or the last half of what is free."""
        unstarted = self.queue.values()
        if request.tasks is not None:
            return [call.id for call in unstarted if call.id in request.tasks]
        free = [call.id for call in unstarted if not call.fixed]
        return free[len(free) // 2 :]

    def interrupted(self) -> list[int]:
        """Return the tasks that were to be interrupted."""
        return [message.task for message, _ in self.control.take_all(m.Interrupt)]

    def die(
        self,
        task: int | None = None,
        item: int = 0,
        *,
        exit_code: int | None = -9,
        settle: bool = True,
        reason: str = "",
        coroutines: Iterable[tuple[int, float]] = (),
        step: int | None = None,
    ) -> None:
        """End, its flight recorder at this task and item, and have its nanny say so."""
        reason = reason or "killed by signal 9 (SIGKILL)"
        certificate = m.DeathCertificate(
            self.id, self.incarnation, 100 + self.id, exit_code, reason, task, item, 1000, "last words"
        )
        certificate = msgspec.structs.replace(certificate, coroutines=list(coroutines), step=step)
        self.bench.nanny_of(self.id).say(m.EngineExited(certificate))
        if settle:
            self.bench.advance(SETTLED_S)


class NannySide(Side):
    """A nanny: it is told of processes by the tests, and tells what they tell it when it comes back."""

    def __init__(self, bench: Bench, name: bytes, hello: m.NannyHello) -> None:
        super().__init__(bench, name)
        self.hello = hello

    def come_back(
        self,
        running: Iterable[tuple[int, int]] = (),
        ended: Iterable[m.DeathCertificate] = (),
        objects: Iterable[m.ObjectInfo] = (),
        orphans: Iterable[m.ObjectInfo] = (),
    ) -> None:
        """Have a connection again, and say which processes run and how those that do not have ended, and what objects
        there are.
        """
        self.bench.unreachable.discard(self.name)
        gone = [info.id for info in orphans]
        self.say(m.Running(self.say_hello(), list(running), list(ended), list(objects), gone))

    def dropped(self) -> list[bytes]:
        """Return the objects that it was told to drop."""
        return [id_ for message, _ in self.take_all(m.Drop) for id_ in message.objects]

    def say_hello(self) -> int:
        """Say hello again; return the session in which it is asked what it runs."""
        self.say(msgspec.structs.replace(self.hello, welcomed=True))
        welcome = self.take(m.NannyWelcome)
        assert welcome.session
        return welcome.session

    def starts(self) -> list[tuple[int, int]]:
        """Return the engines it was told to start."""
        return [pair for message, _ in self.take_all(m.StartEngines) for pair in message.engines]

    def stops(self) -> list[tuple[int, int]]:
        """Return `(engine, signal)` of the engines it was told to signal."""
        return [(message.engine, message.signal) for message, _ in self.take_all(m.StopEngine)]


class Bench:
    """The core, its peers and the time."""

    def __init__(self, *, durable: bool = False) -> None:
        self.now = 100.0
        self.store = Store(IN_MEMORY) if durable else None
        self.pid = 42
        self.core = self._new_core()
        self.sides: dict[bytes, Side] = {}
        self.engines: list[EngineSide] = []
        """By id, each in its present incarnation."""
        self.clients: list[ClientSide] = []
        self.nannies: list[NannySide] = []
        self.unreachable: set[bytes] = set()
        """Peers to whom nothing can be sent."""
        self.said: list[tuple[bytes, str]] = []
        """Everything the core said, in order: receiver and kind."""
        self.in_burst = False
        self.stores = False
        """Hosts have stores of objects."""
        self._ends: dict[int, float] = {}
        """When the engines that run something (in `work`) will report it."""

    # -- building

    def start(
        self, engines: int = 1, clients: int = 1, hosts: int = 1, resources: dict[str, float] | None = None
    ) -> Bench:
        """Have a cluster of so many ready engines (on each host) and clients who know them."""
        for _ in range(hosts):
            self.add_nanny(engines, resources=resources)
        for _ in range(clients):
            self.add_client().hello()
        return self

    def add_client(self) -> ClientSide:
        client = ClientSide(self, b"c%d" % len(self.clients))
        self.clients.append(client)
        self.sides[client.name] = client
        return client

    def add_nanny(
        self, engines: int = 0, *, cores: int = 4, ready: bool = True, resources: dict[str, float] | None = None
    ) -> NannySide:
        n = len(self.nannies)
        hello = m.NannyHello(m.VERSION, f"host{n}", 50 + n, cores, engines, head=n == 0, resources=resources or {})
        if self.stores:
            hello.store = m.Source(store_id(n), f"tcp://host{n}:1")
        nanny = NannySide(self, b"nhost%d.1" % n, hello)
        self.nannies.append(nanny)
        self.sides[nanny.name] = nanny
        nanny.say(hello)
        nanny.take(m.NannyWelcome)
        if engines and ready:
            self.hello_engines(nanny)
        return nanny

    def hello_engines(self, nanny: NannySide | None = None) -> list[EngineSide]:
        """The engines that a nanny was told to start are there."""
        started = (nanny or self.nannies[0]).starts()
        assert started, "no engine was to be started"
        engines = [self.add_engine(engine, incarnation) for engine, incarnation in started]
        for engine in engines:
            engine.hello()
        return engines

    def add_engine(self, engine: int, incarnation: int) -> EngineSide:
        """Make an engine that has not said hello yet."""
        side = EngineSide(self, engine, incarnation)
        self.sides[side.name] = side
        self.sides[side.control.name] = side.control
        while len(self.engines) <= engine:
            self.engines.append(side)
        self.engines[engine] = side
        return side

    def nanny_of(self, engine: int) -> NannySide:
        name = self.core.state.engines[engine].nanny
        return next(nanny for nanny in self.nannies if nanny.name == name)

    # -- running

    def tell(self, sender: Peer, message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
        """Say something to the core; outside a `burst`, it takes its turn."""
        self.core.receive(sender, codec.decode_to_controller(codec.encode(message)), list(frames), self.now)
        if not self.in_burst:
            self.turn()

    def burst(self, *actions: Callable[[], object]) -> None:
        """Have the core hear several things before it takes its turn."""
        self.in_burst = True
        for action in actions:
            action()
        self.in_burst = False
        self.turn()

    def turn(self) -> None:
        """Have the core do what is due and say what it has to say."""
        self.core.tick(self.now)
        turn = self.core.take()
        if self.store is None:
            assert not turn.entries, "there is no journal"
        elif turn.entries:
            self.store.commit(turn.entries)
        for envelope in turn.messages:
            if envelope.peer in self.unreachable:
                self.core.lost(envelope.peer, self.now)
                continue
            side = self.sides.get(envelope.peer)
            if side is None:
                side = self.sides[envelope.peer] = Side(self, envelope.peer)
            message = _DECODERS[envelope.peer[:1]](codec.encode(envelope.message))
            self.said.append((envelope.peer, type(message).__name__))
            side.hear(message, list(envelope.frames))
        if len(self.core.state.tasks) < MANY:
            self.core.state.check()
        self._look_up(turn.lookups)

    def _look_up(self, lookups: Sequence[Lookup]) -> None:
        """Have the journal answer what the core itself asks it, and some of what clients do; not the rest."""
        turns = False
        for lookup in lookups:
            if lookup.peer != CONTROLLER and not isinstance(lookup.message, m.Fetch | m.Recall | m.Purge):
                continue
            assert self.store is not None
            steps = Archive(self.store).answer(lookup.message, {})
            try:
                while True:
                    next(steps)
            except StopIteration as end:
                message, frames = end.value
            turns |= self.core.answered(lookup.peer, codec.decode_to_client(codec.encode(message)), frames)
        if turns:
            self.turn()

    def advance(self, seconds: float) -> None:
        """Let time pass, with a turn at every deadline on the way."""
        end = self.now + seconds
        while (deadline := self.core.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.turn()
        self.now = end

    def work(self, cost: Callable[[m.Call], float], until: float = float("inf")) -> list[tuple[float, int, int]]:
        """Have the engines run what they are given, each call for so long, until nothing is left or that time has come.

        Return `(end, engine, task)` of the calls that ran. As with a real engine, results of quick calls travel
        together, and what has not begun is given back when asked for.
        """
        ran: list[tuple[float, int, int]] = []
        ends = self._ends
        while True:
            for engine in self.engines:
                engine.given()
                for request, _ in engine.control.take_all(m.TakeBack):
                    engine.give_back(request, engine.choose_to_give(request))
                    engine.given()
                if engine.queue and engine.id not in ends:
                    ends[engine.id] = self._begin(engine, cost, ran)
            due = min(ends.values(), default=until)
            if due >= until:
                self.advance(until - self.now if until < float("inf") else 0.0)
                return ran
            deadline = self.core.deadline()
            if deadline is not None and deadline < due:
                self.advance(deadline - self.now)  # it may want something of the engines then
                continue
            engine = self.engines[min(ends, key=lambda id_: ends[id_])]
            self.advance(ends.pop(engine.id) - self.now)
            engine.say(m.Done(engine.batch))
            engine.batch = []

    def _begin(self, engine: EngineSide, cost: Callable[[m.Call], float], ran: list[tuple[float, int, int]]) -> float:
        """Have an engine begin its next call, or several quick ones; return when it will report them."""
        end = self.now
        for call in list(engine.queue.values()):
            took = cost(call)
            if engine.batch and end + took > self.now + BATCH_S:
                break
            end += took
            engine.batch.append(m.Result(call.id, m.Status.OK, b"", 0, -1, 1.0, took))
            ran.append((end, engine.id, call.id))
            del engine.queue[call.id]
        return end

    # -- another controller

    def _new_core(self) -> Core:
        return Core("bench", self.pid, self.now, self._restored())

    def _restored(self) -> State | None:
        """Return the books that another controller would begin with."""
        if self.store is None:
            return None
        return restore(self.store.load(), "bench", self.store.begin(LIFE), self.store.last_client(), self.now)

    def summarize(self) -> None:
        """Have the journal hold a summary of the books in place of the moves."""
        assert self.store is not None
        self.store.commit([], self.core.summary())

    def begin_anew(self) -> None:
        """Have the journal, which has missed something, begin anew with the whole of the books."""
        assert self.store is not None
        self.store.suspend()
        self.store.resume(self.core.books())

    def die(self, *, away_s: float = 1.0) -> None:
        """Have another controller in place of this one, which has died. Everybody has lost its connection."""
        self.now += away_s
        self.pid += 1
        self.core = self._new_core()
        self.unreachable = {name for name in self.sides if name[:1] in _DECODERS}
        self.turn()

    # -- judging

    def restored_books_are_the_same(self) -> None:
        """Assert that another controller would go on from here as this one does, but for what it has to ask."""
        restored, state = self._restored(), self.core.state
        assert restored is not None
        assert books(restored) == books(state)
        objects.sweep(restored)  # as its first turn does
        restored.check()

    def nothing_else_was_said(self) -> None:
        left = {side.name: side.kinds() for side in self.sides.values() if side.inbox}
        assert not left, f"the core also said: {left}"

    def forget_what_was_said(self) -> None:
        """For tests that look at the books only."""
        for side in self.sides.values():
            side.inbox.clear()


def store_id(host: int) -> bytes:
    """Return the id of a host's store."""
    return b"store%3d" % host


def object_of(number: int, host: int = 0, nbytes: int = 1 << 20) -> m.ObjectInfo:
    """Return an object that was made on a host."""
    return m.ObjectInfo(store_id(host) + number.to_bytes(8, "big"), nbytes)


def books(state: State) -> dict[str, Any]:
    """Return what of the books survives the controller, in a form to be compared."""
    gone = {engine.id for engine in state.engines.values() if engine.nanny not in state.nannies}
    return {
        "tasks": {task.id: _task(state, task) for task in state.tasks.values()},
        "assigned": {engine.id: list(engine.assigned) for engine in state.engines.values()},
        "clients": {
            client.no: (
                client.peer,
                client.name,
                client.host,
                client.cancel_on_exit,
                client.ended,
                client.unfinished,
                client.incoming.have,
                client.outgoing.last,
                [message.seq for message, _ in client.outgoing.after(0)],
                client.digests,
            )
            for client in state.clients.values()
        },
        "functions": {
            entry.digest: (entry.pickled, entry.owners, entry.unfinished)
            for entry in state.functions.entries.values()
            if entry.pickled or entry.unfinished
        },
        "engines": {
            engine.id: (
                engine.incarnation,
                engine.nanny,
                engine.host,
                engine.pid,
                engine.failures,
                engine.retiring,
                engine.state == "failed",
                engine.incoming.have,
            )
            for engine in state.engines.values()
            if engine.id not in gone
        },
        "gone": dict(state.gone),
        "nannies": {
            nanny.peer: (nanny.host, nanny.cores, nanny.head, nanny.resources, nanny.store, nanny.engines)
            for nanny in state.nannies.values()
        },
        "objects": {
            id_: (held.info, held.stores, held.handles, held.kept, held.setups)
            for id_, held in state.objects.entries.items()
        },
    }


def _task(state: State, task: Any) -> tuple[Any, ...]:
    payload, frames, needs, options, _ = as_submitted(state, task)
    early = set().union(*(range(lo, hi) for lo, hi in task.early or ()))
    return (
        task.root,
        task.client,
        task.function,
        payload,
        needs,
        options,
        [bytes(frame) for frame in frames],
        task.attempt,
        task.deaths or [],
        task.unmet,
        task.state,
        task.engine if task.state else -1,
        set(range(task.lo, task.hi)) - early if task.hi else None,
    )


_DECODERS: dict[bytes, Callable[[bytes], Any]] = {
    b"c": codec.decode_to_client,
    b"e": codec.decode_to_engine,
    b"k": codec.decode_to_engine,
    b"n": codec.decode_to_nanny,
}
