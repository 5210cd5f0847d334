"""Results, output, retries, items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.recorder import AFTER_LAST
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide

OK, ERROR = m.Status.OK, m.Status.ERROR


def learn(bench: Bench, duration: float = 0.01) -> None:
    bench.clients[0].submit(targets=(0,))
    bench.engines[0].given()
    bench.engines[0].finish(duration=duration)
    bench.clients[0].results()


def replace(bench: Bench) -> EngineSide:
    (fresh,) = bench.hello_engines()
    bench.clients[0].news()
    return fresh


# ------------------------------------------------------------------------------------------------------- results


def test_results_of_one_message_go_to_their_clients(bench: Bench):
    bench.start(clients=2)
    learn(bench)
    one, two = bench.clients
    bench.burst(lambda: one.submit(2), lambda: two.submit(2, b"g"))
    engine = bench.engines[0]
    engine.given()
    while engine.queue:
        engine.finish(frames=[b"a", b"b"])
        engine.given()
    for client in (one, two):
        ended = client.ended()
        assert len(ended) == 2
        assert all(client.frames[id_] == [b"a", b"b"] for id_ in ended)
        assert bench.core.state.clients[client.no].unfinished == 0
    assert bench.core.state.finished == 5


def test_a_result_of_a_task_it_does_not_have_is_dropped_with_its_frames(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit()
    bench.engines[0].given()
    results = [m.Result(77, OK, b"", 1), m.Result(task, OK, b"", 1)]
    bench.engines[0].say(m.Done(results), [b"stray", b"mine"])
    assert bench.clients[0].ended() == {task: OK}
    assert bench.clients[0].frames[task] == [b"mine"]


def test_an_error_ends_a_task_without_retries(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit()
    bench.engines[0].given()
    bench.engines[0].fail(task)
    (result,) = bench.clients[0].results()
    assert (result.status, result.payload) == (ERROR, b"failure")


def test_a_task_is_tried_again_as_often_as_it_may(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=2)
    for _ in range(2):
        assert len(engine.given()) == 1
        engine.fail()
        assert client.kinds() == []
    assert len(engine.given()) == 1
    engine.fail()
    assert client.ended() == {task: ERROR}
    assert bench.core.state.finished == 1
    assert bench.core.state.clients[1].unfinished == 0


def test_a_task_that_succeeds_at_last_has_succeeded(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=2, frames=[b"frame"])
    engine.given()
    engine.fail(task)
    (again,) = engine.calls()
    assert (again.function, again.payload) == (b"f", b"arguments")
    assert engine.frames[again.id] == [b"frame"]
    engine.finish()
    assert client.ended() == {task: OK}


@pytest.mark.parametrize("options", [{}, {"targets": (0,)}, {"targets": (0,), "ordered": True}])
def test_another_attempt_goes_before_what_waits(bench: Bench, options):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(4, retries=1, **options)
    assert engine.given() == ids[:2]
    engine.fail(ids[0])
    assert not set(engine.given()) & set(ids), "neither the third nor the fourth"


def test_the_error_of_a_client_that_is_gone_is_retried_too(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=1)
    engine.given()
    client.say(m.Goodbye())
    engine.fail(task)
    assert len(engine.given()) == 1
    engine.finish()
    engine.take(m.Forget)
    assert not bench.core.state.tasks


def test_the_record_of_one_attempt_is_not_taken_for_another(bench: Bench):
    # Given a task that is tried again on the same engine, behind another, both yet to begin
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=1)
    engine.given()
    bench.burst(lambda: client.submit(function=b"g", targets=(0,), ordered=True), lambda: engine.fail(task))
    given = engine.given()
    # When the engine dies with its recorder still at the first attempt
    engine.die(task, AFTER_LAST)
    # Then both go on unharmed
    assert replace(bench).given() == given


# ------------------------------------------------------------------------------------------------------- output


def test_output_comes_before_the_result_that_counts_it(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    bench.burst(lambda: engine.finish(task, outputs=0), lambda: None)
    client.results()
    (task,) = client.submit()
    engine.given()
    bench.burst(lambda: engine.print(task, "a", "b"), lambda: engine.finish(task, outputs=2))
    assert client.kinds() == ["Outputs", "Results"]
    assert client.output() == ["a", "b"]
    assert client.ended() == {task: OK}


def test_output_is_passed_on_while_the_task_runs(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.print(task, "so far")
    record = client.take(m.Outputs).records[0]
    assert (record.task, record.kind, record.data, record.engine) == (task, "stdout", "so far", 0)


def test_output_of_a_piece_is_output_of_its_task(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 5)])
    (piece,) = two.given()
    two.print(piece, "here")
    assert client.take(m.Outputs).records[0].task == task
    client.results()


def test_output_of_a_task_that_is_over_is_passed_on_uncounted(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.finish()
    client.results()
    engine.print(task, "late")
    late = client.take(m.Outputs)
    assert (late.seq, late.records[0].task, late.records[0].data) == (0, task, "late")
    engine.print(77, "never was")


def test_output_of_a_task_that_is_over_is_dropped_if_its_client_is_gone(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.finish()
    client.results()
    client.say(m.Goodbye())
    engine.take(m.Forget)
    engine.print(task, "late")


def test_output_of_a_task_that_is_another_engines_is_dropped(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    (task,) = client.submit(targets=[0])
    bench.engines[0].given()
    bench.engines[1].print(task, "what an engine says that has lost it")
    bench.engines[0].finish()
    client.results()


# ------------------------------------------------------------------------------------------------------- items


def test_items_are_reported_in_runs(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    (call,) = engine.calls()
    assert (call.lo, call.hi) == (0, 10)
    engine.finish_items(task, 0, 4)
    engine.finish_items(task, 4, 5, ERROR)
    engine.finish_items(task, 5, 10)
    assert client.runs() == [(0, 4, OK), (4, 5, ERROR), (5, 10, OK)]
    assert bench.core.state.finished == 1


def test_an_item_is_tried_again_by_itself(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10, retries=1)
    engine.given()
    engine.finish_items(task, 0, 4)
    engine.finish_items(task, 4, 5, ERROR)
    assert client.runs() == [(0, 4, OK)]
    # Then it comes as a piece of its own, before the rest is done
    (again,) = engine.calls()
    assert (again.lo, again.hi) == (4, 5)
    engine.finish_items(task, 5, 10)
    engine.finish_items(again.id, 4, 5)
    assert client.runs() == [(5, 10, OK), (4, 5, OK)]
    assert bench.core.state.finished == 1


def test_an_item_is_not_tried_more_often_than_it_may(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=1, retries=1)
    engine.given()
    engine.finish_items(task, 0, 1, ERROR)
    (again,) = engine.given()
    engine.finish_items(again, 0, 1, ERROR)
    assert client.runs() == [(0, 1, ERROR)]
    assert bench.core.state.clients[1].unfinished == 0


def test_items_that_overtake_others_are_counted_once(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 6, 8)
    engine.finish_items(task, 3, 6)
    engine.finish_items(task, 0, 3)
    assert bench.core.state.tasks[task].lo == 8
    engine.finish_items(task, 8, 10)
    assert client.runs() == [(6, 8, OK), (3, 6, OK), (0, 3, OK), (8, 10, OK)]
    assert not bench.core.state.tasks


@pytest.mark.parametrize(("lo", "hi"), [(8, 12), (5, 5), (6, 4), (-1, 2)])
def test_items_nobody_asked_for_are_dropped(bench: Bench, lo, hi):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, lo, hi)
    assert client.runs() == []
    assert bench.core.state.tasks[task].lo == 0
