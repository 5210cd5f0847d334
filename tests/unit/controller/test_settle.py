"""What becomes of the tasks of an engine that has died: each case of its flight recorder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller.fleet import SETTLE_S
from enginery.recorder import AFTER_LAST
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide

OK, ERROR, LOST = m.Status.OK, m.Status.ERROR, m.Status.LOST


def learn(bench: Bench, duration: float = 0.01) -> None:
    bench.clients[0].submit(targets=(0,))
    bench.engines[0].given()
    bench.engines[0].finish(duration=duration)
    bench.clients[0].results()


def certificate(result: m.Result) -> m.DeathCertificate:
    assert result.status == LOST
    return codec.decode_certificate(result.payload)


def replace(bench: Bench) -> EngineSide:
    (fresh,) = bench.hello_engines()
    bench.clients[0].news()
    return fresh


# ------------------------------------------------------------------------------------------------------- death


def three_assigned(bench: Bench, **options) -> tuple[list[int], EngineSide]:
    """An engine that was given three tasks of 10 ms."""
    bench.start()
    learn(bench)
    ids = bench.clients[0].submit(3, **options)
    assert bench.engines[0].given() == ids
    return ids, bench.engines[0]


def test_the_running_task_is_lost_with_a_certificate_and_the_others_go_on(bench: Bench):
    # Given an engine that died in the second of three
    (one, two, three), engine = three_assigned(bench)
    engine.finish(one)
    engine.die(two)
    # Then the second is lost, with all that is known
    ended = bench.clients[0].results()
    assert [(result.id, result.status) for result in ended] == [(one, OK), (two, LOST)]
    told = certificate(ended[1])
    assert (told.engine, told.incarnation, told.pid, told.exit_code) == (0, 1, 100, -9)
    assert (told.reason, told.last_output) == ("killed by signal 9 (SIGKILL)", "last words")
    assert (told.memory_bytes, told.task, told.running) == (1000, two, True)
    # And the third runs on its successor
    assert replace(bench).given() == [three]


def test_all_that_the_nanny_knows_reaches_whoever_lost_the_task(bench: Bench):
    # Given a certificate with everything in it
    (one, two, _), engine = three_assigned(bench)
    engine.finish(one)
    known = m.DeathCertificate(
        *(0, 1, 100, -11, "killed by signal 11 (SIGSEGV)", two, 0, 1000, "last words"),
        since=5.0,
        ended=9.0,
        peak_bytes=2000,
        memory_curve=[(2.5, 900), (0.5, 1000)],
    )
    # When the nanny reports it
    bench.nanny_of(0).say(m.EngineExited(known))
    bench.advance(2 * SETTLE_S)
    # Then the client gets it unchanged
    assert certificate(bench.clients[0].results()[-1]) == known
    replace(bench).given()


def test_tasks_before_the_recorded_one_had_run_and_are_lost(bench: Bench):
    (one, two, three), engine = three_assigned(bench)
    engine.die(two)
    ended = bench.clients[0].results()
    assert [(result.id, certificate(result).running) for result in ended] == [(one, False), (two, True)]
    assert replace(bench).given() == [three]


def test_an_engine_that_died_after_its_last_recorded_task(bench: Bench):
    (one, two, three), engine = three_assigned(bench)
    engine.die(two, AFTER_LAST)
    ended = bench.clients[0].results()
    assert [(result.id, certificate(result).running) for result in ended] == [(one, False), (two, False)]
    assert replace(bench).given() == [three]


def test_an_engine_that_died_before_its_first_task(bench: Bench):
    ids, engine = three_assigned(bench)
    engine.die(None)
    assert replace(bench).given() == ids


def test_an_engine_that_died_after_a_task_that_was_reported(bench: Bench):
    ids, engine = three_assigned(bench)
    engine.finish(ids[0])
    engine.die(ids[0], AFTER_LAST)
    assert bench.clients[0].ended() == {ids[0]: OK}
    assert replace(bench).given() == ids[1:]


def test_without_a_record_all_may_have_run(bench: Bench):
    ids, engine = three_assigned(bench)
    engine.die(exit_code=None, reason="its host left the cluster")
    ended = bench.clients[0].results()
    assert [result.id for result in ended] == ids
    assert all(certificate(result).reason == "its host left the cluster" for result in ended)
    replace(bench)


def test_a_lost_task_is_tried_again_if_it_may(bench: Bench):
    ids, engine = three_assigned(bench, retries=1)
    engine.die(ids[1])
    fresh = replace(bench)
    assert fresh.given() == ids
    fresh.die(ids[1])
    assert set(bench.clients[0].ended().items()) == {(ids[0], LOST), (ids[1], LOST)}
    assert replace(bench).given() == ids[2:]


def test_a_task_that_had_not_begun_has_all_its_attempts_still(bench: Bench):
    ids, engine = three_assigned(bench)
    for _ in range(3):
        engine.die(None)
        engine = replace(bench)
        assert engine.given() == ids


def test_unharmed_tasks_go_to_other_engines_before_those_that_wait(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    client.submit(6)
    running, unstarted = one.given()
    two.given()
    one.die(running)
    two.finish(*list(two.queue), duration=1.0)
    assert two.given()[0] == unstarted
    client.results(), client.news()
    bench.nannies[0].starts()


def test_results_sent_before_the_end_still_count(bench: Bench):
    # Given that the nanny's word overtakes the engine's last results
    ids, engine = three_assigned(bench)
    engine.die(ids[1], settle=False)
    engine.finish(ids[0])
    bench.advance(0.1)
    ended = bench.clients[0].ended()
    assert ended == {ids[0]: OK, ids[1]: LOST}
    assert replace(bench).given() == ids[2:]


def test_late_results_of_a_dead_engine_are_dropped(bench: Bench):
    ids, engine = three_assigned(bench)
    engine.die(ids[1])
    bench.clients[0].results()
    engine.finish(*ids)
    engine.print(ids[2], "late")
    engine.say(m.Started(ids[2]))
    engine.control.say(m.GivenBack(1, [ids[2]], []))
    assert replace(bench).given() == ids[2:]


def test_a_dying_engine_is_given_nothing(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    engine.die(settle=False)
    (task,) = client.submit()
    assert engine.given() == []
    bench.advance(0.1)
    assert replace(bench).given() == [task]


@pytest.mark.parametrize(
    ("item", "lost", "again"),
    [
        (2, [(2, 3, True)], [(3, 10)]),
        (5, [(2, 5, False), (5, 6, True)], [(6, 10)]),
        (9, [(2, 9, False), (9, 10, True)], []),
        (AFTER_LAST, [(2, 10, False)], []),
        (0, [(2, 3, True)], [(3, 10)]),
    ],
    ids=["at the first unreported", "further on", "at the last", "after the last", "before what was reported"],
)
def test_the_items_of_a_running_task(bench: Bench, item, lost, again):
    # Given a task of ten items, two of them reported, whose engine died in this item
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 0, 2)
    engine.die(task, item)
    # Then what had run is lost, the item it was in too, and the rest runs
    ok, *results = client.results()
    assert (ok.lo, ok.hi) == (0, 2)
    assert [(result.lo, result.hi, certificate(result).running) for result in results] == lost
    assert {(result.id, certificate(result).task, certificate(result).item) for result in results} == {
        (task, task, lo) for lo, _, _ in lost
    }
    fresh = replace(bench)
    assert [(call.lo, call.hi) for call in fresh.calls()] == again
    for call in list(fresh.queue.values()):
        fresh.finish_items(call.id, call.lo, call.hi)
    client.results()
    assert bench.core.state.finished == 1
    assert not bench.core.state.pieces


def test_items_reported_ahead_are_not_lost(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 3, 5)
    engine.die(task, 6)
    ok, *results = client.results()
    assert (ok.lo, ok.hi) == (3, 5)
    assert [(r.lo, r.hi, certificate(r).running) for r in results] == [(0, 3, False), (5, 6, False), (6, 7, True)]
    assert [(call.lo, call.hi) for call in replace(bench).calls()] == [(7, 10)]


def test_without_a_record_all_items_may_have_been_running(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    engine.given()
    engine.finish_items(task, 0, 2)
    engine.die(exit_code=None)
    _, lost = client.results()
    assert (lost.lo, lost.hi) == (2, 10)
    assert certificate(lost).running, "nobody knows better"
    replace(bench)


def test_a_divisible_task_that_had_not_begun_goes_elsewhere_whole(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    one, two = client.submit(2, items=10)
    engine.given()
    engine.die(one, 9)
    assert {result.id for result in client.results()} == {one}
    assert [(call.id, call.lo, call.hi) for call in replace(bench).calls()] == [(two, 0, 10)]


def test_lost_items_are_tried_again_by_themselves(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10, retries=1)
    engine.given()
    engine.die(task, 4)
    fresh = replace(bench)
    seen = []
    while calls := fresh.calls():
        for call in calls:
            seen.append((call.lo, call.hi))
            fresh.finish_items(call.id, call.lo, call.hi)
            del fresh.queue[call.id]
    assert seen == [(0, 4), (4, 5), (5, 10)]
    assert client.runs() == [(0, 4, OK), (4, 5, OK), (5, 10, OK)]


def test_the_death_of_a_clients_engine_after_its_goodbye(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(3)
    running, _ = engine.given()
    client.say(m.Goodbye())
    engine.die(running)
    (fresh,) = bench.hello_engines()
    assert len(fresh.given()) == 2
    fresh.finish()
    fresh.take(m.Forget)
    assert not bench.core.state.tasks
