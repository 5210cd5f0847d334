"""Tasks that come after others, follow them, or need their values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from enginery.controller import dependents
from enginery.ids import TaskId, show_task
from enginery.wire import messages as m
from enginery.wire.given import MARK, find_given, get_inherited, join

from unit.controller.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK, ERROR, CANCELLED = m.Status.OK, m.Status.ERROR, m.Status.CANCELLED
INHERITED, IMPOSSIBLE, INVALID = m.Status.INHERITED, m.Status.IMPOSSIBLE, m.Status.INVALID


def after(*tasks: int, **how: Any) -> m.Dependency:
    return m.Dependency(tasks, **how)


def only(bench: Bench, **options: Any) -> int:
    (task,) = bench.clients[0].submit(**options)
    return task


def sentence(results: Sequence[m.Result]) -> str:
    (result,) = results
    return result.payload.decode()


def given_to(bench: Bench, task: int, frames: Sequence[bytes] = ()) -> dict[tuple[int, int], bytes]:
    """Return what the one call that an engine was given has besides its arguments, by task and first item."""
    (engine,) = [engine for engine in bench.engines if engine.calls()]
    call = engine.queue[task]
    given = find_given(call.payload)
    assert given is not None
    assert given.payload == b"arguments"
    own, results = given.split(engine.frames.get(task, []))
    assert [bytes(frame) for frame in own] == list(frames)
    return {(result.id, result.lo): result.payload for result, _ in results}


def status(bench: Bench) -> dict[str, int]:
    client = bench.clients[0]
    tasks: dict[str, int] = client.answer(client.ask(m.StatusQuery))["tasks"]
    return tasks


# ------------------------------------------------------------------------------------------------------- after


def test_a_task_begins_when_those_before_it_have_ended(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    first, second = client.submit(2)
    task = only(bench, after=after(first, second))
    assert status(bench) == {"waiting": 0, "blocked": 1, "assigned": 2, "finished": 0}
    one.calls(), two.calls()
    one.finish(*one.queue)
    assert not one.calls()
    two.finish(*two.queue)
    (call,) = [*one.calls(), *two.calls()]
    assert (call.id, call.payload, call.fixed) == (task, b"arguments", False)
    assert status(bench) == {"waiting": 0, "blocked": 0, "assigned": 1, "finished": 2}
    client.results()


@pytest.mark.parametrize(
    ("how", "ends", "outcome"),
    [
        ({}, [OK, OK], "runs"),
        ({}, [OK, ERROR], "never"),
        ({}, [ERROR], "never"),
        ({"failure": True}, [OK, ERROR], "runs"),
        ({"success": False, "failure": True}, [ERROR, ERROR], "runs"),
        ({"success": False, "failure": True}, [OK], "never"),
        ({"all": False}, [OK], "runs"),
        ({"all": False}, [ERROR], "waits"),
        ({"all": False}, [ERROR, OK], "runs"),
        ({"all": False}, [ERROR, ERROR], "never"),
        ({"all": False, "success": False, "failure": True}, [OK, ERROR], "runs"),
    ],
)
def test_how_others_are_to_end(bench: Bench, how: dict[str, bool], ends: list[m.Status], outcome: str):
    client, engine = bench.start().clients[0], bench.engines[0]
    tasks = client.submit(2)
    (task,) = client.submit(after=after(*tasks, **how))
    for id_, end in zip(tasks, ends, strict=False):
        engine.calls()
        engine.finish(id_, status=end)
    began = task in [call.id for call in engine.calls()] or task in engine.queue
    ended = client.ended()
    assert began == (outcome == "runs")
    assert (ended.get(task) == IMPOSSIBLE) == (outcome == "never")


def test_what_can_never_run_ends_at_once_and_says_why(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    second = only(bench, after=after(first))
    third = only(bench, after=after(second), label="fit")
    engine.calls()
    engine.fail(first)
    results = {result.id: result for result in client.results()}
    assert results[first].status == ERROR
    assert {results[second].status, results[third].status} == {IMPOSSIBLE}
    names = [show_task(TaskId(id_)) for id_ in (first, second, third)]
    assert results[third].payload.decode() == (
        f"task {names[2]} 'fit' can never run: it comes after task {names[1]}, "
        f"which comes after task {names[0]}, which failed"
    )


def test_a_long_chain_is_told_by_its_ends(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    chain = client.submit()
    for _ in range(20):
        chain += client.submit(after=after(chain[-1]))
    engine.calls()
    engine.fail(chain[0])
    text = client.results()[-1].payload.decode()
    assert text.count("which") == 5
    assert "which waits for a chain of 16 others" in text
    assert text.endswith(f"comes after task {show_task(TaskId(chain[0]))}, which failed")


def test_what_is_cancelled_ends_those_that_wait_for_it(bench: Bench):
    client = bench.start().clients[0]
    first = only(bench)
    second, third = only(bench, after=after(first)), only(bench, after=after(first))
    fourth = only(bench, after=after(second))
    request = client.cancel([second])
    assert client.answer(request) == [second]
    assert client.ended() == {second: CANCELLED, fourth: IMPOSSIBLE}
    bench.engines[0].calls()
    bench.engines[0].finish(first)
    (call,) = bench.engines[0].calls()
    assert call.id == third
    client.results()


def test_what_waits_goes_with_its_client(bench: Bench):
    client = bench.start().clients[0]
    first = only(bench)
    only(bench, after=after(first)), only(bench, needs=(first,), targets=(0,), ordered=True)
    bench.engines[0].calls()
    client.say(m.Goodbye(cancel=True))
    bench.engines[0].give_back(bench.engines[0].asked_back(), [first])
    assert not bench.core.state.tasks
    assert not bench.core.state.graph.blocked
    bench.forget_what_was_said()


def test_a_task_that_is_tried_again_has_not_ended(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench, retries=1)
    task = only(bench, after=after(first), needs=(first,))
    engine.calls()
    engine.fail(first)
    (again,) = engine.calls()
    assert again.id not in (first, task)
    engine.finish(again.id, payload=b"at last")
    assert given_to(bench, task) == {(first, 0): b"at last"}
    client.results()


def test_a_dead_engine_ends_those_that_wait_for_its_task(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    only(bench, needs=(first,))
    engine.calls()
    engine.die(first)
    lost, inherited = client.results()
    assert (lost.status, inherited.status) == (m.Status.LOST, INHERITED)
    said = get_inherited(inherited.payload)
    assert (said.task, said.status, said.payload) == (first, m.Status.LOST, lost.payload)
    assert said.why.endswith("which died with its engine")
    bench.forget_what_was_said()


def test_a_divisible_task_fails_if_one_item_does(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench, items=3)
    task = only(bench, after=after(first))
    engine.calls()
    engine.finish_items(first, 0, 1, ERROR)
    assert [run[2] for run in client.runs()] == [ERROR]
    engine.finish_items(first, 1, 3)
    results = client.results()
    assert [result.id for result in results] == [first, task]
    assert results[1].status == IMPOSSIBLE


# ------------------------------------------------------------------------------------------------------- follow


def test_a_task_follows_another_to_its_engine(bench: Bench):
    bench.start(engines=3)
    client = bench.clients[0]
    first = client.submit(3)
    places = {id_: engine.id for engine in bench.engines for id_ in [call.id for call in engine.calls()]}
    tasks = {only(bench, follow=after(id_)): id_ for id_ in first}
    for engine in bench.engines:
        engine.finish(*engine.queue)
    for engine in bench.engines:
        assert [places[tasks[call.id]] for call in engine.calls()] == [engine.id]
    client.results()


def test_a_task_cannot_follow_others_to_different_engines(bench: Bench):
    client = bench.start(engines=2).clients[0]
    first, second = client.submit(2)
    task = only(bench, follow=after(first, second))
    either = only(bench, follow=after(first, second, all=False))
    for engine in bench.engines:
        engine.calls()
        engine.finish(*engine.queue)
    results = {result.id: result for result in client.results()}
    assert results[task].status == IMPOSSIBLE
    assert "there is no engine where they all did" in results[task].payload.decode()
    where = next(engine for engine in bench.engines if either in [call.id for call in engine.calls()])
    where.finish(either)
    client.results()


def test_a_divisible_task_may_be_followed_to_each_of_its_engines(bench: Bench):
    client = bench.start(engines=2).clients[0]
    one, two = bench.engines
    first = only(bench, items=10)
    (call,) = one.calls()
    two.calls()
    one.give_back(one.asked_back(), tails=[(first, 5)])
    (rest,) = two.calls()
    task = only(bench, follow=after(first))
    one.finish_items(first, 0, 5)
    two.finish_items(rest.id, 5, 10)
    assert bench.core.state.tasks[task].options.targets == (0, 1)
    assert call.id == first
    bench.forget_what_was_said()
    client.results()


def test_an_engine_that_is_gone_cannot_be_followed(bench: Bench):
    client = bench.start(engines=2).clients[0]
    one, two = bench.engines
    first = only(bench, targets=(1,))
    blocker = only(bench, targets=(0,))
    task = only(bench, follow=after(first), after=after(blocker))
    one.calls(), two.calls()
    two.finish(first)
    request = client.ask(m.Scale, 1)
    two.die(exit_code=0)
    client.answer(request)
    one.finish(blocker)
    results = {result.id: result for result in client.results()}
    assert results[task].status == IMPOSSIBLE
    assert (
        results[task]
        .payload.decode()
        .endswith(f"is to run where task {show_task(TaskId(first))} ran, on an engine that is not there any more (1)")
    )
    bench.forget_what_was_said()


def test_targets_and_what_is_followed_must_agree(bench: Bench):
    client = bench.start(engines=2).clients[0]
    first = only(bench, targets=(1,))
    task = only(bench, follow=after(first), targets=(0,))
    fine = only(bench, follow=after(first), targets=(0, 1))
    bench.engines[1].calls()
    bench.engines[1].finish(first)
    results = {result.id: result for result in client.results()}
    assert results[task].status == IMPOSSIBLE
    assert [call.id for call in bench.engines[1].calls()] == [fine]


# ------------------------------------------------------------------------------------------------------- values


def test_values_go_to_the_engine_with_the_call(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first, second = client.submit(2)
    task = only(bench, needs=(second, first), frames=[b"mine"])
    engine.calls()
    engine.finish(first, payload=b"one", frames=[b"frame of one"])
    engine.finish(second, payload=b"two")
    assert given_to(bench, task, frames=[b"mine"]) == {(first, 0): b"one", (second, 0): b"two"}
    assert [bytes(frame) for frame in engine.frames[task]] == [b"mine", b"frame of one"]
    client.results()


def test_a_large_value_is_there_once_however_many_need_it(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    tasks = client.submit(5, needs=(first,))
    engine.calls()
    engine.finish(first, payload=b"v" * 10_000, frames=[b"f"])
    client.results()
    records = [bench.core.state.tasks[id_] for id_ in tasks]
    assert all(len(record.payload) < 200 for record in records)
    assert {id(record.frames[0]) for record in records} == {id(records[0].frames[0])}
    given = find_given(records[0].payload)
    assert given is not None
    ((result, frames),) = given.split(records[0].frames)[1]
    assert (result.payload, [bytes(frame) for frame in frames]) == (b"", [b"v" * 10_000, b"f"])
    bench.forget_what_was_said()


def test_an_engine_that_dies_does_not_take_the_values_along(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    task = only(bench, needs=(first,), retries=1)
    engine.calls()
    engine.finish(first, payload=b"value")
    engine.calls()
    engine.die(task)
    bench.hello_engines()
    assert given_to(bench, task) == {(first, 0): b"value"}
    client.results()
    bench.forget_what_was_said()


def test_all_items_of_a_divisible_task_are_given(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench, items=4)
    engine.calls()
    engine.finish_items(first, 0, 1)
    task = only(bench, needs=(first,))
    engine.finish_items(first, 1, 4)
    assert given_to(bench, task) == {(first, 0): b"values", (first, 1): b"values"}
    client.results()


def test_what_needs_a_value_inherits_the_failure(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    second = only(bench, needs=(first,))
    third = only(bench, needs=(second,), items=3)
    engine.calls()
    engine.finish(first, status=ERROR, payload=b"failure", frames=[b"buffer"])
    results = {result.id: result for result in client.results()}
    names = [show_task(TaskId(id_)) for id_ in (first, second)]
    for id_, why in (
        (second, f"needs the value of task {names[0]}, which failed"),
        (third, f"needs the value of task {names[1]}, which needs the value of task {names[0]}, which failed"),
    ):
        assert results[id_].status == INHERITED
        said = get_inherited(results[id_].payload)
        assert (said.task, said.status, said.payload, said.engine) == (first, ERROR, b"failure", 0)
        assert said.why == why
        assert [bytes(frame) for frame in client.frames[id_]] == [b"buffer"]
    assert (results[third].lo, results[third].hi) == (0, 3)


def test_what_the_client_has_goes_along(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first, second = client.submit(2)
    engine.calls()
    engine.finish(first, payload=b"one", frames=[b"f"])
    (result,) = client.results()
    client.confirm()
    payload, frames = join(b"arguments", [b"mine"], [(result, client.frames[first])])
    task = only(bench, needs=(second,), payload=payload, frames=frames)
    engine.finish(second, payload=b"two")
    assert given_to(bench, task, frames=[b"mine"]) == {(first, 0): b"one", (second, 0): b"two"}
    client.results()


def test_a_failure_that_the_client_has_ends_the_task(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    engine.calls()
    engine.fail(first)
    (result,) = client.results()
    client.confirm()
    payload, frames = join(b"arguments", [], [(result, [])])
    task = only(bench, needs=(first,), payload=payload, frames=frames)
    assert client.ended() == {task: INHERITED}


def test_what_cannot_be_read_is_refused(bench: Bench):
    client = bench.start().clients[0]
    first = only(bench)
    task = only(bench, needs=(first,), payload=MARK + b"nonsense")
    (result,) = client.results()
    assert (result.id, result.status) == (task, m.Status.REFUSED)
    payload, _ = join(b"arguments", [b"one", b"two"], [])
    task = only(bench, needs=(first,), payload=payload, frames=[b"one"])
    assert client.ended() == {task: m.Status.REFUSED}
    bench.engines[0].calls()


def test_nobody_waits_for_itself(bench: Bench):
    client = bench.start().clients[0]
    id_ = client.new_ids(1)[0]
    client.count -= 1
    assert only(bench, needs=(id_,)) == id_
    assert "waits for itself" in sentence(client.results())


# ------------------------------------------------------------------------------------------------------- direct views


def test_the_order_of_a_direct_view_is_kept(bench: Bench):
    bench.start(engines=2, clients=2)
    client, other = bench.clients
    one, two = bench.engines
    first = only(bench)
    where = one if one.calls() else two
    where.calls()
    task = only(bench, needs=(first,), targets=(0,), ordered=True)
    behind = only(bench, targets=(0,), ordered=True)
    again = only(bench, needs=(first,), targets=(0,), ordered=True)
    (elses,) = other.submit(targets=(0,), ordered=True)
    assert [call.id for call in one.calls() if call.id != first] == [elses], "others do not wait"
    assert status(bench)["blocked"] == 3
    request = client.cancel([again])
    assert client.answer(request) == [again]
    where.finish(first)
    one.finish(elses)
    assert [call.id for call in one.calls()] == [task, behind]
    client.results(), other.results()


def test_a_call_on_several_engines_gets_its_values_on_each(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    first = only(bench)
    ids = client.submit(needs=(first,), targets=(0, 1), ordered=True)
    where = next(engine for engine in bench.engines if engine.calls())
    where.finish(first, payload=b"value")
    for engine, id_ in zip(bench.engines, ids, strict=True):
        assert [call.id for call in engine.calls()] == [id_]
        given = find_given(engine.queue[id_].payload)
        assert given is not None
        assert [result.payload for result in given.results] == [b"value"]
    client.results()


def test_what_is_held_up_ends_with_its_engine(bench: Bench):
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    first = only(bench, targets=(0,), ordered=True)
    one.calls()
    task = only(bench, needs=(first,), targets=(1,), ordered=True)
    behind = only(bench, targets=(1,), ordered=True)
    later = only(bench, after=after(behind))
    request = client.ask(m.Scale, 1)
    assert client.ended() == {task: m.Status.REFUSED, behind: m.Status.REFUSED, later: IMPOSSIBLE}
    two.die(exit_code=0)
    client.answer(request)
    bench.forget_what_was_said()


# ------------------------------------------------------------------------------------------------------- not open


def test_a_result_that_is_on_its_way_is_found(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first, second = client.submit(2)
    engine.calls()
    engine.finish(first, payload=b"one", frames=[b"f"])  # the client has not heard of it
    task = only(bench, needs=(first,))
    other = only(bench, after=after(first))
    engine.finish(second)
    assert [call.id for call in engine.calls()] == [task, other]
    given = find_given(engine.queue[task].payload)
    assert given is not None
    assert [(result.payload, result.frames) for result in given.results] == [(b"one", 1)]
    client.results()


def test_a_result_of_the_same_turn_is_found(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first, second = client.submit(2)
    engine.calls()
    tasks: list[int] = []
    bench.burst(
        lambda: engine.finish(first, payload=b"one", frames=[b"f"]),
        lambda: engine.finish(second, payload=b"two"),
        lambda: tasks.extend(client.submit(needs=(second, first))),
    )
    assert given_to(bench, tasks[0]) == {(first, 0): b"one", (second, 0): b"two"}
    client.results()


def test_what_is_confirmed_is_let_go_of(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench)
    engine.calls()
    engine.finish(first)
    task = only(bench, needs=(first,))
    record = bench.core.state.clients[client.no]
    assert record.unheard is not None
    client.results()
    client.confirm()
    assert not record.unheard.find(record.outgoing, [first])
    engine.calls()
    engine.finish(task)
    client.results()


def test_results_of_others_are_asked_of_the_journal(durable: Bench):
    durable.start(clients=2)
    client, other = durable.clients
    engine = durable.engines[0]
    (first,), (failed,), (items,) = other.submit(), other.submit(), other.submit(items=4)
    engine.calls()
    engine.finish(first, payload=b"one", frames=[b"f"])
    engine.fail(failed)
    engine.finish_items(items, 0, 2)
    other.results()
    other.confirm()
    waits = only(durable, needs=(items,))  # of the half of which only the journal knows
    engine.finish_items(items, 2, 4)
    other.results()
    other.confirm()
    tasks = [only(durable, needs=(first,)), only(durable, after=after(first)), only(durable, after=after(failed))]
    assert client.ended() == {tasks[2]: IMPOSSIBLE}
    given = {call.id: find_given(call.payload) for call in engine.calls()}
    assert [result.payload for result in given[tasks[0]].results] == [b"one"]
    assert [(result.lo, result.hi) for result in given[waits].results] == [(0, 2), (2, 4)]
    assert given[tasks[1]] is None


def test_of_what_was_purged_a_part_is_not_taken_for_the_whole(durable: Bench):
    """What is left is what its client has not confirmed: that the rest has failed, nobody would hear."""
    client, engine = durable.start().clients[0], durable.engines[0]
    (items,) = client.submit(items=4)
    engine.calls()
    engine.finish_items(items, 2, 4, ERROR)
    client.results()
    client.confirm()
    engine.finish_items(items, 0, 2)  # which the client has not heard
    durable.summarize()
    client.say(m.Purge(1, [items]))
    strange, _ = join(b"arguments", [], [], by_id=(items,))
    needing = only(durable, needs=(items,), payload=strange)
    following = only(durable, after=after(items, by_id=(items,)))
    assert not engine.calls()
    ends = {result.id: result for result in client.results() if result.id != items}
    assert {task: result.status for task, result in ends.items()} == {needing: INVALID, following: INVALID}
    assert b"which nobody knows" in ends[needing].payload


@pytest.mark.parametrize("open_", [True, False])
def test_of_what_a_client_knows_by_id_the_journal_tells_all(durable: Bench, *, open_: bool):
    """Part of it was delivered to the same client, and confirmed."""
    client, engine = durable.start().clients[0], durable.engines[0]
    (first,), (failed,) = client.submit(items=4), client.submit(items=2)
    engine.calls()
    engine.finish_items(first, 2, 4)
    engine.finish_items(failed, 0, 1, ERROR)
    (half, _) = client.results()
    client.confirm()
    if not open_:
        engine.finish_items(first, 0, 2)  # which the client has not heard
        engine.finish_items(failed, 1, 2)
    strange, _ = join(b"arguments", [], [], by_id=(first,))
    told, _ = join(b"arguments", [], [(half, [])])
    tasks = [
        only(durable, needs=(first,), payload=strange),
        only(durable, needs=(first,), payload=told),
        only(durable, after=after(first, failed, failure=True, by_id=(first, failed))),
    ]
    lost = only(durable, after=after(first, failed, by_id=(failed,)))
    if open_:
        engine.finish_items(first, 0, 2)
        engine.finish_items(failed, 1, 2)
    assert [result.status for result in client.results() if result.id == lost] == [IMPOSSIBLE]
    given = {call.id: find_given(call.payload) for call in engine.calls()}
    assert set(given) == set(tasks)
    for task in tasks[:2]:
        assert [(result.lo, result.hi) for result in given[task].results] == [(0, 2), (2, 4)]


def test_without_a_journal_nobody_knows_all():
    bench = Bench().start()
    client, engine = bench.clients[0], bench.engines[0]
    items, call = only(bench, items=2), only(bench)
    engine.calls()
    engine.finish_items(items, 0, 1)
    client.results()
    client.confirm()
    engine.finish(call)
    tasks = [only(bench, after=after(id_, by_id=(id_,))) for id_ in (items, call)]
    engine.finish_items(items, 1, 2)
    assert tasks[1] in [call.id for call in engine.calls()]
    (ended,) = [result for result in client.results() if result.id == tasks[0]]
    assert ended.status == INVALID
    assert "no journal" in ended.payload.decode()


def test_what_nobody_knows_is_invalid(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    unknown = client.new_ids(1)[0]
    task = only(bench, after=after(unknown))
    text = sentence(client.results())
    assert text.startswith(f"task {show_task(TaskId(task))} can never run: it comes after task")
    assert "nobody knows" in text if bench.store is not None else "no journal" in text
    task = only(bench, needs=(unknown,))
    (result,) = client.results()
    assert result.status == INVALID
    assert not engine.calls()


def test_what_the_client_knows_of_ends(bench: Bench):
    client, engine = bench.start(engines=2).clients[0], bench.engines[0]
    gone = client.new_ids(3)
    fine, bad = m.Outcome(gone[0], ok=True, engines=(0,)), m.Outcome(gone[1], ok=False, engines=(1,), why="failed")
    one = only(bench, follow=after(gone[0], known=(fine,)))
    assert [call.id for call in engine.calls()] == [one]
    two = only(bench, after=after(gone[1], known=(bad,)))
    three = only(bench, after=after(gone[1], gone[0], all=False, known=(bad, fine)))
    assert client.ended() == {two: IMPOSSIBLE}
    assert three in [call.id for side in bench.engines for call in side.calls()] or three in engine.queue


def test_what_the_client_knows_of_items_that_ended_earlier(bench: Bench):
    client, engine = bench.start().clients[0], bench.engines[0]
    first = only(bench, items=3)
    engine.calls()
    engine.finish_items(first, 0, 1, ERROR)
    client.results()
    client.confirm()
    known = m.Outcome(first, ok=False, engines=(0,), why="failed", over=False)
    task = only(bench, after=after(first, success=False, failure=True, known=(known,)))
    engine.finish_items(first, 1, 3)
    assert [call.id for call in engine.calls()] == [task]
    client.results()


# ------------------------------------------------------------------------------------------------------- restoring


def test_another_controller_knows_what_waits_for_what(durable: Bench):
    bench = durable.start()
    client, engine = bench.clients[0], bench.engines[0]
    first, second = client.submit(2)
    task = only(bench, needs=(first, second), frames=[b"mine"])
    behind = only(bench, after=after(task))
    engine.calls()
    engine.finish(first, payload=b"one", frames=[b"f"])
    client.results()
    client.confirm()
    bench.restored_books_are_the_same()
    bench.die()
    client.come_back()
    bench.nannies[0].come_back(running=[(0, 1)])
    engine.come_back(running=second)
    engine.finish(second, payload=b"two")
    assert given_to(bench, task, frames=[b"mine"]) == {(first, 0): b"one", (second, 0): b"two"}
    engine.finish(task)
    assert [call.id for call in engine.calls()] == [behind]
    client.results()
    bench.forget_what_was_said()


def test_another_controller_has_the_values_of_what_an_engine_was_given(durable: Bench):
    bench = durable.start()
    client, engine = bench.clients[0], bench.engines[0]
    first = only(bench)
    task = only(bench, needs=(first,), follow=after(first))
    engine.calls()
    engine.finish(first, payload=b"one")
    client.results()
    client.confirm()
    bench.die()
    client.come_back()
    bench.nannies[0].come_back(running=[(0, 1)])
    engine.calls()
    engine.queue.clear()
    engine.come_back()  # it never got the call
    assert given_to(bench, task) == {(first, 0): b"one"}
    bench.forget_what_was_said()


def test_results_that_open_tasks_need_are_not_deleted(durable: Bench):
    bench = durable.start()
    client, engine = bench.clients[0], bench.engines[0]
    first, second = only(bench), only(bench)
    task = only(bench, needs=(first, second))
    engine.calls()
    engine.finish(first, payload=b"one")
    client.results()
    client.confirm()
    bench.summarize()
    assert bench.store is not None
    bench.store.expire(0.0, 0)
    bench.restored_books_are_the_same()
    bench.die()
    client.come_back()
    bench.nannies[0].come_back(running=[(0, 1)])
    engine.come_back(running=second)
    engine.finish(second, payload=b"two")
    assert given_to(bench, task) == {(first, 0): b"one", (second, 0): b"two"}
    engine.finish(task)
    client.results()
    client.confirm()
    bench.summarize()
    bench.store.expire(0.0, 0)
    assert not bench.store.db.execute("SELECT count(*) FROM delivered").fetchone()[0]
    assert not bench.store.db.execute("SELECT count(*) FROM needs").fetchone()[0]
    bench.forget_what_was_said()


def test_a_journal_that_begins_anew_has_all_that_is_known(durable: Bench):
    bench = durable.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    first, second = client.submit(2)
    if first not in [call.id for call in one.calls()]:
        one, two = two, one
    one.calls(), two.calls()
    task = only(bench, needs=(first, second), after=after(first, second), follow=after(first, second, all=False))
    assert bench.store is not None
    bench.store.suspend()
    bench.store, store = None, bench.store
    bench.core.state.durable = False
    one.finish(first, payload=b"one")  # nothing is written down of that
    bench.store = store
    bench.core.state.durable = True
    store.resume(bench.core.books())
    client.results()
    client.confirm()
    bench.die()
    client.come_back()
    bench.nannies[0].come_back(running=[(0, 1), (1, 1)])
    one.come_back()
    two.come_back(running=second)
    two.finish(second, payload=b"two")
    assert [call.id for call in one.calls()] == [task], "it follows the first"
    given = find_given(one.queue[task].payload)
    assert given is not None
    assert [result.payload for result in given.results] == [b"one", b"two"]
    client.results()
    bench.forget_what_was_said()


# ------------------------------------------------------------------------------------------------------- how long


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often something is said of one task to one that waits for it."""
    steps = [0]
    take = dependents.Blocked.take

    def counted(*args: Any) -> Any:
        steps[0] += 1
        return take(*args)

    monkeypatch.setattr(dependents.Blocked, "take", counted)
    return steps


