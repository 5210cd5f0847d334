"""Engines and nannies: starts, ends, scale, restart, signals, waits."""

from __future__ import annotations

from signal import SIGINT, SIGKILL
from typing import TYPE_CHECKING

import pytest
from enginery.controller.fleet import PAUSE_S, TRIES, UNREACHABLE_S
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench

OK, LOST, REFUSED = m.Status.OK, m.Status.LOST, m.Status.REFUSED


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
    nanny.say(m.NannyHello(m.VERSION, "host0", 50, 4, 1))
    assert len(bench.core.state.engines) == 1


def test_an_engine_of_another_version_is_refused(bench: Bench):
    bench.add_nanny(1, ready=False).starts()
    engine = bench.add_engine(0, 1)
    engine.say(m.EngineHello(m.VERSION + 1, 0, 1, 100))
    assert "engine" in engine.take(m.Refused).reason


@pytest.mark.parametrize(("engine", "incarnation"), [(7, 1), (0, 2)])
def test_an_engine_nobody_expects_is_refused(bench: Bench, engine, incarnation):
    bench.add_nanny(1)
    stray = bench.add_engine(engine, incarnation)
    stray.control.say(m.ControlHello(engine, incarnation))
    stray.say(m.EngineHello(m.VERSION, engine, incarnation, 1))
    assert f"no engine {engine}.{incarnation} is expected" in stray.take(m.Refused).reason


def test_an_engine_that_says_hello_twice_is_refused_the_second_time(bench: Bench):
    bench.start()
    engine = bench.engines[0]
    engine.say(m.EngineHello(m.VERSION, 0, 1, 100))
    engine.take(m.Refused)


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
        bench.core.lost(bench.nannies[1].name, bench.now)
    bench.advance(0.1)
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


