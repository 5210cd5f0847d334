"""Set-up: what every engine has run before anything else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from enginery.controller import fleet, setups
from enginery.controller.journal.ledger import SetupCame
from enginery.controller.journal.store import IN_MEMORY, Store
from enginery.ids import TaskId, client_of
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench, ClientSide, EngineSide


def register(client: ClientSide, name: str, targets: tuple[int, ...] = (0,)) -> list[int]:
    """Register set-up; return the ids of its runs on these engines."""
    ids = client.new_ids(max(1, len(targets)))
    options = m.Options(targets=targets, ordered=True, setup=name)
    client.say(m.Submit([], [options], [m.Task(ids[0], b"!setup", name.encode(), copies=len(targets))]))
    return ids[: len(targets)]


def report(engine: EngineSide, *ids: int, error: str = "") -> None:
    """Say how set-up (all the engine has: none named) went there."""
    for id_ in ids or tuple(engine.queue):
        engine.say(m.Outputs([m.Output(id_, "setup", error)]))
        engine.finish(id_, status=m.Status.ERROR if error else m.Status.OK, outputs=1)


def replacement(bench: Bench) -> EngineSide:
    """Return the engine that takes the place of the one that ended; it says hello."""
    (engine,) = bench.hello_engines()
    bench.clients[0].news()
    return engine


def given(engine: EngineSide) -> list[bytes]:
    """Return the arguments of the calls it was given."""
    return [call.payload for call in engine.calls()]


def shown(bench: Bench, engine: int = 0) -> str:
    client = bench.clients[0]
    return client.answer(client.ask(m.StatusQuery))["engines"][engine]["setup"]


def test_it_runs_on_the_engines_named_as_tasks_of_the_client(bench: Bench):
    bench.start(engines=2)
    (client,) = bench.clients
    ids = register(client, "a", (0, 1))
    for engine in bench.engines:
        (call,) = engine.calls()
        assert call.id in ids
        assert call.fixed
        report(engine)
    assert client.ended() == dict.fromkeys(ids, m.Status.OK)
    assert client.output() == []


def test_an_engine_that_comes_later_has_it_before_anything_else_and_in_order(bench: Bench):
    bench.start()
    (client,) = bench.clients
    for name in ("a", "b", "c"):
        register(client, name)
        bench.engines[0].calls(), report(bench.engines[0])
    client.results()
    for _ in range(2):
        bench.engines[0].die()
        direct = client.submit(targets=(0,), ordered=True, payload=b"direct")
        anywhere = client.submit(5, payload=b"any")
        engine = replacement(bench)
        calls = engine.calls()
        assert [call.payload for call in calls[:4]] == [b"a", b"b", b"c", b"direct"]
        assert all(call.fixed and client_of(TaskId(call.id)) == 0 for call in calls[:3])
        report(engine, *(call.id for call in calls[:3]))
        while engine.queue:
            engine.finish()
            engine.calls()
        assert set(client.ended()) == {*direct, *anywhere}
        told = client.answer(client.ask(m.StatusQuery))
        assert told["clients"][0]["unfinished"] == 0
        assert told["setup"] == ["a", "b", "c"]
    assert told["tasks"]["finished"] == 3 + 2 * 6


def test_long_set_up_comes_before_everything_too(bench: Bench):
    """The second call is beyond the engine's window."""
    bench.start()
    (client,) = bench.clients
    for name in ("a", "b"):
        register(client, name)
        bench.engines[0].calls()
        (id_,) = bench.engines[0].queue
        bench.engines[0].say(m.Outputs([m.Output(id_, "setup", "")]))
        bench.engines[0].finish(duration=10.0, outputs=1)
    client.results()
    bench.engines[0].die()
    client.submit(3, payload=b"any")
    assert given(replacement(bench)) == [b"a", b"b"]


def test_it_is_not_taken_back(bench: Bench):
    bench.start(engines=1)
    (client,) = bench.clients
    register(client, "a"), register(client, "b")
    bench.engines[0].calls(), report(bench.engines[0])
    client.results()
    bench.engines[0].die()
    replacement(bench).calls()
    client.ask(m.Scale, 2)
    (other,) = bench.hello_engines()
    assert given(other) == [b"a", b"b"]
    bench.advance(1.0)
    report(other)
    bench.advance(1.0)
    assert not bench.engines[0].control.inbox
    client.take(m.Reply), client.news()


def test_what_is_registered_twice_is_kept_once_at_its_first_place(bench: Bench):
    bench.start()
    (client,) = bench.clients
    engine = bench.engines[0]
    for name in ("a", "b", "a"):
        register(client, name)
    assert len(engine.calls()) == 2
    report(engine)
    assert given(engine) == [b"a"]
    report(engine)
    assert len(client.ended()) == 3
    engine.die()
    assert given(replacement(bench)) == [b"a", b"b"]


