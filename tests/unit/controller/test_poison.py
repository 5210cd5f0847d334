"""Tasks that kill one engine after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller.outcomes import POISON
from enginery.recorder import AFTER_LAST
from enginery.wire import codec
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, EngineSide

SEGV = "killed by signal 11 (SIGSEGV)"
HISTORY = [f"engine 0 ({SEGV})"] * (POISON - 1)


def replacement(bench: Bench) -> EngineSide:
    """Return the engine that takes the place of the one that ended; it says hello."""
    (engine,) = bench.hello_engines()
    bench.clients[0].news()
    return engine


def killed(bench: Bench) -> m.DeathCertificate:
    """Return what the client is told of its only result, the task that was lost."""
    (result,) = bench.clients[0].results()
    assert result.status == m.Status.LOST
    return codec.decode_certificate(result.payload)


def test_a_task_that_kills_one_engine_after_the_other_ends_with_its_history(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit(retries=100)
    for _ in range(POISON):
        engine = bench.engines[0]
        assert engine.given() == [task]
        engine.die(task, exit_code=-11, reason=SEGV)
        replacement(bench)
    told = killed(bench)
    assert told.history == HISTORY
    assert told.running
    assert bench.engines[0].given() == []


def test_a_task_without_retries_has_no_history(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit()
    bench.engines[0].given()
    bench.engines[0].die(task)
    assert killed(bench).history == []
    replacement(bench)


def test_a_task_whose_retries_are_up_tells_of_all_it_has_killed(bench: Bench):
    bench.start(engines=2)
    (task,) = bench.clients[0].submit(retries=1, targets=(1,), ordered=True)
    for _ in range(2):
        bench.engines[1].given()
        bench.engines[1].die(task, reason=SEGV)
        replacement(bench)
    told = killed(bench)
    assert (told.engine, told.history) == (1, [f"engine 1 ({SEGV})"])


@pytest.mark.parametrize("ends", ["had run", "lost host", "restarted"])
def test_only_deaths_that_it_may_have_caused_count(bench: Bench, ends):
    """It had run already; nobody knows what ran; we ended the engine ourselves."""
    bench.start()
    (client,) = bench.clients
    (task,) = client.submit(retries=100)
    for _ in range(2 * POISON):
        engine = bench.engines[0]
        assert engine.given() == [task]
        if ends == "restarted":
            client.ask(m.Restart)
            bench.nannies[0].stops()
        engine.die(task, AFTER_LAST if ends == "had run" else 0, exit_code=None if ends == "lost host" else -9)
        replacement(bench)
    assert bench.engines[0].given() == [task]
    assert client.results() == []
    client.take_all(m.Reply)


def test_a_task_that_waits_behind_one_that_kills_is_not_to_blame(bench: Bench):
    bench.start()
    bad, good = bench.clients[0].submit(2, retries=100)
    for _ in range(POISON):
        assert bench.engines[0].given() == [bad, good]
        bench.engines[0].die(bad, reason=SEGV)
        replacement(bench)
    assert killed(bench).task == bad
    assert bench.engines[0].given() == [good]
    bench.engines[0].finish()
    assert bench.clients[0].ended() == {good: m.Status.OK}


def test_of_a_map_the_item_that_kills_ends_alone(bench: Bench):
    bench.start()
    (client,) = bench.clients
    (task,) = client.submit(items=10, retries=100)
    lost = []
    for _ in range(2 * POISON + 5):
        engine = bench.engines[0]
        for call in engine.calls():
            if call.lo <= 4 < call.hi:
                break
            engine.finish_items(call.id, call.lo, call.hi)
            del engine.queue[call.id]
        else:
            lost += [result for result in client.results() if result.status == m.Status.LOST]
            if lost:
                break
            continue
        if call.lo < 4:
            engine.finish_items(call.id, call.lo, 4)
        engine.die(call.id, 4, reason=SEGV)
        replacement(bench)
    lost += [result for result in client.results() if result.status == m.Status.LOST]
    assert [(result.id, result.lo, result.hi) for result in lost] == [(task, 4, 5)]
    assert codec.decode_certificate(lost[0].payload).history == HISTORY
    for call in bench.engines[0].calls():
        bench.engines[0].finish_items(call.id, call.lo, call.hi)
    client.results()
    assert bench.core.state.tasks == {}


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize("items", [0, 5])
def test_the_next_controller_goes_on_counting(durable: Bench, summary, items):
    bench = durable.start()
    (client,) = bench.clients
    client.submit(retries=100, items=items)
    for _ in range(POISON):
        engine = bench.engines[0]
        call = next(call for call in engine.calls() if not items or call.lo <= 2 < call.hi)
        if summary:
            bench.summarize()
        bench.die()
        client.come_back(), client.news()
        bench.nannies[0].come_back([(0, engine.incarnation)])
        engine.come_back(running=call.id)
        if items and call.lo < 2:
            engine.finish_items(call.id, call.lo, 2)
        engine.die(call.id, 2 if items else 0, reason=SEGV)
        replacement(bench)
    lost = [result for result in client.results() if result.status == m.Status.LOST]
    assert [codec.decode_certificate(result.payload).history for result in lost] == [HISTORY]
    bench.forget_what_was_said()


def test_an_error_in_between_forgives_nothing(bench: Bench):
    bench.start()
    (client,) = bench.clients
    client.submit(retries=100)
    for _ in range(POISON):
        (call,) = bench.engines[0].calls()
        bench.engines[0].fail(call.id)
        (call,) = bench.engines[0].calls()
        bench.engines[0].die(call.id, reason=SEGV)
        replacement(bench)
    assert killed(bench).history == HISTORY
