"""What happens to a simulated cluster: disasters by a seed, and a few situations of their own."""

from __future__ import annotations

import random
import signal

import msgspec
from enginery.controller.records import EngineState
from enginery.wire import messages as m
from graphs import Links
from models import HUNG, Client, Nanny, Work
from stores import judge_emptiness
from world import World

TROUBLE_S = 8.0
"""Disasters happen until then; afterwards the cluster is to come to rest."""

NOTICED_S = 70.0
"""In how long the controller knows at the latest that a host is lost: its probe, and then it waits for its return."""

REST_S = 30.0
"""In how long, beyond the time that all the work takes one after the other."""


def some_work(rng: random.Random, *, items: int = 0, deadly: float = 0.0) -> Work:
    n = items or 1
    scale = rng.choice([0.00001, 0.001, 0.03, 0.5])
    return Work(
        durations=[rng.expovariate(1 / scale) for _ in range(n)],
        fails=[rng.random() < 0.05 for _ in range(n)],
        kills=[rng.random() < deadly for _ in range(n)],
        outputs=rng.choice([0, 0, 0, 2]),
        deaf=rng.random() < 0.2,
    )


def some_options(rng: random.Random, engines: int) -> m.Options:
    retries = rng.choice([0, 0, 0, 1, 3])
    priority = rng.choice([0, 0, 0, 5, -1])
    kind = rng.random()
    if kind < 0.3:
        targets = tuple(sorted(rng.sample(range(engines), rng.randint(1, engines))))
        return m.Options(targets=targets, retries=retries, priority=priority, ordered=kind < 0.15)
    return m.Options(retries=retries, priority=priority, timeout_s=rng.choice([None, None, None, 0.05]))


def some_targets(rng: random.Random, engines: int) -> list[int] | None:
    return rng.choice([None, sorted(rng.sample(range(engines), rng.randint(1, engines)))])


def disasters(
    seed: int, *, engines: int = 0, dependents: bool = False, objects: bool = False, verbose: bool = False
) -> World:
    """A cluster to which a random choice of everything happens; with `dependents`, some tasks depend on others; with
    `objects`, there are several hosts, and values on them.
    """
    world = World(seed, durable=seed % 5 != 0, verbose=verbose)
    world.has_dependents = dependents
    world.has_objects = objects
    rng = random.Random(seed)
    engines = engines or rng.randint(1, 5)
    choosy = random.Random(seed) if seed % 3 == 2 else None  # not in all: what once went wrong shall go on as it did
    if choosy is not None:
        world.offers = OFFERS
    if objects:
        world.memory = random.Random(f"memory {seed}").choice([1 << 40, 30 << 20, 3 << 20])
    Nanny(world, engines)
    clients = [Client(world, i, world.nannies[0] if objects else None) for i in range(rng.randint(1, 3))]
    if objects:
        add_hosts(world)
    world.run(1.0)
    deadly = rng.choice([0.0, 0.0, 0.01, 0.05])
    for client in clients:
        assert client.no
        for _ in range(rng.randint(1, 6)):
            world.after(rng.uniform(0, 2), _submit, world, client, rng, engines, deadly)
        if choosy is not None and client is clients[-1]:
            for _ in range(choosy.randint(1, 2)):
                world.after(choosy.uniform(0, 2), _submit_choosy, world, client, choosy, engines, deadly)
        stays = len(clients) == 1 or client is not clients[0]  # the tasks of a client that leaves would hang for ever
        if rng.random() < 0.3 and stays:
            world.after(rng.uniform(0, 3), _hang, world, client, rng, engines)
    if dependents:
        extra = random.Random(f"dependents {seed}")
        for client in clients:
            for _ in range(extra.randint(3, 15)):
                world.after(extra.uniform(0, 3), _submit_dependents, world, client, extra, engines, deadly)
    if objects:
        hold_objects(world, engines)
    for _ in range(rng.choice([0, 0, 1, 4])):
        world.after(rng.uniform(0, 4), _kill_one, world, rng)
    world.nannies[0].bad_starts = rng.choice([0, 0, 1, 8])
    if rng.random() < 0.5:
        _trouble_the_fleet(world, rng, clients, engines)
    if rng.random() < 0.4:
        _trouble_the_clients(world, rng, clients)
    if rng.random() < 0.4:
        _break_connections(world, rng)
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 1, 2, 4])):
            where = rng.choice(["now", "before commit", "after commit"])
            world.after(rng.uniform(0.0, TROUBLE_S - 1.5), world.doom_controller, where)
    return world


