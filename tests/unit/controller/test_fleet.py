"""Engines and nannies: arrivals, ends, replacements, lost hosts."""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from enginery.controller.fleet import PAUSE_S, TRIES
from enginery.controller.sessions import ENGINE_AWAY_S, NANNY_AWAY_S
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench

REFUSED = m.Status.REFUSED


def fail_to_start(bench: Bench, reason: str = "exited with code 1") -> None:
    """The engine that was to be started ends before it says hello."""
    ((engine, incarnation),) = bench.nannies[0].starts()
    bench.add_engine(engine, incarnation).die(exit_code=1, reason=reason)


def give_up_engine(bench: Bench) -> None:
    """The (only) engine dies and cannot be started again."""
    bench.engines[0].die()
    for _ in range(TRIES):
        fail_to_start(bench, "exited with code 1")
        bench.advance(10 * PAUSE_S)


# ------------------------------------------------------------------------------------------------------- arrivals


def test_a_nanny_is_told_which_engines_to_start(bench: Bench):
    nanny = bench.add_nanny(3, ready=False)
    assert nanny.starts() == [(0, 1), (1, 1), (2, 1)]


def test_a_second_nanny_gets_the_next_ids(bench: Bench):
    bench.add_nanny(2)
    assert bench.add_nanny(2, ready=False).starts() == [(2, 1), (3, 1)]


def test_clients_hear_of_engines_that_start_and_are_ready(bench: Bench):
    bench.start(engines=0)
    nanny = bench.add_nanny(1, ready=False)
    assert bench.clients[0].news() == [(0, "starting")]
    bench.hello_engines(nanny)
    assert bench.clients[0].news() == [(0, "ready")]


def test_a_nanny_of_another_version_is_refused(bench: Bench):
    bench.tell(b"nhost.1", m.NannyHello(m.VERSION + 1, "host", 1, 4, 2))
    assert "nanny" in bench.sides[b"nhost.1"].take(m.Refused).reason
    assert not bench.core.state.engines


def test_a_second_hello_of_a_nanny_adds_nothing(bench: Bench):
    nanny = bench.add_nanny(1)
    nanny.come_back([(0, 1)])
    assert len(bench.core.state.engines) == 1


def test_an_engine_of_another_version_is_refused(bench: Bench):
    bench.add_nanny(1, ready=False).starts()
    engine = bench.add_engine(0, 1)
    engine.say(m.EngineHello(m.VERSION + 1, 0, 1, 100))
    assert "engine" in engine.take(m.Refused).reason


def test_an_engine_is_ready_when_both_of_its_sockets_have_been_heard_of(bench: Bench):
    bench.start(engines=0)
    nanny = bench.add_nanny(1, ready=False)
    nanny.starts()
    engine = bench.add_engine(0, 1)
    engine.say(m.EngineHello(m.VERSION, 0, 1, 100, "host"))
    assert bench.clients[0].news() == [(0, "starting")]
    engine.control.say(m.ControlHello(0, 1))
    assert engine.take(m.EngineWelcome).session == 0
    assert bench.clients[0].news() == [(0, "ready")]


@pytest.mark.parametrize(("engine", "incarnation"), [(7, 1), (0, 2)])
def test_an_engine_nobody_expects_is_refused(bench: Bench, engine, incarnation):
    bench.add_nanny(1)
    stray = bench.add_engine(engine, incarnation)
    stray.control.say(m.ControlHello(engine, incarnation))
    stray.say(m.EngineHello(m.VERSION, engine, incarnation, 1))
    assert f"no engine {engine}.{incarnation} is expected" in stray.take(m.Refused).reason


# ------------------------------------------------------------------------------------------------------- ends


def test_an_engine_that_dies_is_replaced_under_its_id(bench: Bench):
    bench.start()
    bench.engines[0].die()
    assert bench.nannies[0].starts() == [(0, 2)]
    assert bench.clients[0].news() == [(0, "dead"), (0, "starting")]
    bench.add_engine(0, 2).hello()
    assert bench.clients[0].news() == [(0, "ready")]


def test_the_end_of_an_earlier_incarnation_is_no_news(bench: Bench):
    bench.start()
    old = bench.engines[0]
    old.die()
    bench.hello_engines()
    bench.clients[0].news()
    old.die()
    assert bench.nannies[0].starts() == []


def test_an_end_told_twice_is_one_end(bench: Bench):
    bench.start()
    bench.engines[0].die(settle=False)
    bench.engines[0].die()
    assert bench.nannies[0].starts() == [(0, 2)]
    assert bench.clients[0].news() == [(0, "dead"), (0, "starting")]


