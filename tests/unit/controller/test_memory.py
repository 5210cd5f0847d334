"""How much is held for clients, and who is to hold back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.controller import memory
from enginery.controller.memory import EBB_S, FLOOD_TASKS, LEAST_BYTES, TASK_BYTES
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide

LIMIT = 10 << 20
FRAME = bytes(100_000)


def bounded(bench: Bench) -> ClientSide:
    """Return a client of a controller with bounds and no engine."""
    client = bench.start(0).clients[0]
    bench.core.state.memory_limit = LIMIT
    client.come_back()
    return client


def fill(client: ClientSide, nbytes: int) -> list[int]:
    """Submit what weighs about so much."""
    return [id_ for _ in range(nbytes // len(FRAME)) for id_ in client.submit(frames=[FRAME])]


def holds(client: ClientSide) -> list[bool]:
    return [message.on for message, _ in client.take_all(m.Hold)]


def quiet(client: ClientSide) -> None:
    """Nobody looks at what else was said."""
    client.take_all(m.Ack)
    client.take_all(m.Engines)


def test_a_client_alone_may_fill_most_of_the_memory_and_is_held_until_half_of_the_rest_is_free(bench: Bench):
    client = bounded(bench)
    fill(client, LIMIT * 8 // 10)
    assert holds(client) == []
    ids = fill(client, LIMIT // 10)
    assert holds(client) == [True]
    client.cancel(ids[:1])
    assert holds(client) == []  # it takes more than that
    client.cancel(ids)
    assert holds(client) == [False]
    client.take_all(m.Reply)
    client.results()
    client.confirm()
    quiet(client)


def test_there_is_room_for_another_client_and_a_little_in_any_case(bench: Bench):
    greedy = bounded(bench)
    fill(greedy, LIMIT)
    assert holds(greedy) == [True]
    modest = bench.add_client()
    modest.hello()
    modest.submit(frames=[FRAME])
    assert holds(modest) == []
    fill(modest, LIMIT // 2)
    assert holds(modest) == [True]
    quiet(greedy)
    quiet(modest)


def test_results_that_a_client_does_not_confirm_weigh_on_itself_alone(bench: Bench):
    bench.start(1)
    bench.core.state.memory_limit = LIMIT
    lazy, other = bench.clients[0], bench.add_client()
    other.hello()
    for id_ in lazy.submit(10):
        bench.engines[0].calls()
        bench.engines[0].finish(id_, frames=[bytes(LIMIT // 10)])
    lazy.submit()
    assert holds(lazy) == [True]
    other.submit(frames=[FRAME])
    assert holds(other) == []
    lazy.results()
    lazy.confirm()
    assert holds(lazy) == [False]
    bench.forget_what_was_said()


def test_a_client_that_is_away_is_told_in_its_welcome(bench: Bench):
    client = bounded(bench)
    ids = fill(client, LIMIT)
    assert holds(client) == [True]
    client.lose_connection()
    assert client.come_back().hold
    client.lose_connection()
    bench.forget_what_was_said()
    bench.core.state.memory_limit *= 2
    welcome = client.come_back()
    assert not welcome.hold
    assert welcome.room == LIMIT * 2 // memory.ROOMS
    assert ids
    quiet(client)


def test_a_client_in_an_engine_is_never_held(bench: Bench):
    bench.start(1)
    client = bench.clients[0]
    bench.core.state.memory_limit = LIMIT
    engine = bench.core.state.engines[0]
    before = engine.pid, engine.host
    engine.pid, engine.host = 7, "here"  # as the client says it is
    assert client.come_back().room == 0
    fill(client, LIMIT)
    assert holds(client) == []
    engine.pid, engine.host = before
    bench.forget_what_was_said()


def test_what_comes_is_confirmed_at_once_when_it_is_much(bench: Bench):
    client = bounded(bench)
    client.submit(3)
    assert len(client.outgoing) == 1
    client.submit(1, payload=bytes(LEAST_BYTES * 2))
    assert len(client.outgoing) == 0


def test_copies_for_many_engines_share_what_they_have(bench: Bench):
    bench.start(4)
    client = bench.clients[0]
    client.submit(frames=[FRAME], targets=(0, 1, 2, 3), ordered=True)
    assert len(FRAME) < bench.core.state.held_bytes < len(FRAME) * 1.1
    bench.forget_what_was_said()


def test_values_that_come_to_a_waiting_task_weigh_with_it(bench: Bench):
    bench.start(1)
    client = bench.clients[0]
    (first,) = client.submit()
    (second,) = client.submit(needs=(first,), payload=b"of another")
    assert bench.engines[0].given() == [first]
    bench.engines[0].finish(first, frames=[FRAME])
    assert second in bench.core.state.tasks
    assert bench.core.state.held_bytes > len(FRAME)
    bench.forget_what_was_said()


def test_output_weighs_by_all_that_is_in_it():
    records = [m.Output(1, "stdout", "x" * 1000), m.Output(1, "display", {"image/png": ["y" * 500, b"z" * 500]})]
    assert 2000 < memory.weigh_outputs(records) < 3000


def test_after_a_flood_memory_is_given_back_once(bench: Bench):
    client = bench.start(0).clients[0]
    state = bench.core.state
    ids = client.submit(FLOOD_TASKS + 1)
    assert memory.used(state) > TASK_BYTES * len(ids)
    client.cancel(ids)
    table = state.tasks
    bench.advance(EBB_S + 0.1)
    assert state.tasks is not table
    assert not state.calm
    bench.forget_what_was_said()