def _break_connections(world: World, rng: random.Random) -> None:
    """Connections of engines and nannies break, and are there again before anybody gives up."""

    def cut() -> None:
        addresses = [address for address in sorted(world.peers) if not address.startswith(b"c")]
        for address in rng.sample(addresses, min(len(addresses), rng.choice([1, 1, 2, 5]))):
            world.trace(f"the connection of {address.decode()} breaks")
            world.break_link(address)
            world.after(rng.choice([0.001, 0.1, 3.0]), world.mend_link, address)

    for _ in range(rng.choice([1, 2, 6])):
        world.after(rng.uniform(0, TROUBLE_S - 4.0), cut)


def _submit(world: World, client: Client, rng: random.Random, engines: int, deadly: float) -> None:
    options = some_options(rng, engines)
    items = not options.ordered and rng.random() < 0.4
    coroutines = rng.random() < 0.35
    works = [
        some_work(rng, items=rng.choice([1, rng.randint(1, 40)]) if items else 0, deadly=deadly)
        for _ in range(rng.choice([1, 3, 30, 150] if coroutines and not items else [1, 1, 3, 30]))
    ]
    function = b"coroutine-%d" if coroutines else b"function-%d"
    ids = client.submit(function % rng.randint(0, 4), works, options, items=items)
    if rng.random() < 0.3:
        chosen = rng.sample(ids, rng.randint(1, len(ids)))
        grace, interrupt = rng.choice([None, 0.2]), rng.random() < 0.8
        world.after(rng.expovariate(2), _cancel, client, chosen, grace, interrupt)


def _submit_dependents(world: World, client: Client, rng: random.Random, engines: int, deadly: float) -> None:
    """Tasks that depend on some before them, mostly on the last ones, and on other clients' now and then."""
    mine = list(client.submitted)
    others = [id_ for other in world.clients if other is not client for id_ in other.submitted]

    def some(most: int) -> tuple[int, ...]:
        near = mine[-rng.choice([1, 3, 20, 1000]) :]
        chosen = rng.sample(near, min(len(near), rng.randint(1, most)))
        if others and rng.random() < 0.1:
            chosen.append(rng.choice(others))
        return tuple(dict.fromkeys(chosen))

    def dependency() -> m.Dependency:
        success, failure = rng.choice([(True, False), (True, False), (True, True), (False, True)])
        return m.Dependency(some(5), rng.random() < 0.7, success, failure)

    if not mine or client.left:
        return
    ordered = rng.random() < 0.2
    links = Links(
        some(rng.choice([1, 2, 30])) if ordered or rng.random() < 0.7 else (),
        dependency() if not ordered and rng.random() < 0.4 else None,
        dependency() if not ordered and rng.random() < 0.3 else None,
        rng.random() < 0.15,
    )
    if not any(links[:3]):
        return
    targets = tuple(sorted(rng.sample(range(engines), rng.randint(1, engines)))) if ordered else None
    options = m.Options(targets=targets, ordered=ordered, retries=rng.choice([0, 0, 2]))
    items = not ordered and rng.random() < 0.3
    works = [
        some_work(rng, items=rng.randint(1, 20) if items else 0, deadly=deadly) for _ in range(rng.choice([1, 1, 5]))
    ]
    ids = client.submit_dependent(works, options, links, items=items)
    if rng.random() < 0.15:
        world.after(rng.expovariate(2), _cancel, client, rng.sample(ids, 1), rng.choice([None, 0.2]), True)


OFFERS = {"gpu": 2.0, "mem": 10.0}


def some_resources(rng: random.Random) -> tuple[tuple[str, float], ...]:
    """Return what a task takes, which now and then is more than any host offers."""
    return rng.choice(
        [(), (("gpu", 1.0),), (("gpu", 2.0),), (("gpu", 1.0), ("mem", 0.1)), (("mem", 3.3),), (("gpu", 3.0),)]
    )


def _submit_choosy(world: World, client: Client, rng: random.Random, engines: int, deadly: float) -> None:
    """Tasks that not all engines can run, and that take resources of their hosts."""
    options = some_options(rng, engines)
    if not options.ordered:
        options = msgspec.structs.replace(options, resources=some_resources(rng))
    items = 0 if options.ordered or rng.random() < 0.6 else rng.choice([1, 7])
    works = []
    for _ in range(rng.choice([1, 3, 8])):
        work = some_work(rng, items=items, deadly=deadly)
        likely = rng.choice([0.0, 0.5, 0.9, 1.0])
        work.unmet = [[e for e in range(engines + 4) if rng.random() < likely] for _ in work.durations]
        works.append(work)
    function = rng.choice([b"coroutine-choosy", b"function-choosy", b"function-choosy"])
    ids = client.submit(function, works, options, items=bool(items))
    if rng.random() < 0.2:
        world.after(rng.expovariate(2), _cancel, client, ids, rng.choice([None, 0.2]), True)


