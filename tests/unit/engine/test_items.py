from __future__ import annotations

import threading

import pytest
from enginery.errors import SerializationError, UnmetDependency
from enginery.recorder import NO_TASK
from enginery.wire import messages as m

from engine_fakes import FakeEngine, item_values, value


@pytest.fixture
def engine():
    return FakeEngine()


def run(engine, call):
    results = engine.run(call)
    assert engine.books.claim is None
    assert engine.current.task == NO_TASK
    return results


def double(x):
    return 2 * x


def test_all_items_in_few_results(engine):
    def work(x):
        engine.clock.sleep(1e-6)
        return 2 * x

    results = run(engine, engine.batch(work, list(range(30_000))))
    assert item_values(results, 0, 30_000) == [2 * i for i in range(30_000)]
    assert 25 < len(results) < 40


def test_some_items(engine):
    results = run(engine, engine.batch(double, list(range(100)), 40, 45))
    assert item_values(results, 40, 45) == [80, 82, 84, 86, 88]


def test_columns(engine):
    results = run(engine, engine.batch(lambda a, b: a * b, ([1, 2, 3], [4, 5, 6]), hi=3))
    assert item_values(results, 0, 3) == [4, 10, 18]


def test_an_item_that_raises_fails_alone(engine):
    def check(x):
        if x % 3 == 0:
            raise ValueError(x)
        return x

    results = run(engine, engine.batch(check, list(range(20))))
    found = item_values(results, 0, 20)
    assert [i for i in range(20) if isinstance(found[i], ValueError)] == list(range(0, 20, 3))
    assert all(found[i] == i for i in range(20) if i % 3)


def test_an_item_whose_value_cannot_be_pickled_fails_alone(engine):
    results = run(engine, engine.batch(lambda x: threading.Lock() if x == 777 else x, list(range(2000))))
    found = item_values(results, 0, 2000)
    assert isinstance(found[777], SerializationError)
    assert "_thread.lock" in str(found[777])
    assert [found[i] for i in range(2000) if i != 777] == [i for i in range(2000) if i != 777]


def test_long_items_are_results_of_their_own_and_leave_at_once(engine):
    results = run(engine, engine.batch(engine.clock.sleep, [0.003] * 4))
    assert [result.hi - result.lo for result in results] == [1, 1, 1, 1]
    assert engine.link.flushes >= 3
    assert all(result.duration >= 0.003 for result in results)


def test_every_item_is_announced(engine):
    seen = []
    run(engine, engine.batch(lambda x: seen.append((engine.slots[1], engine.slots[0])), [10, 11, 12]))
    assert seen == [(0, 1), (1, 1), (2, 1)]


def test_items_given_away_are_not_run(engine):
    given = []

    def take(x):
        if x in {100, 150}:
            given.extend(engine.books.give_back_half()[1])
        return x

    results = run(engine, engine.batch(take, list(range(1000))))
    hi = given[-1][1]
    assert len(given) == 2
    assert given[0][1] == 550
    assert item_values(results, 0, hi) == list(range(hi))


def test_slices_follow_the_time_that_items_take(engine):
    results = run(engine, engine.batch(lambda x: engine.clock.sleep(0.0001), list(range(200))))
    sizes = [result.hi - result.lo for result in results]
    assert sum(sizes) == 200
    assert set(sizes[1:-1]) <= {9, 10, 11}
    assert all(len(message.results) <= 3 for message in engine.link.sent)


def test_hurry_makes_values_leave(engine):
    def wait(x):
        if x == 500:
            engine.clock.sleep(0.002)
            engine.books.hurry(engine.books.claim.slices)
        if x == 501:
            reported.extend(engine.results())
        return x

    reported = []
    engine.name(wait, estimate_s=1e-9)
    results = run(engine, engine.batch(wait, list(range(1000))))
    assert sum(result.hi - result.lo for result in reported) == 501
    item_values(results, 0, 1000)


def test_an_interrupt_ends_the_whole_call(engine):
    def stop(x):
        if x == 5:
            engine.current.strike()
        return x

    results = run(engine, engine.batch(stop, list(range(10))))
    found = item_values(results, 0, 10)
    assert found[:5] == [0, 1, 2, 3, 4]
    assert {error.ename for error in found[5:]} == {"KeyboardInterrupt"}
    assert (results[-1].lo, results[-1].hi) == (5, 10)


def test_an_interrupt_that_came_early_ends_the_whole_call(engine):
    call = engine.batch(double, [1, 2, 3])
    real_open = engine.books.open

    def open_and_interrupt(call):
        engine.current.target = call.id
        return real_open(call)

    engine.books.open = open_and_interrupt
    [result] = engine.run(call)
    assert (result.lo, result.hi) == (0, 3)
    assert value(result).ename == "KeyboardInterrupt"


def test_a_keyboard_interrupt_of_the_users_own_is_an_item_error(engine):
    def own(x):
        if x == 1:
            raise KeyboardInterrupt
        return x

    found = item_values(run(engine, engine.batch(own, [0, 1, 2])), 0, 3)
    assert (found[0], found[2]) == (0, 2)


@pytest.mark.parametrize("items", [[1, 2], ([1, 2, 3, 4, 5], [1])])
def test_items_that_do_not_fit_the_call_fail_it_as_a_whole(engine, items):
    [result] = run(engine, engine.batch(double, items, hi=5))
    assert (result.lo, result.hi, result.status) == (0, 5, m.Status.ERROR)
    assert isinstance(value(result), ValueError)


def test_output_of_items_is_counted_over_the_call(engine):
    def talk(x):
        engine.output.write("stdout", f"{x}")
        engine.clock.sleep(0.0015)

    results = run(engine, engine.batch(talk, [0, 1, 2]))
    assert [result.outputs for result in results] == [1, 2, 3]
    records = [record for message in engine.link.sent if isinstance(message, m.Outputs) for record in message.records]
    records += engine.output.take()
    assert [(record.lo, record.data) for record in records] == [(0, "0"), (1, "1"), (2, "2")]


def test_the_control_thread_is_woken_to_look_after_slices(engine):
    run(engine, engine.batch(double, list(range(1000))))
    assert engine.waker.woken == 1


def test_an_item_whose_needs_are_not_met_is_told_of_alone(engine):
    def choosy(x):
        if x == 3:
            raise UnmetDependency("not 3")
        return x

    results = run(engine, engine.batch(choosy, list(range(6))))
    assert [(r.lo, r.hi, r.status) for r in results if r.status] == [(3, 4, m.Status.UNMET)]
    assert sorted((r.lo, r.hi) for r in results if not r.status) == [(0, 3), (4, 6)]
