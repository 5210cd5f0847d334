"""Work taken back from busy engines for idle ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.controller.taking import AGAIN_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide


def two_engines_one_busy(bench: Bench, n: int = 4) -> list[int]:
    """Two engines with tasks of unknown duration; the second finishes all of its own. Return what the first has."""
    bench.start(engines=2)
    client, (busy, other) = bench.clients[0], bench.engines
    client.submit(n)
    busy.given()
    other.given()
    other.finish(duration=1.0)
    client.results()
    return list(busy.queue)


def ask_again(bench: Bench, engine: EngineSide) -> m.TakeBack:
    bench.advance(AGAIN_S)
    return engine.asked_back()


# ------------------------------------------------------------------------------------------------------- calls


def test_an_idle_engine_gets_what_another_has_not_begun(bench: Bench):
    running, unstarted = two_engines_one_busy(bench)
    busy, idle = bench.engines
    request = busy.asked_back()
    assert request.tasks is None
    busy.give_back(request, [unstarted])
    assert idle.given() == [unstarted]
    busy.finish(running)
    idle.finish(unstarted)
    assert set(bench.clients[0].ended()) == {running, unstarted}


def test_an_engine_is_asked_once_at_a_time(bench: Bench):
    two_engines_one_busy(bench)
    request = bench.engines[0].asked_back()
    bench.advance(1.0)
    bench.clients[0].say(m.Ping())
    bench.engines[0].give_back(request)
    ask_again(bench, bench.engines[0])


def test_an_engine_with_nothing_to_give_is_asked_again_after_a_pause(bench: Bench):
    two_engines_one_busy(bench)
    busy = bench.engines[0]
    busy.give_back(busy.asked_back())
    assert busy.control.kinds() == []
    ask_again(bench, busy)


def test_an_engine_with_one_task_is_not_asked(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit()
    bench.engines[0].given()
    bench.advance(1.0)


def test_nobody_is_asked_when_nobody_is_idle(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(4)
    for engine in bench.engines:
        engine.given()
    bench.advance(1.0)


def test_nobody_is_asked_when_tasks_wait(bench: Bench):
    bench.start(engines=2)
    client, (busy, other) = bench.clients[0], bench.engines
    client.submit(6)
    busy.given(), other.given()
    other.finish(duration=1.0)
    assert len(other.given()) == 2
    client.results()


def test_what_finished_meanwhile_is_not_given_out_again(bench: Bench):
    # Given that the answer and the result cross one another
    running, unstarted = two_engines_one_busy(bench)
    busy, idle = bench.engines
    request = busy.asked_back()
    busy.finish(running, unstarted)
    busy.control.say(m.GivenBack(request.request, [unstarted], []))
    assert idle.given() == []
    assert set(bench.clients[0].ended()) == {running, unstarted}


def test_what_is_given_back_goes_before_what_waits(bench: Bench):
    running, unstarted = two_engines_one_busy(bench)
    busy, idle = bench.engines
    request = busy.asked_back()
    client = bench.clients[0]
    bench.burst(lambda: client.submit(5), lambda: busy.give_back(request, [unstarted]))
    assert unstarted in idle.given()
    busy.given()
    assert running in busy.queue


def test_several_come_back_in_their_order(bench: Bench):
    bench.start(engines=2)
    client, (busy, idle) = bench.clients[0], bench.engines
    client.submit(function=b"f", targets=(0,))
    busy.given()
    busy.finish(duration=0.004)
    ids = client.submit(20)
    idle.given(), busy.given()
    idle.finish(*list(idle.queue), duration=0.004)
    request = busy.asked_back()
    back = busy.give_back(request, list(busy.queue)[5:])
    assert idle.given() == back
    assert back == sorted(back)
    assert set(back) <= set(ids)
    client.results()


def test_ordered_tasks_stay(bench: Bench):
    bench.start(engines=2)
    bench.clients[0].submit(2, targets=(0,), ordered=True)
    bench.engines[0].given()
    bench.advance(1.0)


def test_tasks_for_some_engines_are_asked_back_by_name_for_one_of_those(bench: Bench):
    bench.start(engines=3)
    client, (one, two, _) = bench.clients[0], bench.engines
    client.submit(4, targets=(0, 1))
    one.given(), two.given()
    running, unstarted = one.queue
    two.finish(duration=1.0)
    request = one.asked_back()
    assert request.tasks == [unstarted]
    one.give_back(request, [unstarted])
    assert two.given() == [unstarted]
    assert list(one.queue) == [running]
    client.results()


def test_tasks_for_some_engines_are_left_when_only_others_are_idle(bench: Bench):
    bench.start(engines=3)
    bench.clients[0].submit(4, targets=(0, 1))
    bench.engines[0].given(), bench.engines[1].given()
    bench.advance(1.0)


# ------------------------------------------------------------------------------------------------------- no traps


def test_a_long_task_traps_nothing_though_its_estimate_was_short(bench: Bench):
    # Given a function known to be quick, whose call this time is not
    bench.start(engines=2)
    client, (stuck, other) = bench.clients[0], bench.engines
    client.submit(targets=(0,))
    stuck.given()
    stuck.finish(duration=1e-5)
    client.submit(20)
    stuck.given(), other.given()
    assert len(stuck.queue) == 10
    other.finish(duration=1e-5)
    client.results()
    # When nothing is heard of it for a while, though it was to take less than a millisecond
    bench.advance(0.05)
    # Then what is behind is asked back
    request = stuck.asked_back()
    back = stuck.give_back(request, list(stuck.queue)[1:])
    # And its load is known better: it gets one at the most again
    assert len(other.given()) >= len(back) - 1
    assert len(stuck.given()) <= 1


def test_the_last_few_are_not_trapped_either(bench: Bench):
    bench.start(engines=2)
    client, (stuck, _) = bench.clients[0], bench.engines
    client.submit(targets=(0,))
    stuck.given()
    stuck.finish(duration=1e-5)
    client.submit(400)
    first = next(iter(stuck.given()))
    ran = bench.work(lambda call: 100.0 if call.id == first else 1e-5)
    begun = min(end for end, _, _ in ran)
    assert len(ran) == 400
    late = [task for end, _, task in ran if end - begun > 1.0]
    assert late == [first]
    client.results()


def test_an_engine_that_gets_on_is_not_asked_for_a_pittance(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    client.submit(targets=(0,))
    one.given()
    one.finish(duration=1e-5)
    client.submit(20)
    one.given(), two.given()
    two.finish(duration=1e-5)
    one.finish(duration=1e-5)
    bench.advance(1.0)
    client.results()


# ------------------------------------------------------------------------------------------------------- items


def test_the_tail_of_a_running_divisible_task_goes_to_an_idle_engine(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=100)
    one.given()
    one.finish_items(task, 0, 10, item_s=0.1)
    request = one.asked_back()
    one.give_back(request, tails=[(task, 50)])
    (piece,) = two.calls()
    assert (piece.lo, piece.hi, piece.payload) == (50, 100, b"arguments")
    assert piece.id != task
    one.finish_items(task, 10, 50)
    two.finish_items(piece.id, 50, 100)
    results = client.results()
    assert {result.id for result in results} == {task}
    assert [(result.lo, result.hi) for result in results] == [(0, 10), (10, 50), (50, 100)]
    assert bench.core.state.finished == 1
    two.control.take_all(m.TakeBack)
    one.control.take_all(m.TakeBack)


def test_a_piece_can_be_divided_again(bench: Bench):
    bench.start(engines=3)
    client, (one, two, three) = bench.clients[0], bench.engines
    (task,) = client.submit(items=100)
    one.given()
    one.finish_items(task, 0, 10, item_s=0.1)
    one.give_back(one.asked_back(), tails=[(task, 40)])
    (piece,) = two.given()
    one.give_back(one.asked_back(), tails=[(task, 20)]) if one.control.inbox else None
    two.give_back(two.asked_back(), tails=[(piece, 70)])
    pieces = [engine.calls() for engine in (three,)]
    spans = sorted((call.lo, call.hi) for calls in pieces for call in calls)
    assert (70, 100) in spans or (20, 40) in spans
    client.results()
    bench.forget_what_was_said()


def test_a_tail_taken_after_everything_before_it_was_reported(bench: Bench):
    # Given that the results overtake the answer, on the other socket
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    request = one.asked_back()
    one.finish_items(task, 1, 6)
    one.queue.clear()
    one.give_back(request, tails=[(task, 6)])
    # Then what is left is all in the tail, and its engine has nothing more
    (piece,) = two.calls() + one.calls()
    assert (piece.lo, piece.hi) == (6, 10)
    assert client.runs() == [(0, 1, m.Status.OK), (1, 6, m.Status.OK)]
    next(e for e in (one, two) if e.queue).finish_items(piece.id, 6, 10)
    assert client.runs() == [(6, 10, m.Status.OK)]
    assert bench.core.state.finished == 1
    one.give_nothing()


def test_a_tail_beyond_the_end_is_ignored(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 10), (task, 0), (77, 5)])
    assert two.given() == []
    client.results()
    ask_again(bench, one)


def test_the_tail_of_a_task_that_fails_can_fail_by_itself(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 6)])
    (piece,) = two.given()
    two.finish_items(piece, 6, 10, m.Status.ERROR)
    one.control.take_all(m.TakeBack)
    assert client.runs() == [(0, 1, m.Status.OK), (6, 10, m.Status.ERROR)]
    one.finish_items(task, 1, 6)
    assert client.runs() == [(1, 6, m.Status.OK)]


def test_idle_engines_get_a_part_of_a_divisible_task_though_it_reports_nothing(bench: Bench):
    # Given that the first item may take for ever
    bench.start(engines=2)
    (task,) = bench.clients[0].submit(items=10)
    (one, two) = bench.engines
    assert one.given() == [task]
    one.give_back(one.asked_back(), tails=[(task, 1)])
    assert [(call.lo, call.hi) for call in two.calls()] == [(1, 10)]