def test_only_its_own_nanny_can_tell_of_an_engines_end(bench: Bench):
    bench.start(hosts=2)
    bench.nannies[1].say(m.EngineExited(m.DeathCertificate(0, 1, 100, -9)))
    bench.advance(1.0)


def test_an_engine_that_does_not_start_is_tried_again_with_growing_pauses(bench: Bench):
    bench.add_nanny(1, ready=False)
    fail_to_start(bench)
    assert bench.nannies[0].starts() == []
    bench.advance(PAUSE_S)
    fail_to_start(bench)
    bench.advance(PAUSE_S)
    assert bench.nannies[0].starts() == []
    bench.advance(PAUSE_S)
    assert bench.nannies[0].starts() == [(0, 3)]


def test_an_engine_that_starts_at_the_third_try_has_a_clean_slate(bench: Bench):
    bench.add_nanny(1, ready=False)
    for _ in range(TRIES - 1):
        fail_to_start(bench)
        bench.advance(10 * PAUSE_S)
    bench.hello_engines()
    bench.engines[0].die()
    for _ in range(TRIES - 1):
        fail_to_start(bench)
        bench.advance(10 * PAUSE_S)
    bench.hello_engines()


def test_an_engine_that_never_starts_is_given_up_and_those_who_wait_are_told(bench: Bench):
    # Given somebody who waits for the engine, and tasks addressed to it
    bench.start(engines=0)
    client = bench.clients[0]
    bench.add_nanny(1, ready=False)
    request = client.ask(m.WaitEngines, 1)
    ordered = client.submit(2, targets=(0,), ordered=True)
    chosen = client.submit(1, targets=(0,))
    free = client.submit(1)
    # When its process ends again and again
    nanny = bench.nannies[-1]
    for _ in range(TRIES):
        ((engine, incarnation),) = nanny.starts()
        bench.add_engine(engine, incarnation).die(exit_code=1, reason="exited with code 1")
        bench.advance(10 * PAUSE_S)
    # Then it is tried no more
    bench.advance(100.0)
    assert nanny.starts() == []
    assert client.error(request) == "1 of 1 engines could not be started: engine 0: exited with code 1; last words"
    results = client.results()
    assert [result.id for result in results] == ordered + chosen
    assert {result.status for result in results} == {REFUSED}
    assert b"exited with code 1" in results[0].payload
    # And the rest waits for an engine that does
    assert list(bench.core.state.tasks) == free
    client.news()


def test_tasks_for_a_given_up_engine_are_refused(bench: Bench):
    bench.start()
    client = bench.clients[0]
    give_up_engine(bench)
    client.submit(targets=(0,), ordered=True)
    client.submit(targets=(0,))
    results = client.results()
    assert [result.status for result in results] == [REFUSED, REFUSED]
    assert all(result.payload.startswith(b"engine 0 could not be started: exited with code 1") for result in results)
    client.news()


def test_a_given_up_engine_can_be_restarted(bench: Bench):
    bench.start()
    client = bench.clients[0]
    give_up_engine(bench)
    request = client.ask(m.Restart, [0])
    ((_, incarnation),) = bench.nannies[0].starts()
    engine = bench.add_engine(0, incarnation)
    engine.hello()
    assert client.answer(request) == [0]
    (task,) = client.submit(targets=(0,))
    assert engine.given() == [task]
    client.news()


def test_a_given_up_engine_has_no_second_end(bench: Bench):
    bench.start()
    give_up_engine(bench)
    bench.engines[0].die()
    bench.clients[0].news()
    assert bench.nannies[0].starts() == []


def test_a_given_up_engine_can_be_scaled_away(bench: Bench):
    bench.start()
    client = bench.clients[0]
    give_up_engine(bench)
    assert client.answer(client.ask(m.Scale, 0)) == []
    assert not bench.core.state.engines
    client.news()


def test_who_does_not_need_the_given_up_engine_is_not_bothered(bench: Bench):
    # Given two engines, one of which was given up
    bench.start(engines=1)
    client = bench.clients[0]
    give_up_engine(bench)
    # When others are started, restarted, waited for
    request = client.ask(m.Scale, 2)
    (engine,) = bench.hello_engines()
    assert client.answer(request) == [1]
    request = client.ask(m.Restart, [1])
    assert bench.nannies[0].stops() == [(1, SIGKILL)]
    engine.die()
    bench.hello_engines()
    assert client.answer(request) == [1]
    assert client.answer(client.ask(m.WaitEngines, 1)) == [1]
    # Then only who needs all hears of it
    assert "engine 0" in client.error(client.ask(m.WaitEngines))
    assert "engine 0" in client.error(client.ask(m.WaitEngines, 2))
    client.news()


