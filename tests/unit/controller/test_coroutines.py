"""Coroutines: many at once on an engine, and what becomes of those that have begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller.outcomes import POISON
from enginery.recorder import AFTER_LAST, COROUTINES, OVER
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide

OK, LOST = m.Status.OK, m.Status.LOST
CORO = b"coroutine"
"""A function that awaits: its digest begins with c."""


def replace(bench: Bench) -> EngineSide:
    (fresh,) = bench.hello_engines()
    bench.clients[0].news()
    return fresh


def lost(bench: Bench) -> dict[int, bool]:
    """Return the tasks that were lost, and whether they are said to have been running."""
    results = [result for result in bench.clients[0].results() if result.status == LOST]
    return {result.id: codec.decode_certificate(result.payload).running for result in results}


# ------------------------------------------------------------------------------------------------------- placement


def test_an_engine_has_many_at_once(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(COROUTINES + 10, CORO)
    assert engine.given() == ids[:COROUTINES]
    engine.finish(ids[3], ids[5], duration=10.0)
    assert engine.given() == ids[COROUTINES : COROUTINES + 2]
    bench.forget_what_was_said()


def test_they_are_spread_evenly(bench: Bench):
    bench.start(engines=4)
    bench.clients[0].submit(40, CORO)
    assert [len(engine.given()) for engine in bench.engines] == [10] * 4
    bench.clients[0].submit(40, CORO)
    assert [len(engine.given()) for engine in bench.engines] == [10] * 4


def test_they_go_where_nothing_else_runs(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(targets=(0,))
    bench.clients[0].submit(1, CORO)
    assert [len(engine.given()) for engine in bench.engines] == [1, 1]


def test_neither_kind_holds_up_the_other(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    coroutines = client.submit(1000, CORO)
    assert engine.given() == coroutines[:COROUTINES]
    plain = client.submit(3)
    assert engine.given() == plain[:2]  # as ever: one, and one more to begin at once
    engine.finish(coroutines[0])
    assert engine.given() == []  # it would begin after the second of these
    engine.finish(*plain[:2])
    assert set(engine.given()) == {plain[2], coroutines[COROUTINES]}
    bench.forget_what_was_said()


def test_those_for_certain_engines(bench: Bench):
    bench.start(engines=3)
    client = bench.clients[0]
    client.submit(20, CORO, targets=(1, 2))
    assert [len(engine.given()) for engine in bench.engines] == [0, 10, 10]
    assert not bench.core.state.pools
    client.submit(2 * COROUTINES, CORO, targets=(1, 2))
    assert len(bench.engines[1].given()) == COROUTINES - 10
    assert bench.core.state.pools
    bench.engines[1].finish()
    assert len(bench.engines[1].given()) == 20
    bench.forget_what_was_said()


def test_those_for_one_engine_keep_their_order(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    first = client.submit(COROUTINES, CORO, targets=(0,), ordered=True)
    rest = client.submit(2, CORO, targets=(0,), ordered=True) + client.submit(targets=(0,), ordered=True)
    assert engine.given() == first
    engine.finish(first[9])
    assert engine.given() == rest[:1]
    engine.finish(first[8])
    assert engine.given() == rest[1:]  # not before those that were submitted before it
    bench.forget_what_was_said()


def test_a_function_is_sent_with_the_first_call_that_finds_room(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    first = client.submit(COROUTINES, CORO, targets=(0,), ordered=True)
    engine.given()
    (other,) = client.submit(1, b"coroutine of another kind", targets=(0,), ordered=True)
    engine.finish(first[0])
    (call,) = engine.calls()  # which looks for its function
    assert call.id == other
    client.results()


def test_the_items_of_a_map_are_no_coroutines_unless_they_are_alone(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(5, CORO, items=4)
    first, _ = engine.given()
    alone = client.submit(5, CORO, items=1)
    assert engine.given() == []
    engine.finish_items(first, 0, 4)
    assert set(alone) <= set(engine.given())
    client.runs()
    engine.finish_items(alone[0], 0, 1)
    assert client.runs() == [(0, 1, OK)]


def test_a_call_of_which_one_item_is_left_becomes_one(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(1, CORO, items=4)
    engine.given()
    request = client.cancel([task])
    engine.give_back(engine.asked_back(), tails=[(task, 1)])
    assert bench.core.state.engines[0].coroutines == 1
    engine.finish_items(task, 0, 1)
    assert client.answer(request) == [task]
    assert bench.core.state.engines[0].coroutines == 0
    bench.forget_what_was_said()


def test_cancelled_while_they_wait(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(COROUTINES + 5, CORO)
    engine.given()
    request = client.cancel(ids[-5:])
    assert client.answer(request) == ids[-5:]
    assert bench.core.state.coroutines.waiting == 0
    bench.forget_what_was_said()


# ------------------------------------------------------------------------------------------------------- taking back


def test_an_engine_with_coroutines_only_is_idle_and_asked_for_nothing(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(20, CORO, targets=(0,))
    one, two = bench.engines
    one.given()
    assert bench.core.state.idle == {0, 1}
    assert not bench.core.state.laden
    # And takes work from one that has more
    (running,) = bench.clients[0].submit(targets=(1,))
    assert two.given() == [running]
    more = bench.clients[0].submit(3)
    assert one.given() == more[:2]
    assert two.given() == more[2:]
    one.finish(*more[:2], duration=1.0)
    request = two.asked_back()
    two.give_back(request, more[2:])
    assert one.given() == more[2:]
    bench.forget_what_was_said()


def test_those_that_cannot_have_begun_are_taken_back(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (long,) = client.submit(targets=(0,))
    client.submit(targets=(1,))
    assert one.given() == [long]
    two.given()
    behind = client.submit(2, CORO)
    assert one.given() == behind[:1]
    two.given()
    two.finish(duration=1.0)
    request = one.asked_back()
    one.give_back(request, behind[:1])
    assert two.given() == behind[:1]
    bench.forget_what_was_said()


# ------------------------------------------------------------------------------------------------------- deaths


@pytest.fixture
def five(bench: Bench) -> tuple[list[int], EngineSide]:
    """An engine that was given four coroutines and a plain task."""
    bench.start()
    ids = bench.clients[0].submit(4, CORO) + bench.clients[0].submit()
    engine = bench.engines[0]
    assert engine.given() == ids
    return ids, engine


def test_all_that_had_begun_were_running(bench: Bench, five):
    (one, two, three, four, plain), engine = five
    engine.die(three, coroutines=[(one, 1.0), (two, 2.0)])
    assert lost(bench) == {one: True, two: True, three: True}
    assert replace(bench).given() == [four, plain]


def test_each_is_told_since_when_it_ran(bench: Bench, five):
    (one, two, *_), engine = five
    engine.die(two, AFTER_LAST, coroutines=[(two, 7.5), (one, 5.5)])
    results = bench.clients[0].results()
    told = [codec.decode_certificate(result.payload) for result in results]
    assert [(certificate.task, certificate.since) for certificate in told] == [(one, 5.5), (two, 7.5)]
    assert not any(certificate.coroutines for certificate in told)
    replace(bench).given()


def test_they_go_on_while_a_later_task_runs_and_when_it_is_over(bench: Bench, five):
    (one, two, three, four, plain), engine = five
    engine.finish(two, plain)
    engine.die(plain, AFTER_LAST, coroutines=[(one, 1.0), (two, OVER), (three, OVER), (four, 1.0)])
    assert lost(bench) == {one: True, three: False, four: True}
    replace(bench)


@pytest.mark.parametrize("bench", [True], indirect=True, ids=["journal"])
def test_what_was_over_is_not_run_again_by_another_controller(bench: Bench, five):
    (one, two, three, four, plain), engine = five
    # Given that a later task has ended, and that another controller has taken over, which knows nothing of that task
    engine.finish(plain)
    bench.die()
    bench.advance(1.0)
    # When the engine dies before it is back
    bench.nanny_of(0).come_back(
        ended=[
            m.DeathCertificate(
                0, 1, 100, -9, "killed", plain, AFTER_LAST, coroutines=[(one, OVER), (two, 1.0), (three, OVER)]
            )
        ]
    )
    bench.advance(0.1)
    bench.clients[0].come_back()
    # Then those on record have run, and the one that is not had not begun
    assert lost(bench) == {one: False, two: True, three: False}
    assert replace(bench).given() == [four]


def test_without_a_record_all_may_have_run_still(bench: Bench, five):
    ids, engine = five
    engine.die(exit_code=None, reason="its host left the cluster")
    assert lost(bench) == dict.fromkeys(ids, True)
    replace(bench)


@pytest.mark.parametrize("how", ["step", "plain", "nobody"])
def test_only_what_ran_is_blamed(bench: Bench, how):
    bench.start()
    client = bench.clients[0]
    one, two = client.submit(2, CORO, retries=POISON + 1)
    (plain,) = client.submit(retries=POISON + 1)
    engine = bench.engines[0]
    for _ in range(POISON):
        assert set(engine.given()) == {one, two, plain}
        running = [(one, 1.0), (two, 1.0)]
        if how == "step":
            engine.die(plain, coroutines=running, step=two)
        elif how == "plain":
            engine.die(plain, coroutines=running)
        else:
            engine.die(two, AFTER_LAST, coroutines=running)
        (engine,) = bench.hello_engines()
        client.news()
    blamed = {"step": {two}, "plain": {plain}, "nobody": {one, two}}[how]
    assert set(lost(bench)) == blamed
    assert set(engine.given()) == {one, two, plain} - blamed


# ------------------------------------------------------------------------------------------------------- coming back


def test_an_engine_that_comes_back_has_them_still(bench: Bench, five):
    (one, two, three, four, plain), engine = five
    engine.lose_connection()
    del engine.queue[two]  # it never came there
    engine.come_back(coroutines=[(one, 5.0), (three, 4.0)])
    assert engine.given() == [two]
    assert list(bench.core.state.engines[0].assigned) == [one, three, four, plain, two]
    engine.finish()
    assert set(bench.clients[0].ended().values()) == {OK}
    bench.clients[0].news()


def test_their_time_limits_go_on(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    one, two = client.submit(2, CORO, timeout_s=10.0)
    engine.given()
    engine.lose_connection()
    engine.come_back(coroutines=[(one, 9.0), (two, 4.0)])
    bench.advance(1.5)
    assert engine.interrupted() == [one]
    engine.fail(one)
    assert client.ended() == {one: m.Status.TIMEOUT}
    engine.finish(two)
    client.ended()
    client.news()
