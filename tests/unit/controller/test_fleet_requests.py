"""What clients ask of the fleet: scale, restart, signals, waits."""

from __future__ import annotations

from signal import SIGINT, SIGKILL
from typing import TYPE_CHECKING

from enginery.controller.fleet import PAUSE_S, TRIES
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench

LOST, REFUSED = m.Status.LOST, m.Status.REFUSED


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


# ------------------------------------------------------------------------------------------------------- retire


def test_chosen_engines_are_stopped_for_good_when_they_have_done_what_they_were_given(bench: Bench):
    bench.start(engines=3)
    client, engine = bench.clients[0], bench.engines[1]
    (task,) = client.submit(1, targets=(1,), ordered=True)
    assert engine.given() == [task]
    request = client.ask(m.Retire, [(0, 1), (1, 1)])
    bench.engines[0].control.take(m.Exit)
    assert engine.control.kinds() == []
    engine.finish(task)
    engine.control.take(m.Exit)
    engine.die(exit_code=0)
    assert "Reply" not in client.kinds(), "not before they are gone"
    bench.engines[0].die(exit_code=0)
    assert client.answer(request) == [0, 1]
    assert bench.nannies[0].starts() == [], "they are not replaced"
    assert sorted(bench.core.state.engines) == [2]
    assert set(client.ended()) == {task}
    client.news()


def test_to_stop_what_is_gone_is_done_at_once(bench: Bench):
    bench.start(engines=1)
    client = bench.clients[0]
    assert client.answer(client.ask(m.Retire, [(7, 1)])) == [7]


def test_an_engine_that_was_replaced_meanwhile_is_not_stopped(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    bench.engines[1].die()
    bench.hello_engines()
    client.news()
    request = client.ask(m.Retire, [(0, 1), (1, 1)])
    assert "engine 1 was replaced by a fresh one" in client.take(m.Reply).error
    assert request
    assert not any(engine.retiring for engine in bench.core.state.engines.values())