def test_an_engine_that_cannot_be_reached_is_killed_so_that_its_tasks_are_settled(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    bench.unreachable.add(engine.name)
    (task,) = client.submit()
    bench.advance(UNREACHABLE_S - 0.1)
    assert bench.nannies[0].stops() == []
    bench.advance(0.2)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(None)
    assert bench.hello_engines()[0].given() == [task]
    client.news()


def test_an_engine_that_cannot_be_reached_because_it_has_died(bench: Bench):
    bench.start()
    engine = bench.engines[0]
    bench.unreachable.add(engine.name)
    (task,) = bench.clients[0].submit()
    engine.die()
    bench.advance(2 * UNREACHABLE_S)
    assert bench.nannies[0].stops() == []
    assert bench.hello_engines()[0].given() == [task]
    bench.clients[0].news()


# ------------------------------------------------------------------------------------------------------- scale


def test_scale_up(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    request = client.ask(m.Scale, 3)
    assert client.kinds() == ["Engines"]
    bench.hello_engines()
    assert client.answer(request) == [0, 1, 2]
    client.news()


def test_scale_to_what_there_is(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    assert client.answer(client.ask(m.Scale, 2)) == [0, 1]


def test_scale_up_while_tasks_wait(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    ids = client.submit(4)
    bench.engines[0].given()
    client.ask(m.Scale, 2)
    assert bench.hello_engines()[0].given() == ids[2:]
    client.take(m.Reply), client.news()


def test_scale_down_ends_idle_engines_at_once(bench: Bench):
    bench.start(engines=3)
    client = bench.clients[0]
    request = client.ask(m.Scale, 1)
    for engine in bench.engines[1:]:
        engine.control.take(m.Exit)
    assert client.kinds() == ["Engines"], "not before they are gone"
    for engine in bench.engines[1:]:
        engine.die(exit_code=0, reason="exited with code 0")
    assert client.answer(request) == [0]
    assert bench.nannies[0].starts() == [], "they are not replaced"
    assert sorted(set(client.news()) - {(1, "ready"), (2, "ready")}) == [(1, "dead"), (2, "dead")]


def test_scale_down_while_busy_waits_for_the_work(bench: Bench):
    # Given two engines with work
    bench.start(engines=2)
    client, (stays, goes) = bench.clients[0], bench.engines
    ids = client.submit(4)
    stays.given()
    mine = goes.given()
    request = client.ask(m.Scale, 1)
    # When the one that is to go has finished what it has, and not before
    goes.finish(mine[0])
    assert goes.control.kinds() == []
    goes.finish(mine[1])
    goes.control.take(m.Exit)
    goes.die(exit_code=0)
    assert client.answer(request) == [0]
    stays.finish()
    assert set(client.ended()) == set(ids)
    client.news()


def test_scale_down_is_told_once_to_an_engine(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    client.ask(m.Scale, 1)
    client.submit()
    bench.engines[0].given()
    client.say(m.Ping())
    bench.engines[1].control.take(m.Exit)
    client.news()


def test_tasks_that_wait_at_an_engine_that_is_to_go_are_refused(bench: Bench):
    bench.start(engines=2)
    client, engine = bench.clients[0], bench.engines[1]
    ids = client.submit(4, targets=(1,), ordered=True)
    assert engine.given() == ids[:2]
    client.ask(m.Scale, 1)
    assert client.ended() == {ids[2]: REFUSED, ids[3]: REFUSED}
    client.news()


def test_tasks_for_engines_that_are_all_gone_are_refused(bench: Bench):
    bench.start(engines=3)
    client = bench.clients[0]
    ids = client.submit(6, targets=(1, 2))
    mine = bench.engines[1].given() + bench.engines[2].given()
    waiting = sorted(set(ids) - set(mine))
    assert len(waiting) == 2
    client.ask(m.Scale, 1)
    bench.advance(0.1)
    for engine in bench.engines[1:]:
        engine.finish()
        engine.control.take(m.Exit)
        engine.die(exit_code=0)
    ended = client.ended()
    assert {id_ for id_, status in ended.items() if status == REFUSED} == set(waiting)
    client.take(m.Reply), client.news()


def test_tasks_for_several_engines_run_on_the_one_that_is_left(bench: Bench):
    bench.start(engines=2)
    client, (stays, goes) = bench.clients[0], bench.engines
    client.submit(6, targets=(0, 1))
    stays.given(), goes.given()
    client.ask(m.Scale, 1)
    goes.finish()
    goes.control.take(m.Exit)
    goes.die(exit_code=0)
    stays.finish()
    assert len(stays.given()) == 2
    client.results(), client.take(m.Reply), client.news()


def test_scale_down_of_an_engine_that_dies_meanwhile(bench: Bench):
    bench.start(engines=2)
    client, engine = bench.clients[0], bench.engines[1]
    (task,) = client.submit(targets=(1,), retries=3)
    engine.given()
    request = client.ask(m.Scale, 1)
    engine.die(task)
    assert client.answer(request) == [0]
    assert client.ended() == {task: REFUSED}, "there is nobody to try it again"
    assert bench.nannies[0].starts() == []
    client.news()


def test_scale_down_while_an_engine_starts(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    up = client.ask(m.Scale, 2)
    ((engine, incarnation),) = bench.nannies[0].starts()
    down = client.ask(m.Scale, 1)
    assert bench.nannies[0].stops() == [(1, SIGKILL)], "it is not waited for"
    bench.add_engine(engine, incarnation).die(exit_code=-9)
    replies = {reply.request: reply for reply, _ in client.take_all(m.Reply)}
    assert replies[down].value == [0]
    assert replies[up].error == "engine 1 is not there any more: was stopped as asked"
    client.news()


def test_scale_down_while_an_engine_pauses_between_tries(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    bench.engines[0].die()
    fail_to_start(bench)
    request = client.ask(m.Scale, 0)
    # The nanny has no such process, and says so
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    bench.add_engine(0, 3).die(exit_code=None, reason="was not running")
    assert client.answer(request) == []
    bench.advance(10 * PAUSE_S)
    assert bench.nannies[0].starts() == []
    client.news()


def test_scale_down_and_up_again(bench: Bench):
    bench.start(engines=2)
    client, engine = bench.clients[0], bench.engines[1]
    client.submit(1, targets=(1,))
    engine.given()
    client.ask(m.Scale, 1)
    request = client.ask(m.Scale, 2)
    # The one that goes is not called back: there is another
    (fresh,) = bench.hello_engines()
    assert fresh.id == 2
    assert client.answer(request) == [0, 2]
    client.news()


def test_scale_without_a_host(bench: Bench):
    client = bench.add_client()
    client.hello()
    assert "no host" in client.error(client.ask(m.Scale, 1))


def test_scale_to_less_than_nothing(bench: Bench):
    client = bench.start().clients[0]
    assert client.error(client.ask(m.Scale, -1)) == "an engine count cannot be -1"


# ------------------------------------------------------------------------------------------------------- restart


def test_restart_replaces_engines_under_their_ids(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    request = client.ask(m.Restart)
    assert bench.nannies[0].stops() == [(0, SIGKILL), (1, SIGKILL)]
    for engine in list(bench.engines):
        engine.die()
        assert client.kinds() == ["Engines"] * len(client.kinds())
        (fresh,) = bench.hello_engines()
        assert fresh.incarnation == 2
    assert client.answer(request) == [0, 1]
    client.news()


def test_restart_of_one_engine_leaves_the_other_alone(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    request = client.ask(m.Restart, [1, 1])
    assert bench.nannies[0].stops() == [(1, SIGKILL)]
    bench.engines[1].die()
    bench.hello_engines()
    assert client.answer(request) == [1]
    client.news()


def test_a_task_that_runs_on_a_restarted_engine_is_lost_with_the_reason(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    running, unstarted = client.submit(2)
    engine.given()
    client.ask(m.Restart)
    bench.nannies[0].stops()
    engine.die(running)
    (result,) = client.results()
    assert (result.id, result.status) == (running, LOST)
    assert codec.decode_certificate(result.payload).reason == "was restarted as asked"
    assert bench.hello_engines()[0].given() == [unstarted]
    client.take(m.Reply), client.news()


def test_restart_of_an_engine_that_just_starts_waits_for_it(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    bench.engines[0].die()
    request = client.ask(m.Restart)
    assert bench.nannies[0].stops() == []
    bench.hello_engines()
    assert client.answer(request) == [0]
    client.news()


def test_restart_of_an_engine_that_just_dies_waits_for_its_successor(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    bench.engines[0].die(settle=False)
    request = client.ask(m.Restart)
    bench.advance(0.1)
    bench.hello_engines()
    assert client.answer(request) == [0]
    client.news()


def test_restart_of_engines_that_are_not_there(bench: Bench):
    client = bench.start(engines=2).clients[0]
    assert client.error(client.ask(m.Restart, [1, 8, 9])) == "there is no engine 8, 9; there are: 0, 1"


def test_restart_of_none(bench: Bench):
    client = bench.start().clients[0]
    assert client.answer(client.ask(m.Restart, [])) == []


def test_a_restarted_engine_that_does_not_start_again(bench: Bench):
    bench.start()
    client = bench.clients[0]
    request = client.ask(m.Restart)
    bench.nannies[0].stops()
    give_up_engine(bench)
    assert "engine 0" in client.error(request)
    client.news()


# ------------------------------------------------------------------------------------------------------- signals


def test_signals_are_passed_to_the_nannies(bench: Bench):
    bench.start(engines=1, hosts=2)
    client = bench.clients[0]
    assert client.answer(client.ask(m.Signal, SIGINT)) == [0, 1]
    assert [nanny.stops() for nanny in bench.nannies] == [[(0, SIGINT)], [(1, SIGINT)]]
    assert client.answer(client.ask(m.Signal, SIGINT, [1])) == [1]
    assert bench.nannies[1].stops() == [(1, SIGINT)]


def test_a_signal_for_nobody(bench: Bench):
    client = bench.start().clients[0]
    assert client.error(client.ask(m.Signal, SIGINT, [3])) == "there is no engine 3; there are: 0"


# ------------------------------------------------------------------------------------------------------- waits


def test_wait_for_engines_that_are_there(bench: Bench):
    client = bench.start(engines=2).clients[0]
    assert client.answer(client.ask(m.WaitEngines, 2)) == [0, 1]
    assert client.answer(client.ask(m.WaitEngines)) == [0, 1]
    assert client.answer(client.ask(m.WaitEngines, 0)) == [0, 1]


def test_wait_for_some_and_for_all(bench: Bench):
    bench.start(engines=0)
    client = bench.clients[0]
    some, all_ = client.ask(m.WaitEngines, 1), client.ask(m.WaitEngines)
    nanny = bench.add_nanny(2, ready=False)
    first, second = (bench.add_engine(*pair) for pair in nanny.starts())
    first.hello()
    assert client.answer(some) == [0]
    second.hello()
    assert client.answer(all_) == [0, 1]
    client.news()


def test_a_dead_engine_is_not_there(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    bench.engines[0].die(settle=False)
    request = client.ask(m.WaitEngines, 1)
    assert client.take_all(m.Reply) == []
    bench.advance(0.1)
    bench.hello_engines()
    assert client.answer(request) == [0]
    client.news()
