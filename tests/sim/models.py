"""What engines, nannies and clients do to the controller: a model of each, for `World`.

Engines die at any moment and take with them what they had not got out; nannies report ends, or are lost with all their
engines; clients leave, vanish and come back; connections break; tasks fail, print, hang and kill. Everybody keeps what
it has said until it is acknowledged, and says what is missing again.
"""

from __future__ import annotations

import signal
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any

import msgspec
from enginery.client.calls.dependencies import Bound
from enginery.client.connection.core import Entry
from enginery.client.connection.submission import compose, compose_again
from enginery.client.results.waits import Waits
from enginery.ids import (
    ClientNo,
    EngineId,
    Incarnation,
    Peer,
    TaskId,
    client_of,
    control_peer,
    engine_peer,
    first_task_id,
)
from enginery.recorder import AFTER_LAST, COROUTINES, OVER
from enginery.streams import Incoming, Outgoing, Verdict
from enginery.wire import codec
from enginery.wire import messages as m
from enginery.wire.given import find_given
from enginery.wire.objects import reference_to, show_object
from enginery.wire.parts import is_coroutine
from graphs import Links, check_given, future_of, judge_links
from stores import Store, objects_of, value_of
from world import CONTROLLER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enginery.client.results.futures import AsyncResult
    from world import World

RESCUE_S = 0.03
"""How long a finished result waits for the main thread until the control thread sends it."""

LATE = 0.2
"""How often a thread of a task prints after its end, where there are threads."""

HUNG = float("inf")
"""The duration of a task that never ends by itself."""


class Work(msgspec.Struct, array_like=True):
    """What a simulated task does; it travels as the payload."""

    durations: list[float]  # one, or one per item
    fails: list[bool]
    kills: list[bool]
    outputs: int = 0
    deaf: bool = False  # ignores interrupts
    unmet: list[list[int]] = []  # the engines that cannot run it (or its item); empty: all can
    refs: list[m.ObjectInfo] = []  # objects among its arguments


class Coroutine:
    """A coroutine task that has begun and not ended."""

    def __init__(self, world: World, call: m.Call, slot: int) -> None:
        self.call = call
        self.slot = slot
        self.began = world.now
        self.work = work_of(world, call)


def work_of(world: World, call: m.Call) -> Work:
    """Return what a task does, whatever it was given besides."""
    given = find_given(call.payload)
    payload = call.payload if given is None else given.payload
    return msgspec.msgpack.decode(value_of(world, payload), type=Work)


