"""A whole cluster in one process, in virtual time, by a seed.

The controller's core is the real one. Engines, nannies and clients are models that do to it what real ones may do, and
worse: messages are delayed at random (in order on each connection, as ZeroMQ keeps them), engines die at any moment and
take what they had not got out with them, clients leave, tasks fail, print, hang and kill. Every message is encoded and
decoded for real, so one that cannot cross the wire fails here.

The books of the controller are checked after every turn, and the account of all tasks at the end.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
from collections import defaultdict, deque

import msgspec

from enginery.controller.core import Core
from enginery.controller.outcomes import AFTER_LAST
from enginery.ids import Peer, control_peer, engine_peer, first_task_id
from enginery.wire import codec
from enginery.wire import messages as m

CONTROLLER = Peer(b"controller")


class Work(msgspec.Struct, array_like=True):
    """What a simulated task does; it travels as the payload."""

    durations: list[float]  # one, or one per item
    fails: list[bool]
    kills: list[bool]
    outputs: int = 0
    deaf: bool = False  # ignores interrupts


class World:
    def __init__(self, seed: int, engines: int = 3) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list = []
        self._numbers = itertools.count()
        self._last_arrival: dict[tuple[bytes, bytes], float] = {}
        self.in_flight: dict[bytes, list] = defaultdict(list)
        self.peers: dict[bytes, object] = {}
        self.turn_due = False
        self.tick_at = float("inf")
        self.started: dict[tuple[int, int], int] = defaultdict(int)
        """How often each (task, item) was begun."""
        self.lag = self.random.choice([0.0002, 0.001, 0.01])
        self.core = Core("sim", 1, 0.0)
        self.nanny = Nanny(self, engines)
        self.clients: list[Client] = []

    # -- time

    def after(self, delay: float, function, *args) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), function, args))

    def run(self, until: float, stop=lambda: False) -> None:
        while self._events and not stop():
            when = self._events[0][0]
            if when > until:
                break
            _, _, function, args = heapq.heappop(self._events)
            self.now = max(self.now, when)
            function(*args)
        else:
            if stop():
                return
        self.now = max(self.now, until) if not stop() else self.now

    # -- the network

    def send(self, source: bytes, target: bytes, message, frames=()) -> None:
        delay = self.random.expovariate(1 / self.lag)
        if self.random.random() < 0.02:
            delay += self.random.uniform(0, 0.05)
        link = (source, target)
        when = max(self.now + delay, self._last_arrival.get(link, 0.0) + 1e-9)
        self._last_arrival[link] = when
        letter = [source, target, codec.encode(message), list(frames), True]
        self.in_flight[source].append(letter)
        self.after(when - self.now, self._arrive, letter)

    def _arrive(self, letter) -> None:
        source, target, header, frames, exists = letter
        self.in_flight[source].remove(letter)
        if not exists:
            return
        if target == CONTROLLER:
            self.core.receive(Peer(source), codec.decode_to_controller(header), frames, self.now)
            if not self.turn_due:
                self.turn_due = True
                self.after(self.random.uniform(0, self.lag), self.turn)
            return
        peer = self.peers.get(target)
        if peer is None:
            return
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
        core.state.check()
        for envelope in turn.messages:
            if envelope.peer not in self.peers:
                core.lost(envelope.peer, self.now)
            else:
                self.send(CONTROLLER, envelope.peer, envelope.message, envelope.frames)
        core.state.check()
        deadline = core.deadline()
        if deadline is not None and (deadline < self.tick_at or self.tick_at <= self.now):
            self.tick_at = max(deadline, self.now)
            self.after(self.tick_at - self.now, self._tick, self.tick_at)

    def _tick(self, when: float) -> None:
        if when == self.tick_at:
            self.tick_at = float("inf")
            self.turn()


class Engine:
    """A process: a main thread that reads its socket between calls, and a control thread that is always awake."""

    def __init__(self, world: World, nanny: Nanny, number: int, incarnation: int) -> None:
        self.world, self.nanny = world, nanny
        self.id, self.incarnation = number, incarnation
        self.main, self.control = engine_peer(number, incarnation), control_peer(number, incarnation)
        self.pid = world.random.randrange(1000, 30000)
        self.alive = True
        self.functions: set[bytes] = set()
        self.mailbox: deque = deque()  # read by the main thread between calls, by the control thread when asked
        self.queue: deque = deque()
        self.current = None  # [call, frames, next item, hi, claimed hi, outputs so far]
        self.out: list = []
        self.record = (None, 0)
        self.run_number = 0
        world.peers[self.main] = world.peers[self.control] = self
        world.send(self.control, CONTROLLER, m.ControlHello(number, incarnation))
        world.send(self.main, CONTROLLER, m.EngineHello(m.VERSION, number, incarnation, self.pid, "host"))

    def die(self, status: int) -> None:
        if not self.alive:
            return
        self.alive = False
        self.world.cut(self.main)
        self.world.cut(self.control)
        del self.world.peers[self.main], self.world.peers[self.control]
        self.nanny.exited(self, status)

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_engine(header)
        match message:
            case m.Run() | m.Forget():
                self.mailbox.append((message, frames))
                if self.current is None:
                    self.proceed()
            case m.TakeBack():
                self.drain()
                self.take_back(message)
            case m.Interrupt():
                self.interrupt(message.task)
            case m.Exit() | m.Farewell() | m.Refused():
                self.die(0)
            case m.EngineWelcome():
                pass
            case _:
                raise AssertionError(message)

    def drain(self) -> None:
        while self.mailbox:
            message, frames = self.mailbox.popleft()
            if isinstance(message, m.Forget):
                self.functions.difference_update(message.digests)
                continue
            self.functions.update(f.digest for f in message.functions)
            at = 0
            for call in message.calls:
                assert call.function in self.functions or call.function[:1] == b"!", "a function that was never sent"
                self.queue.append((call, frames[at : at + call.frames]))
                at += call.frames
            assert at == len(frames)

    def take_back(self, message: m.TakeBack) -> None:
        calls, tails = [], []
        current = self.current
        if message.tasks is not None:
            named = set(message.tasks)
            calls = [call.id for call, _ in self.queue if call.id in named]
            self.queue = deque(item for item in self.queue if item[0].id not in named)
            if current is not None and current[0].id in named and current[4] < current[3]:
                tails = [(current[0].id, current[4])]
                current[3] = current[4]
        else:
            free = [call for call, _ in self.queue if not call.fixed]
            calls = [call.id for call in free[len(free) // 2 :]]
            gone = set(calls)
            self.queue = deque(item for item in self.queue if item[0].id not in gone)
            if not calls and current is not None and not current[0].fixed and current[4] < current[3]:
                middle = (current[4] + current[3]) // 2
                tails = [(current[0].id, middle)]
                current[3] = middle
        self.world.send(self.control, CONTROLLER, m.GivenBack(message.request, calls, tails))

    def proceed(self) -> None:
        """Begin the next call, if there is one."""
        self.drain()
        if not self.queue:
            self.flush()
            return
        call, frames = self.queue.popleft()
        if call.announce:
            self.world.send(self.main, CONTROLLER, m.Started(call.id))
        self.current = [call, frames, call.lo, call.hi, call.lo, 0]
        self.world.nanny.order[self.id, self.incarnation].append(call.id)
        self.slice()

    def slice(self) -> None:
        """Claim and begin the next item (or a few), or the whole of a plain call."""
        current = self.current
        call = current[0]
        work = msgspec.msgpack.decode(call.payload, type=Work)
        if call.hi:
            count = min(self.world.random.choice([1, 1, 2, 5]), current[3] - current[2])
            current[4] = current[2] + count
        self.run_number += 1
        self.item(work, current[2])

    def item(self, work: Work, i: int) -> None:
        call = self.current[0]
        self.record = (call.id, i if call.hi else 0)
        root = self.world.nanny.root_of(call)
        self.world.started[root, i if call.hi else 0] += 1
        self.world.after(work.durations[i if call.hi else 0], self.finish, self.run_number, work, i, None)

    def finish(self, number: int, work: Work, i: int, how) -> None:
        if not self.alive or number != self.run_number or self.current is None:
            return
        current = self.current
        call = current[0]
        k = i if call.hi else 0
        if how is None and work.kills[k]:
            self.die(-signal.SIGSEGV)
            return
        records = [m.Output(call.id, "stdout", f"{call.id} {i} {n}") for n in range(work.outputs)]
        if records:
            current[5] += len(records)
            socket = self.world.random.choice([self.main, self.control])
            self.world.send(socket, CONTROLLER, m.Outputs(records))
        status = m.Status.ERROR if how == "interrupt" or work.fails[k] else m.Status.OK
        frames = [b"%d" % call.id] if call.frames and status == m.Status.OK else []
        lo, hi = (i, i + 1) if call.hi else (0, 0)
        payload = b"interrupted" if how == "interrupt" else b"%d" % call.id
        result = m.Result(
            call.id, status, payload, len(frames), -1, self.world.now, work.durations[k], current[5], lo, hi
        )
        self.out.append((result, frames))
        if call.hi and i + 1 < current[4]:
            current[2] = i + 1
            self.run_number += 1
            self.item(work, i + 1)
            return
        current[2] = i + 1
        if self.world.random.random() < 0.3:
            self.flush()
        if call.hi and current[2] < current[3]:
            self.slice()
            return
        self.record = (call.id, AFTER_LAST)
        self.current = None
        self.proceed()

    def flush(self) -> None:
        if not self.out:
            return
        out, self.out = self.out, []
        frames = [frame for _, parts in out for frame in parts]
        rescued = self.world.random.random() < 0.2  # by the control thread
        socket = self.control if rescued else self.main
        self.world.send(socket, CONTROLLER, m.Done([result for result, _ in out]), frames)

    def interrupt(self, task: int) -> None:
        if self.current is None or self.current[0].id != task:
            return
        work = msgspec.msgpack.decode(self.current[0].payload, type=Work)
        if not work.deaf:
            self.world.after(0.001, self.finish, self.run_number, work, self.current[2], "interrupt")


class Nanny:
    def __init__(self, world: World, engines: int) -> None:
        self.world = world
        self.name = Peer(b"nhost.1")
        self.engines: dict[int, Engine] = {}
        self.order: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.roots: dict[int, int] = {}
        self.bad_starts = 0
        world.peers[self.name] = self
        world.send(self.name, CONTROLLER, m.NannyHello(m.VERSION, "host", 1, 2, engines, head=True))

    def root_of(self, call: m.Call) -> int:
        """Return the task that its client knows, for a piece: the simulation reads it off the payload's frame."""
        task = self.world.core.state.tasks.get(call.id)
        if task is not None:
            self.roots[call.id] = task.root
        return self.roots.get(call.id, call.id)

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_nanny(header)
        match message:
            case m.StartEngines():
                for number, incarnation in message.engines:
                    self.world.after(self.world.random.uniform(0.001, 0.1), self.start, number, incarnation)
            case m.StopEngine():
                engine = self.engines.get(message.engine)
                if engine is not None and engine.incarnation == message.incarnation:
                    engine.die(-message.signal)
            case m.NannyWelcome() | m.Pong() | m.Farewell():
                pass
            case _:
                raise AssertionError(message)

    def start(self, number: int, incarnation: int) -> None:
        if self.bad_starts and self.world.random.random() < 0.3:
            self.bad_starts -= 1
            certificate = m.DeathCertificate(number, incarnation, 0, 1, "could not be started")
            self.world.send(self.name, CONTROLLER, m.EngineExited(certificate))
            return
        self.engines[number] = Engine(self.world, self, number, incarnation)

    def exited(self, engine: Engine, status: int) -> None:
        task, item = engine.record
        certificate = m.DeathCertificate(engine.id, engine.incarnation, engine.pid, status, "died", task, item)
        self.world.send(self.name, CONTROLLER, m.EngineExited(certificate))


