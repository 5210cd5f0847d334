"""Cancel and time limits."""

from __future__ import annotations

import sys
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from enginery.controller.stopping import AGAIN_S, PATIENCE_S, TIMEOUT_GRACE_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench

OK, ERROR, CANCELLED, TIMEOUT = m.Status.OK, m.Status.ERROR, m.Status.CANCELLED, m.Status.TIMEOUT


def busy(bench: Bench, n: int = 3, **options) -> list[int]:
    """One engine that runs a task, has another and leaves the rest waiting; the time is known to be long."""
    bench.start()
    ids = bench.clients[0].submit(n, **options)
    assert bench.engines[0].given() == ids[:2]
    return ids


# ------------------------------------------------------------------------------------------------------- cancel


def test_a_cancel_waits_for_the_tasks_that_were_submitted_before_it(bench: Bench):
    busy(bench)
    client = bench.clients[0]
    bench.unreachable.add(client.name)  # a break that nobody has noticed
    (task,) = client.submit()
    bench.unreachable.clear()
    request = client.cancel([task])
    client.take(m.Resume)  # it knows of no such task, but something is missing: so there is no answer yet
    assert client.kinds() == []
    client.hello()
    client.say(m.Cancel(request, [task], after=client.outgoing.last))
    assert client.answer(request) == [task]
    assert client.ended() == {task: CANCELLED}


def test_a_waiting_task_is_withdrawn_at_once(bench: Bench):
    *_, waiting = busy(bench)
    client = bench.clients[0]
    request = client.cancel([waiting])
    assert client.kinds() == ["Results", "Reply"], "the result comes before the answer that speaks of it"
    (result,) = client.results()
    assert (result.id, result.status, result.payload) == (waiting, CANCELLED, b"cancelled before it started")
    assert client.answer(request) == [waiting]
    bench.engines[0].finish()
    assert bench.engines[0].given() == []
    client.results()


@pytest.mark.parametrize("options", [{"targets": (0,)}, {"targets": (0,), "ordered": True}])
def test_a_waiting_addressed_task_is_withdrawn_at_once(bench: Bench, options):
    *_, waiting = busy(bench, **options)
    client = bench.clients[0]
    assert client.answer(client.cancel([waiting])) == [waiting]
    bench.engines[0].finish()
    assert client.ended()[waiting] == CANCELLED


def test_an_unstarted_task_is_taken_back_from_its_engine(bench: Bench):
    _, prefetched, waiting = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([prefetched])
    back = engine.asked_back()
    assert back.tasks == [prefetched]
    engine.give_back(back, [prefetched])
    assert client.ended() == {prefetched: CANCELLED}
    assert client.answer(request) == [prefetched]
    assert engine.given() == [waiting], "there is room for the next"
    assert engine.interrupted() == []


def test_a_running_task_is_interrupted(bench: Bench):
    running, prefetched, waiting = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running])
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [running]
    assert client.kinds() == [], "it is answered when it can no longer run"
    engine.fail(running)
    (result,) = client.results()
    assert (result.status, result.payload) == (CANCELLED, b"cancelled while it ran")
    assert client.answer(request) == [running]
    assert engine.given() == [waiting]
    assert prefetched in engine.queue


def test_a_running_task_that_is_interrupted_is_not_tried_again(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=5)
    engine.given()
    client.cancel([task])
    engine.give_back(engine.asked_back())
    engine.interrupted()
    engine.fail(task)
    assert client.ended() == {task: CANCELLED}
    client.take(m.Reply)


def test_a_task_that_ends_before_the_interrupt_keeps_its_value(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running])
    back = engine.asked_back()
    engine.finish(running)
    engine.give_back(back)
    assert engine.interrupted() == []
    assert client.ended() == {running: OK}
    assert client.answer(request) == []
    engine.given()


def test_an_uninterruptible_task_goes_down_with_its_engine_when_its_grace_is_over(bench: Bench):
    running, prefetched, waiting = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running], grace_s=0.5)
    engine.give_back(engine.asked_back())
    engine.interrupted()
    bench.advance(0.4)
    assert bench.nannies[0].stops() == []
    bench.advance(0.2)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(running)
    # It is cancelled, not lost; the others run on the next incarnation
    assert client.ended() == {running: CANCELLED}
    assert client.answer(request) == [running]
    (fresh,) = bench.hello_engines()
    assert fresh.given() == [prefetched, waiting]
    client.news()