def messages(tasks: Iterable[m.Task], options: list[m.Options]) -> m.Submit:
    return m.Submit([m.Function(b"f", b"pickle of f")], options, list(tasks))


N = 3000


@pytest.mark.parametrize("fails", [False, True])
def test_a_long_chain_takes_a_step_for_each(monkeypatch: pytest.MonkeyPatch, fails: bool):
    steps = count_steps(monkeypatch)
    bench = Bench().start()
    client, engine = bench.clients[0], bench.engines[0]
    ids = client.new_ids(N)
    tasks = [m.Task(id_, b"f", b"arguments", needs=(id_ - 1,) if id_ > ids[0] else ()) for id_ in ids]
    client.say(messages(tasks, [m.Options()]))
    began = time.process_time()
    if fails:
        engine.calls()
        engine.fail(ids[0])
    else:
        for id_ in ids:
            assert [call.id for call in engine.calls()] == [id_]
            engine.finish(id_)
    took = time.process_time() - began
    ended = client.ended()
    assert len(ended) == N
    assert ended[ids[-1]] == (INHERITED if fails else OK)
    assert steps[0] == N - 1
    assert took < N * 2e-3
    assert not bench.core.state.graph.nodes


def test_one_for_many_and_many_for_one(monkeypatch: pytest.MonkeyPatch):
    steps = count_steps(monkeypatch)
    bench = Bench().start()
    client = bench.clients[0]
    ids = client.new_ids(N)
    first, middle, last = ids[0], ids[1:-1], ids[-1]
    tasks = [m.Task(first, b"f", b"x"), *(m.Task(id_, b"f", b"x", needs=(first,)) for id_ in middle)]
    client.say(messages([*tasks, m.Task(last, b"f", b"x", needs=tuple(middle))], [m.Options()]))
    ran = [task for _, _, task in bench.work(lambda _call: 1e-5)]
    assert len(ran) == N
    assert (ran[0], ran[-1]) == (first, last)
    assert steps[0] == 2 * len(middle)
    assert set(client.ended().values()) == {OK}