class Engine:
    """A process: a main thread that reads its socket between calls, and a control thread that is always awake."""

    def __init__(self, world: World, nanny: Nanny, number: int, incarnation: int) -> None:
        self.world, self.nanny = world, nanny
        self.id, self.incarnation = number, incarnation
        self.main = engine_peer(EngineId(number), Incarnation(incarnation))
        self.control = control_peer(EngineId(number), Incarnation(incarnation))
        self.pid = world.random.randrange(1000, 30000)
        self.alive = True
        self.functions: set[bytes] = set()
        self.mailbox: deque = deque()  # read by the main thread between calls, by the control thread when asked
        self.queue: deque = deque()
        self.current: Any = None  # [call, frames, next item, hi, claimed hi, outputs so far]
        self.out: list = []
        self.record: tuple[int | None, int] = (None, 0)
        self.coroutines: dict[int, Coroutine] = {}
        self.slots: list[tuple[int, float]] = [(-1, OVER)] * COROUTINES
        self.free = deque(range(COROUTINES))
        self.step: int | None = None
        self.run_number = 0
        self.loaded = False
        """The objects among the arguments of the current call are mapped."""
        self.opening = False
        """The current item has begun, with the opening of its arguments."""
        self.began = 0.0
        self.session = 0
        self.outgoing = Outgoing()
        self.held: dict[int, tuple[tuple[str, float], ...]] = {}
        """What the calls that run take of the host's resources."""
        world.peers[self.main] = world.peers[self.control] = self
        if not world.alive:
            world.down |= {self.main, self.control}
            return
        self.reconnected()

    def reconnected(self) -> None:
        """One of our connections is there (again)."""
        self.world.send(self.control, CONTROLLER, m.ControlHello(self.id, self.incarnation))
        hello = m.EngineHello(m.VERSION, self.id, self.incarnation, self.pid, "host")
        self.world.send(self.main, CONTROLLER, hello)

    def say(self, message: Any, frames: Any = ()) -> None:
        """Say something that must not be lost."""
        self.outgoing.number(message, frames)
        self.world.send(self.main, CONTROLLER, message, frames)

    def die(self, status: int) -> None:
        if not self.alive:
            return
        self.world.trace(f"engine {self.id}.{self.incarnation} ends: {status}, in {self.record}")
        self.alive = False
        self.held.clear()
        self.world.cut(self.main)
        self.world.cut(self.control)
        del self.world.peers[self.main], self.world.peers[self.control]
        self.nanny.exited(self, status)

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_engine(header)
        match message:
            case m.Run() | m.Forget() | m.EngineWelcome() | m.Ack():
                assert address == self.main
                self.mailbox.append((message, frames))
                if isinstance(message, m.EngineWelcome):  # the control thread waits for it
                    self.drain()
                if self.current is None:
                    self.proceed()
            case m.TakeBack():
                self.drain()
                self.take_back(message)
            case m.Interrupt():
                self.interrupt(message.task)
            case m.Ask():
                self.world.send(self.control, CONTROLLER, m.Answer(message.request, [self.id, message.question]))
            case m.Exit() | m.Farewell() | m.Refused():
                self.die(0)
            case m.Resume():
                self.reconnected()
            case m.Pong():
                pass
            case _:
                raise AssertionError(message)

    def drain(self) -> None:
        while self.mailbox:
            message, frames = self.mailbox.popleft()
            if isinstance(message, m.Forget):
                self.functions.difference_update(message.digests)
                continue
            if isinstance(message, m.Ack):
                self.outgoing.acked(message.have)
                continue
            if isinstance(message, m.EngineWelcome):
                if message.session:
                    self.tell(message.have, message.session)
                continue
            self.outgoing.acked(message.ack)
            self.functions.update(f.digest for f in message.functions)
            at = 0
            for call in message.calls:
                self.queue.append((call, frames[at : at + call.frames]))
                at += call.frames
            assert at == len(frames)

    def tell(self, have: int, session: int) -> None:
        """Say again what was lost, and what we hold."""
        self.session = session
        holding = m.Holding(session, [call.id for call, _ in self.queue], functions=sorted(self.functions))
        holding.coroutines = [(id_, self.world.now - one.began) for id_, one in self.coroutines.items()]
        if self.current is not None:
            call = self.current[0]
            holding.running, holding.hi = call.id, self.current[3] if call.hi else -1
            holding.elapsed_s = self.world.now - self.began
        for message, frames in self.outgoing.after(have):
            self.world.send(self.main, CONTROLLER, message, frames)
        self.flush()
        self.world.send(self.main, CONTROLLER, holding)

    def take_back(self, message: m.TakeBack) -> None:
        calls, tails = [], []
        current, queued = self.current, list(self.queue)
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
        runs = [(call.id, call.lo, max(call.lo + 1, call.hi)) for call, _ in queued if call.id in calls]
        runs += [(id_, lo, current[0].hi) for id_, lo in tails]
        for id_, lo, hi in runs:
            root = self.world.roots[id_]
            self.world.given_back.update((root, i, self.id, self.incarnation) for i in range(lo, hi))
        self.world.send(self.control, CONTROLLER, m.GivenBack(message.request, calls, tails, self.session))

    def proceed(self) -> None:
        """Begin the next call, if there is one."""
        self.drain()
        if not self.queue:
            self.flush()
            return
        call, frames = self.queue.popleft()
        if call.function not in self.functions and call.function[:1] != b"!":  # what brought it is lost
            assert self.main in self.world.broken, "a function that was never sent"
            self.reconnected()
            self.proceed()
            return
        if call.announce:
            self.world.send(self.main, CONTROLLER, m.Started(call.id))
        check_given(self.world, call, frames)
        self.nanny.hold(self, call)
        self.loaded = self.opening = False
        self.current = [call, frames, call.lo, call.hi, call.lo, 0]
        self.began = self.world.now
        self.slice()

    def slice(self) -> None:
        """Claim and begin the next item (or a few), or the whole of a plain call."""
        current = self.current
        call = current[0]
        work = work_of(self.world, call)
        if not self.loaded and not self.load(call, work):
            return
        if is_coroutine(call.function, call.hi):
            self.current = None
            self.begin_coroutine(call)
            self.proceed()
            return
        if call.hi:
            count = min(self.world.random.choice(self.nanny.claims), current[3] - current[2])
            current[4] = current[2] + count
        self.run_number += 1
        self.item(work, current[2])

    def load(self, call: m.Call, work: Work) -> bool:
        """Map the objects among the arguments of a call; return False if that takes a while."""
        given = find_given(call.payload)
        payload, results = (call.payload, []) if given is None else (given.payload, given.results)
        missing = objects_of(payload, results, work.refs)
        if not missing:
            self.loaded = True
            return True
        self.run_number += 1
        number = self.run_number
        k = 0
        if call.hi:
            k = self.current[2]
            self.current[4] = k + 1
        self.record = (call.id, k)
        self.world.started[self.world.roots[call.id], k] += 1
        self.opening = True

        def there(info: m.ObjectInfo, error: str) -> None:
            if not self.alive or number != self.run_number or self.current is None:
                return
            if error:
                self.lacking(call, info, error)
                self.finish(number, work, self.current[2], "lacking")
                return
            missing.remove(info)
            if not missing:
                self.loaded = True
                self.slice()

        for info in list(missing):
            self.nanny.store.want(self.main, info, lambda error, info=info: self.world.after(0.0, there, info, error))
        return False

    def lacking(self, call: m.Call, info: m.ObjectInfo, error: str) -> None:
        """What a call needs is nowhere: that may only be so if its hosts were lost, or nobody waits for this call."""
        world = self.world
        task = world.core.state.tasks.get(call.id)
        ours = task is not None and task.engine == self.id and self.nanny.name in world.core.state.nannies
        assert info.id in world.harmed or not ours, f"{call.id} runs without {show_object(info.id)}: {error}"
        world.deprived.add(world.roots[call.id])

    def item(self, work: Work, i: int) -> None:
        call = self.current[0]
        k = i if call.hi else 0
        self.record = (call.id, k)
        self.world.started[self.world.roots[call.id], k] += not self.opening
        self.opening = False
        if work.durations[k] < HUNG:
            self.world.after(work.durations[k], self.finish, self.run_number, work, i, None)

    def finish(self, number: int, work: Work, i: int, how: str | None) -> None:
        if not self.alive or number != self.run_number or self.current is None:
            return
        current = self.current
        call = current[0]
        k = i if call.hi else 0
        if how is None and work.kills[k]:
            self.die(-signal.SIGSEGV)
            return
        self.world.over.add((self.world.roots[call.id], k))
        records = [m.Output(call.id, "stdout", f"{call.id} {i} {n}") for n in range(work.outputs)]
        if not self.loaded:  # it ends without its arguments: an attempt that has done nothing
            self.opening = False
            records = []
        if records:
            current[5] += len(records)
            self.say(m.Outputs(records))
        status = m.Status.ERROR if how is not None or work.fails[k] else m.Status.OK
        if how is None and self.cannot(work, call, k):
            status = m.Status.UNMET
        frames = [b"%d" % call.id] if call.frames and status == m.Status.OK else []
        lo, hi = (i, i + 1) if call.hi else (0, 0)
        payload = b"interrupted" if how == "interrupt" else b"%d" % call.id
        if status == m.Status.UNMET:
            payload = b"not here"
        took = min(work.durations[k], 1.0) if how is not None else work.durations[k]
        result = m.Result(call.id, status, payload, len(frames), -1, self.world.now, took, current[5], lo, hi)
        result, frames = self.pack(result, frames)
        if not self.out:
            self.world.after(RESCUE_S, self.flush)
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
        self.held.pop(call.id, None)
        self.proceed()

    def pack(self, result: m.Result, frames: list[bytes]) -> tuple[m.Result, list[bytes]]:
        """Make an object of a value, now and then."""
        store = self.nanny.store
        if store is None or result.status != m.Status.OK or self.world.random.random() > self.world.large:
            return result, frames
        info = store.make(self.main, result.payload)
        return msgspec.structs.replace(result, payload=reference_to(info), frames=0, objects=(info,)), []

    def cannot(self, work: Work, call: m.Call, k: int) -> bool:
        """Say whether what a call (or its item) needs is not here. Nobody is asked twice."""
        if not work.unmet or self.id not in work.unmet[k]:
            return False
        asked = self.world.asked[self.world.roots[call.id], k]
        me = (self.id, self.incarnation)
        assert me not in asked, f"engine {me} is asked again for {self.world.roots[call.id]} item {k}"
        asked.append(me)
        return True

    def begin_coroutine(self, call: m.Call) -> None:
        """Begin a coroutine: it waits, and others go on."""
        slot = self.free.popleft()  # there is one: the controller gives no more
        self.coroutines[call.id] = one = Coroutine(self.world, call, slot)
        self.slots[slot] = (call.id, self.world.now)
        self.record = (call.id, AFTER_LAST)
        self.world.started[self.world.roots[call.id], 0] += not self.opening
        self.opening = False
        if one.work.durations[0] < HUNG:
            self.world.after(one.work.durations[0], self.end_coroutine, one, False)

    def end_coroutine(self, one: Coroutine, interrupted: bool) -> None:
        call, work = one.call, one.work
        if not self.alive or self.coroutines.get(call.id) is not one:
            return
        if work.kills[0] and not interrupted:
            self.step = call.id
            self.die(-signal.SIGSEGV)
            return
        self.world.over.add((self.world.roots[call.id], 0))
        records = [m.Output(call.id, "stdout", f"{call.id} {n}") for n in range(work.outputs)]
        if records:
            self.say(m.Outputs(records))
        status = m.Status.ERROR if interrupted or work.fails[0] else m.Status.OK
        if not interrupted and self.cannot(work, call, 0):
            status = m.Status.UNMET
        frames = [b"%d" % call.id] if call.frames and status == m.Status.OK else []
        payload = b"interrupted" if interrupted else b"%d" % call.id
        if status == m.Status.UNMET:
            payload = b"not here"
        took = self.world.now - one.began
        if not self.out:
            self.world.after(RESCUE_S, self.flush)
        result = m.Result(call.id, status, payload, len(frames), -1, one.began, took, len(records), hi=call.hi)
        self.out.append(self.pack(result, frames))
        del self.coroutines[call.id]
        self.held.pop(call.id, None)
        self.slots[one.slot] = (call.id, OVER)
        self.free.append(one.slot)
        if self.world.random.random() < 0.5:
            self.flush()

    def flush(self) -> None:
        """Send the results there are; the control thread does so if the main thread has not for a while."""
        if not self.out or not self.alive:
            return
        out, self.out = self.out, []
        frames = [frame for _, parts in out for frame in parts]
        self.say(m.Done([result for result, _ in out]), frames)
        if self.world.has_threads and self.world.random.random() < LATE:
            self.say(m.Outputs([m.Output(out[-1][0].id, "late", "")]))

    def interrupt(self, task: int) -> None:
        if (one := self.coroutines.get(task)) is not None:
            if not one.work.deaf:
                self.world.after(0.001, self.end_coroutine, one, True)
            return
        if self.current is None or self.current[0].id != task:
            return
        work = work_of(self.world, self.current[0])
        if not work.deaf:
            self.world.after(0.001, self.finish, self.run_number, work, self.current[2], "interrupt")

    def signal(self, number: int) -> None:
        """A signal comes from outside: an interrupt hits what runs, others kill."""
        if number != signal.SIGINT:
            self.die(-number)
        elif self.current is not None:
            call, item = self.current[0], self.current[2]
            self.world.struck.add((self.world.roots[call.id], item if call.hi else 0))
            self.interrupt(call.id)
        else:
            for task in list(self.coroutines):
                self.world.struck.add((self.world.roots[task], 0))
                self.interrupt(task)