class Client:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = Peer(b"c%07d" % number)
        self.no = 0
        self.count = 0
        self.engines: dict[int, str] = {}
        self.submitted: dict[int, tuple[m.Options, Work, int]] = {}
        self.results: dict[tuple[int, int], list[m.Result]] = defaultdict(list)
        """By task and item (0 for a plain call)."""
        self.outputs: dict[int, int] = defaultdict(int)
        self.replies: dict[int, m.Reply] = {}
        self.cancels: dict[int, list[int]] = {}
        self.left = False
        world.peers[self.name] = self
        world.clients.append(self)
        world.send(self.name, CONTROLLER, m.ClientHello(m.VERSION, "sim", 1, "host"))

    def say(self, message, frames=()) -> None:
        self.world.send(self.name, CONTROLLER, message, frames)

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_client(header)
        match message:
            case m.Welcome():
                self.no = message.client
                self.engines = {e.id: e.state for e in message.engines}
            case m.Engines():
                for engine in message.engines:
                    self.engines[engine.id] = engine.state
            case m.Outputs():
                for record in message.records:
                    self.outputs[record.task] += 1
            case m.Results():
                at = 0
                for result in message.results:
                    parts = frames[at : at + result.frames]
                    at += result.frames
                    assert all(part in (result.payload, b"") or True for part in parts)
                    if result.frames:
                        assert parts == [result.payload], "frames of one task arrived with another"
                    for i in range(result.lo, result.hi) if result.hi else [0]:
                        self.results[result.id, i].append(result)
                assert at == len(frames)
            case m.Reply():
                assert message.request not in self.replies, "answered twice"
                self.replies[message.request] = message
            case m.Pong() | m.Farewell():
                pass
            case _:
                raise AssertionError(message)

    def submit(self, function: bytes, works: list[Work], options: m.Options, *, items: bool = False) -> list[int]:
        tasks, frames, ids = [], [], []
        for work in works:
            id_ = first_task_id(self.no) + self.count
            copies = len(options.targets) if options.ordered else 1
            self.count += copies
            mine = [b"frame"] if self.world.random.random() < 0.2 else []
            frames += mine
            payload = msgspec.msgpack.encode(work)
            n = len(work.durations) if items else 0
            tasks.append(m.Task(id_, function, payload, len(mine), 0, n, copies))
            for copy in range(copies):
                self.submitted[id_ + copy] = (options, work, n)
                ids.append(id_ + copy)
        self.say(m.Submit([m.Function(function, b"pickle")], [options], tasks), frames)
        return ids

    def cancel(self, ids: list[int], grace_s: float | None, *, interrupt: bool = True) -> None:
        request = len(self.cancels) + 1
        self.cancels[request] = ids
        self.say(m.Cancel(request, ids, grace_s, interrupt))

    def leave(self, *, politely: bool, cancel: bool = False) -> None:
        self.left = True
        if politely:
            self.say(m.Goodbye(cancel=cancel))
        del self.world.peers[self.name]

    def unanswered(self) -> list[int]:
        return [
            id_
            for id_, (_, _, n) in self.submitted.items()
            if any(not self.results[id_, i] for i in (range(n) if n else [0]))
        ]

    def account(self) -> None:
        """Assert that everything asked was answered, once, and nothing ran that should not have."""
        for id_, (options, work, n) in self.submitted.items():
            for i in range(n) if n else [0]:
                results = self.results[id_, i]
                assert len(results) == 1, f"seed {self.world.seed}: task {id_} item {i} of {n}: results {results}"
                result = results[0]
                begun = self.world.started[id_, i]
                assert begun <= 1 + options.retries, f"seed {self.world.seed}: {id_} item {i} ran {begun} times"
                if result.status == m.Status.OK:
                    assert begun >= 1
                    assert not work.fails[i]
                if result.status == m.Status.ERROR:
                    assert work.fails[i], f"seed {self.world.seed}: {result}"
                if result.status == m.Status.LOST:
                    certificate = codec.decode_certificate(result.payload)
                    assert begun >= 1, f"seed {self.world.seed}: {id_} item {i} is called lost but never began"
                    assert certificate.task == id_
                if result.status == m.Status.OK and n == 0:
                    assert self.outputs[id_] >= result.outputs
        for request, ids in self.cancels.items():
            assert request in self.replies, f"seed {self.world.seed}: cancel {request} was never answered"
            for id_ in self.replies[request].value:
                assert id_ in ids
                n = self.submitted[id_][2]
                statuses = {self.results[id_, i][0].status for i in (range(n) if n else [0])}
                assert m.Status.CANCELLED in statuses
