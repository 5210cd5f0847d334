"""Another controller takes over: it has the same books, asks who is there what they have, and nothing runs twice."""

from __future__ import annotations

import itertools
import random
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from enginery.controller.intake import KEEP_S, VANISHED_S
from enginery.controller.journal import bounds
from enginery.controller.sessions import ENGINE_AWAY_S, NANNY_AWAY_S
from enginery.controller.state import EPOCH_BITS
from enginery.ids import COUNT_MASK
from enginery.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.controller.bench import Bench, EngineSide

OK, ERROR, CANCELLED, LOST, REFUSED = (
    m.Status.OK,
    m.Status.ERROR,
    m.Status.CANCELLED,
    m.Status.LOST,
    m.Status.REFUSED,
)


@pytest.fixture(params=[False, True], ids=["moves", "summary"])
def die(durable: Bench, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Have another controller take over, from all the moves or from a summary."""

    def die() -> None:
        if request.param:
            durable.summarize()
        durable.die()

    return die


def all_come_back(bench: Bench, running: dict[int, int] | None = None) -> None:
    """Have everybody say hello: nannies, engines (which run these tasks), clients."""
    for nanny in bench.nannies:
        theirs = [(engine.id, engine.incarnation) for engine in bench.engines if bench.nanny_of(engine.id) is nanny]
        nanny.come_back(theirs)
    for engine in bench.engines:
        engine.come_back((running or {}).get(engine.id))
    for client in bench.clients:
        client.come_back()
        client.news()


# ------------------------------------------------------------------------------------------ everybody is back


def test_tasks_are_where_they_were(durable: Bench, die):
    # Given tasks that run, are prefetched, and wait
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    running, prefetched, *waiting = client.submit(5)
    engine.given()
    # When another controller takes over and all are back
    die()
    assert durable.core.state.engines[0].state == "away"
    all_come_back(durable, {0: running})
    # Then nothing is given twice
    assert engine.given() == []
    # And all go on in order
    seen = []
    for task in (running, prefetched, *waiting):
        engine.finish(task, duration=1.0)
        seen += engine.given()
    assert seen == waiting
    assert client.ended() == dict.fromkeys([running, prefetched, *waiting], OK)
    client.news()


def test_nothing_is_given_out_before_the_engine_has_spoken(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    client.submit(5)
    engine.given()
    die()
    client.come_back()
    client.submit()
    durable.nannies[0].come_back([(0, 1)])
    durable.advance(1.0)
    durable.unreachable.clear()
    engine.hello()
    durable.advance(1.0)
    assert engine.kinds() == []
    engine.hold()
    assert engine.given() == []
    assert client.news() == [(0, "ready")]


def test_what_ended_while_nobody_looked_has_ended(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    one, two = client.submit(2)
    engine.given()
    die()
    engine.finish(one, frames=[b"frame"])
    engine.finish(two)
    all_come_back(durable)
    assert client.ended() == {one: OK, two: OK}
    assert client.frames[one] == [b"frame"]
    assert not durable.core.state.tasks


def test_a_result_that_was_written_down_but_not_sent_is_delivered(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit()
    engine.given()
    durable.unreachable.add(client.name)
    engine.print(task, "text")
    engine.finish(frames=[b"frame"], outputs=1)
    die()
    all_come_back(durable)
    assert client.kinds() == ["Outputs", "Results"]
    assert client.output() == ["text"]
    assert client.ended() == {task: OK}
    assert client.frames[task] == [b"frame"]


def test_a_result_that_was_heard_is_not_delivered_again(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.finish()
    assert client.ended() == {task: OK}
    die()
    all_come_back(durable)
    assert client.results() == []
    assert client.repeated == 0


def test_the_numbers_go_on(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    for confirmed in (False, True):
        (task,) = client.submit()
        engine.given()
        engine.finish()
        assert client.ended() == {task: OK}
        if confirmed:
            client.confirm()
        die()
        all_come_back(durable)
    (task,) = client.submit()
    engine.given()
    engine.finish()
    assert client.ended() == {task: OK}
    assert client.incoming.have == 3


def test_a_submission_that_was_not_heard_is_said_again_and_runs_once(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (heard,) = client.submit()
    durable.unreachable.add(client.name)
    (missed,) = client.submit()
    engine.given()
    die()
    all_come_back(durable, {0: heard})
    assert engine.given() == [missed]
    engine.finish()
    assert client.ended() == {heard: OK, missed: OK}


def test_calls_that_never_left_are_given(durable: Bench, die):
    """The controller died after it had written down that they were, and before it said so."""
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    ids = client.submit(2)
    engine.inbox.clear()
    die()
    all_come_back(durable)
    assert engine.given() == ids
    engine.finish()
    assert client.ended() == dict.fromkeys(ids, OK)


def test_an_engine_that_was_welcomed_but_does_not_know(durable: Bench, die):
    nanny = durable.add_nanny(1, ready=False)
    client = durable.add_client()
    client.hello()
    ((id_, incarnation),) = nanny.starts()
    engine = durable.add_engine(id_, incarnation)
    engine.hello()
    (task,) = client.submit()
    engine.inbox.clear()
    die()
    nanny.come_back([(0, 1)])
    engine.come_back()
    client.come_back()
    assert engine.given() == [task]
    client.news()


def test_an_engine_that_was_never_welcomed(durable: Bench, die):
    nanny = durable.add_nanny(2, ready=False)
    first, second = (durable.add_engine(*pair) for pair in nanny.starts())
    die()
    nanny.come_back([(0, 1)])
    assert nanny.starts() == [(1, 1)], "the request to start the other was lost"
    durable.unreachable.clear()
    first.hello()
    second.hello()
    assert [engine.state for engine in durable.core.state.engines.values()] == ["ready", "ready"]


def test_another_dies_too(durable: Bench, die):
    durable.start(engines=2)
    client = durable.clients[0]
    ids = client.submit(8)
    for engine in durable.engines:
        engine.given()
    die()
    die()
    all_come_back(durable)
    for engine in durable.engines:
        assert engine.given() == []
    die()
    all_come_back(durable)
    ended = {}
    while len(ended) < len(ids):
        for engine in durable.engines:
            engine.given()
            if engine.queue:
                engine.finish()
            engine.give_nothing()
        ended |= client.ended()
    assert sorted(ended) == ids
    client.news()


def test_the_welcome_says_that_another_takes_over(durable: Bench, die):
    durable.start()
    before = durable.clients[0].come_back()
    die()
    after = durable.clients[0].come_back()
    assert (before.durable, after.durable) == (True, True)
    assert after.controller_pid != before.controller_pid
    assert after.client == before.client
    assert [(engine.id, engine.state) for engine in after.engines] == [(0, "away")]


# ------------------------------------------------------------------------------------------------------ kinds of tasks


def test_divided_tasks_keep_their_pieces(durable: Bench, die):
    # Given a call of items divided between two engines, some of them reported
    durable.start(engines=2)
    client, (one, two) = durable.clients[0], durable.engines
    (task,) = client.submit(items=100)
    one.given()
    one.finish_items(task, 0, 10, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 50)])
    (piece,) = two.calls()
    assert (piece.lo, piece.hi) == (50, 100)
    two.finish_items(piece.id, 50, 60, item_s=1.0)
    one.control.inbox.clear()
    two.control.inbox.clear()
    # When another takes over
    die()
    all_come_back(durable, {0: task, 1: piece.id})
    # Then the rest is reported under the old ids
    one.finish_items(task, 10, 50)
    two.finish_items(piece.id, 60, 100)
    assert sorted(client.runs()) == [(0, 10, OK), (10, 50, OK), (50, 60, OK), (60, 100, OK)]
    assert not durable.core.state.tasks
    durable.forget_what_was_said()


def test_items_reported_out_of_order_leave_holes(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 4, 6)
    engine.finish_items(task, 8, 9)
    die()
    all_come_back(durable, {0: task})
    (restored,) = durable.core.state.tasks.values()
    assert (restored.lo, restored.hi) == (0, 10)
    assert sorted(restored.early) == [(4, 6), (8, 9)]
    engine.finish_items(task, 0, 4)
    engine.finish_items(task, 6, 8)
    assert durable.core.state.tasks
    engine.finish_items(task, 9, 10)
    assert len(client.runs()) == 5
    assert not durable.core.state.tasks


def test_a_hole_at_the_end_is_no_hole(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 4, 10)
    die()
    all_come_back(durable, {0: task})
    engine.finish_items(task, 0, 4)
    assert client.runs() == [(4, 10, OK), (0, 4, OK)]
    assert not durable.core.state.tasks


def test_the_end_of_an_engine_that_died_meanwhile_is_settled_by_its_recorder(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 0, 3)
    die()
    certificate = m.DeathCertificate(0, 1, 100, -9, "killed", task, 5)
    durable.nannies[0].come_back(ended=[certificate])
    client.come_back()
    durable.advance(0.1)
    (fresh,) = durable.hello_engines()
    (call,) = fresh.calls()
    assert (call.lo, call.hi) == (6, 10)
    assert sorted(client.runs()) == [(0, 3, OK), (3, 5, LOST), (5, 6, LOST)]
    client.news()


def test_another_attempt_keeps_its_count(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(retries=2)
    engine.given()
    engine.fail(task)
    (second,) = engine.given()
    die()
    all_come_back(durable, {0: second})
    engine.fail(second)
    (third,) = engine.given()
    die()
    all_come_back(durable, {0: third})
    assert len({task, second, third}) == 3, "the flight recorder must not take one for another"
    engine.fail(third)
    assert client.ended() == {task: ERROR}


def test_an_attempt_lost_with_its_engine_counts(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(retries=1)
    engine.given()
    engine.die(task)
    (second,) = durable.hello_engines()
    second.given()
    die()
    all_come_back(durable, {0: task})
    second.die(task)
    assert client.ended() == {task: LOST}
    durable.hello_engines()
    client.news()


def test_items_that_are_tried_again_keep_their_count(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(items=10, retries=1)
    engine.given()
    engine.finish_items(task, 0, 3, OK)
    engine.finish_items(task, 3, 4, ERROR)
    (again,) = engine.calls()
    assert (again.lo, again.hi) == (3, 4)
    die()
    all_come_back(durable, {0: task})
    assert engine.given() == []
    engine.finish_items(task, 4, 10, OK)
    engine.finish_items(again.id, 3, 4, ERROR)
    assert client.runs() == [(0, 3, OK), (4, 10, OK), (3, 4, ERROR)]
    assert not durable.core.state.tasks


def test_ordered_tasks_stay_in_order_and_with_their_engine(durable: Bench, die):
    durable.start(engines=2)
    client, engine = durable.clients[0], durable.engines[1]
    ids = client.submit(3, targets=(1,), ordered=True)
    first = client.submit(1, targets=(0, 1), ordered=True)
    seen = engine.given()
    durable.engines[0].given()
    die()
    all_come_back(durable)
    mine = [*ids, first[1]]
    for id_ in mine:
        seen += engine.given()
        engine.finish(id_, duration=1.0)
    assert seen == mine
    durable.engines[0].finish()
    assert sorted(client.ended()) == sorted(ids + first)


def test_tasks_for_some_engines_wait_for_those(durable: Bench, die):
    durable.start(engines=3)
    client = durable.clients[0]
    ids = client.submit(7, targets=(0, 2))
    for engine in durable.engines:
        engine.given()
    die()
    all_come_back(durable)
    ended = {}
    while len(ended) < len(ids):
        for engine in (durable.engines[0], durable.engines[2]):
            engine.given()
            engine.give_nothing()
            engine.finish() if engine.queue else None
        ended |= client.ended()
    assert durable.engines[1].given() == []
    client.news()


def test_priorities_hold(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    client.submit(2)
    (low,) = client.submit(priority=-1)
    (plain,) = client.submit()
    (high,) = client.submit(priority=1)
    engine.given()
    die()
    all_come_back(durable)
    for expected in (high, plain, low):
        engine.finish(next(iter(engine.queue)), duration=1.0)
        assert engine.given() == [expected]
    client.results()


def test_frames_of_waiting_tasks_are_kept(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    ids = client.submit(4, frames=[b"one", b"two"])
    engine.given()
    die()
    all_come_back(durable)
    engine.finish(*ids[:2])
    assert engine.given() == ids[2:]
    assert engine.frames[ids[3]] == [b"one", b"two"]
    client.results()


def test_tasks_of_several_clients(durable: Bench, die):
    durable.start(clients=3)
    engine = durable.engines[0]
    ids = {client.no: client.submit(3) for client in durable.clients}
    engine.given()
    durable.clients[1].say(m.Goodbye())
    die()
    gone = durable.clients.pop(1)
    all_come_back(durable)
    while engine.queue:
        engine.finish()
        engine.given()
    for client in durable.clients:
        assert sorted(client.ended()) == ids[client.no]
    assert not durable.core.state.tasks
    assert gone.no not in durable.core.state.clients
    durable.forget_what_was_said()


def test_refused_tasks_are_not_there_again(durable: Bench, die):
    durable.start()
    client = durable.clients[0]
    client.submit(function=b"unknown", sent=False)
    client.submit(targets=(9,))
    client.submit(targets=(9, 8), ordered=True)
    assert set(client.ended().values()) == {REFUSED}
    die()
    all_come_back(durable)
    assert not durable.core.state.tasks
    assert client.results() == []


def test_the_ids_of_pieces_do_not_come_again(durable: Bench, die):
    durable.start(engines=1)
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(retries=5)
    seen = [*engine.given()]
    for _ in range(3):
        engine.fail(seen[-1])
        seen += engine.given()
        die()
        all_come_back(durable)
    assert len(set(seen)) == len(seen) == 4
    assert [(id_ & COUNT_MASK) >> EPOCH_BITS for id_ in seen[1:]] == [1, 2, 3]
    engine.finish(seen[-1])
    assert client.ended() == {task: OK}


# ------------------------------------------------------------------------------------------------------ functions


def test_functions_are_known_again(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    client.submit(function=b"f")
    engine.given()
    die()
    all_come_back(durable)
    # A client names it without sending it, the engine has it
    client.submit(sent=False)
    ((run, _),) = engine.inbox
    assert run.functions == []
    assert len(engine.given()) == 1
    # And an engine that replaces it is sent it
    engine.die()
    (fresh,) = durable.hello_engines()
    assert len(fresh.given()) == 2
    client.news()


def test_a_function_that_was_forgotten_stays_so(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    client.submit()
    engine.given()
    client.say(m.Forget([b"f"]))
    die()
    all_come_back(durable)
    assert b"f" in durable.core.state.functions.entries, "a task needs it"
    engine.finish()
    assert engine.take(m.Forget).digests == [b"f"]
    client.results()


# ------------------------------------------------------------------------------------------------------ stopping


def test_a_cancel_goes_on_and_is_answered_when_asked_again(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    running, prefetched, waiting = client.submit(3)
    engine.given()
    request = client.cancel([running, prefetched, waiting])
    engine.asked_back()
    assert client.ended() == {waiting: CANCELLED}
    die()
    all_come_back(durable, {0: running})
    engine.give_back(engine.asked_back(), [prefetched])
    assert engine.interrupted() == [running]
    client.say(m.Cancel(request, [running, prefetched, waiting]))
    engine.give_nothing()
    assert engine.interrupted() == [running]
    engine.fail(running)
    assert client.ended() == {running: CANCELLED, prefetched: CANCELLED}
    assert client.answer(request) == [running]


def test_a_time_limit_goes_on(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit(timeout_s=60.0)
    engine.given()
    engine.say(m.Started(task))
    durable.advance(40.0)
    die()
    durable.nannies[0].come_back([(0, 1)])
    client.come_back()
    engine.come_back(running=task, elapsed_s=41.0)
    durable.advance(18.9)
    assert engine.interrupted() == []
    durable.advance(0.2)
    assert engine.interrupted() == [task]
    engine.fail(task)
    assert client.ended() == {task: m.Status.TIMEOUT}
    client.news()


def test_a_scale_that_was_under_way_is_asked_for_again(durable: Bench, die):
    durable.start()
    client, nanny = durable.clients[0], durable.nannies[0]
    request = client.ask(m.Scale, 3)
    (second, third) = nanny.starts()
    client.news()
    die()
    nanny.come_back([(0, 1), second])
    assert nanny.starts() == [third]
    durable.engines[0].come_back()
    client.come_back()
    client.say(m.Scale(request, 3))
    for pair in (second, third):
        durable.unreachable.clear()
        durable.add_engine(*pair).hello()
    assert client.answer(request) == [0, 1, 2]
    client.news()


def test_an_engine_that_is_to_go_goes(durable: Bench, die):
    durable.start(engines=2)
    client = durable.clients[0]
    (task,) = client.submit(targets=(1,))
    durable.engines[1].given()
    request = client.ask(m.Scale, 1)
    client.news()
    die()
    durable.nannies[0].come_back([(0, 1), (1, 1)])
    durable.engines[0].come_back()
    client.come_back()
    client.say(m.Scale(request, 1))
    durable.engines[1].come_back(running=task)
    assert durable.engines[1].control.kinds() == []
    durable.engines[1].finish()
    durable.engines[1].control.take(m.Exit)
    durable.engines[1].die(exit_code=0)
    assert client.ended() == {task: OK}
    assert client.answer(request) == [0]
    client.news()


# ------------------------------------------------------------------------------------------ who does not come


def test_an_engine_that_does_not_come_back_is_killed(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit()
    engine.given()
    die()
    durable.nannies[0].come_back([(0, 1)])
    client.come_back()
    durable.advance(ENGINE_AWAY_S)
    assert durable.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(task)
    assert client.ended() == {task: LOST}
    durable.hello_engines()
    client.news()


def test_a_host_that_does_not_come_back_is_lost(durable: Bench, die):
    durable.start(hosts=2)
    client, (here, there) = durable.clients[0], durable.engines
    tasks = client.submit(2)
    here.given()
    (lost,) = there.given()
    die()
    durable.nannies[0].come_back([(0, 1)])
    client.come_back()
    here.come_back()
    durable.advance(NANNY_AWAY_S + 0.1)
    assert client.ended() == {lost: LOST}
    assert list(durable.core.state.engines) == [0]
    here.finish()
    assert list(client.ended()) == [id_ for id_ in tasks if id_ != lost]
    durable.forget_what_was_said()


def test_a_client_that_does_not_come_back_is_given_up(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    client.submit()
    engine.given()
    die()
    durable.nannies[0].come_back([(0, 1)])
    engine.come_back()
    durable.advance(KEEP_S + 1)
    assert not durable.core.state.clients
    engine.finish()
    assert engine.take(m.Forget).digests == [b"f"]


def test_a_client_that_wanted_its_tasks_cancelled_when_it_vanishes(durable: Bench, die):
    durable.start(clients=0)
    client, engine = durable.add_client(), durable.engines[0]
    client.cancel_on_exit = True
    client.hello()
    (task,) = client.submit()
    engine.given()
    die()
    durable.nannies[0].come_back([(0, 1)])
    engine.come_back(running=task)
    durable.advance(VANISHED_S)
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [task]
    engine.fail(task)
    engine.take(m.Forget)
    assert not durable.core.state.tasks


def test_a_client_whose_number_was_given_is_not_taken_for_another(durable: Bench, die):
    durable.start(clients=2)
    durable.clients[1].say(m.Goodbye())
    die()
    assert durable.add_client().hello().client == 3


def test_an_engine_that_was_given_up_stays_so(durable: Bench, die):
    nanny = durable.add_nanny(1, ready=False)
    client = durable.add_client()
    client.hello()
    while durable.core.state.engines[0].state != "failed":
        for pair in nanny.starts():
            durable.add_engine(*pair).die(exit_code=1, reason="exited with code 1")
        durable.advance(1.0)
    die()
    nanny.come_back()
    client.come_back()
    assert nanny.starts() == []
    client.submit(targets=(0,))
    (result,) = client.results()
    assert result.payload.startswith(b"engine 0 could not be started: exited with code 1")
    assert "engine 0" in client.error(client.ask(m.WaitEngines))
    request = client.ask(m.Restart)
    durable.hello_engines()
    assert client.answer(request) == [0]
    client.news()


def test_an_engine_that_was_dying_is_replaced(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    running, waiting = client.submit(2)
    engine.given()
    engine.die(running, settle=False)
    die()
    durable.nannies[0].come_back(ended=[m.DeathCertificate(0, 1, 100, -9, "killed", running)])
    client.come_back()
    durable.advance(0.1)
    assert client.ended() == {running: LOST}
    assert durable.hello_engines()[0].given() == [waiting]
    client.news()


# ------------------------------------------------------------------------------------------------------ large values


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "VALUE_MAX", 100)


def large_tasks(bench: Bench) -> tuple[int, int, int]:
    """Return a task that runs, one that is prefetched and one that waits, all with arguments that are not kept."""
    bench.start()
    running, prefetched, waiting = bench.clients[0].submit(3, frames=[bytes(200)])
    bench.engines[0].given()
    return running, prefetched, waiting


@pytest.mark.usefixtures("small")
def test_tasks_whose_arguments_are_lost_end_unless_an_engine_has_them(durable: Bench, die):
    running, prefetched, waiting = large_tasks(durable)
    client, engine = durable.clients[0], durable.engines[0]
    die()
    all_come_back(durable, {0: running})
    (result,) = client.results()
    assert (result.id, result.status) == (waiting, m.Status.UNKNOWN)
    assert b"too large for the journal" in result.payload
    engine.finish()
    assert client.ended() == {running: OK, prefetched: OK}


@pytest.mark.usefixtures("small")
def test_tasks_whose_arguments_are_lost_are_not_given_again(durable: Bench, die):
    running, prefetched, waiting = large_tasks(durable)
    client, engine = durable.clients[0], durable.engines[0]
    die()
    client.come_back()
    durable.nannies[0].come_back([(0, 1)])
    # One never arrived, the other goes down with its engine before it began
    del engine.queue[prefetched]
    engine.come_back(running=running)
    assert client.ended() == {waiting: m.Status.UNKNOWN, prefetched: m.Status.UNKNOWN}
    engine.die(None)
    assert client.ended() == {running: m.Status.UNKNOWN}
    assert durable.hello_engines()[0].given() == []
    assert not durable.core.state.tasks
    client.news()


@pytest.mark.usefixtures("small")
def test_a_result_that_was_too_large_is_told_of(durable: Bench, die):
    durable.start()
    client, engine = durable.clients[0], durable.engines[0]
    (task,) = client.submit()
    engine.given()
    durable.unreachable.add(client.name)
    engine.finish(frames=[bytes(200)])
    die()
    all_come_back(durable)
    (result,) = client.results()
    assert (result.id, result.status) == (task, m.Status.UNKNOWN)
    assert b"too large for the journal" in result.payload


# ------------------------------------------------------------------------------------------ whatever happens


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_restored_books_are_the_same(durable: Bench, seed):
    """Random submissions, results, failures, deaths, divisions, and other controllers that take over; then all ends."""
    chance = random.Random(seed)
    bench = durable.start(engines=3, clients=2)
    wanted: dict[int, list[int]] = {client.no: [] for client in bench.clients}
    items: dict[int, int] = {}
    outcomes: dict[int, list[tuple[int, int]]] = {}

    def submit() -> None:
        client = chance.choice(bench.clients)
        count = chance.choice([0, 0, 5, 40])
        options = chance.choice(
            [{}, {"retries": 1}, {"targets": (0, 2)}, {"targets": (1,), "ordered": True}, {"priority": 1}]
        )
        for id_ in client.submit(chance.randint(1, 5), items=count, **options):
            wanted[client.no].append(id_)
            items[id_] = count

    def work() -> None:
        engine = chance.choice(bench.engines)
        engine.given()
        answer(engine)
        if not engine.queue:
            return
        id_, call = next(iter(engine.queue.items()))
        status = ERROR if chance.random() < 0.2 else OK
        if not call.hi:
            engine.finish(id_, status=status)
            return
        task = bench.core.state.tasks.get(id_)
        if task is None:
            del engine.queue[id_]
            return
        hi = min(task.hi, task.lo + chance.randint(1, 20)) if status is OK else task.lo + 1
        if hi == task.hi:
            del engine.queue[id_]
        engine.finish_items(id_, task.lo, hi, status)

    def answer(engine: EngineSide) -> None:
        for request, _ in engine.control.take_all(m.TakeBack):
            first = next(iter(engine.queue), None)
            calls = [id_ for id_ in engine.choose_to_give(request) if id_ != first]
            tails = []
            task = bench.core.state.tasks.get(first) if first is not None else None
            if task is not None and task.hi - task.lo > 1 and not task.options.targets and chance.random() < 0.7:
                tails = [(task.id, chance.randint(task.lo + 1, task.hi - 1))]
            engine.give_back(request, calls, tails)

    def end_engine() -> None:
        engine = chance.choice(bench.engines)
        engine.given()
        running = next(iter(engine.queue), None)
        task = bench.core.state.tasks.get(running) if running is not None else None
        engine.control.inbox.clear()
        engine.die(running, chance.randint(task.lo, task.hi - 1) if task is not None and task.hi else 0)
        bench.hello_engines()

    def take_over() -> None:
        if chance.random() < 0.5:
            bench.summarize()
        bench.die()
        for engine in bench.engines:
            engine.given() if chance.random() < 0.5 else engine.inbox.clear()  # what was on its way came, or did not
            engine.control.inbox.clear()
        all_come_back(bench)

    def summarize() -> None:
        bench.summarize()

    steps = [submit] * 4 + [work] * 12 + [end_engine, take_over, summarize]
    for _ in range(120):
        chance.choice(steps)()
        bench.restored_books_are_the_same()
        collect(bench, outcomes)
    deadline = 5000
    while bench.core.state.tasks:
        deadline -= 1
        assert deadline, f"these never end: {bench.core.state.tasks}"
        for engine in bench.engines:
            engine.given()
        work()
        collect(bench, outcomes)
    # Every task has ended once, in all its items
    for id_ in [id_ for ids in wanted.values() for id_ in ids]:
        runs = sorted(outcomes[id_])
        if not items[id_]:
            assert runs == [(0, 0)]
        else:
            assert runs[0][0] == 0
            assert runs[-1][1] == items[id_]
            assert all(before[1] == after[0] for before, after in itertools.pairwise(runs)), runs
    bench.forget_what_was_said()


def collect(bench: Bench, outcomes: dict[int, list[tuple[int, int]]]) -> None:
    for client in bench.clients:
        for result in client.results():
            outcomes.setdefault(result.id, []).append((result.lo, result.hi))
        client.news()