class Nanny:
    """A host's agent. It starts engines, signals them, and reports their ends, until it is lost with all of them."""

    def __init__(self, world: World, engines: int, *, claims: tuple[int, ...] = (1, 1, 2, 5)) -> None:
        self.world = world
        self.name = Peer(b"nhost%d.1" % len(world.nannies))
        self.engines: dict[int, Engine] = {}
        self.starting: set[tuple[int, int]] = set()
        self.claims = claims
        """How many items of a divisible call an engine may claim at a time."""
        self.bad_starts = 0
        self.lost = False
        self.room = engines
        self.offers = world.offers
        self.head = not world.nannies
        self.welcomed = False
        self.ended: dict[int, m.DeathCertificate] = {}
        self.store: Store | None = Store(world, self) if world.has_objects else None
        world.peers[self.name] = self
        world.nannies.append(self)
        if not world.alive:
            world.down.add(self.name)
            return
        self.reconnected()

    def reconnected(self) -> None:
        hello = m.NannyHello(m.VERSION, self.name.decode(), 1, 2, self.room, head=self.head, welcomed=self.welcomed)
        hello.resources = self.offers
        hello.store = self.store and self.store.source
        self.world.send(self.name, CONTROLLER, hello)

    def hold(self, engine: Engine, call: m.Call) -> None:
        """A call begins, and takes what it takes: never more than there is, by all that run here."""
        options = self.world.options_of(self.world.roots[call.id])
        if options is None or not options.resources:
            return
        engine.held[call.id] = options.resources
        taken: dict[str, float] = defaultdict(float)
        for one in self.engines.values():
            for amounts in one.held.values():
                for name, amount in amounts:
                    taken[name] += amount
        assert all(amount <= self.offers.get(name, 0.0) for name, amount in taken.items()), f"{dict(taken)} are taken"

    def say(self, message: Any) -> None:
        self.world.send(self.name, CONTROLLER, message)

    def tell(self, session: int) -> None:
        """Say what we run, and how what we ran has ended."""
        running = [(e.id, e.incarnation) for e in self.engines.values() if e.alive]
        ended = list(self.ended.values())
        message = m.Running(session, sorted([*running, *self.starting]), ended)
        if self.store is not None:
            self.store.tell(message)
        self.world.send(self.name, CONTROLLER, message)
        if self.store is not None:
            self.store.told()

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_nanny(header)
        match message:
            case m.StartEngines():
                for number, incarnation in message.engines:
                    there = self.engines.get(number)
                    if (number, incarnation) in self.starting or (
                        there and there.alive and there.incarnation == incarnation
                    ):
                        continue  # said again
                    if there and there.alive:
                        there.die(-signal.SIGKILL)
                    self.starting.add((number, incarnation))
                    self.world.after(self.world.random.uniform(0.001, 0.1), self.start, number, incarnation)
            case m.StopEngine():
                self.stop(message.engine, message.incarnation, message.signal)
            case m.Drop() | m.Pull() | m.Lacking() | m.StoreQuery():
                assert self.store is not None
                self.store.receive(message)
            case m.NannyWelcome():
                self.welcomed = True
                if message.session:
                    self.tell(message.session)
            case m.Resume():
                self.reconnected()
            case m.Pong() | m.Farewell():
                pass
            case _:
                raise AssertionError(message)

    def start(self, number: int, incarnation: int) -> None:
        if self.lost or (number, incarnation) not in self.starting:
            return
        self.starting.discard((number, incarnation))
        if self.bad_starts and self.world.random.random() < 0.3:
            self.bad_starts -= 1
            self.report(m.DeathCertificate(number, incarnation, 0, 1, "could not be started"))
            return
        self.engines[number] = Engine(self.world, self, number, incarnation)

    def stop(self, number: int, incarnation: int, signal_number: int) -> None:
        engine = self.engines.get(number)
        if engine is not None and engine.incarnation == incarnation and engine.alive:
            engine.signal(signal_number)
        elif (number, incarnation) in self.starting:
            self.starting.discard((number, incarnation))
            self.report(m.DeathCertificate(number, incarnation, 7, -signal_number, "was killed before it was ready"))
        elif number in self.ended and self.ended[number].incarnation == incarnation:
            self.report(self.ended[number])
        else:
            self.report(m.DeathCertificate(number, incarnation, 0, None, "was not running"))

    def report(self, certificate: m.DeathCertificate) -> None:
        last = self.ended.get(certificate.engine)
        if last is None or last.incarnation <= certificate.incarnation:
            self.ended[certificate.engine] = certificate
        self.world.send(self.name, CONTROLLER, m.EngineExited(certificate))

    def exited(self, engine: Engine, status: int) -> None:
        if not self.lost:
            if self.store is not None:
                self.store.leave_soon(engine.main)
            task, item = engine.record
            end = m.DeathCertificate(engine.id, engine.incarnation, engine.pid, status, "died", task, item)
            coroutines = [pair for pair in engine.slots if pair[0] > 0]
            self.report(msgspec.structs.replace(end, coroutines=coroutines, step=engine.step))

    def lose(self, *, politely: bool) -> None:
        """The host is gone, with everything on it. Nobody reports the ends of its engines."""
        if self.lost:
            return
        self.world.trace(f"{self.name.decode()} is lost")
        self.lost = self.world.hosts_lost = True
        if self.store is not None:
            self.store.lose()
        for engine in self.engines.values():
            engine.die(-signal.SIGKILL)
        if politely:
            self.world.send(self.name, CONTROLLER, m.Goodbye())
        else:
            self.world.cut(self.name)
        del self.world.peers[self.name]
        for client in self.world.clients:
            if client.home is self:
                client.leave(politely=False)


