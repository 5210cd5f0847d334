"""Resources: offered by hosts, taken by tasks, never more than there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller import resources
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench

GPU = (("gpu", 1.0),)
BOTH = (("gpu", 2.0),)


def given(bench: Bench) -> int:
    return sum(len(engine.given()) for engine in bench.engines)


def finish_one(bench: Bench) -> None:
    engine = next(engine for engine in bench.engines if engine.queue)
    engine.finish(next(iter(engine.queue)))


def test_no_more_is_taken_than_is_offered(bench: Bench):
    bench.start(engines=4, resources={"gpu": 2.0})
    client = bench.clients[0]
    ids = client.submit(5, resources=GPU)
    assert given(bench) == 2
    for _ in range(3):
        finish_one(bench)
        assert given(bench) == 1
    finish_one(bench), finish_one(bench)
    assert client.ended() == dict.fromkeys(ids, m.Status.OK)
    assert not resources.in_use(bench.core.state, next(iter(bench.core.state.nannies.values())))


def test_other_tasks_do_not_wait_for_them(bench: Bench):
    bench.start(engines=4, resources={"gpu": 1.0})
    bench.clients[0].submit(5, resources=GPU)
    assert given(bench) == 1
    bench.clients[0].submit(4)
    assert given(bench) == 4
    bench.forget_what_was_said()


def test_each_host_has_its_own(bench: Bench):
    bench.start(engines=2, hosts=2, resources={"gpu": 1.0})
    bench.clients[0].submit(4, resources=GPU)
    assert [len(engine.given()) for engine in bench.engines] in ([1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1])


def test_a_host_that_does_not_offer_it_gets_none(bench: Bench):
    bench.start(engines=1)
    bench.add_nanny(1, resources={"gpu": 4.0})
    bench.clients[0].news()
    bench.clients[0].submit(4, resources=GPU)
    assert [len(engine.given()) for engine in bench.engines] == [0, 2], "an engine's window is its limit too"


def test_fractions_add_up(bench: Bench):
    bench.start(engines=8, resources={"gpu": 0.3})
    bench.clients[0].submit(5, resources=(("gpu", 0.1),))
    assert given(bench) == 3


def test_what_nobody_offers_is_refused(bench: Bench):
    bench.start(engines=1, resources={"gpu": 2.0, "mem": 8.0})
    client = bench.clients[0]
    client.submit(resources=(("gpu", 1.0), ("mem", 9.5)))
    (result,) = client.results()
    assert result.status == m.Status.REFUSED
    assert result.payload.decode() == ("it takes gpu=1 mem=9.5, which no host can give: host host0 offers gpu=2 mem=8")
    client.submit(resources=(("tpu", 1.0),), items=3)
    assert client.runs() == [(0, 3, m.Status.REFUSED)]


def test_so_is_what_the_targets_do_not_offer(bench: Bench):
    bench.start(engines=1, resources={"gpu": 2.0})
    bench.add_nanny(1)
    bench.clients[0].news()
    bench.clients[0].submit(resources=GPU, targets=(1,))
    (result,) = bench.clients[0].results()
    assert b"host host1 offers nothing" in result.payload
    bench.clients[0].submit(resources=GPU, targets=(0, 1))
    assert [len(engine.given()) for engine in bench.engines] == [1, 0]


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan")])
def test_amounts_that_are_none_are_refused(bench: Bench, amount):
    bench.start(engines=1, resources={"gpu": 2.0})
    bench.clients[0].submit(resources=(("gpu", amount),))
    assert set(bench.clients[0].ended().values()) == {m.Status.REFUSED}


def test_direct_calls_take_none(bench: Bench):
    bench.start(engines=1, resources={"gpu": 2.0})
    bench.clients[0].submit(resources=GPU, targets=(0,), ordered=True)
    (result,) = bench.clients[0].results()
    assert result.payload == b"what is addressed to each of its engines takes no resources"


def test_when_the_last_host_that_offers_it_is_lost_it_is_refused(bench: Bench):
    bench.start(engines=1)
    guest = bench.add_nanny(1, resources={"gpu": 1.0})
    client = bench.clients[0]
    client.submit(3, resources=GPU, retries=1)
    assert given(bench) == 1
    guest.say(m.Goodbye())
    bench.advance(1.0)
    assert set(client.ended().values()) == {m.Status.REFUSED}
    bench.forget_what_was_said()


def test_those_who_want_much_are_not_passed_over_for_ever(bench: Bench):
    """With a stream of small ones, two are never free at once unless something is kept for the large one."""
    bench.start(engines=4, resources={"gpu": 2.0})
    client = bench.clients[0]
    client.submit(20, resources=GPU)
    assert given(bench) == 2
    (large,) = client.submit(resources=BOTH)
    ran = bench.work(lambda _call: 1.0)
    order = [task for _, _, task in sorted(ran)]
    assert order.index(large) < 6
    assert len(order) == 21
    bench.forget_what_was_said()


def test_a_map_takes_them_for_each_of_its_tasks(bench: Bench):
    bench.start(engines=3, resources={"gpu": 2.0})
    client = bench.clients[0]
    client.submit(3, items=4, resources=GPU)
    calls = [(engine, call) for engine in bench.engines for call in engine.calls()]
    assert len(calls) == 2
    assert all(call.fixed for _, call in calls), "no idle engine is given a part, for which nothing is free"
    bench.advance(1.0)
    engine, call = calls[0]
    engine.finish_items(call.id, 0, 4)
    del engine.queue[call.id]
    assert given(bench) == 1
    bench.forget_what_was_said()


def test_coroutines_take_them_too(bench: Bench):
    bench.start(engines=2, resources={"gpu": 3.0})
    bench.clients[0].submit(5, b"coroutine", resources=GPU)
    assert given(bench) == 3


def test_an_idle_engine_takes_one_over_with_what_it_takes(bench: Bench):
    bench.start(engines=2, resources={"gpu": 2.0})
    client, (busy, idle) = bench.clients[0], bench.engines
    client.submit(targets=(1,))
    idle.given()
    running, unstarted = client.submit(2, resources=GPU)
    assert busy.given() == [running, unstarted]
    idle.finish()
    request = busy.asked_back()
    assert request.tasks == [unstarted]
    busy.give_back(request, request.tasks)
    assert idle.given() == [unstarted]
    bench.forget_what_was_said()


def test_what_an_engine_had_is_free_when_it_has_ended(bench: Bench):
    bench.start(engines=2, resources={"gpu": 1.0})
    client = bench.clients[0]
    client.submit(2, resources=GPU)
    engine = next(engine for engine in bench.engines if engine.given())
    engine.die(next(iter(engine.queue)))
    assert sum(len(other.given()) for other in bench.engines if other is not engine) == 1
    bench.forget_what_was_said()


def test_another_controller_knows_what_is_taken(durable: Bench):
    durable.start(engines=2, resources={"gpu": 1.0})
    client = durable.clients[0]
    client.submit(2, resources=GPU)
    engine = next(engine for engine in durable.engines if engine.given())
    durable.die()
    client.come_back()
    for side in durable.engines:
        side.come_back(running=next(iter(side.queue), None))
    durable.nannies[0].come_back([(0, 1), (1, 1)])
    assert given(durable) == 0
    engine.finish()
    assert given(durable) == 1
    durable.forget_what_was_said()


def test_the_status_says_what_is_offered_and_taken(bench: Bench):
    bench.start(engines=1, resources={"gpu": 2.0, "mem": 8.0})
    client = bench.clients[0]
    client.submit(resources=GPU)
    given(bench)
    (host,) = client.answer(client.ask(m.StatusQuery))["hosts"]
    assert (host["resources"], host["in_use"]) == ({"gpu": 2.0, "mem": 8.0}, {"gpu": 1.0})


def test_hosts_are_told_how_many_engines_they_have(bench: Bench):
    bench.start(engines=2)
    client, nanny = bench.clients[0], bench.nannies[0]
    client.ask(m.Scale, 4)
    ((start, _),) = nanny.take_all(m.StartEngines)
    assert (start.engines, start.of) == ([(2, 1), (3, 1)], 4)
    bench.engines[0].die()
    ((again, _),) = nanny.take_all(m.StartEngines)
    assert (again.engines, again.of) == ([(0, 2)], 4)
    bench.forget_what_was_said()
