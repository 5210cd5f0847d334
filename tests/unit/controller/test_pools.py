"""Tasks whose needs are not met on an engine, and where they go then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide, EngineSide

OK, UNMET = m.Status.OK, m.Status.UNMET


def cannot(engine: EngineSide, *ids: int, sentence: str = "no GPU here") -> None:
    """An engine says of calls (all it has: none) that it has not what they need."""
    engine.finish(*ids, status=UNMET, payload=sentence.encode())


def where(bench: Bench) -> tuple[EngineSide, int]:
    """Return the one engine that was given a call since last asked, and the call."""
    given = [(engine, id_) for engine in bench.engines for id_ in engine.given()]
    assert len(given) == 1
    return given[0]


def sentence(bench: Bench) -> str:
    (result,) = bench.clients[0].results()
    assert result.status == UNMET
    return result.payload.decode()


# ------------------------------------------------------------------------------------------------------ going on


def with_the_second_engine_busy(bench: Bench) -> ClientSide:
    """Have two engines, the second of which has all it can take; return a client."""
    bench.start(engines=2)
    client = bench.clients[0]
    client.submit(2, targets=(1,))
    bench.engines[1].given()
    return client


def test_a_task_goes_to_an_engine_that_has_not_been_asked(bench: Bench):
    bench.start(engines=3)
    (id_,) = bench.clients[0].submit()
    asked = []
    for _ in range(2):
        engine, call = where(bench)
        asked.append(engine.id)
        cannot(engine, call)
    engine, call = where(bench)
    assert {*asked, engine.id} == {0, 1, 2}
    engine.finish(call)
    assert bench.clients[0].ended() == {id_: OK}


def test_each_time_under_another_id(bench: Bench):
    """The flight record of an engine is of a call, by its id."""
    bench.start(engines=2)
    (id_,) = bench.clients[0].submit()
    engine, call = where(bench)
    assert call == id_
    cannot(engine, call)
    engine, call = where(bench)
    assert call != id_
    engine.finish(call)
    assert bench.clients[0].ended() == {id_: OK}


def test_it_ends_when_all_have_been_asked(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit()
    cannot(*where(bench), sentence="no torch")
    cannot(*where(bench), sentence="no torch either")
    assert sentence(bench) == "no engine can run it: no torch either (asked: engines 0-1)"
    assert not bench.core.state.pools


def test_only_its_targets_are_asked(bench: Bench):
    bench.start(engines=3)
    bench.clients[0].submit(targets=(1,))
    cannot(*where(bench))
    assert sentence(bench) == "no engine can run it: no GPU here (asked: engine 1)"


def test_a_direct_call_ends_at_once(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(targets=(1,), ordered=True)
    cannot(*where(bench))
    assert sentence(bench) == "engine 1 cannot run it: no GPU here"


def test_retries_are_not_used_up(bench: Bench):
    bench.start(engines=2)
    (id_,) = bench.clients[0].submit(retries=1)
    cannot(*where(bench))
    engine, call = where(bench)
    engine.fail(call)
    other, again = where(bench)
    assert other is engine, "the other one has been asked"
    other.finish(again)
    assert bench.clients[0].ended() == {id_: OK}


def test_a_timeout_counts_anew(bench: Bench):
    bench.start(engines=2)
    (id_,) = bench.clients[0].submit(timeout_s=1.0)
    engine, call = where(bench)
    engine.say(m.Started(call))
    bench.advance(0.9)
    cannot(engine, call)
    engine, call = where(bench)
    engine.say(m.Started(call))
    bench.advance(0.9)
    engine.finish(call)
    assert bench.clients[0].ended() == {id_: OK}


def test_items_go_on_alone(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    (id_,) = client.submit(items=4, targets=(0, 1))
    engine, call = where(bench)
    other = next(side for side in bench.engines if side is not engine)
    engine.finish_items(call, 0, 1)
    engine.finish_items(call, 1, 2, UNMET)
    (piece,) = other.calls()
    assert (piece.lo, piece.hi, piece.fixed) == (1, 2, True)
    engine.finish_items(call, 2, 4)
    del engine.queue[call]
    assert client.runs() == [(0, 1, OK), (2, 4, OK)]
    other.finish_items(piece.id, 1, 2)
    del other.queue[piece.id]
    assert [(result.id, result.lo, result.hi) for result in client.results()] == [(id_, 1, 2)]
    bench.forget_what_was_said()


def test_an_item_that_nobody_can_run_ends_alone(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(items=3)
    engine, call = where(bench)
    engine.finish_items(call, 0, 1, UNMET)
    engine.finish_items(call, 1, 3)
    engine.queue.clear()
    assert client.runs() == [(0, 1, UNMET), (1, 3, OK)]


def test_coroutines_go_on_too(bench: Bench):
    bench.start(engines=2)
    (id_,) = bench.clients[0].submit(1, b"coroutine")
    cannot(*where(bench))
    engine, call = where(bench)
    engine.finish(call)
    assert bench.clients[0].ended() == {id_: OK}


# ------------------------------------------------------------------------------------------- engines come and go


def test_a_busy_engine_is_waited_for(bench: Bench):
    bench.start(engines=2)
    client, (busy, other) = bench.clients[0], bench.engines
    client.submit(2, targets=(0,))
    busy.given()
    (id_,) = client.submit()
    cannot(*where(bench))
    assert not other.given()
    busy.finish(duration=1.0)
    engine, call = where(bench)
    assert engine is busy
    engine.finish(call)
    assert client.ended()[id_] == OK


def test_a_starting_engine_is_waited_for(bench: Bench):
    bench.start()
    nanny = bench.add_nanny(1, ready=False)
    bench.clients[0].news()
    (id_,) = bench.clients[0].submit()
    cannot(*where(bench))
    bench.hello_engines(nanny)
    bench.clients[0].news()
    engine, call = where(bench)
    assert engine.id == 1
    engine.finish(call)
    assert bench.clients[0].ended() == {id_: OK}


def test_an_engine_that_has_been_replaced_is_asked_again(bench: Bench):
    client = with_the_second_engine_busy(bench)
    (id_,) = client.submit()
    cannot(*where(bench))
    bench.engines[0].die()
    bench.hello_engines()
    engine, call = where(bench)
    assert engine.id == 0
    engine.finish(call)
    assert client.ended() == {id_: OK}
    bench.forget_what_was_said()


def test_when_the_last_that_could_is_stopped_it_ends(bench: Bench):
    client = with_the_second_engine_busy(bench)
    client.submit()
    cannot(*where(bench))
    client.ask(m.Scale, 1)
    assert sentence(bench) == "no engine can run it: no GPU here (asked: engine 0)"
    bench.forget_what_was_said()


def test_a_task_that_waits_for_another_engine_can_be_cancelled(bench: Bench):
    client = with_the_second_engine_busy(bench)
    (id_,) = client.submit()
    cannot(*where(bench))
    request = client.cancel([id_])
    assert client.ended() == {id_: m.Status.CANCELLED}
    assert client.answer(request) == [id_]


def test_nothing_is_left_of_a_pool_all_of_whose_tasks_were_withdrawn(bench: Bench):
    """Their function is forgotten with them."""
    client = with_the_second_engine_busy(bench)
    (id_,) = client.submit(function=b"g")
    cannot(*where(bench))
    request = client.cancel([id_])
    client.say(m.Forget([b"g"]))
    bench.advance(1.0)
    assert b"g" not in bench.core.state.functions.entries
    assert not bench.core.state.pools
    assert client.answer(request) == [id_]
    bench.forget_what_was_said()


def test_a_task_that_is_to_be_stopped_does_not_go_on(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    (id_,) = client.submit()
    engine, call = where(bench)
    request = client.cancel([id_])
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [id_]
    cannot(engine, call)
    assert client.ended() == {id_: m.Status.CANCELLED}
    assert client.answer(request) == [id_]


# ---------------------------------------------------------------------------------------------- who is asked first


def test_engines_that_lack_what_the_function_needs_are_asked_last(bench: Bench):
    bench.start(engines=3)
    client, able = bench.clients[0], bench.engines[2]
    for _ in range(6):  # all are asked once or twice; then it is known who can
        client.submit()
        engine, call = where(bench)
        while engine is not able:
            cannot(engine, call)
            engine, call = where(bench)
        engine.finish(call, duration=1.0)
    client.results()
    ids = client.submit(6)
    for engine in bench.engines[:2]:
        given = engine.given()
        assert given
        cannot(engine, *given)
    for engine in bench.engines[:2]:
        assert not engine.given(), "it waits for the one that can"
    bench.work(lambda _call: 1.0)
    assert client.ended().keys() == set(ids)
    bench.forget_what_was_said()


def test_one_that_has_run_the_function_since_is_asked_again(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    client.submit()
    engine, call = where(bench)
    cannot(engine, call)
    second, call = where(bench)
    second.finish(call)
    lacking = bench.core.state.functions.entries[b"f"].lacking
    assert lacking == {(engine.id, 1)}
    client.submit(targets=(engine.id,))
    engine.finish(*engine.given())
    assert not lacking
    assert set(client.ended().values()) == {OK}


def test_an_idle_engine_that_has_been_asked_takes_nothing_over(bench: Bench):
    bench.start(engines=2)
    client, (one, other) = bench.clients[0], bench.engines
    ids = client.submit(4)
    one.given(), other.given()
    cannot(one)
    one.given()
    assert len(other.given()) + len(other.queue) >= 2
    bench.advance(1.0)
    for request, _ in other.control.take_all(m.TakeBack):
        assert request.tasks is None, "what has been there already is not moved back"
        other.give_back(request)
    while other.queue:
        other.finish(next(iter(other.queue)), duration=1.0)
        other.given()
        for request, _ in other.control.take_all(m.TakeBack):
            other.give_back(request)
    assert client.ended().keys() == set(ids)
    assert not one.given()
    bench.forget_what_was_said()


# ---------------------------------------------------------------------------------------------- another controller


def test_another_controller_knows_who_has_been_asked(durable: Bench):
    client = with_the_second_engine_busy(durable)
    (id_,) = client.submit()
    cannot(*where(durable))
    durable.die()
    client.come_back()
    for engine in durable.engines:
        engine.come_back(running=next(iter(engine.queue), None))
    durable.nannies[0].come_back([(0, 1), (1, 1)])
    assert not durable.engines[0].given()
    cannot(durable.engines[1])
    cannot(durable.engines[1], *durable.engines[1].given())
    assert {result.id for result in client.results() if result.status == UNMET} >= {id_}
    durable.forget_what_was_said()


@pytest.mark.parametrize("summed", [False, True])
def test_what_is_known_survives_a_death_of_the_engine(durable: Bench, summed: bool):
    durable.start(engines=2)
    client = durable.clients[0]
    client.submit(retries=1)
    cannot(*where(durable))
    engine, call = where(durable)
    engine.die(call)
    durable.forget_what_was_said()
    if summed:
        durable.summarize()
    (task,) = durable.core.state.tasks.values()
    assert task.attempt == 1
    assert task.unmet is not None
    assert task.unmet.engines == {(1 - engine.id, 1)}
    durable.restored_books_are_the_same()