def test_a_registration_that_waits_for_an_engine_to_start_is_its_set_up(bench: Bench):
    bench.start()
    (client,) = bench.clients
    register(client, "a")
    bench.engines[0].calls(), report(bench.engines[0])
    client.results()
    bench.engines[0].die()
    client.submit(targets=(0,), ordered=True, payload=b"before")
    (mine,) = register(client, "b")
    engine = replacement(bench)
    calls = engine.calls()
    assert [call.payload for call in calls] == [b"a", b"b", b"before"]
    assert calls[1].id == mine
    report(engine, calls[0].id, mine)
    assert client.ended() == {mine: m.Status.OK}


def test_an_engine_that_the_client_does_not_know_has_it_too(bench: Bench):
    bench.start(engines=2)
    (client,) = bench.clients
    assert register(client, "a", ()) == []
    for engine in bench.engines:
        assert given(engine) == [b"a"]
        report(engine)
    assert client.results() == []


def test_a_registration_for_an_engine_that_is_not_there_is_refused_and_kept(bench: Bench):
    bench.start()
    (client,) = bench.clients
    ids = register(client, "a", (0, 5))
    assert client.ended() == {ids[1]: m.Status.REFUSED}
    bench.engines[0].calls(), report(bench.engines[0])
    assert client.ended() == {ids[0]: m.Status.OK}
    bench.engines[0].die()
    assert given(replacement(bench)) == [b"a"]


def test_what_is_no_set_up_is_refused(bench: Bench, monkeypatch):
    bench.start()
    (client,) = bench.clients
    (task,) = client.submit(targets=(0,), ordered=True, setup="mine")
    (result,) = client.results()
    assert (result.id, result.status) == (task, m.Status.REFUSED)
    assert b"!setup" in result.payload
    monkeypatch.setattr(setups, "MAX_BYTES", 3)
    register(client, "a" * 4)
    (result,) = client.results()
    assert b"too large" in result.payload
    assert bench.core.state.setups == []


def test_a_failure_is_a_warning_and_shown_and_tasks_go_on(bench: Bench, caplog):
    bench.start()
    (client,) = bench.clients
    engine = bench.engines[0]
    register(client, "a")
    engine.calls()
    with caplog.at_level(logging.WARNING):
        report(engine, error="NameError: name 'x' is not defined")
    assert "engine 0: its set-up a failed: NameError: name 'x' is not defined" in caplog.text
    assert shown(bench) == "failed: a: NameError: name 'x' is not defined"
    (result,) = client.results()
    assert result.status == m.Status.ERROR
    engine.die()
    assert shown(bench) == ""
    engine = replacement(bench)
    (task,) = client.submit()
    (call,) = [call for call in engine.calls() if call.function == b"!setup"]
    assert shown(bench) == "running"
    report(engine, call.id, error="NameError: again")
    assert shown(bench) == "failed: a: NameError: again"
    engine.finish(task)
    assert client.ended() == {task: m.Status.OK}
    register(client, "a")
    engine.calls(), report(engine)
    assert shown(bench) == ""
    client.results()


def test_a_failure_without_a_word(bench: Bench):
    bench.start()
    register(bench.clients[0], "a")
    bench.engines[0].calls()
    bench.engines[0].fail()
    assert shown(bench) == "failed: a: it could not be called"
    bench.clients[0].results()


def test_what_is_cleared_is_not_run_any_more(bench: Bench):
    bench.start()
    (client,) = bench.clients
    engine = bench.engines[0]
    register(client, "a"), register(client, "b")
    engine.calls(), report(engine, error="ValueError: no")
    client.results()
    engine.die()
    engine = replacement(bench)
    first, _ = engine.given()
    engine.die(first)  # the second waits for the next
    assert client.answer(client.ask(m.ClearSetup)) == 2
    assert shown(bench) == ""
    bench.advance(fleet.PAUSE_S)
    assert given(replacement(bench)) == []
    assert bench.core.state.tasks == {}


def test_an_engine_that_ends_in_its_set_up_again_and_again_is_given_up(bench: Bench):
    bench.start()
    (client,) = bench.clients
    (mine,) = register(client, "a")
    engine = bench.engines[0]
    engine.calls()
    engine.die(mine, exit_code=-11, reason="killed by signal 11 (SIGSEGV)")
    assert client.ended() == {mine: m.Status.LOST}
    for _ in range(fleet.TRIES - 1):
        bench.advance(5.0)
        engine = replacement(bench)
        (call,) = engine.calls()
        engine.die(call.id, exit_code=-11, reason="killed by signal 11 (SIGSEGV)")
    bench.advance(60.0)
    assert bench.nannies[0].starts() == []
    told = client.answer(client.ask(m.StatusQuery))["engines"][0]
    assert told["state"] == "failed"
    assert told["reason"] == "killed by signal 11 (SIGSEGV) in its set-up a; last words"
    client.news()
    client.ask(m.ClearSetup)
    client.ask(m.Restart)
    assert given(replacement(bench)) == []
    assert len(client.take_all(m.Reply)) == 2


def test_set_up_that_came_through_ends_the_row_of_failed_starts(bench: Bench):
    bench.start()
    (client,) = bench.clients
    register(client, "a"), register(client, "b")
    engine = bench.engines[0]
    engine.calls(), report(engine)
    client.results()
    for _ in range(2):
        engine.die()
        for _ in range(fleet.TRIES - 1):
            engine = replacement(bench)
            first, second = engine.given()
            report(engine, first)
            engine.die(second)
            bench.advance(5.0)
        engine = replacement(bench)
        engine.calls(), report(engine)
        assert bench.core.state.engines[0].failures == 0


