"""A controller with very little memory: clients have more to submit than it has room for, and hold back when told."""

from __future__ import annotations

import random

from enginery.wire import messages as m
from models import Client, Nanny
from scenarios import TROUBLE_S, _break_connections, _kill_one, plain, some_work
from world import World

LOOK_S = 0.02
"""How soon a thread that waits for room goes on."""


def little_memory(seed: int) -> tuple[World, list[int]]:
    """Clients submit in loops that wait while they are held; engines, connections and controllers break meanwhile.

    Return the world, and how much each client has yet to submit.
    """
    world = World(seed, durable=seed % 4 != 0, memory_limit=random.Random(seed).choice([2_000, 20_000]))
    rng = random.Random(seed)
    Nanny(world, rng.randint(1, 4))
    clients = [Client(world, i) for i in range(rng.randint(1, 3))]
    world.run(1.0)
    left = [rng.choice([1, 20, 150]) for _ in clients]
    for i, client in enumerate(clients):
        world.after(rng.uniform(0.0, 1.0), _submit_in_a_loop, world, client, rng, left, i)
        if rng.random() < 0.2 and len(clients) > 1 and world.store is not None:
            world.after(rng.uniform(1.0, TROUBLE_S), _leave, world, client, left, i)
    for _ in range(rng.choice([0, 1, 4])):
        world.after(rng.uniform(0, 4), _kill_one, world, rng)
    if rng.random() < 0.4:
        _break_connections(world, rng)
    for _ in range(rng.choice([0, 1, 3])):
        world.after(rng.uniform(0.0, TROUBLE_S - 1.5), world.doom_controller, "now")
    return world, left


def _submit_in_a_loop(world: World, client: Client, rng: random.Random, left: list[int], i: int) -> None:
    while left[i] and not client.left:
        if client.held:
            if rng.random() < 0.05 and not client.away:
                client.say(m.Ack(client.incoming.have))  # as a client does a second after something came
            world.after(LOOK_S, _submit_in_a_loop, world, client, rng, left, i)
            return
        left[i] -= 1
        items = rng.choice([0, 0, 0, 5])
        work = some_work(rng, items=items) if rng.random() < 0.3 else plain(rng.expovariate(200))
        client.submit(b"function", [work], m.Options(retries=2), items=bool(items and len(work.durations) == items))
        if rng.random() < 0.2:  # it does something else
            world.after(rng.expovariate(50), _submit_in_a_loop, world, client, rng, left, i)
            return


def _leave(world: World, client: Client, left: list[int], i: int) -> None:
    if world.alive and not client.away:
        left[i] = 0
        client.leave(politely=True)
