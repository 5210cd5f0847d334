"""Tasks go where the bytes are, if there is room."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from enginery.controller import homes
from enginery.wire import messages as m

from unit.controller.hosts import Hosts

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide


def given(bench: Bench) -> list[int]:
    """Return how many calls each engine was given since last asked."""
    return [len(engine.given()) for engine in bench.engines]


def learn(hosts: Hosts, duration: float, function: bytes = b"f") -> None:
    """Have the controller know how long a function takes."""
    bench = hosts.bench
    bench.clients[0].submit(2, function)
    for engine in bench.engines:
        if engine.given():
            engine.finish(duration=duration)
    bench.clients[0].results()


def work_off(bench: Bench, engine: EngineSide, duration: float = 0.01) -> None:
    """Have an engine end the first of what it has."""
    engine.finish(next(iter(engine.queue)), duration=duration)


def forget(hosts: Hosts) -> None:
    hosts.bench.forget_what_was_said()


def test_a_task_goes_to_a_host_that_has_its_object(bench: Bench):
    hosts = Hosts(bench, 3)
    for n in (2, 0, 1):
        hosts.submit(hosts.object(n))
        assert given(bench) == [int(n == k) for k in range(3)]
    assert not bench.core.state.homes


def test_it_goes_to_the_host_that_has_most_of_the_bytes(bench: Bench):
    hosts = Hosts(bench, 3)
    small, large, other = hosts.object(0, 1_000_000), hosts.object(1, 5_000_000), hosts.object(0, 2_000_000)
    hosts.submit(small, large, other)
    assert given(bench) == [0, 1, 0]
    assert sorted(id_ for id_, _ in hosts.pulls(1)) == sorted([small.id, other.id])


def test_it_goes_elsewhere_if_those_engines_have_all_they_can_take(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    hosts.submit(info, n=2)
    assert given(bench) == [2, 0]
    hosts.submit(info, n=2)
    assert given(bench) == [0, 1]
    assert hosts.pull(1) == [0]
    work_off(bench, bench.engines[0])
    assert given(bench) == [1, 0], "the last has waited where it is at home"
    forget(hosts)


def test_an_idle_engine_far_away_has_no_more_than_two(bench: Bench):
    """One to run, and one to have its object brought meanwhile."""
    hosts = Hosts(bench, 2)
    learn(hosts, 0.001)
    objects = [hosts.object(0) for _ in range(200)]
    bench.burst(*[partial(hosts.submit, info) for info in objects])
    at_home, abroad = given(bench)
    assert at_home > 20
    assert abroad == 2
    forget(hosts)


def test_an_idle_engine_that_has_the_object_too_has_its_share(bench: Bench):
    hosts = Hosts(bench, 2)
    learn(hosts, 0.001)
    info = hosts.object(0)
    hosts.submit(info, n=200)
    assert given(bench)[1] == 2
    hosts.pull(1)
    hosts.pulled(1, info)
    bench.engines[1].finish()
    assert given(bench)[1] > 20
    forget(hosts)


def test_what_all_hosts_have_is_at_home_nowhere(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pull(1)
    hosts.pulled(1, info)
    hosts.submit(info, n=2)
    assert given(bench) == [1, 1]


def test_of_several_hosts_that_have_it_the_one_where_least_waits(bench: Bench):
    hosts = Hosts(bench, 3)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pull(1)
    hosts.pulled(1, info)
    bench.clients[0].submit(6)  # all are busy
    assert given(bench) == [2, 2, 2]
    hosts.submit(info)
    hosts.submit(info)
    state = bench.core.state
    assert {peer: home.queue.waiting for peer, home in state.homes.items()} == {b"nhost0.1": 1, b"nhost1.1": 1}
    hosts.submit(info, n=4)
    forget(hosts)


def test_what_was_taken_back_does_not_go_home(bench: Bench):
    hosts = Hosts(bench, 2)
    hosts.submit(hosts.object(0), n=2)
    assert given(bench) == [2, 0]
    busy = bench.engines[0]
    bench.clients[0].submit(1, b"g")
    assert given(bench) == [0, 1]
    bench.engines[1].finish()
    request = busy.asked_back()
    busy.give_back(request, busy.choose_to_give(request))
    assert given(bench) == [0, 1]
    forget(hosts)


def test_tasks_at_a_host_that_is_lost_go_elsewhere(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    bench.clients[0].submit(4, b"g")
    hosts.submit(info, n=3)
    forget(hosts)
    for engine in bench.engines:
        engine.queue.clear()
    assert bench.core.state.homes
    hosts.lose(0)
    bench.advance(1.0)
    assert not bench.core.state.homes
    assert bench.core.state.common.waiting
    forget(hosts)


def test_of_engines_that_a_task_may_have_those_with_its_object_come_first(bench: Bench):
    hosts = Hosts(bench, 4)
    info = hosts.object(2)
    hosts.submit(info, targets=(1, 2, 3))
    assert given(bench) == [0, 0, 1, 0]
    hosts.submit(info, n=3, targets=(1, 2, 3))
    assert given(bench) == [0, 1, 1, 1]
    forget(hosts)


def test_others_tasks_have_their_turns(bench: Bench):
    """However many wait where their objects are."""
    hosts = Hosts(bench, 2, clients=2)
    learn(hosts, 0.02, b"f")
    learn(hosts, 0.02, b"g")
    mine, other = bench.clients
    for n in (0, 1):
        hosts.submit(hosts.object(n), n=50)
    theirs = set(other.submit(50, b"g"))
    done: list[bool] = []
    for _ in range(40):
        for engine in bench.engines:
            engine.given()
            done.append(next(iter(engine.queue)) in theirs)
            work_off(bench, engine, 0.02)
    assert 25 < sum(done) < 55, f"{sum(done)} of {len(done)} are of the client without objects"
    forget(hosts)
    mine.results()


def test_of_one_client_the_more_important_come_first(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    hosts.submit(info, n=4, targets=(0, 1), priority=9)
    given(bench)
    at_home = hosts.submit(info, n=2)
    above = bench.clients[0].submit(2, b"g", priority=1)
    bench.engines[0].finish()
    assert bench.engines[0].given() == above
    bench.engines[0].finish()
    assert bench.engines[0].given() == at_home
    forget(hosts)


def test_a_task_that_waits_at_a_host_can_be_withdrawn(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    bench.clients[0].submit(4, b"g")
    given(bench)
    ids = hosts.submit(info, n=2)
    bench.clients[0].cancel(ids[:1])
    assert bench.clients[0].ended() == {ids[0]: m.Status.CANCELLED}
    bench.clients[0].cancel(ids[1:])
    assert not bench.core.state.homes
    forget(hosts)


def test_a_task_goes_where_the_result_that_it_needs_was_made(bench: Bench):
    hosts = Hosts(bench, 3)
    client = bench.clients[0]
    (first,) = client.submit(targets=(2,), ordered=True)
    client.submit(needs=(first,), payload=b"")
    made = hosts.object(2, put=False)
    engine = bench.engines[2]
    assert engine.given() == [first]
    del engine.queue[first]
    engine.say(m.Done([m.Result(first, m.Status.OK, b"reference", 0, -1, 1.0, 1.0, objects=(made,))]))
    assert given(bench) == [0, 0, 1]
    forget(hosts)


def test_a_task_costs_no_more_on_many_hosts(bench: Bench):
    """What is looked at for each task, on few hosts and on many."""

    def looks(hosts: Hosts, first: int, last: int) -> int:
        count = 0
        before = homes.Home.next_engine, homes.has_engines

        def next_engine(self: homes.Home, state: object) -> object:
            nonlocal count
            count += 1
            return before[0](self, state)  # type: ignore[arg-type]

        def has_engines(state: object, peer: object) -> bool:
            nonlocal count
            count += 1
            return before[1](state, peer)  # type: ignore[arg-type]

        homes.Home.next_engine, homes.has_engines = next_engine, has_engines  # type: ignore[method-assign,assignment]
        try:
            for n in range(first, last):
                hosts.submit(hosts.object(n % len(hosts.bench.nannies)))
        finally:
            homes.Home.next_engine, homes.has_engines = before  # type: ignore[method-assign]
        return count

    hosts = Hosts(bench, 4)
    on_few = looks(hosts, 0, 40)
    forget(hosts)
    for n in range(4, 60):
        hosts.add(n, 1)
    on_many = looks(hosts, 4, 44)
    assert on_many <= on_few
    forget(hosts)