def test_nothing_is_killed_when_the_task_ended_within_its_grace(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    client.cancel([running], grace_s=0.5)
    engine.give_back(engine.asked_back())
    engine.interrupted()
    engine.fail(running)
    bench.advance(1.0)
    assert bench.nannies[0].stops() == []
    client.results(), client.take(m.Reply)
    engine.given()


def test_without_grace_nothing_is_killed_and_the_answer_comes_all_the_same(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running])
    engine.give_back(engine.asked_back())
    bench.advance(PATIENCE_S + 0.1)
    assert engine.interrupted() == [running, running]
    assert client.answer(request) == []
    bench.advance(3600)
    assert engine.interrupted() == []
    assert bench.nannies[0].stops() == []
    # When it ends by itself after all
    engine.fail(running)
    assert client.ended() == {running: CANCELLED}
    engine.given()


def test_an_interrupt_is_repeated_until_the_grace_is_over(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running], grace_s=3.5)
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [running]
    for _ in range(3):
        bench.advance(AGAIN_S)
        assert engine.interrupted() == [running]
    bench.advance(AGAIN_S)
    assert engine.interrupted() == []
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    assert not client.kinds()
    engine.die(running)
    # When it has ended, another engine is on its way, and so is the answer
    assert bench.nannies[0].starts() == [(0, 2)]
    assert client.ended() == {running: CANCELLED}
    assert client.answer(request) == [running]
    client.news()


def test_an_interrupt_is_not_repeated_when_its_task_has_ended(bench: Bench):
    running, other, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running], grace_s=5.0)
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [running]
    engine.fail(running)
    assert client.answer(request) == [running]
    bench.advance(10.0)
    assert engine.interrupted() == []
    assert client.ended() == {running: CANCELLED}
    assert other in engine.queue
    engine.given()


def test_another_cancel_with_more_grace_goes_on_interrupting(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    client.cancel([running])
    engine.give_back(engine.asked_back())
    bench.advance(0.5)
    client.cancel([running], grace_s=4.0)
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [running, running]
    for _ in range(4):
        bench.advance(AGAIN_S)
        assert engine.interrupted() == [running]
    assert not engine.interrupted()
    bench.advance(AGAIN_S)
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    client.take_all(m.Reply)
    assert engine.interrupted() == []


def test_a_task_of_which_a_piece_runs_on_is_not_among_those_stopped(bench: Bench):
    bench.start(engines=1)
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(items=10)
    (call,) = engine.calls()
    request = client.cancel([task])
    engine.give_back(engine.asked_back(), tails=[(call.id, 4)])
    bench.advance(PATIENCE_S + 0.1)
    assert client.answer(request) == []
    assert client.runs() == [(4, 10, CANCELLED)]
    engine.interrupted()
    # When it is only to be withdrawn where it has not begun, the same
    bench.advance(1.0)
    (task,) = client.submit(items=10, targets=(0,))
    engine.calls()
    request = client.cancel([task], interrupt=False)
    engine.give_back(engine.asked_back())
    assert client.answer(request) == []


def test_a_cancel_can_leave_running_tasks_alone(bench: Bench):
    running, prefetched, waiting = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running, prefetched, waiting], interrupt=False)
    engine.give_back(engine.asked_back(), [prefetched])
    assert engine.interrupted() == []
    assert client.answer(request) == [prefetched, waiting]
    assert client.ended() == {prefetched: CANCELLED, waiting: CANCELLED}
    engine.fail(running)
    assert client.ended() == {running: ERROR}, "its own error, not ours"


def test_a_cancel_that_leaves_running_tasks_alone_does_not_kill(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running], grace_s=0.1, interrupt=False)
    engine.give_back(engine.asked_back())
    assert client.answer(request) == []
    bench.advance(1.0)
    assert bench.nannies[0].stops() == []