def test_who_waits_for_some_of_the_engines_still_can_after_one_was_given_up(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    give_up_engine(bench)
    client.ask(m.Scale, 2)
    request = client.ask(m.WaitEngines, 1)
    bench.hello_engines()
    assert [(reply.request, reply.value) for reply, _ in client.take_all(m.Reply)] == [(1, [1]), (request, [1])]
    client.news()


# ------------------------------------------------------------------------------------------------------- nannies


@pytest.mark.parametrize("politely", [False, True])
def test_the_engines_of_a_lost_nanny_are_lost_with_the_reason(bench: Bench, politely):
    # Given two hosts, each with an engine that runs a task and has another
    bench.start(hosts=2)
    client, (here, there) = bench.clients[0], bench.engines
    client.submit(4)
    here.given(), there.given()
    # When one is lost
    if politely:
        bench.nannies[1].say(m.Goodbye())
    else:
        bench.nannies[1].lose_connection()
        bench.advance(NANNY_AWAY_S - 0.1)
        assert not client.kinds()
    bench.advance(0.2)
    # Then so are its tasks, and its engines do not come back
    results = client.results()
    reason = "its host left the cluster" if politely else "its host is lost"
    assert {result.id for result in results} == set(there.queue)
    assert {codec.decode_certificate(result.payload).reason for result in results} == {reason}
    assert list(bench.core.state.engines) == [0]
    assert client.news() == [(1, "dead")]
    here.given()


def test_tasks_of_a_lost_host_run_elsewhere_if_they_may(bench: Bench):
    bench.start(hosts=2)
    client, (here, there) = bench.clients[0], bench.engines
    client.submit(2, retries=1)
    here.given()
    (lost,) = there.given()
    bench.nannies[1].say(m.Goodbye())
    bench.advance(0.1)
    assert here.given() == [lost]
    client.news()


def test_a_nanny_lost_while_engines_start(bench: Bench):
    bench.start(engines=0)
    client = bench.clients[0]
    nanny = bench.add_nanny(2, ready=False)
    nanny.starts()
    request = client.ask(m.WaitEngines, 2)
    nanny.say(m.Goodbye())
    bench.advance(1.0)
    assert not bench.core.state.engines
    client.news()
    # The wait goes on: another host may come
    bench.add_nanny(2)
    assert client.answer(request) == [0, 1]
    client.news()


def test_a_nanny_lost_while_an_engine_pauses_between_tries(bench: Bench):
    bench.add_nanny(1, ready=False)
    fail_to_start(bench)
    bench.nannies[0].say(m.Goodbye())
    bench.advance(10 * PAUSE_S)
    assert not bench.core.state.engines


def test_a_nanny_lost_with_a_given_up_engine(bench: Bench):
    bench.start()
    give_up_engine(bench)
    bench.nannies[0].say(m.Goodbye())
    assert not bench.core.state.engines
    bench.clients[0].news()


def test_who_scales_up_on_a_host_that_is_lost_is_told(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    request = client.ask(m.Scale, 3)
    bench.nannies[0].starts()
    bench.nannies[0].say(m.Goodbye())
    bench.advance(1.0)
    assert client.error(request) == "engine 1 is not there any more: its host left the cluster"
    client.news()


# ------------------------------------------------------------------------------------------------------- unreachable


def test_an_engine_that_stays_out_of_reach_is_killed_so_that_its_tasks_are_settled(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    engine.lose_connection(noticed=False)
    (task,) = client.submit()
    bench.advance(ENGINE_AWAY_S - 0.1)
    assert bench.nannies[0].stops() == []
    bench.advance(0.2)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(None)
    assert bench.hello_engines()[0].given() == [task]
    assert client.news() == [(0, "away"), (0, "dead"), (0, "starting"), (0, "ready")]


def test_an_engine_that_cannot_be_reached_because_it_has_died(bench: Bench):
    bench.start()
    engine = bench.engines[0]
    engine.lose_connection(noticed=False)
    (task,) = bench.clients[0].submit()
    engine.die()
    bench.advance(2 * ENGINE_AWAY_S)
    assert bench.nannies[0].stops() == []
    assert bench.hello_engines()[0].given() == [task]
    bench.clients[0].news()