def test_an_engine_that_is_restarted_in_its_set_up_has_not_failed(bench: Bench):
    bench.start()
    (client,) = bench.clients
    register(client, "a")
    bench.engines[0].calls(), report(bench.engines[0])
    client.results()
    for _ in range(fleet.TRIES + 1):
        client.ask(m.Restart)
        bench.nannies[0].stops()
        bench.engines[0].die(next(iter(bench.engines[0].queue), None))
        assert given(replacement(bench)) == [b"a"]
    client.take_all(m.Reply)


# ---------------------------------------------------------------------------------------------- another controller


@pytest.mark.parametrize("summary", [False, True])
def test_set_up_is_had_by_engines_of_the_next_controller(durable: Bench, summary):
    bench = durable.start()
    register(bench.clients[0], "a"), register(bench.clients[0], "b")
    bench.engines[0].calls(), report(bench.engines[0])
    if summary:
        bench.summarize()
    bench.die()
    bench.nannies[0].come_back([(0, 1)])
    bench.engines[0].come_back()
    assert bench.engines[0].calls() == []
    bench.engines[0].die()
    (engine,) = bench.hello_engines()
    assert given(engine) == [b"a", b"b"]
    bench.forget_what_was_said()


@pytest.mark.parametrize("summary", [False, True])
def test_a_controller_dies_while_an_engine_is_in_its_set_up(durable: Bench, summary):
    bench = durable.start()
    (client,) = bench.clients
    for name in ("a", "b", "c"):
        register(client, name)
        bench.engines[0].calls(), report(bench.engines[0])
    bench.engines[0].die()
    engine = replacement(bench)
    first, second, third = engine.given()
    report(engine, first)
    if summary:
        bench.summarize()
    bench.die()
    assert list(bench.core.state.engines[0].assigned) == [second, third]
    engine.come_back(running=second)
    assert engine.control.take_all(m.TakeBack) == []
    assert engine.calls() == []
    report(engine)
    assert bench.core.state.tasks == {}
    bench.forget_what_was_said()


def test_set_up_that_never_arrived_is_given_again_first(durable: Bench):
    bench = durable.start()
    (client,) = bench.clients
    for name in ("a", "b"):
        register(client, name)
        bench.engines[0].calls(), report(bench.engines[0])
    bench.engines[0].die()
    engine = replacement(bench)
    client.submit(targets=(0,), ordered=True, payload=b"task")
    engine.inbox.clear()  # lost on its way
    bench.die()
    engine.come_back()
    assert given(engine) == [b"a", b"b"]
    report(engine)
    assert given(engine) == [b"task"]
    bench.forget_what_was_said()


def test_a_controller_dies_before_an_engine_has_started(durable: Bench):
    bench = durable.start()
    (client,) = bench.clients
    register(client, "a")
    bench.engines[0].calls(), report(bench.engines[0])
    bench.engines[0].die()
    (mine,) = register(client, "b")
    bench.die()
    (engine,) = bench.hello_engines()
    calls = engine.calls()
    assert [call.payload for call in calls] == [b"a", b"b"]
    assert calls[1].id == mine
    bench.forget_what_was_said()


def test_failed_starts_are_counted_across_controllers(durable: Bench):
    bench = durable.start()
    (mine,) = register(bench.clients[0], "a")
    bench.engines[0].calls()
    bench.engines[0].die(mine)
    for _ in range(fleet.TRIES - 1):
        bench.advance(5.0)
        (engine,) = bench.hello_engines()
        (call,) = engine.given()
        bench.die()
        bench.nannies[0].come_back([(0, engine.incarnation)])
        engine.come_back(running=call)
        engine.die(call)
    assert bench.core.state.engines[0].state == "failed"
    bench.die()
    assert bench.core.state.engines[0].reason.startswith("killed by signal 9 (SIGKILL) in its set-up a")
    bench.forget_what_was_said()


def test_cleared_set_up_stays_cleared(durable: Bench):
    bench = durable.start()
    (client,) = bench.clients
    register(client, "a")
    bench.engines[0].calls(), report(bench.engines[0])
    bench.engines[0].die()
    engine = replacement(bench)
    (mine,) = engine.given()
    client.ask(m.ClearSetup)
    bench.die()
    assert bench.core.state.setups == []
    engine.come_back()
    assert [request.tasks for request, _ in engine.control.take_all(m.TakeBack)] == [[mine]]
    bench.forget_what_was_said()


def test_another_life_has_none():
    store = Store(IN_MEMORY)
    store.begin("life")
    store.commit([SetupCame(1, "a", b"a"), SetupCame(2, "b", b"b")])
    assert store.load().setups == [SetupCame(1, "a", b"a"), SetupCame(2, "b", b"b")]
    store.begin("life")
    assert len(store.load().setups) == 2
    store.begin("another life")
    assert store.load().setups == []
    store.close()