def test_one_answer_for_many_tasks_when_the_last_has_ended(bench: Bench):
    running, prefetched, waiting = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    request = client.cancel([running, prefetched, waiting])
    assert client.ended() == {waiting: CANCELLED}
    engine.give_back(engine.asked_back(), [prefetched])
    assert client.ended() == {prefetched: CANCELLED}
    assert client.kinds() == []
    engine.interrupted()
    engine.fail(running)
    assert client.ended() == {running: CANCELLED}
    assert client.answer(request) == [running, prefetched, waiting]


def test_to_cancel_what_has_ended_is_answered(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.finish()
    client.results()
    assert client.answer(client.cancel([task, 12345])) == []
    assert client.answer(client.cancel([])) == []


def test_to_cancel_a_task_twice(bench: Bench):
    running, *_ = busy(bench)
    client, engine = bench.clients[0], bench.engines[0]
    client.cancel([running])
    client.cancel([running], grace_s=0.1)
    for request, _ in engine.control.take_all(m.TakeBack):
        engine.give_back(request)
    assert set(engine.interrupted()) == {running}
    bench.advance(0.2)
    assert bench.nannies[0].stops() == [(0, SIGKILL)], "the second allows it"
    engine.die(running)
    assert client.ended() == {running: CANCELLED}
    assert [reply.value for reply, _ in client.take_all(m.Reply)] == [[running], [running]]
    bench.hello_engines()[0].given()
    client.news()


def test_a_waiting_task_named_twice_is_cancelled_once(bench: Bench):
    *_, waiting = busy(bench)
    client = bench.clients[0]
    request = client.cancel([waiting, waiting])
    assert client.ended() == {waiting: CANCELLED}
    assert client.answer(request) == [waiting]
    assert bench.core.state.common.waiting == 0


def test_a_client_cannot_cancel_the_tasks_of_another(bench: Bench):
    bench.start(clients=2)
    (task,) = bench.clients[0].submit()
    bench.engines[0].given()
    other = bench.clients[1]
    assert other.answer(other.cancel([task], grace_s=0.0)) == []
    bench.advance(1.0)


def test_a_task_that_is_to_be_stopped_does_not_run_again_elsewhere_when_its_engine_dies(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(2, retries=3)
    engine.given()
    request = client.cancel(ids)
    engine.asked_back()
    engine.die(ids[0])
    assert client.ended() == dict.fromkeys(ids, CANCELLED)
    assert client.answer(request) == ids
    assert bench.hello_engines()[0].given() == []
    client.news()


def test_a_cancel_of_a_task_on_a_dying_engine_is_answered(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.submit(2)
    engine.given()
    engine.die(ids[0], settle=False)
    request = client.cancel(ids, grace_s=1.0)
    engine.asked_back()
    bench.advance(0.1)
    assert client.ended() == dict.fromkeys(ids, CANCELLED)
    assert client.answer(request) == ids
    bench.hello_engines()
    bench.advance(2.0)
    assert bench.nannies[0].stops() == [], "the next incarnation has nothing to do with it"
    client.news()


# ------------------------------------------------------------------------------------------------------- items


def test_all_pieces_of_a_divided_task_are_cancelled(bench: Bench):
    # Given a task of which one part runs here, one there
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 5)])
    (piece,) = two.given()
    client.results()
    # When it is cancelled
    request = client.cancel([task])
    one.give_nothing()
    two.give_nothing()
    assert one.interrupted() == [task]
    assert two.interrupted() == [piece]
    one.finish_items(task, 1, 5, ERROR)
    assert client.runs() == [(1, 5, CANCELLED)]
    assert client.kinds() == [], "not all of it is over"
    two.finish_items(piece, 5, 10, ERROR)
    two.give_nothing()
    assert client.runs() == [(5, 10, CANCELLED)]
    assert client.answer(request) == [task]


