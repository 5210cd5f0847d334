"""Who gets which tasks, and how many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.controller.state import WINDOW_S
from enginery.ids import ClientNo, TaskId, client_of
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide


def learn(bench: Bench, function: bytes, duration: float) -> None:
    """Have the core know how long a function takes."""
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(function=function, targets=(0,))
    engine.given()
    engine.finish(duration=duration)
    client.results()


def of(client: ClientSide, ran: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    return [entry for entry in ran if client_of(TaskId(entry[2])) == ClientNo(client.no)]


# ------------------------------------------------------------------------------------------------------- windows


def test_tasks_of_unknown_duration_come_one_and_one(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(10)
    assert [len(engine.given()) for engine in bench.engines] == [2, 2]


def test_long_tasks_come_one_and_one_prefetched(bench: Bench):
    bench.start()
    learn(bench, b"long", 10.0)
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(4, b"long")
    assert engine.given() == ids[:2]
    engine.finish(ids[0], duration=10.0)
    assert engine.given() == ids[2:3], "the next is prefetched while the second runs"
    client.results()


def test_quick_tasks_come_by_the_thousand(bench: Bench):
    bench.start(engines=2)
    learn(bench, b"quick", 2e-6)
    bench.clients[0].submit(20_000, b"quick")
    given = [len(engine.given()) for engine in bench.engines]
    assert all(3000 < n <= WINDOW_S / 8e-6 + 1 for n in given), given


def test_a_window_is_measured_in_time(bench: Bench):
    bench.start()
    learn(bench, b"f", 0.01)
    bench.clients[0].submit(100, b"f")
    assert len(bench.engines[0].given()) == 5


def test_an_estimate_that_was_wrong_is_corrected(bench: Bench):
    bench.start()
    learn(bench, b"f", 1e-5)
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(20_000, b"f")
    first = len(engine.given())
    for _ in range(30):
        engine.finish(*list(engine.queue)[: len(engine.queue) // 2 + 1], duration=0.02)
        engine.given()
    assert first > 1000
    assert len(engine.queue) <= 4
    client.results()


def test_the_items_of_a_divisible_task_count(bench: Bench):
    bench.start()
    learn(bench, b"f", 0.01)
    bench.clients[0].submit(10, b"f", items=4)
    assert len(bench.engines[0].given()) == 2


# ------------------------------------------------------------------------------------------------------- spread


def test_a_burst_is_spread_evenly(bench: Bench):
    bench.start(engines=4)
    learn(bench, b"quick", 1e-5)
    bench.clients[0].submit(400, b"quick")
    assert [len(engine.given()) for engine in bench.engines] == [100, 100, 100, 100]


def test_a_burst_for_some_engines_is_spread_evenly_over_those(bench: Bench):
    bench.start(engines=4)
    learn(bench, b"quick", 1e-5)
    bench.clients[0].submit(100, b"quick", targets=(1, 3))
    assert [len(engine.given()) for engine in bench.engines] == [0, 50, 0, 50]


def test_each_engine_gets_one_before_any_gets_two(bench: Bench):
    bench.start(engines=4)
    bench.clients[0].submit(4)
    assert [len(engine.given()) for engine in bench.engines] == [1, 1, 1, 1]


def test_the_engine_with_the_least_work_is_served_first(bench: Bench):
    bench.start(engines=3)
    learn(bench, b"long", 10.0)
    bench.clients[0].submit(1, b"long", targets=(0,))
    bench.clients[0].submit(1, b"long", targets=(2,))
    bench.engines[0].given(), bench.engines[2].given()
    (task,) = bench.clients[0].submit()
    assert bench.engines[1].given() == [task]


def test_a_burst_of_many_messages_is_placed_once(bench: Bench):
    # Given that several submissions come before the core takes its turn
    bench.start(engines=2)
    client = bench.clients[0]
    bench.burst(*[client.submit] * 4)
    # Then each engine is sent one message
    assert [engine.kinds() for engine in bench.engines] == [["Run"], ["Run"]]
    assert [len(engine.given()) for engine in bench.engines] == [2, 2]


def test_tasks_wait_until_an_engine_is_there(bench: Bench):
    bench.start(engines=0)
    (task,) = bench.clients[0].submit()
    bench.add_nanny(1)
    assert bench.engines[0].given() == [task]
    bench.clients[0].news()


def test_an_engine_that_is_to_go_gets_nothing(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    first = client.submit(2)
    assert sorted(bench.engines[0].given() + bench.engines[1].given()) == first
    client.ask(m.Scale, 1)
    client.submit(5)
    client.submit(targets=(0, 1))
    assert bench.engines[1].given() == []
    assert len(bench.engines[0].given()) == 1
    client.news()


# ------------------------------------------------------------------------------------------------------- addressed


def test_addressed_and_free_tasks_share_an_engine(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    free = client.submit(3)
    direct = client.submit(3, targets=(0,), ordered=True)
    seen = engine.given()
    while engine.queue:
        engine.finish(next(iter(engine.queue)), duration=1.0)
        seen += engine.given()
    assert sorted(seen) == free + direct
    assert [id_ for id_ in seen if id_ in direct] == direct
    assert len(client.ended()) == 6


def test_a_withdrawn_addressed_task_leaves_no_trace(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    *first, last = client.submit(3, targets=(0,), ordered=True)
    assert engine.given() == first
    assert client.answer(client.cancel([last])) == [last]
    engine.finish(first[0])
    assert engine.kinds() == [], "nothing to run"
    client.results()


# ------------------------------------------------------------------------------------------------------- fairness


def test_a_million_quick_tasks_do_not_delay_a_few(bench: Bench):
    # Given a client with very many quick tasks (they need not all run here), under way
    bench.start(engines=2, clients=2)
    many, few = bench.clients
    learn(bench, b"quick", 1e-5)
    many.submit(100_000, b"quick")
    bench.work(lambda call: 1e-5, until=bench.now + 0.1)
    # When another comes with ten
    asked = bench.now
    mine = few.submit(10, b"quick")
    ran = bench.work(lambda call: 1e-5, until=bench.now + 0.3)
    # Then it waits for no more than what engines were given ahead
    ended = {task: end for end, _, task in ran if task in mine}
    assert set(ended) == set(mine)
    assert max(ended.values()) - asked < 2 * WINDOW_S
    bench.forget_what_was_said()


def test_long_tasks_of_one_client_do_not_delay_a_few_of_another(bench: Bench):
    bench.start(engines=2, clients=2)
    long, few = bench.clients
    learn(bench, b"long", 1.0)
    learn(bench, b"quick", 0.01)
    long.submit(200, b"long")
    bench.work(lambda call: 1.0, until=bench.now + 10)
    asked = bench.now
    mine = few.submit(5, b"quick")
    ran = bench.work(lambda call: 1.0 if call.function == b"long" else 0.01, until=bench.now + 5)
    ended = {task: end for end, _, task in ran if task in mine}
    assert set(ended) == set(mine)
    assert max(ended.values()) - asked < 2.2, "those that run and those prefetched, no more"
    bench.forget_what_was_said()


def test_two_clients_get_the_same_engine_time_whatever_their_tasks_take(bench: Bench):
    bench.start(engines=2, clients=2)
    long, short = bench.clients
    learn(bench, b"long", 1.0)
    learn(bench, b"short", 0.02)
    long.submit(200, b"long")
    short.submit(4000, b"short")
    begun = bench.now
    ran = bench.work(lambda call: 1.0 if call.function == b"long" else 0.02, until=begun + 60)
    time_of_long = 1.0 * len(of(long, ran))
    time_of_short = 0.02 * len(of(short, ran))
    assert 0.8 < time_of_long / time_of_short < 1.25, (time_of_long, time_of_short)
    bench.forget_what_was_said()


def test_two_clients_get_the_same_engine_time_though_durations_are_unknown_at_first(bench: Bench):
    bench.start(engines=2, clients=2)
    one, two = bench.clients
    one.submit(3000, b"one")
    two.submit(3000, b"two")
    begun = bench.now
    ran = bench.work(lambda call: 0.1 if call.function == b"one" else 0.01, until=begun + 20)
    share = 0.1 * len(of(one, ran)) / 40
    assert 0.4 < share < 0.6, share
    bench.forget_what_was_said()


def test_three_clients_share_an_engine_in_turns(bench: Bench):
    bench.start(engines=1, clients=3)
    learn(bench, b"f", 0.1)
    ids = [client.submit(4, b"f") for client in bench.clients]
    ran = [task for _, _, task in bench.work(lambda call: 0.1)]
    assert sorted(ran) == sorted(id_ for mine in ids for id_ in mine)
    turns = [next(i for i, mine in enumerate(ids) if task in mine) for task in ran]
    # The first client is there first and gets the window; then they alternate.
    assert all(len(set(turns[i : i + 3])) == 3 for i in range(2, 8, 3)), turns
    for client in bench.clients:
        assert len(client.ended()) == 4


def test_priorities_are_of_one_client_only(bench: Bench):
    # Given a client whose tasks are all urgent, it says
    bench.start(engines=1, clients=2)
    loud, quiet = bench.clients
    learn(bench, b"f", 0.1)
    loud.submit(20, b"f", priority=1000)
    mine = quiet.submit(2, b"f")
    ran = [task for _, _, task in bench.work(lambda call: 0.1)]
    assert max(ran.index(task) for task in mine) < 8
    bench.forget_what_was_said()
