"""Thousands of small disasters, each replayable from its seed."""

import os
import random

import pytest
from world import Client, Work, World

from enginery.wire import messages as m

SEEDS = int(os.environ.get("ENGINERY_SIM_SEEDS", "400"))
CHUNK = 50


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
    if kind < 0.15:
        targets = tuple(sorted(rng.sample(range(engines), rng.randint(1, engines))))
        return m.Options(targets=targets, retries=retries, ordered=True)
    if kind < 0.3:
        targets = tuple(sorted(rng.sample(range(engines), rng.randint(1, engines))))
        return m.Options(targets=targets, retries=retries, priority=priority)
    timeout = rng.choice([None, None, None, 0.05])
    return m.Options(retries=retries, priority=priority, timeout_s=timeout)


def scenario(seed: int) -> World:
    rng = random.Random(seed)
    engines = rng.randint(1, 5)
    world = World(seed, engines)
    deadly = rng.choice([0.0, 0.0, 0.01, 0.05])
    clients = [Client(world, i) for i in range(rng.randint(1, 3))]
    world.run(1.0)
    for client in clients:
        assert client.no
        for _ in range(rng.randint(1, 6)):
            at = rng.uniform(0, 2)
            options = some_options(rng, engines)
            items = not options.ordered and rng.random() < 0.4
            works = [
                some_work(rng, items=rng.randint(1, 40) if items else 0, deadly=deadly)
                for _ in range(rng.choice([1, 1, 3, 30]))
            ]
            function = b"function-%d" % rng.randint(0, 4)
            world.after(at, submit, world, client, function, works, options, items, rng.random() < 0.3, rng)
    for _ in range(rng.choice([0, 0, 1, 4])):
        world.after(rng.uniform(0, 4), kill_one, world, rng)
    if len(clients) > 1 and rng.random() < 0.3:
        world.after(rng.uniform(1, 4), lambda: clients[0].leave(politely=rng.random() < 0.5, cancel=rng.random() < 0.5))
    world.nanny.bad_starts = rng.choice([0, 0, 1])
    return world


def submit(world, client, function, works, options, items, cancels, rng) -> None:
    if client.left:
        return
    ids = client.submit(function, works, options, items=items)
    if cancels:
        chosen = rng.sample(ids, rng.randint(1, len(ids)))
        grace = rng.choice([None, 0.2])
        world.after(rng.expovariate(2), lambda: client.left or client.cancel(chosen, grace, interrupt=rng.random() < 0.8))


def kill_one(world: World, rng: random.Random) -> None:
    alive = [engine for engine in world.nanny.engines.values() if engine.alive]
    if alive:
        rng.choice(alive).die(-9)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_everything_asked_is_answered_once(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = scenario(seed)
        world.run(4000.0, stop=lambda: False)
        for client in world.clients:
            if not client.left:
                client.account()
        state = world.core.state
        state.check()
        assert not state.tasks, f"seed {seed}: {len(state.tasks)} tasks are still in the books"
        assert not state.stops, f"seed {seed}"
        assert not state.pieces, f"seed {seed}"
        assert not any(engine.withdrawals for engine in state.engines.values())
