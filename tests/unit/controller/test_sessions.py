"""Engines and nannies that lose their connection and come back, and what the books make of what they say then."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import msgspec
import pytest
from enginery.controller.journal.ledger import NannyGone
from enginery.controller.sessions import ACK_EVERY, ENGINE_AWAY_S, NANNY_AWAY_S
from enginery.controller.stopping import TIMEOUT_GRACE_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide, EngineSide

OK, ERROR, CANCELLED, TIMEOUT = m.Status.OK, m.Status.ERROR, m.Status.CANCELLED, m.Status.TIMEOUT


def one_of_each(bench: Bench) -> tuple[ClientSide, EngineSide]:
    bench.start()
    return bench.clients[0], bench.engines[0]


def certificate(engine: EngineSide, task: int | None = None) -> m.DeathCertificate:
    return m.DeathCertificate(engine.id, engine.incarnation, 100 + engine.id, -9, "killed", task)


# ------------------------------------------------------------------------------------------------------ engines: away


def test_an_engine_that_cannot_be_reached_is_given_nothing(bench: Bench):
    bench.start(engines=2)
    client, (there, away) = bench.clients[0], bench.engines
    away.lose_connection()
    assert client.news() == [(1, "away")]
    ids = client.submit(6)
    assert there.given() == ids[:2]
    (fixed,) = client.submit(targets=(1,), ordered=True)
    away.come_back()
    assert client.news() == [(1, "ready")]
    assert fixed in away.given()


def test_both_sockets_of_an_engine_are_one_connection(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    bench.unreachable.add(engine.control.name)
    client.cancel([task])
    bench.turn()
    assert client.news() == [(0, "away")]
    bench.core.lost(engine.name, bench.now)
    bench.turn()
    assert client.news() == []
    engine.come_back(running=task)
    engine.give_nothing()
    assert engine.interrupted() == [task]
    engine.fail(task)
    assert client.ended() == {task: CANCELLED}
    client.take(m.Reply)
    client.news()


def test_who_waits_for_all_engines_waits_for_one_that_is_away(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    request = client.ask(m.WaitEngines)
    assert client.news() == [(0, "away")]
    engine.come_back()
    assert client.answer(request) == [0]
    client.news()


def test_what_an_away_engine_has_done_is_heard_when_it_is_back(bench: Bench):
    client, engine = one_of_each(bench)
    done, running = client.submit(2)
    engine.given()
    engine.lose_connection()
    engine.finish(done, frames=[b"frame"])
    assert client.results() == []
    engine.come_back(running=running)
    assert client.ended() == {done: OK}
    assert client.frames[done] == [b"frame"]
    engine.finish()
    assert client.ended() == {running: OK}
    client.news()


def test_what_an_engine_says_twice_is_heard_once(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit(retries=1)
    engine.given()
    failed = m.Done([m.Result(task, ERROR, b"failure")])
    engine.say(failed)
    (again,) = set(engine.given())
    engine.say(failed)
    assert engine.given() == []
    engine.finish(again)
    assert client.ended() == {task: OK}


def test_after_a_gap_an_engine_is_asked_to_say_its_hello(bench: Bench):
    # Given an engine whose first result is lost
    client, engine = one_of_each(bench)
    lost, heard = client.submit(2)
    engine.given()
    bench.unreachable.add(engine.name)
    engine.finish(lost)
    bench.unreachable.clear()
    # When the second comes
    engine.finish(heard)
    engine.take(m.Resume)
    assert client.results() == []
    # Then both are heard, in order, after the hello
    engine.come_back()
    assert [result.id for result in client.results()] == [lost, heard]
    client.news()


def test_an_engine_is_told_what_has_come_of_it_with_its_next_calls(bench: Bench):
    client, engine = one_of_each(bench)
    client.submit(3)
    engine.given()
    assert len(engine.outgoing) == 0
    engine.finish(next(iter(engine.queue)))
    engine.given()
    assert len(engine.outgoing) == 0
    engine.finish()
    assert len(engine.outgoing) == 1
    assert len(client.ended()) == 3


def test_an_engine_that_gets_no_calls_is_told_what_has_come_of_it_after_some_messages(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    for _ in range(ACK_EVERY - 1):
        engine.print(task, "text")
    assert len(engine.outgoing) == ACK_EVERY - 1
    engine.print(task, "text")
    assert len(engine.outgoing) == 0
    assert len(client.output()) == ACK_EVERY


def test_an_engine_that_keeps_frames_is_told_at_once_that_they_have_come(bench: Bench):
    client, engine = one_of_each(bench)
    client.submit()
    engine.given()
    engine.finish(frames=[b"large"])
    assert len(engine.outgoing) == 0
    client.results()


# ------------------------------------------------------------------------------------------------------ engines: hello


def test_the_welcome_says_what_has_come(bench: Bench):
    client, engine = one_of_each(bench)
    client.submit(3)
    engine.given()
    engine.finish(next(iter(engine.queue)))
    engine.given()
    engine.lose_connection()
    bench.unreachable.clear()
    assert engine.hello().have == 1
    engine.hold()
    client.results()
    client.news()


def test_an_engine_that_has_not_heard_its_welcome_has_heard_nothing(bench: Bench):
    # Given an engine whose welcome is lost, and its first calls with it
    bench.start(engines=0)
    client = bench.clients[0]
    nanny = bench.add_nanny(1, ready=False)
    ((id_, incarnation),) = nanny.starts()
    engine = bench.add_engine(id_, incarnation)
    engine.hello()
    ids = client.submit(2)
    engine.inbox.clear()
    # When it says hello again, as at first, and what it holds: nothing
    engine.queue.clear()
    engine.come_back()
    # Then it is given them again, with their function
    ((run, _),) = engine.take_all(m.Run)
    assert [call.id for call in run.calls] == ids
    assert [function.digest for function in run.functions] == [b"f"]
    client.news()


def test_a_hello_after_the_end_is_refused(bench: Bench):
    _, engine = one_of_each(bench)
    engine.die(settle=False)
    engine.say(m.EngineHello(m.VERSION, 0, 1, 100))
    assert "no engine 0.1 is expected" in engine.take(m.Refused).reason
    bench.advance(0.1)
    engine.say(m.EngineHello(m.VERSION, 0, 1, 100))
    engine.take(m.Refused)
    bench.nannies[0].starts()
    bench.clients[0].news()


def test_an_engine_of_another_version_cannot_come_back(bench: Bench):
    _, engine = one_of_each(bench)
    engine.say(m.EngineHello(m.VERSION + 1, 0, 1, 100))
    assert "engine" in engine.take(m.Refused).reason
    assert bench.core.state.engines[0].state == "ready"


# ---------------------------------------------------------------------------------------------------- engines: holding


def test_calls_that_an_engine_never_got_wait_again_in_their_place(bench: Bench):
    # Given an engine that got the first two of its calls, and not the other two
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    learn(client, engine)
    running, waiting = client.submit(2)
    engine.given()
    engine.lose_connection(noticed=False)
    lost = client.submit(2)
    last = client.submit(2)
    # When it is back, and says so
    engine.come_back(running=running)
    # Then they are given again, in the old order
    assert engine.given() == [*lost, *last]
    assert list(bench.core.state.engines[0].assigned) == [running, waiting, *lost, *last]
    client.news()


def learn(client: ClientSide, engine: EngineSide, duration: float = 0.001) -> None:
    """Have the core know how long a function takes."""
    client.submit()
    engine.given()
    engine.finish(duration=duration)
    client.results()
    engine.bench.advance(0.0)


def test_calls_that_an_engine_never_got_may_go_to_another(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    two.lose_connection(noticed=False)
    ids = client.submit(2)
    (mine,) = one.given()
    (lost,) = set(ids) - {mine}
    one.finish()
    two.come_back()
    assert one.given() + two.given() == [lost]
    client.results()
    client.news()


def test_ordered_calls_that_an_engine_never_got_are_given_in_order(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection(noticed=False)
    ids = client.submit(4, targets=(0,), ordered=True)
    engine.come_back()
    seen = engine.given()
    for id_ in ids:
        engine.finish(id_, duration=1.0)
        seen += engine.given()
    assert seen == ids
    client.results()
    client.news()


def test_the_function_of_a_call_that_got_lost_is_sent_again(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection(noticed=False)
    (task,) = client.submit(function=b"g")
    engine.come_back()
    assert engine.given() == [task]
    assert b"g" in engine.functions
    client.news()


def test_functions_that_the_engine_has_are_not_sent_again(bench: Bench):
    client, engine = one_of_each(bench)
    learn(client, engine)
    engine.lose_connection()
    engine.come_back()
    client.submit()
    ((run, _),) = engine.take_all(m.Run)
    assert run.functions == []
    client.news()


def test_what_an_engine_has_done_is_not_given_again(bench: Bench):
    client, engine = one_of_each(bench)
    ids = client.submit(2)
    engine.given()
    engine.lose_connection()
    engine.finish()
    engine.come_back()
    assert client.ended() == dict.fromkeys(ids, OK)
    assert engine.given() == []
    client.news()


def test_calls_given_back_unheard_are_given_out_again(bench: Bench):
    # Given an engine that was asked for work, and whose answer is lost
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    client.submit(3)
    running, given_back = one.given()
    two.given()
    two.finish(duration=1.0)
    one.asked_back()
    one.lose_connection()
    del one.queue[given_back]
    # When it is back, then the idle one gets what it does not name
    one.come_back(running=running)
    assert two.given() == [given_back]
    client.results()
    client.news()


def test_a_tail_given_back_unheard_is_run_elsewhere(bench: Bench):
    # Given a call of items whose tail was given back; the answer is lost
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.asked_back()
    one.lose_connection()
    # When the engine says how far it goes
    one.come_back(running=task, hi=4)
    # Then the rest is another's
    (piece,) = two.calls()
    assert (piece.lo, piece.hi) == (4, 10)
    one.finish_items(task, 1, 4)
    two.finish_items(piece.id, 4, 10)
    assert client.runs() == [(0, 1, OK), (1, 4, OK), (4, 10, OK)]
    assert not bench.core.state.tasks
    two.give_nothing()
    client.news()


def test_a_tail_that_was_wholly_given_back_leaves_nothing(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 4, item_s=1.0)
    one.asked_back()
    one.lose_connection()
    one.come_back(running=task, hi=4)
    assert task not in bench.core.state.tasks
    (piece,) = [*one.calls(), *two.calls()]
    assert (piece.lo, piece.hi) == (4, 10)
    bench.engines[bench.core.state.tasks[piece.id].engine].finish_items(piece.id, 4, 10)
    assert client.runs() == [(0, 4, OK), (4, 10, OK)]
    for engine in (one, two):
        engine.give_nothing()
    client.news()


@pytest.mark.parametrize("hi", [-1, 10, 99])
def test_a_running_call_of_items_that_goes_as_far_as_it_was_told(bench: Bench, hi):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.lose_connection()
    engine.come_back(running=task, hi=hi)
    engine.finish_items(task, 0, 10)
    assert client.runs() == [(0, 10, OK)]
    client.news()


def test_calls_nobody_knows_of_are_asked_back(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    engine.say_again(engine.outgoing.last)
    bench.unreachable.clear()
    engine.hello()
    engine.say(m.Holding(engine.session, [71, 72], 70, functions=[]))
    request = engine.asked_back()
    assert request.tasks == [71, 72]
    engine.control.say(m.GivenBack(request.request, [71], [], engine.session))
    engine.say(m.Done([m.Result(70, OK, b""), m.Result(72, OK, b"")]))
    client.news()
    (task,) = client.submit()
    assert engine.given() == [task]


def test_the_answer_to_an_old_request_is_void(bench: Bench):
    # Given an engine that was asked for work, and gave back a call just before it lost its connection
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    client.submit(3)
    running, given_back = one.given()
    two.given()
    two.finish(duration=1.0)
    old = one.asked_back()
    two.lose_connection()
    one.lose_connection()
    del one.queue[given_back]
    # And that was given it again when it was back
    one.come_back(running=running)
    assert one.given() == [given_back]
    # When its answer comes late, then it takes nothing away
    one.control.say(m.GivenBack(old.request, [given_back], []))
    assert list(bench.core.state.engines[0].assigned) == [running, given_back]
    one.finish()
    assert len(client.ended()) == 3
    client.news()


def test_holding_is_heard_of_an_engine_that_is_away_only(bench: Bench):
    client, engine = one_of_each(bench)
    client.submit(2)
    given = engine.given()
    engine.say(m.Holding(engine.session, []))
    assert list(bench.core.state.engines[0].assigned) == given
    assert engine.given() == []


@pytest.mark.parametrize("started", [False, True])
def test_a_withdrawal_without_an_answer_is_asked_for_again(bench: Bench, started):
    # Given a task that is to be stopped, and an engine that has lost its connection before it heard of it
    client, engine = one_of_each(bench)
    running, task = client.submit(2)
    engine.given()
    engine.lose_connection(noticed=False)
    if started:
        engine.queue.pop(running)
        engine.outgoing.number(m.Done([m.Result(running, OK, b"")]))
    request = client.cancel([task])
    # When it is back
    engine.come_back(running=task if started else running)
    # Then it is asked again
    asked = engine.asked_back()
    assert asked.tasks == [task]
    engine.give_back(asked, [] if started else [task])
    if started:
        assert engine.interrupted() == [task]
        engine.fail(task)
    assert client.ended() == ({running: OK, task: CANCELLED} if started else {task: CANCELLED})
    assert client.answer(request) == [task]
    client.news()


def test_a_task_to_be_stopped_that_never_arrived_has_ended(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection(noticed=False)
    (task,) = client.submit()
    request = client.cancel([task])
    engine.come_back()
    assert client.ended() == {task: CANCELLED}
    assert client.answer(request) == [task]
    assert engine.given() == []
    engine.give_nothing()
    client.news()


def test_an_interrupt_that_was_lost_is_sent_again(bench: Bench):
    # Given a running task that is to be stopped; the interrupt is lost
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    request = client.cancel([task], grace_s=5.0)
    engine.give_back(engine.asked_back())
    engine.interrupted()
    engine.lose_connection()
    # When the engine is back, and still in it
    engine.come_back(running=task)
    engine.give_nothing()
    # Then it is interrupted, not killed later
    assert engine.interrupted() == [task]
    engine.fail(task)
    assert client.ended() == {task: CANCELLED}
    assert client.answer(request) == [task]
    client.news()
    bench.advance(10.0)
    assert bench.nannies[0].stops() == []


def test_an_exit_that_was_lost_is_said_again(bench: Bench):
    # Given an engine that was told to end, and did not hear it
    client, engine = one_of_each(bench)
    bench.unreachable.add(engine.control.name)
    request = client.ask(m.Scale, 0)
    client.news()
    # When it is back, then it is told again
    engine.come_back()
    engine.control.take(m.Exit)
    engine.die(exit_code=0)
    assert client.answer(request) == []
    client.news()


# ------------------------------------------------------------------------------------------------------ time limits


@pytest.mark.parametrize(
    ("heard", "away_s", "elapsed_s"), [(3.0, 3.0, 6.0), (None, 5.0, 4.0)], ids=["heard of", "not heard of"]
)
def test_a_time_limit_counts_from_the_start_whether_that_was_heard_of_or_not(
    bench: Bench, heard: float | None, away_s: float, elapsed_s: float
):
    client, engine = one_of_each(bench)
    (task,) = client.submit(timeout_s=10.0)
    engine.given()
    if heard is not None:
        engine.say(m.Started(task))
        bench.advance(heard)
    engine.lose_connection()
    bench.advance(away_s)
    engine.come_back(running=task, elapsed_s=elapsed_s)
    bench.advance(10.0 - elapsed_s - 0.1)
    assert engine.interrupted() == []
    bench.advance(0.2)
    assert engine.interrupted() == [task]
    engine.fail(task)
    assert client.ended() == {task: TIMEOUT}
    client.news()


def test_a_time_limit_that_passes_while_an_engine_is_away(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit(timeout_s=1.0)
    engine.given()
    engine.say(m.Started(task))
    engine.lose_connection()
    bench.advance(1.1)
    engine.come_back(running=task, elapsed_s=1.1)
    engine.give_nothing()
    assert engine.interrupted() == [task]
    bench.advance(TIMEOUT_GRACE_S)
    assert engine.interrupted() == [task]
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(task)
    assert client.ended() == {task: TIMEOUT}
    bench.hello_engines()
    client.news()


# ---------------------------------------------------------------------------------------------- engines that stay away


def test_an_engine_that_says_hello_and_no_more_is_killed(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    engine.come_back(holding=False)
    bench.advance(ENGINE_AWAY_S)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die()
    bench.hello_engines()
    client.news()


def test_an_engine_that_is_back_is_not_killed_later(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    bench.advance(ENGINE_AWAY_S * 0.9)
    engine.come_back()
    bench.advance(ENGINE_AWAY_S * 2)
    assert bench.nannies[0].stops() == []
    client.news()


def test_the_next_incarnation_is_not_killed_for_the_absence_of_the_last(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    engine.die()
    (fresh,) = bench.hello_engines()
    bench.advance(ENGINE_AWAY_S * 0.5)
    fresh.lose_connection()
    bench.advance(ENGINE_AWAY_S * 0.9)
    assert bench.nannies[0].stops() == []
    bench.advance(ENGINE_AWAY_S * 0.2)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    client.news()


def test_an_away_engine_can_be_restarted_and_signalled(bench: Bench):
    client, engine = one_of_each(bench)
    engine.lose_connection()
    client.answer(client.ask(m.Signal, SIGTERM))
    assert bench.nannies[0].stops() == [(0, SIGTERM)]
    request = client.ask(m.Restart)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die()
    bench.hello_engines()
    assert client.answer(request) == [0]
    client.news()


def test_an_away_engine_that_is_to_go_goes_when_it_is_back(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    engine.lose_connection()
    request = client.ask(m.Scale, 0)
    engine.come_back(running=task)
    assert engine.control.kinds() == []
    engine.finish()
    engine.control.take(m.Exit)
    engine.die(exit_code=0)
    assert client.ended() == {task: OK}
    assert client.answer(request) == []
    client.news()


# ------------------------------------------------------------------------------------------------------ nannies


def test_a_nanny_that_is_back_in_time_keeps_its_engines(bench: Bench):
    client, engine = one_of_each(bench)
    bench.nannies[0].lose_connection()
    bench.advance(NANNY_AWAY_S * 0.9)
    bench.nannies[0].come_back([(0, 1)])
    bench.advance(NANNY_AWAY_S)
    (task,) = client.submit()
    assert engine.given() == [task]
    assert client.news() == []


def test_an_away_nanny_that_is_heard_is_asked_for_its_hello(bench: Bench):
    one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    bench.unreachable.clear()
    nanny.say(m.Ping())
    nanny.take(m.Resume)
    nanny.come_back([(0, 1)])


def test_a_nanny_that_was_away_twice_has_its_time_twice(bench: Bench):
    one_of_each(bench)
    nanny = bench.nannies[0]
    for _ in range(3):
        nanny.lose_connection()
        bench.advance(NANNY_AWAY_S * 0.7)
        nanny.come_back([(0, 1)])
    bench.advance(NANNY_AWAY_S)
    assert bench.core.state.nannies


def test_an_end_that_was_not_heard_of_is_when_the_nanny_is_back(bench: Bench):
    client, engine = one_of_each(bench)
    running, waiting = client.submit(2)
    engine.given()
    bench.nannies[0].lose_connection()
    bench.nannies[0].come_back(ended=[certificate(engine, running)])
    bench.advance(0.1)
    assert client.ended() == {running: m.Status.LOST}
    assert bench.hello_engines()[0].given() == [waiting]
    assert client.news() == [(0, "dead"), (0, "starting"), (0, "ready")]


def test_an_end_that_was_heard_of_is_no_news(bench: Bench):
    client, engine = one_of_each(bench)
    engine.die()
    bench.hello_engines()
    client.news()
    bench.nannies[0].lose_connection()
    bench.nannies[0].come_back([(0, 2)], [certificate(engine)])
    bench.advance(1.0)
    assert client.news() == []
    assert bench.nannies[0].starts() == []


def test_an_end_that_is_being_dealt_with_is_no_news(bench: Bench):
    client, engine = one_of_each(bench)
    engine.die(settle=False)
    bench.nannies[0].lose_connection()
    bench.nannies[0].come_back(ended=[certificate(engine)])
    bench.advance(1.0)
    assert bench.nannies[0].starts() == [(0, 2)]
    assert client.news() == [(0, "dead"), (0, "starting")]


def test_a_process_that_was_never_started_is(bench: Bench):
    bench.start(engines=0)
    nanny = bench.add_nanny(2, ready=False)
    nanny.inbox.clear()
    nanny.lose_connection()
    nanny.come_back([(0, 1)])
    assert nanny.starts() == [(1, 1)]
    bench.clients[0].news()


def test_a_process_that_nobody_knows_of_is_ended(bench: Bench):
    one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    nanny.come_back([(0, 1), (7, 3)])
    assert nanny.stops() == [(7, SIGKILL)]


def test_an_earlier_process_of_an_engine_is_ended(bench: Bench):
    client, engine = one_of_each(bench)
    engine.die()
    nanny = bench.nannies[0]
    nanny.lose_connection()
    nanny.come_back([(0, 1)])
    assert nanny.starts() == [(0, 2), (0, 2)], "asked for, and never heard of"
    assert [message for message, _ in nanny.take_all(m.StopEngine)] == [m.StopEngine(0, 1, SIGKILL)]
    client.news()


def test_a_kill_that_was_lost_is_said_again(bench: Bench):
    client, _ = one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection(noticed=False)
    request = client.ask(m.Restart)
    nanny.come_back([(0, 1)])
    assert nanny.stops() == [(0, SIGKILL)]
    bench.engines[0].die()
    bench.hello_engines()
    assert client.answer(request) == [0]
    client.news()


def test_an_engine_that_has_ended_without_a_certificate(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    bench.nannies[0].lose_connection()
    bench.nannies[0].come_back()
    bench.advance(0.1)
    assert client.ended() == {task: m.Status.LOST}
    bench.hello_engines()
    client.news()


def test_an_engine_that_stays_away_while_its_nanny_is_gone_is_left_to_the_loss_of_its_host(bench: Bench):
    client, engine = one_of_each(bench)
    (task,) = client.submit()
    engine.given()
    bench.nannies[0].lose_connection()
    engine.lose_connection()
    bench.advance(NANNY_AWAY_S + 1.0)
    assert client.ended() == {task: m.Status.LOST}
    assert not bench.core.state.engines
    client.news()


def test_a_host_that_was_given_up_begins_anew(bench: Bench):
    # Given a host that was lost, whose engine runs on
    client, _ = one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    bench.advance(NANNY_AWAY_S + 1.0)
    assert client.news() == [(0, "dead")]
    # When it comes back after all
    nanny.come_back([(0, 1)])
    # Then its processes are ended, and others started
    assert nanny.stops() == [(0, SIGKILL)]
    assert nanny.starts() == [(0, 2)], "no incarnation comes twice"
    client.news()


def test_a_host_that_was_given_up_is_first_heard_of_by_the_end_of_an_engine(bench: Bench):
    # Given a host that was given up, whose engine is back first, is refused, and ends
    client, engine = one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    engine.lose_connection()
    bench.advance(NANNY_AWAY_S + 1.0)
    bench.unreachable.clear()
    engine.say(m.EngineHello(m.VERSION, 0, 1, 100, "host"))
    assert "no engine 0.1 is expected" in engine.take(m.Refused).reason
    # When its nanny said so before it had a connection again: this leaves before its hello
    nanny.say(m.EngineExited(certificate(engine)))
    # Then it is asked for its hello, and not refused: that would be its own end
    nanny.take(m.Resume)
    # And if it says two, since it was asked, it gets its engines once
    sessions = [nanny.say_hello() for _ in range(2)]
    for session in sessions:
        nanny.say(m.Running(session, [], [certificate(engine)]))
    assert nanny.starts() == [(0, 2)]
    assert nanny.stops() == []
    client.news()


def test_a_list_of_a_host_that_was_given_up_is_none_of_the_host_that_is_back(bench: Bench):
    # Given a nanny that was asked for its list, and whose connection broke before it was heard
    client, engine = one_of_each(bench)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    bench.unreachable.clear()
    old = nanny.say_hello()
    nanny.lose_connection()
    engine.lose_connection()
    bench.advance(NANNY_AWAY_S + 1.0)
    bench.unreachable.clear()
    # When it comes after all
    nanny.say(m.Running(old, [(0, 1)], []))
    nanny.take(m.Resume)
    # Then it counts for nothing
    session = nanny.say_hello()
    nanny.say(m.Running(old, [(0, 1)], []))
    assert nanny.starts() == []
    nanny.say(m.Running(session, [(0, 1)], []))
    assert nanny.starts() == [(0, 2)]
    assert nanny.stops() == [(0, SIGKILL)]
    client.news()


@pytest.mark.parametrize("running", [[(0, 1), (1, 4)], [(1, 4)]], ids=["two", "one has ended"])
def test_a_nanny_of_which_nothing_is_known_has_its_processes_ended_and_gets_others(bench: Bench, running):
    # Given a controller that could not go on from a journal, so that it knows nothing
    nanny = bench.add_nanny()
    nanny.hello = msgspec.structs.replace(nanny.hello, engines=2)
    bench.core.state.nannies.clear()
    bench.core.state.note(NannyGone(nanny.name))
    # When the nanny of before comes back, whose engines run on
    ended = [m.DeathCertificate(0, 1, 100, -9, "killed")] if len(running) == 1 else []
    nanny.come_back(running, ended)
    # Then these are not taken for the engines to come
    assert nanny.stops() == [(number, SIGKILL) for number, _ in running]
    assert nanny.starts() == [(0, 2), (1, 5)]
    # And what they still say is of no account
    old = bench.add_engine(0, 1)
    old.say(m.EngineHello(m.VERSION, 0, 1, 100, "host"))
    assert "no engine 0.1 is expected" in old.take(m.Refused).reason
    # And should it say its hello again, it has its engines
    nanny.come_back([(0, 2), (1, 5)])
    assert nanny.starts() == nanny.stops() == []