def _cancel(client: Client, ids: list[int], grace_s: float | None, interrupt: bool) -> None:
    client.cancel(ids, grace_s, interrupt=interrupt)


def _hang(world: World, client: Client, rng: random.Random, engines: int) -> None:
    """A few tasks that never end, and will not be interrupted either; cancelled with grace before long."""
    n = rng.choice([0, 0, 5])
    works = [
        Work([HUNG] * (n or 1), [False] * (n or 1), [False] * (n or 1), 0, rng.random() < 0.7)
        for _ in range(rng.randint(1, engines + 2))
    ]
    options = m.Options(retries=rng.choice([0, 1]), timeout_s=rng.choice([None, None, 0.5]))
    ids = client.submit(rng.choice([b"hung", b"coroutine-hung"]), works, options, items=bool(n))
    world.after(rng.uniform(0.1, 3), _cancel, client, ids, rng.choice([0.0, 0.3]), True)


def _kill_one(world: World, rng: random.Random) -> None:
    alive = [engine for nanny in world.nannies for engine in nanny.engines.values() if engine.alive]
    if alive:
        rng.choice(alive).die(-9)


def _trouble_the_fleet(world: World, rng: random.Random, clients: list[Client], engines: int) -> None:
    """Hosts come and go, engines are scaled, restarted, signalled and waited for."""

    def join(n: int) -> None:
        nanny = Nanny(world, n)
        if rng.random() < 0.5:
            world.after(rng.uniform(0, TROUBLE_S - world.now), lambda: nanny.lose(politely=rng.random() < 0.5))

    for _ in range(rng.choice([0, 1, 1, 2])):
        world.after(rng.uniform(0, 3), join, rng.randint(1, 3))
    for _ in range(rng.randint(0, 6)):
        client = rng.choice(clients)
        number = rng.choice([signal.SIGINT, signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
        request = rng.choice(
            [
                (m.Scale, rng.randint(0, engines + 2)),
                (m.Retire, [rng.randint(0, engines + 2)]),
                (m.Restart, some_targets(rng, engines)),
                (m.Signal, number, some_targets(rng, engines)),
                (m.WaitEngines, rng.choice([None, 1])),
                (m.StatusQuery,),
            ]
        )
        world.after(rng.uniform(0, TROUBLE_S - 1), client.ask, *request)


def _trouble_the_clients(world: World, rng: random.Random, clients: list[Client]) -> None:
    """Clients leave, with and without a word, or vanish for a while, at the same time at best."""
    if len(clients) > 1 and rng.random() < 0.5:
        politely, cancel = rng.random() < 0.5, rng.random() < 0.5
        world.after(rng.uniform(1, 4), lambda: clients[0].leave(politely=politely, cancel=cancel))
    for client in clients[1:] or clients:
        for _ in range(rng.choice([0, 1, 2])):
            gone, back = rng.uniform(0, TROUBLE_S - 1), rng.choice([0.01, 0.3, 4.0, 20.0])
            world.after(gone, client.vanish)
            world.after(gone + rng.uniform(0, back), client.return_)


def come_to_rest(world: World) -> None:
    """No more disasters: what was given up is started again, one engine at least is there; all is settled in time."""
    world.run(TROUBLE_S)
    world.run_while(lambda: not world.alive or any(client.away for client in world.clients), TROUBLE_S + 25.0)
    for nanny in world.nannies:
        nanny.bad_starts = 0
    guard = Client(world, 1000, world.nannies[0] if world.has_objects else None)
    world.run(world.now + NOTICED_S)
    engines = world.core.state.engines
    failed = [engine.id for engine in engines.values() if engine.state is EngineState.FAILED]
    if failed:
        guard.ask(m.Restart, failed)
    guard.ask(m.Scale, max(1, sum(not engine.retiring for engine in engines.values())))
    guard.ask(m.WaitEngines)
    world.run_while(world.is_busy, world.now + REST_S + total_work(world))
    world.run(world.now + 6.0)  # everything said has arrived


def add_hosts(world: World) -> None:
    """Objects are large or not so large, and there are more hosts, with clients on them; some of the hosts are lost."""
    chance = random.Random(f"hosts {world.seed}")
    world.large = chance.choice([0.1, 0.3, 0.8])
    world.pull_s = chance.choice([0.001, 0.02, 0.3])
    for _ in range(chance.randint(1, 4) if world.seed % 2 else 0):
        nanny = Nanny(world, chance.randint(0, 3))
        if chance.random() < 0.3:
            world.after(chance.uniform(1.0, TROUBLE_S), lambda nanny=nanny: nanny.lose(politely=chance.random() < 0.5))
    for _ in range(chance.choice([0, 1, 2])):
        Client(world, len(world.clients), chance.choice(world.nannies))


def hold_objects(world: World, engines: int) -> None:
    """Clients put objects, and give them to tasks; files are removed, processes die in the worst moments."""
    chance = random.Random(f"objects {world.seed}")
    others = [client for client in world.clients if client.no and client.home is not world.nannies[0]]
    for client in others:
        for _ in range(chance.randint(1, 4)):
            world.after(chance.uniform(0, 3), _submit, world, client, chance, engines, 0.0)
            world.after(chance.uniform(0, 3), _submit_dependents, world, client, chance, engines, 0.0)
        if chance.random() < 0.5:
            world.after(chance.uniform(0.5, 5), lambda client=client: client.leave(politely=chance.random() < 0.3))
    for client in world.clients:
        for _ in range(chance.randint(0, 8)):
            world.after(chance.uniform(0, 4), client.put)

    def fetch() -> None:
        submitted = [id_ for client in world.clients for id_ in client.submitted]
        client = chance.choice(world.clients)
        if submitted and client.no and not client.left:
            client.ask(m.Fetch, chance.sample(submitted, min(len(submitted), chance.choice([1, 1, 10]))))

    for _ in range(chance.choice([0, 0, 3, 10])):
        world.after(chance.uniform(0.5, 8), fetch)

    def remove() -> None:
        store = chance.choice([nanny.store for nanny in world.nannies])
        known = [id_ for id_ in store.whole if id_ in world.core.state.objects.entries]
        if known:
            store.vanish(chance.choice(known))

    for _ in range(chance.choice([0, 0, 0, 1, 5])):
        world.after(chance.uniform(0.5, 6), remove)


FORGOTTEN_S = 30.0
"""In how long what nobody has announced is dropped, at the latest."""


def let_go_of_all(world: World) -> None:
    """All clients leave, or drop what they hold; what is kept for others is purged. Then nothing may be left."""
    chance = random.Random(f"end {world.seed}")
    guard = world.clients[-1]
    for client in world.clients[:-1]:
        if chance.random() < 0.5:
            client.leave(politely=chance.random() < 0.5)
        for task in list(client.leases):
            client.let_go(task)
        client.release([id_ for id_, count in client.handles.items() for _ in range(count - client.owed[id_])])
    for client in world.clients:
        if client.left and (client.home is None or client.home.lost):
            world.give_up(client.name)  # nobody is left there to say that it has ended: this takes a day
    world.run(world.now + FORGOTTEN_S)
    if world.store is not None:
        guard.ask(m.Purge)
    world.run(world.now + FORGOTTEN_S)
    judge_emptiness(world)


def total_work(world: World) -> float:
    """Return how long all tasks take one after the other, with all their attempts."""
    return sum(
        duration * (1 + options.retries + sum(map(len, work.unmet)))
        for client in world.clients
        for options, work, _ in client.submitted.values()
        for duration in work.durations
        if duration < HUNG
    )


# ------------------------------------------------------------------------------------------------------- situations


def plain(duration: float) -> Work:
    return Work([duration], [False], [False])


def a_long_task_among_short_ones(seed: int) -> tuple[World, list[tuple[int, int, float]], list[tuple[int, int]]]:
    """A few very long calls, or items, among many short ones of the same function, but an engine left for the others.

    Return the world, the short ones with the time of their submission, and the long ones, each as (task, item).
    """
    world = World(seed)
    rng = random.Random(seed)
    engines = rng.randint(2, 6)
    Nanny(world, engines, claims=(1,))
    client = Client(world, 0)
    world.run(1.0)
    short: list[tuple[int, int, float]] = []
    long: list[tuple[int, int]] = []
    duration = rng.choice([1e-5, 1e-3, 0.02])
    functions = [b"f", b"g"]

    def submit(n: int, n_long: int, items: bool) -> None:
        durations = [duration] * (n - n_long) + [LONG_S] * n_long
        rng.shuffle(durations)
        function = rng.choice(functions)
        if items:
            (id_,) = client.submit(function, [Work(durations, [False] * n, [False] * n)], m.Options(), items=True)
            places = [(id_, i) for i in range(n)]
        else:
            places = [(id_, 0) for id_ in client.submit(function, [plain(d) for d in durations], m.Options())]
        for (id_, i), took in zip(places, durations, strict=True):
            if took == LONG_S:
                long.append((id_, i))
            else:
                short.append((id_, i, world.now))

    if rng.random() < 0.7:  # that is how long they take, it seems
        submit(rng.choice([1, 10, 100]), 0, items=rng.random() < 0.3)
        world.run(world.now + 1.0)
    left = engines - 1
    for _ in range(rng.randint(1, 4)):
        n_long = rng.randint(0, left)
        left -= n_long
        submit(n_long + rng.choice([1, 5, 50, 300]), n_long, items=rng.random() < 0.4)
        world.run(world.now + rng.choice([0.0, 0.05, 1.0]))
    return world, short, long


LONG_S = 1000.0


def one_with_much_and_one_with_little(seed: int) -> tuple[World, list[tuple[int, float]], float]:
    """A client that keeps all engines busy for long, and one that comes with a few quick tasks now and then.

    Return the world, the few tasks with the time of their submission, and how long one of the many takes.
    """
    world = World(seed)
    rng = random.Random(seed)
    engines = rng.randint(1, 4)
    Nanny(world, engines)
    world.check_every = 50
    much, little = Client(world, 0), Client(world, 1)
    world.run(1.0)
    duration = rng.choice([1e-3, 0.02, 0.5])
    priority = rng.choice([0, 0, 100])
    n = min(3000, round(12.0 * engines / duration))
    for _ in range(4):
        much.submit(b"much", [plain(duration)] * (n // 4), m.Options(priority=priority))
    few: list[tuple[int, float]] = []

    def come() -> None:
        ids = little.submit(b"little", [plain(0.001)] * rng.randint(1, 5), m.Options())
        few.extend((id_, world.now) for id_ in ids)

    for _ in range(4):
        world.after(rng.uniform(0.5, n * duration / engines / 2), come)
    return world, few, duration


def some_engines_can(seed: int) -> World:
    """Nothing goes wrong, but not every engine can run every task, and tasks take resources."""
    world = World(seed)
    rng = random.Random(seed)
    world.offers = OFFERS
    world.check_every = 10
    engines = rng.randint(2, 6)
    Nanny(world, engines)
    client = Client(world, 0)
    world.run(1.0)
    for _ in range(rng.randint(1, 6)):
        resources = some_resources(rng)[:2] if rng.random() < 0.5 else ()
        items = rng.choice([0, 0, 1, 30])
        n = items or 1
        works = []
        for _ in range(rng.choice([1, 5, 20])):
            able = rng.sample(range(engines), rng.choice([0, 1, 1, engines - 1]))
            lacking = [e for e in range(engines) if e not in able]
            works.append(Work([rng.choice([1e-5, 1e-3, 0.02])] * n, [False] * n, [False] * n, unmet=[lacking] * n))
        client.submit(rng.choice([b"f", b"g", b"coroutine"]), works, m.Options(resources=resources), items=bool(items))
        world.run(world.now + rng.choice([0.0, 0.01, 1.0]))
    return world


def a_host_that_is_back_too_late(seed: int) -> tuple[World, Nanny]:
    """The network between a host and the controller is cut until the host is given up; it is back piece by piece.

    Return the world, and the nanny of that host. What it ran ends while it is back, or has ended meanwhile.
    """
    world = World(seed, durable=seed % 3 != 0)
    rng = random.Random(seed)
    Nanny(world, rng.randint(1, 2))
    guest = Nanny(world, rng.randint(1, 3))
    client = Client(world, 0)
    world.run(1.0)
    n = rng.choice([3, 20])
    client.submit(b"function", [some_work(rng) for _ in range(n)], m.Options(retries=rng.choice([0, 1])))
    client.submit(b"function", [some_work(rng, items=n)], m.Options(), items=True)
    guests = [guest.name, *(name for e in guest.engines.values() for name in (e.main, e.control))]

    def cut() -> None:
        world.trace(f"{guest.name.decode()} is cut off")
        world.hosts_lost = True  # what it ran is lost, and nobody saw how it ended
        for name in guests:
            world.break_link(name, dead=rng.random() < 0.5)

    def heal() -> None:
        for name in guests:
            world.after(rng.choice([0.0, rng.uniform(0.0, 0.5)]), world.mend_link, name)

    cut_s = rng.uniform(0.0, 1.0)
    world.after(cut_s, cut)
    world.after(cut_s + rng.uniform(0.0, NOTICED_S), _kill_one, world, rng)
    world.after(cut_s + NOTICED_S, heal)
    if rng.random() < 0.3:
        world.after(cut_s + NOTICED_S + rng.uniform(-0.5, 0.5), world.doom_controller, "now")
    world.run(world.now + cut_s + NOTICED_S + 10.0)
    return world, guest
