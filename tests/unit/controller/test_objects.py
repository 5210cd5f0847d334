"""Who holds objects, and when they are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller import handles
from enginery.controller.handles import LEFT_S, ORPHAN_S
from enginery.controller.objects import DROPPED_S
from enginery.ids import TaskId, show_task
from enginery.wire import messages as m
from enginery.wire.given import find_given
from enginery.wire.objects import reference_to

from unit.controller.bench import Bench, object_of, store_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unit.controller.bench import ClientSide, EngineSide

A, B = object_of(1), object_of(2)


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """One whose hosts have stores."""
    bench.stores = True
    return bench


@pytest.fixture
def durable(durable: Bench) -> Bench:
    """The same."""
    durable.stores = True
    return durable


@pytest.fixture
def die(durable: Bench) -> Callable[[], None]:
    """Have another controller take over, and everybody come back who has a connection to lose."""

    def die() -> None:
        durable.restored_books_are_the_same()
        durable.die()
        for nanny in durable.nannies:
            mine = [(e.id, e.incarnation) for e in durable.engines if durable.nanny_of(e.id) is nanny]
            stock = [held.info for held in durable.core.state.objects.entries.values()]
            nanny.come_back(mine, objects=stock)
        for engine in durable.engines:
            engine.come_back()
        for client in durable.clients:
            client.come_back()
            client.news()

    return die


def held(bench: Bench) -> set[m.ObjectInfo]:
    """Return what the books know of."""
    return {entry.info for entry in bench.core.state.objects.entries.values()}


def dropped(bench: Bench, host: int = 0) -> list[bytes]:
    """Return what the store of a host was told to drop."""
    return bench.nannies[host].dropped()


def finish(engine: EngineSide, *ids: int, objects: Iterable[m.ObjectInfo] = (A,)) -> None:
    """Report that calls ended with a value that is in an object."""
    engine.calls()
    objects = tuple(objects)
    engine.finish(*ids, payload=reference_to(objects[0]), objects=objects)


def release(client: ClientSide, *infos: m.ObjectInfo) -> None:
    client.say(m.Release([info.id for info in infos]))


# ------------------------------------------------------------------------------------------------------ handles


def test_what_a_client_has_put_is_held_until_it_lets_go(bench: Bench):
    bench.start()
    (client,) = bench.clients
    client.say(m.Put([A, B]))
    release(client, A)
    assert held(bench) == {B}
    assert dropped(bench) == [A.id]
    release(client, B)
    assert not held(bench)
    assert dropped(bench) == [B.id]


def test_each_delivery_of_a_result_is_a_handle(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    first, second = client.submit(2)
    finish(engine, first)
    finish(engine, second)
    assert [result.objects for result in client.results()] == [(A,), (A,)]
    release(client, A)
    assert held(bench) == {A}
    release(client, A)
    assert dropped(bench) == [A.id]


def test_what_a_client_does_not_have_it_cannot_release(bench: Bench):
    bench.start(clients=2)
    client, other = bench.clients
    client.say(m.Put([A]))
    release(other, A, B)
    assert held(bench) == {A}
    release(client, A, A, A)
    assert dropped(bench) == [A.id]


def test_a_client_that_leaves_lets_go_of_everything(bench: Bench):
    bench.start(clients=2)
    client, other = bench.clients
    client.say(m.Put([A, B]))
    other.say(m.Put([B]))
    client.confirm()
    client.say(m.Goodbye())
    assert held(bench) == {B}
    assert dropped(bench) == [A.id]


def test_a_client_whose_process_has_ended_lets_go_at_once(bench: Bench):
    bench.start(clients=2)
    client, other = bench.clients
    client.say(m.Put([A, B]))
    other.say(m.Put([B]))
    bench.nannies[0].say(m.StoreLeft(client.name, [A.id, B.id]))
    bench.advance(LEFT_S + 0.1)
    assert held(bench) == {B}
    assert dropped(bench) == [A.id]
    bench.advance(ORPHAN_S + 1)
    assert dropped(bench) == [A.id]  # once more, which does no harm
    assert held(bench) == {B}


def test_what_a_client_said_before_its_end_may_come_later(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    client.say(m.Put([A]))
    bench.nannies[0].say(m.StoreLeft(client.name, [A.id, B.id]))
    bench.advance(LEFT_S - 0.1)
    client.say(m.Put([B]))
    bench.advance(LEFT_S - 0.1)
    assert held(bench) == {A, B}
    (task,) = client.submit(objects=(A,))
    bench.advance(2 * LEFT_S)
    assert held(bench) == {A}
    client.say(m.Put([object_of(3)]))
    client.say(m.Goodbye())
    assert held(bench) == {A}
    engine.calls()
    engine.finish(task)
    assert sorted(dropped(bench)) == [A.id, B.id, object_of(3).id]
    bench.forget_what_was_said()


def test_a_client_that_only_left_its_store_holds_what_comes_after_its_hello(durable: Bench):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    durable.nannies[0].say(m.StoreLeft(client.name, []))
    durable.advance(LEFT_S + 0.1)
    durable.restored_books_are_the_same()
    client.lose_connection()
    client.come_back()
    client.submit()
    finish(engine)
    client.results()
    release(client, A)
    assert dropped(durable) == [A.id]


# ------------------------------------------------------------------------------------------------------ tasks


def test_a_task_holds_its_arguments_until_it_has_ended(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    (task,) = client.submit(payload=reference_to(A), objects=(A, B))
    client.say(m.Put([B]))
    release(client, B)
    assert held(bench) == {A, B}
    assert bench.core.state.objects.entries[A.id].tasks == {task}
    engine.calls()
    engine.finish()
    client.results()
    assert sorted(dropped(bench)) == [A.id, B.id]


def test_tasks_with_and_without_objects_keep_their_order(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    plain = client.submit(3)
    options = [m.Options()]
    ids = client.new_ids(3)
    tasks = [m.Task(ids[0], b"f", b""), m.Task(ids[1], b"f", b"", objects=(A,)), m.Task(ids[2], b"f", b"")]
    client.say(m.Submit([], options, tasks))
    given = engine.given()
    while len(given) < 6:
        engine.finish()
        given += engine.given()
    engine.finish()
    client.results()
    assert given == [*plain, *ids]
    assert dropped(bench) == [A.id]


def test_copies_share_an_object(bench: Bench):
    bench.start(engines=3)
    (client,) = bench.clients
    client.submit(objects=(A,), targets=(0, 1, 2), ordered=True)
    for engine in bench.engines:
        assert held(bench) == {A}
        engine.calls()
        engine.finish()
    client.results()
    assert dropped(bench) == [A.id]


def test_pieces_of_a_divisible_task_hold_its_arguments(bench: Bench):
    bench.start(engines=2)
    (client,) = bench.clients
    (task,) = client.submit(items=10, objects=(A,))
    first, second = bench.engines
    engine = first if first.calls() else second
    other = second if engine is first else first
    engine.give_back(engine.asked_back(), [], [(task, 5)])
    assert not other.control.inbox
    (piece,) = other.calls()
    engine.finish_items(task, 0, 5)
    assert bench.core.state.objects.entries[A.id].tasks == {piece.id}
    other.give_back(other.asked_back(), [])
    other.finish_items(piece.id, 5, 10)
    client.results()
    assert dropped(bench) == [A.id]


def test_what_a_refused_task_brought_is_dropped(bench: Bench):
    bench.start()
    (client,) = bench.clients
    client.submit(objects=(A,), targets=(7,))
    client.submit(function=b"unknown", sent=False, objects=(B,))
    assert set(client.ended().values()) == {m.Status.REFUSED}
    assert sorted(dropped(bench)) == [A.id, B.id]
    assert not held(bench)


def test_a_task_whose_argument_was_dropped_is_refused(bench: Bench):
    bench.start()
    (client,) = bench.clients
    client.say(m.Put([A]))
    release(client, A)
    dropped(bench)
    client.submit(objects=(A,))
    (result,) = client.results()
    assert b"was released" in result.payload
    dropped(bench)


def test_an_argument_that_is_returned_stays(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    client.submit(objects=(A,))
    finish(engine)
    client.results()
    assert held(bench) == {A}
    release(client, A)
    assert dropped(bench) == [A.id]


def test_set_up_holds_its_arguments_until_it_is_cleared(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    options = m.Options(targets=(0,), ordered=True, setup="s")
    client.say(m.Submit([], [options], [m.Task(client.new_ids(1)[0], b"!setup", reference_to(A), objects=(A,))]))
    engine.calls()
    engine.finish()
    client.results()
    assert held(bench) == {A}
    engine.die()
    (again,) = bench.hello_engines()
    (call,) = again.calls()
    assert call.payload == reference_to(A)
    again.finish()
    client.answer(client.ask(m.ClearSetup))
    assert dropped(bench) == [A.id]
    bench.forget_what_was_said()


# ------------------------------------------------------------------------------------------- results nobody wants


def test_a_result_that_comes_too_late_is_dropped(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    (task,) = client.submit()
    engine.calls()
    engine.say(m.Done([m.Result(task, m.Status.OK, reference_to(A), objects=(A,))]))
    engine.say(m.Done([m.Result(task, m.Status.OK, reference_to(B), objects=(B,))]))
    client.results()
    assert dropped(bench) == [B.id]
    assert held(bench) == {A}


def test_the_error_of_a_task_that_is_tried_again_is_dropped(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    client.submit(retries=1)
    engine.calls()
    engine.finish(status=m.Status.ERROR, objects=(A,))
    assert dropped(bench) == [A.id]
    finish(engine, objects=(B,))
    (result,) = client.results()
    assert result.objects == (B,)


def test_a_stopped_task_leaves_no_object(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    (task,) = client.submit()
    engine.calls()
    request = client.cancel([task], 1.0)
    engine.give_back(engine.asked_back(), [])
    assert engine.interrupted() == [task]
    engine.finish(status=m.Status.ERROR, objects=(A,))
    (result,) = client.results()
    assert (result.status, result.objects) == (m.Status.CANCELLED, ())
    client.answer(request)
    assert dropped(bench) == [A.id]


def test_what_an_ended_process_made_and_never_spoke_of_is_dropped(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    client.submit()
    finish(engine)
    client.results()
    bench.nannies[0].say(m.StoreLeft(engine.name, [A.id, B.id]))
    bench.advance(ORPHAN_S - 1)
    assert dropped(bench) == []
    bench.advance(2)
    assert dropped(bench) == [B.id]


# ------------------------------------------------------------------------------------------------- results as arguments


def test_a_task_that_is_given_a_result_holds_its_object(bench: Bench):
    bench.start(engines=1)
    (client,), (engine,) = bench.clients, bench.engines
    (first,) = client.submit()
    (second,) = client.submit(needs=(first,))
    finish(engine, first)
    client.results()
    release(client, A)
    assert held(bench) == {A}
    assert bench.core.state.objects.entries[A.id].tasks == {second}
    (call,) = engine.calls()
    given = find_given(call.payload)
    assert given is not None
    assert [result.objects for result in given.results] == [(A,)]
    engine.finish()
    client.results()
    assert dropped(bench) == [A.id]


def test_the_graph_holds_a_result_while_others_are_to_come(bench: Bench):
    bench.start(engines=2)
    (client,) = bench.clients
    (first,) = client.submit(targets=(0,))
    (other,) = client.submit(targets=(1,))
    (last,) = client.submit(needs=(first, other))
    finish(bench.engines[0], first)
    client.results()
    release(client, A)
    assert held(bench) == {A}
    bench.engines[1].calls()
    bench.engines[1].fail(other)
    assert client.ended() == {other: m.Status.ERROR, last: m.Status.INHERITED}
    assert dropped(bench) == [A.id]


def test_items_that_have_ended_are_held_for_those_who_wait(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    (first,) = client.submit(items=2)
    (second,) = client.submit(needs=(first,))
    engine.calls()
    for item, info in enumerate((A, B)):
        result = m.Result(first, m.Status.OK, reference_to(info), lo=item, hi=item + 1, objects=(info,))
        engine.say(m.Done([result]))
        client.results()
        release(client, info)
    assert held(bench) == {A, B}
    assert {*bench.core.state.tasks[second].objects} == {A, B}
    engine.calls()
    engine.finish(second)
    client.results()
    assert sorted(dropped(bench)) == [A.id, B.id]


def test_a_task_that_only_comes_after_does_not_hold_what_came_before(bench: Bench):
    bench.start()
    (client,), (engine,) = bench.clients, bench.engines
    (first,) = client.submit()
    client.submit(after=m.Dependency((first,)))
    finish(engine, first)
    client.results()
    release(client, A)
    assert dropped(bench) == [A.id]
    engine.calls()
    engine.finish()
    client.results()


def test_what_was_released_is_no_argument_any_more(durable: Bench):
    durable.start(clients=2)
    client, other = durable.clients
    (engine,) = durable.engines
    (first,) = client.submit()
    finish(engine)
    client.results()
    client.confirm()
    release(client, A)
    assert dropped(durable) == [A.id]
    other.submit(needs=(first,))
    (result,) = other.results()
    assert result.status == m.Status.INVALID
    assert b"its value (1.0 MB) was in shared memory" in result.payload
    other.submit(after=m.Dependency((first,)))
    assert engine.given()
    engine.finish()
    other.results()


# ------------------------------------------------------------------------------------------------------ what is kept


def fetch(client: ClientSide, *tasks: int) -> list[m.Result]:
    request = client.ask(m.Fetch, list(tasks))
    answer = client.take(m.Fetched)
    assert answer.request == request
    return answer.results


def test_what_the_client_is_gone_for_is_kept_for_whoever_asks(durable: Bench):
    durable.start(clients=2)
    client, other = durable.clients
    (engine,) = durable.engines
    (task,) = client.submit()
    client.say(m.Goodbye())
    finish(engine)
    assert held(durable) == {A}
    (result,) = fetch(other, task)
    assert result.objects == (A,)
    assert durable.core.state.objects.entries[A.id].handles == {other.no: 1}
    release(other, A)
    assert held(durable) == {A}
    request = other.ask(m.Purge, [task])
    assert dropped(durable) == [A.id]
    assert request
    engine.take(m.Forget)


@pytest.mark.parametrize("how", ["goodbye", "ended"])
def test_what_a_client_has_not_confirmed_is_kept_when_it_ends(durable: Bench, how: str):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    heard, unheard, after = client.submit(3)
    finish(engine, heard, objects=(A,))
    client.results()
    client.confirm()
    finish(engine, unheard, objects=(B,))
    if how == "goodbye":
        client.say(m.Goodbye())
    else:
        durable.nannies[0].say(m.StoreLeft(client.name, []))
        durable.advance(LEFT_S + 0.1)
        durable.restored_books_are_the_same()
    assert dropped(durable) == [A.id]
    last = object_of(3)
    finish(engine, after, objects=(last,))
    assert held(durable) == {B, last}
    client.inbox.clear()
    engine.inbox.clear()


def test_without_a_journal_nothing_is_kept():
    bench = Bench()
    bench.stores = True
    bench.start(clients=2)
    client, engine = bench.clients[0], bench.engines[0]
    client.submit()
    client.say(m.Goodbye())
    finish(engine)
    assert dropped(bench) == [A.id]


def test_all_that_has_ended_is_purged(durable: Bench):
    durable.start(clients=2)
    client, other = durable.clients
    (engine,) = durable.engines
    (task,) = client.submit()
    client.say(m.Goodbye())
    finish(engine, task)
    other.ask(m.Purge)
    assert dropped(durable) == [A.id]
    engine.take(m.Forget)


def test_what_was_purged_before_its_client_has_ended_is_not_kept(durable: Bench):
    durable.start(clients=2)
    client, other = durable.clients
    (engine,) = durable.engines
    first, second = client.submit(2)
    finish(engine, first, objects=(A,))
    finish(engine, second, objects=(B,))
    other.ask(m.Purge, [first])
    client.say(m.Goodbye())
    assert held(durable) == {B}
    assert dropped(durable) == [A.id]
    client.inbox.clear()
    engine.inbox.clear()


def test_what_is_kept_is_kept_for_a_time(durable: Bench):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    durable.core.state.keep_s = 1000.0
    client.submit()
    client.say(m.Goodbye())
    finish(engine)
    durable.advance(990.0)
    assert dropped(durable) == []
    durable.advance(20.0)
    assert dropped(durable) == [A.id]
    engine.take(m.Forget)


def test_no_more_is_kept_than_the_journal_keeps(durable: Bench):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    durable.core.state.keep_bytes = A.nbytes + B.nbytes
    infos = [A, B, object_of(3)]
    tasks = client.submit(3)
    client.say(m.Goodbye())
    for task, info in zip(tasks, infos, strict=True):
        finish(engine, task, objects=(info,))
    assert dropped(durable) == [A.id]
    engine.take(m.Forget)


def test_a_client_that_is_away_is_handed_nothing(durable: Bench):
    durable.start()
    (client,) = durable.clients
    client.say(m.Put([A]))
    client.lose_connection()
    answer = m.Fetched(1, [m.Result(1, m.Status.OK, reference_to(A), objects=(A,))], [])
    assert durable.core.answered(client.name, answer, ())
    assert durable.core.state.objects.entries[A.id].handles == {client.no: 1}


def test_a_value_that_was_released_is_told_as_gone(durable: Bench):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    (task,) = client.submit()
    finish(engine)
    client.results()
    release(client, A)
    dropped(durable)
    (result,) = fetch(client, task)
    assert result.status == m.Status.UNKNOWN
    assert b"submit the task again" in result.payload
    assert result.objects == ()


def test_what_had_an_object_among_its_arguments_is_recalled_if_it_is_still_there(durable: Bench):
    durable.start()
    (client,), (engine,) = durable.clients, durable.engines
    client.say(m.Put([A]))
    (task,) = client.submit(objects=(A,))
    engine.calls()
    engine.finish()
    client.results()
    client.ask(m.Recall, [task])
    assert [wanted.objects for wanted in client.take(m.Recalled).tasks] == [(A,)]
    release(client, A)
    dropped(durable)
    sentence = client.error(client.ask(m.Recall, [task]))
    assert sentence.startswith(f"task {show_task(TaskId(task))} cannot be submitted again")


# ------------------------------------------------------------------------------------------------------ hosts


def test_each_store_that_has_it_is_told(bench: Bench):
    bench.start(hosts=2)
    (client,) = bench.clients
    client.say(m.Put([A]))
    bench.core.state.objects.arrived(store_id(1), A.id)
    release(client, A)
    assert dropped(bench, 0) == dropped(bench, 1) == [A.id]


def test_a_nanny_that_was_away_hears_of_what_was_dropped(bench: Bench):
    bench.start()
    (client,), (nanny,) = bench.clients, bench.nannies
    client.say(m.Put([A, B]))
    nanny.lose_connection()
    release(client, A)
    nanny.come_back([(0, 1)], objects=[A, B])
    assert dropped(bench) == [A.id]
    assert held(bench) == {B}


def test_what_a_nanny_has_not_is_not_there(bench: Bench):
    bench.start()
    (client,), (nanny,) = bench.clients, bench.nannies
    client.say(m.Put([A, B]))
    nanny.lose_connection()
    nanny.come_back([(0, 1)], objects=[B])
    entries = bench.core.state.objects.entries
    assert not entries[A.id].stores
    assert entries[B.id].stores == {store_id(0)}


def test_what_vanished_before_it_was_spoken_of_is_not_there(bench: Bench):
    bench.start()
    (client,), (nanny,) = bench.clients, bench.nannies
    nanny.say(m.Vanished([A.id]))
    client.say(m.Put([A, B]))
    entries = bench.core.state.objects.entries
    assert not entries[A.id].stores
    assert entries[B.id].stores == {store_id(0)}


def test_orphans_of_a_nanny_that_was_away(bench: Bench):
    bench.start()
    (nanny,) = bench.nannies
    nanny.lose_connection()
    nanny.come_back([(0, 1)], objects=[A, B], orphans=[B])
    bench.advance(ORPHAN_S + 1)
    assert dropped(bench) == [B.id]  # the other's maker may yet speak of it


def test_a_lost_host_has_nothing(bench: Bench):
    bench.start(hosts=2)
    (client,) = bench.clients
    other = object_of(1, host=1)
    client.say(m.Put([A, other]))
    bench.nannies[1].say(m.Goodbye())
    bench.advance(1.0)
    client.news()
    assert held(bench) == {A, other}
    assert not bench.core.state.objects.entries[other.id].stores
    release(client, other)
    assert not dropped(bench, 1)


def test_the_memory_of_what_was_dropped_ends(bench: Bench):
    bench.start()
    (client,) = bench.clients
    for info in (A, B):
        client.say(m.Put([info]))
        release(client, info)
        bench.advance(DROPPED_S + 10)
    assert bench.core.state.objects.dropped == {B.id}
    dropped(bench)


def test_a_client_hears_of_the_store_of_the_head(bench: Bench):
    bench.start()
    client = bench.add_client()
    assert client.hello().store == bench.nannies[0].hello.store


# ------------------------------------------------------------------------------------------------- another controller


def test_handles_tasks_and_what_is_kept_survive_the_controller(durable: Bench, die):
    durable.start(clients=3)
    client, other, gone = durable.clients
    (engine,) = durable.engines
    kept, mine, argument = object_of(3), object_of(4), object_of(5)
    (old,) = gone.submit()
    gone.say(m.Goodbye())
    durable.clients.remove(gone)
    finish(engine, old, objects=(kept,))
    engine.take(m.Forget)
    client.say(m.Put([A]))
    other.say(m.Put([A]))
    client.submit()
    finish(engine, objects=(mine,))
    (task,) = client.submit(objects=(argument,))
    engine.calls()
    die()
    entries = durable.core.state.objects.entries
    assert entries[A.id].handles == {client.no: 1, other.no: 1}
    assert entries[mine.id].handles == {client.no: 1}
    assert entries[argument.id].tasks == {task}
    assert entries[kept.id].kept == {old}
    assert [result.objects for result in client.results()] == [(mine,)]
    release(client, A, mine)
    assert dropped(durable) == [mine.id]
    release(other, A)
    engine.finish(task)
    client.results()
    assert sorted(dropped(durable)) == [A.id, argument.id]


def test_a_drop_that_was_lost_with_the_controller_is_said_again(durable: Bench):
    durable.start()
    (client,), (nanny,), (engine,) = durable.clients, durable.nannies, durable.engines
    client.say(m.Put([A]))
    release(client, A)
    assert dropped(durable) == [A.id]  # or it may be lost
    durable.die()
    nanny.come_back([(0, 1)], objects=[A])
    assert dropped(durable) == [A.id]
    engine.come_back()
    client.come_back()
    client.news()


def test_what_tasks_were_given_is_held_after_the_controller_died(durable: Bench, die):
    durable.start(engines=1)
    (client,), (engine,) = durable.clients, durable.engines
    first, other = client.submit(2)
    (second,) = client.submit(needs=(first,))
    (third,) = client.submit(needs=(first, other))
    finish(engine, first)
    client.results()
    release(client, A)
    engine.calls()
    die()
    assert durable.core.state.objects.entries[A.id].tasks == {second, third}
    finish(engine, other, objects=(B,))
    while durable.core.state.tasks:
        engine.calls()
        engine.finish()
    client.results()
    client.confirm()
    release(client, B)
    assert sorted(dropped(durable)) == [A.id, B.id]


def test_names_of_objects_in_answers():
    assert not handles.names_objects(m.Fetched(1, [m.Result(1, 0, b"")], []))
    assert handles.names_objects(m.Fetched(1, [m.Result(1, 0, b"", objects=(A,))], []))
    assert not handles.names_objects(m.Pong())