class Client:
    """A client, with its account of what it asked and what it heard."""

    def __init__(self, world: World, number: int, home: Nanny | None = None) -> None:
        self.world = world
        self.home = home
        """The host that it is on, if that has a store."""
        self.handles: Counter[bytes] = Counter()
        """How often it holds objects."""
        self.infos: dict[bytes, m.ObjectInfo] = {}
        self.leases: dict[int, list[bytes]] = defaultdict(list)
        """The handles that came with results of a task, until that is let go of."""
        self.dropped: set[int] = set()
        """Tasks whose results were let go of."""
        self.readers: Counter[bytes] = Counter()
        self.owed: Counter[bytes] = Counter()
        """What was let go of while it was read."""
        self.name = Peer(b"c%07d" % number)
        self.no = 0
        self.count = 0
        self.engines: dict[int, str] = {}
        self.submitted: dict[int, tuple[m.Options, Work, int]] = {}
        self.results: dict[tuple[int, int], list[m.Result]] = defaultdict(list)
        """By task and item (0 for a plain call)."""
        self.outputs: dict[int, int] = defaultdict(int)
        self.late = 0
        self.requests = 0
        self.replies: dict[int, m.Reply] = {}
        self.asked: dict[int, Any] = {}
        """Requests that are not answered yet: they are asked again."""
        self.cancels: dict[int, list[int]] = {}
        self.left = False
        self.away = False
        self.held = False
        """It is to hold back, so its user's loop waits."""
        self.outgoing, self.incoming = Outgoing(), Incoming()
        self.futures: dict[int, AsyncResult] = {}
        """Real ones, where tasks depend on others."""
        self.batches: dict[int, list[Entry]] = {}
        """What messages were composed of, by number, that said what had come of other tasks."""
        world.peers[self.name] = self
        world.clients.append(self)
        if not world.alive:
            world.down.add(self.name)
            return
        self.reconnected()

    def reconnected(self) -> None:
        """The connection is there (again)."""
        self.away = False
        self.say(m.ClientHello(m.VERSION, "sim", 1, "host", self.incoming.have, bool(self.no)))

    def say(self, message: Any, frames: Any = ()) -> None:
        if isinstance(message, m.Numbered) and not message.seq:
            self.outgoing.number(message, frames)
        if not self.left:
            self.world.send(self.name, CONTROLLER, message, frames)

    def receive(self, address: bytes, header: bytes, frames: list) -> None:
        message = codec.decode_to_client(header)
        if isinstance(message, m.Numbered):
            verdict = self.incoming.judge(message.seq)
            if verdict is Verdict.GAP:
                self.reconnected()
            if verdict is not Verdict.TAKE:
                return
            if self.world.random.random() < 0.2:
                self.say(m.Ack(self.incoming.have))
        match message:
            case m.Welcome():
                assert self.no in (0, message.client), "it came back as another"
                again, self.no = bool(self.no), message.client
                self.held = message.hold
                self.engines = {e.id: (e.state, e.incarnation) for e in message.engines if e.state != "dead"}
                if again:
                    for missed, parts in self.outgoing.after(message.have):
                        self.say_again(missed, parts)
                    for request in list(self.asked.values()):
                        self.say(request)
            case m.Engines():
                for engine in message.engines:
                    self.engines[engine.id] = engine.state, engine.incarnation
                    if engine.state == "dead":
                        del self.engines[engine.id]
            case m.Outputs():
                for record in message.records:
                    if record.kind == "late":  # nothing counts it, and it may come to nobody
                        assert record.task in self.submitted
                        self.late += 1
                    else:
                        self.outputs[record.task] += 1
            case m.Results():
                at = 0
                self.outgoing.acked(message.ack)
                for result in message.results:
                    parts = frames[at : at + result.frames]
                    at += result.frames
                    if result.frames and result.status != m.Status.INHERITED:
                        assert parts == [result.payload], "frames of one task arrived with another"
                    for info in result.objects:
                        self.lease(result.id, info)
                    if result.id in self.futures:
                        self.futures[result.id]._accept(result, parts, self.world.now)
                    for i in range(result.lo, result.hi) if result.hi else [0]:
                        self.results[result.id, i].append(result)
                        self.world.ended[result.id, i] = self.world.now
                assert at == len(frames)
            case m.Reply():
                assert message.request <= self.requests, "answered what was not asked"
                self.replies.setdefault(message.request, message)  # asked again, it is answered again
                self.asked.pop(message.request, None)
            case m.Fetched():
                for result in message.results:
                    for info in result.objects:
                        self.hold(info)
                        self.read(info)
                        self.world.after(self.world.random.expovariate(1.0), self.release, [info.id])
                self.replies.setdefault(message.request, m.Reply(message.request, True))
                self.asked.pop(message.request, None)
                if message.left:
                    self.ask(m.Fetch, message.left)
            case m.Ack():
                self.outgoing.acked(message.have)
            case m.Resume():
                self.reconnected()
            case m.Hold():
                self.held = message.on
            case m.Pong() | m.Farewell():
                pass
            case _:
                raise AssertionError(message)

    # -- asking

    def submit(self, function: bytes, works: list[Work], options: m.Options, *, items: bool = False) -> list[int]:
        tasks, frames, ids = [], [], []
        for work in works:
            id_ = first_task_id(ClientNo(self.no)) + self.count
            copies = len(options.targets or ()) if options.ordered else 1
            self.count += copies
            mine = [b"frame"] if self.world.random.random() < 0.2 else []
            frames += mine
            payload = msgspec.msgpack.encode(work)
            n = len(work.durations) if items else 0
            tasks.append(m.Task(id_, function, payload, len(mine), 0, n, copies))
            self.with_objects(tasks[-1], work, shared=self.some_refs())
            for copy in range(copies):
                self.submitted[id_ + copy] = (options, work, n)
                ids.append(id_ + copy)
                if self.world.has_dependents:
                    self.futures[id_ + copy] = future_of(id_ + copy, n)
        self.say(m.Submit([m.Function(function, b"pickle")], [options], tasks), frames)
        return ids

    def submit_dependent(self, works: list[Work], options: m.Options, links: Links, *, items: bool) -> list[int]:
        """Submit a task for each work, all of which depend on the same others; composed as a real client does."""
        batch, ids = [], []
        known = {} if links.by_id else self.futures
        after = _bound(links.after, known) if links.after else None
        follow = _bound(links.follow, known) if links.follow else None
        options = msgspec.structs.replace(options, after=after, follow=follow)
        function = m.Function(b"dependent", b"pickle")
        for work in works:
            id_ = first_task_id(ClientNo(self.no)) + self.count
            copies = len(options.targets or ()) if options.ordered else 1
            self.count += copies
            frames: list[bytes] = [b"frame"] if self.world.random.random() < 0.2 else []
            n = len(work.durations) if items else 0
            task = m.Task(id_, function.digest, msgspec.msgpack.encode(work), len(frames), 0, n, copies)
            self.with_objects(task, work, shared=self.some_refs())
            needed = [known.get(other) or self.world.by_id(other) for other in links.needs]
            batch.append(Entry(task, function, options, Waits(frames, needed) if needed else frames))
            for copy in range(copies):
                self.submitted[id_ + copy] = (options, work, n)
                self.futures[id_ + copy] = future_of(id_ + copy, n)
                self.world.links[id_ + copy] = links
                ids.append(id_ + copy)
        submission = compose(batch, lambda function, functions: functions.append(function))
        self.say(submission.message, submission.frames)
        self.batches[submission.message.seq] = batch
        return ids

    def say_again(self, message: Any, frames: Any) -> None:
        """Say what may not have come, in view of what has come since."""
        if message.seq in self.batches:
            message, frames, _ = compose_again(self.batches[message.seq], message)
        self.say(message, frames)

    def ask(self, kind: Any, *arguments: Any) -> int:
        self.requests += 1
        if kind is m.Restart:
            (ids,) = arguments
            arguments = ids, [(i, incarnation) for i, (_, incarnation) in self.engines.items()]
        if kind is m.Retire:
            (ids,) = arguments
            arguments = ([(i, self.engines[i][1]) for i in ids if i in self.engines],)
        request = kind(self.requests, *arguments)
        if kind is m.Cancel:
            request.after = self.outgoing.last
        self.asked[self.requests] = request
        self.say(request)
        return self.requests

    def cancel(self, ids: list[int], grace_s: float | None, *, interrupt: bool = True) -> None:
        self.cancels[self.ask(m.Cancel, ids, grace_s, interrupt)] = ids

    # -- objects

    def hold(self, info: m.ObjectInfo) -> None:
        self.handles[info.id] += 1
        self.infos[info.id] = info

    def lease(self, task: int, info: m.ObjectInfo) -> None:
        """A result has come, which is an object: it is read now and then, and let go of some time."""
        self.hold(info)
        self.leases[task].append(info.id)
        chance = self.world.random
        if chance.random() < 0.3:
            self.read(info)
        if task in self.dropped:
            self.let_go(task)
        elif chance.random() < 0.5:
            self.world.after(chance.expovariate(1.0), self.let_go, task)

    def read(self, info: m.ObjectInfo) -> None:
        """Map an object; it is held as long as that takes."""
        assert self.home is not None
        self.readers[info.id] += 1

        def there(error: str) -> None:
            assert not error or info.id in self.world.harmed or self.left, f"{show_object(info.id)}: {error}"
            self.readers[info.id] -= 1
            if not self.readers[info.id]:
                self.release([info.id] * self.owed.pop(info.id, 0))

        self.home.store.want(self.name, info, there)

    def let_go(self, task: int) -> None:
        """The user drops a result."""
        self.dropped.add(task)
        self.futures.pop(task, None)
        self.release(self.leases.pop(task, []))

    def release(self, ids: list[bytes]) -> None:
        if self.left:
            return
        now = []
        for id_ in ids:
            if self.readers[id_]:
                self.owed[id_] += 1
            else:
                now.append(id_)
                self.handles[id_] -= 1
                assert self.handles[id_] >= 0
        if now:
            self.say(m.Release(now))

    def put(self, value: bytes = b"put") -> None:
        """Make an object and hold it, for a while."""
        if self.left or self.home is None or self.home.lost:
            return
        chance = self.world.random
        info = self.home.store.make(self.name, value)

        def announce() -> None:
            if self.left:
                return
            self.hold(info)
            self.say(m.Put([info]))
            if chance.random() < 0.7:
                self.world.after(chance.expovariate(0.5), self.release, [info.id])

        self.world.after(chance.expovariate(1 / 0.01), announce)

    def with_objects(self, task: m.Task, work: Work, *, shared: list[m.ObjectInfo]) -> None:
        """Have a task's arguments refer to objects, and be one themselves, now and then."""
        if self.left or self.home is None or self.home.lost:
            return
        chance = self.world.random
        work = msgspec.structs.replace(work, refs=shared)
        task.payload = msgspec.msgpack.encode(work)
        if chance.random() < self.world.large:
            info = self.home.store.make(self.name, task.payload)
            task.payload = reference_to(info)
            task.objects = (info,)
            if chance.random() < 0.5:
                self.hold(info)
                self.say(m.Put([info]))
                self.world.after(0.0, self.release, [info.id])
        task.objects += tuple(shared)

    def some_refs(self) -> list[m.ObjectInfo]:
        """Return a few of the objects that it holds."""
        chance = self.world.random
        mine = [id_ for id_, count in self.handles.items() if count - self.owed[id_] > 0]
        if self.home is None or not mine or chance.random() < 0.5:
            return []
        return [self.infos[id_] for id_ in chance.sample(mine, min(len(mine), chance.choice([1, 1, 3])))]

    # -- leaving

    def leave(self, *, politely: bool, cancel: bool = False) -> None:
        if self.left or self.away:
            return
        self.world.trace(f"{self.name.decode()} leaves")
        if politely:
            self.say(m.Goodbye(cancel=cancel))
        self.left = True
        if self.home is not None and self.home.store is not None:
            if not politely:
                self.world.cut(self.name)
            self.home.store.leave_soon(self.name)
        del self.world.peers[self.name]

    def vanish(self) -> None:
        """The connection breaks."""
        if self.left or self.away or self.name in self.world.down:
            return
        self.world.trace(f"{self.name.decode()} vanishes")
        self.away = True
        self.world.break_link(self.name)

    def return_(self) -> None:
        """The connection is there again, once there is a controller."""
        self.world.mend_link(self.name)

    # -- judging

    def items_of(self, id_: int) -> range:
        n = self.submitted[id_][2]
        return range(n or 1)

    def unanswered(self) -> list[int]:
        return [id_ for id_ in self.submitted if any((id_, i) not in self.results for i in self.items_of(id_))]

    def open_requests(self) -> list[int]:
        return [number for number in range(1, self.requests + 1) if number not in self.replies]

    def account(self) -> None:
        """Assert that everything asked was answered, once, and nothing ran that should not have."""
        cancelled = {id_ for ids in self.cancels.values() for id_ in ids}
        for id_ in self.submitted:
            assert client_of(TaskId(id_)) == self.no
            for i in self.items_of(id_):
                self._account_for(id_, i, cancelled)
        assert not self.open_requests(), f"never answered: {self.open_requests()}"
        for request, ids in self.cancels.items():
            for id_ in self.replies[request].value:
                assert id_ in ids
                statuses = {self.results[id_, i][0].status for i in self.items_of(id_)}
                assert m.Status.CANCELLED in statuses
        engines = {e.id: e.info() for e in self.world.core.state.engines.values()}
        there = {id_: (e.state, e.incarnation) for id_, e in engines.items() if e.state != "dead"}
        assert self.engines == there, "the client's picture of the engines is not true"

    def _account_for(self, id_: int, i: int, cancelled: set[int]) -> None:
        options, work, n = self.submitted[id_]
        world = self.world
        results = self.results[id_, i]
        assert len(results) == 1, f"task {id_} item {i} of {n}: results {results}"
        result = results[0]
        begun = world.started[id_, i]
        if id_ in world.links:
            judge_links(world, id_, result)
        asked = world.asked[id_, i]
        assert begun - len(asked) <= 1 + options.retries, f"{id_} item {i} ran {begun} times, {asked} could not"
        match result.status:
            case m.Status.OK:
                assert begun >= 1
                assert not work.fails[i]
                assert n or self.outputs[id_] >= result.outputs
                assert n or begun > 1 or self.outputs[id_] == result.outputs, "output was lost or doubled"
            case m.Status.ERROR:
                assert work.fails[i] or (id_, i) in world.struck or id_ in world.deprived, f"{result}"
            case m.Status.LOST:
                certificate = codec.decode_certificate(result.payload)
                unseen = certificate.exit_code is None
                place = id_, i, certificate.engine, certificate.incarnation
                idle = place in world.given_back  # and that it was given back died with the engine
                assert begun or idle or (unseen and world.hosts_lost), f"{id_} item {i} is called lost but never began"
                assert certificate.task == id_
                ran = begun == 1 and (id_, i) in world.over
                assert begun != 1 or unseen or certificate.running != ran, f"{id_} item {i}: {certificate}"
            case m.Status.CANCELLED:
                assert id_ in cancelled, f"{id_} was not to be cancelled"
            case m.Status.TIMEOUT:
                assert options.timeout_s is not None
            case m.Status.INHERITED | m.Status.IMPOSSIBLE | m.Status.INVALID:
                assert id_ in world.links
                assert not begun
            case m.Status.REFUSED:
                follows = id_ in world.links and world.links[id_].follow is not None
                assert options.targets is not None or options.resources or follows, f"{result}"
                assert begun <= options.retries, "it had its last attempt, and that is how it ended"
            case m.Status.UNMET:
                assert asked, "nobody was asked"


def _bound(wanted: m.Dependency, known: Mapping[int, AsyncResult]) -> Bound:
    bound = Bound(wanted.tasks, wanted.all, wanted.success, wanted.failure)
    bound.__dict__["origin"] = {task: known.get(task) for task in wanted.tasks}
    return bound