def test_the_tail_given_back_of_a_cancelled_task_is_not_given_out_again(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    taking = one.asked_back()
    request = client.cancel([task])
    one.give_back(taking, tails=[(task, 5)])
    assert two.given() == []
    assert client.runs() == [(0, 1, OK), (5, 10, CANCELLED)]
    assert client.kinds() == [], "the rest still runs"
    one.give_nothing()
    assert one.interrupted() == [task]
    one.finish_items(task, 1, 5, ERROR)
    assert client.runs() == [(1, 5, CANCELLED)]
    assert client.answer(request) == [task]


# ------------------------------------------------------------------------------------------------------- time limits


def test_a_task_with_a_time_limit_is_announced_and_stopped_when_it_is_over(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.5)
    (call,) = engine.calls()
    assert call.announce
    bench.advance(10)
    engine.say(m.Started(task))
    bench.advance(1.4)
    assert engine.interrupted() == []
    bench.advance(0.2)
    assert engine.interrupted() == [task]
    engine.fail(task)
    (result,) = client.results()
    assert (result.status, result.payload) == (TIMEOUT, b"stopped at its time limit of 1.5 s")


def test_a_task_that_ignores_the_end_of_its_time_goes_down_with_its_engine(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0, retries=2)
    engine.given()
    engine.say(m.Started(task))
    bench.advance(1.1)
    assert bench.nannies[0].stops() == []
    bench.advance(TIMEOUT_GRACE_S)
    assert engine.interrupted() == [task, task]
    assert bench.nannies[0].stops() == [(0, SIGKILL)]
    engine.die(task)
    assert client.ended() == {task: TIMEOUT}
    bench.hello_engines()
    client.news()


def test_a_task_that_ends_in_time_is_left_alone(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0)
    engine.given()
    engine.say(m.Started(task))
    engine.finish()
    bench.advance(5)
    assert client.ended() == {task: OK}


def test_a_time_limit_keeps_nothing_of_a_task_that_has_ended(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=3600.0, payload=b"large")
    engine.given()
    engine.say(m.Started(task))
    payload = bench.core.state.tasks[task].payload
    engine.finish()
    client.results()
    engine.frames.clear()
    assert sys.getrefcount(payload) == 2, "this name and the argument"


def test_each_attempt_has_the_whole_time(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0, retries=1)
    engine.given()
    engine.say(m.Started(task))
    bench.advance(0.9)
    engine.fail(task)
    (again,) = engine.given()
    engine.say(m.Started(again))
    bench.advance(0.9)
    assert engine.interrupted() == []
    bench.advance(0.2)
    assert engine.interrupted() == [again]
    engine.fail(again)
    assert client.ended() == {task: TIMEOUT}


def test_a_task_whose_engine_dies_has_the_whole_time_on_the_next(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0, retries=1)
    engine.given()
    engine.say(m.Started(task))
    engine.die(task)
    (fresh,) = bench.hello_engines()
    assert fresh.given() == [task]
    bench.advance(5.0)
    assert fresh.interrupted() == []
    client.news()


def test_a_time_limit_and_a_cancel_do_not_meet(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0)
    engine.given()
    engine.say(m.Started(task))
    client.cancel([task])
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [task]
    bench.advance(1.1)
    assert engine.interrupted() == [task]  # of the cancel, which repeats it
    engine.fail(task)
    assert client.ended() == {task: CANCELLED}
    client.take(m.Reply)


def test_a_cancel_after_the_time_limit_is_answered_without_the_task(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(timeout_s=1.0)
    engine.given()
    engine.say(m.Started(task))
    bench.advance(1.1)
    request = client.cancel([task])
    engine.give_back(engine.asked_back())
    assert engine.interrupted() == [task, task]
    engine.fail(task)
    assert client.ended() == {task: TIMEOUT}
    assert client.answer(request) == []


def test_a_started_that_nobody_waits_for_is_ignored(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit()
    engine = bench.engines[0]
    engine.given()
    engine.say(m.Started(task))
    engine.say(m.Started(999))
    assert bench.core.deadline() == pytest.approx(105.0), "nothing but the probe is to come"


def test_a_task_can_be_cancelled_in_its_second_attempt(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(retries=1)
    engine.given()
    engine.fail(task)
    (again,) = engine.given()
    request = client.cancel([task])
    back = engine.asked_back()
    assert back.tasks == [again]
    engine.give_back(back)
    assert engine.interrupted() == [again]
    engine.fail(again)
    assert client.ended() == {task: CANCELLED}
    assert client.answer(request) == [task]
