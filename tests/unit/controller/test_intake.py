"""Hello, submissions, goodbye; clients who vanish and come back."""

from __future__ import annotations

from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest
from enginery.controller.intake import ACK_EVERY, KEEP_S, VANISHED_S
from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench


# ------------------------------------------------------------------------------------------------------- hello


def test_clients_get_numbers_and_hear_of_the_engines(bench: Bench):
    bench.start(engines=2, clients=1)
    welcome = bench.add_client().hello()
    assert welcome.client == 2
    assert (welcome.cluster, welcome.controller_pid) == ("bench", 42)
    assert [(e.id, e.state, e.pid) for e in welcome.engines] == [(0, "ready", 100), (1, "ready", 101)]


def test_a_client_of_another_version_is_refused(bench: Bench):
    client = bench.add_client()
    client.say(m.ClientHello(m.VERSION + 1))
    assert f"version {m.VERSION + 1}" in client.take(m.Refused).reason
    assert not bench.core.state.clients


def test_a_second_hello_does_not_make_a_second_client(bench: Bench):
    client = bench.start().clients[0]
    assert client.hello().client == 1


# ------------------------------------------------------------------------------------------------------- submissions


def test_a_task_runs_and_its_result_comes_back(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(payload=b"arguments")
    (call,) = engine.calls()
    assert (call.id, call.function, call.payload, call.lo, call.hi) == (task, b"f", b"arguments", 0, 0)
    assert not call.fixed
    assert not call.announce
    engine.finish(task, payload=b"value", duration=0.25)
    (result,) = client.results()
    assert (result.id, result.status, result.payload, result.engine) == (task, m.Status.OK, b"value", 0)
    assert (result.started, result.duration) == (1.0, 0.25)


def test_frames_go_with_their_tasks_and_results(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    without = client.new_ids(1)[0]
    one, two = client.new_ids(2)
    tasks = [m.Task(without, b"f", b""), m.Task(one, b"f", b"", 1), m.Task(two, b"f", b"", 2)]
    client.say(m.Submit([m.Function(b"f", b"pickle")], [m.Options()], tasks), [b"a", b"b", b"c"])
    given = engine.given()
    engine.finish(*given)
    given += engine.given()
    assert {id_: engine.frames[id_] for id_ in given} == {without: [], one: [b"a"], two: [b"b", b"c"]}
    engine.finish(frames=[b"back"])
    assert set(client.ended()) == {without, one, two}
    assert client.frames[two] == [b"back"]


def test_a_task_whose_function_nobody_sent_is_refused(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit(function=b"g", sent=False)
    (result,) = bench.clients[0].results()
    assert (result.id, result.status) == (task, m.Status.REFUSED)
    assert b"function" in result.payload
    assert not bench.core.state.tasks


def test_a_refused_divisible_task_is_refused_whole(bench: Bench):
    bench.start()
    bench.clients[0].submit(function=b"g", sent=False, items=10)
    assert bench.clients[0].runs() == [(0, 10, m.Status.REFUSED)]


def test_the_frames_of_a_refused_task_are_not_given_to_the_next(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    refused, good = client.new_ids(2)
    tasks = [m.Task(refused, b"g", b"", 1), m.Task(good, b"f", b"", 1)]
    client.say(m.Submit([m.Function(b"f", b"pickle")], [m.Options()], tasks), [b"of g", b"of f"])
    assert client.ended() == {refused: m.Status.REFUSED}
    assert engine.given() == [good]
    assert engine.frames[good] == [b"of f"]


def test_a_submission_with_the_wrong_number_of_frames_is_refused(bench: Bench):
    bench.start()
    client = bench.clients[0]
    (task,) = client.new_ids(1)
    client.say(m.Submit([m.Function(b"f", b"")], [m.Options()], [m.Task(task, b"f", b"", 2)]), [b"only one"])
    assert "frames" in client.take(m.Refused).reason
    assert not bench.core.state.tasks


@pytest.mark.parametrize("targets", [None, (0,)], ids=["any engine", "one engine"])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_task_submitted_twice_runs_once(bench: Bench, targets, ordered):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit(targets=targets, ordered=ordered and targets is not None)
    client.count -= 1
    client.submit(targets=targets, ordered=ordered and targets is not None)
    assert engine.given() == [task]
    engine.finish()
    assert client.ended() == {task: m.Status.OK}
    assert bench.core.state.clients[1].unfinished == 0


def test_a_client_cannot_take_the_ids_of_another(bench: Bench):
    # Given a client that names a task by the number of another
    bench.start(clients=2)
    thief, owner = bench.clients
    (task,) = owner.new_ids(1)
    thief.say(m.Submit([m.Function(b"f", b"pickle")], [m.Options()], [m.Task(task, b"f", b"")]))
    # Then it is refused, and the owner's own runs
    assert thief.ended() == {task: m.Status.REFUSED}
    owner.count -= 1
    owner.submit()
    bench.engines[0].given()
    bench.engines[0].finish()
    assert owner.ended() == {task: m.Status.OK}


@pytest.mark.parametrize("options", [m.Options(ordered=True), m.Options(targets=(), ordered=True)])
def test_ordered_tasks_for_no_engine_are_refused(bench: Bench, options):
    bench.start()
    client = bench.clients[0]
    (task,) = client.new_ids(1)
    client.say(m.Submit([m.Function(b"f", b"pickle")], [options], [m.Task(task, b"f", b"")]))
    assert client.ended() == {task: m.Status.REFUSED}
    bench.core.state.check()


def test_priorities_order_the_waiting_tasks_of_a_client(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(2)  # one runs, one is prefetched
    engine.given()
    (low,) = client.submit(priority=-1)
    (plain,) = client.submit()
    (high,) = client.submit(priority=1)
    for expected in (high, plain, low):
        engine.finish(next(iter(engine.queue)), duration=1.0)
        assert engine.given() == [expected]
    engine.finish()
    assert len(client.ended()) == 5


# ------------------------------------------------------------------------------------------------------- targets


def test_a_task_for_some_engines_runs_on_one_of_them(bench: Bench):
    bench.start(engines=3)
    ids = bench.clients[0].submit(4, targets=(0, 2))
    assert bench.engines[1].given() == []
    calls = bench.engines[0].calls() + bench.engines[2].calls()
    assert {call.id for call in calls} == set(ids)
    assert all(call.fixed for call in calls)


def test_an_ordered_task_becomes_one_for_each_target(bench: Bench):
    bench.start(engines=3)
    first, second = bench.clients[0].submit(targets=(2, 0), ordered=True, frames=[b"shared"])
    assert bench.engines[2].given() == [first]
    assert bench.engines[0].given() == [second]
    assert bench.engines[2].frames[first] == bench.engines[0].frames[second] == [b"shared"]
    for engine in (bench.engines[0], bench.engines[2]):
        engine.finish()
    assert bench.clients[0].ended() == {first: m.Status.OK, second: m.Status.OK}


def test_ordered_tasks_wait_at_their_engine_in_order(bench: Bench):
    bench.start(engines=2)
    engine = bench.engines[0]
    ids = bench.clients[0].submit(5, targets=(0,), ordered=True)
    seen = engine.given()
    assert seen == ids[:2]
    for id_ in ids:
        engine.finish(id_, duration=1.0)
        seen += engine.given()
    assert seen == ids
    assert len(bench.clients[0].ended()) == 5


def test_a_target_that_does_not_exist(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    client.submit(targets=(7,))
    (result,) = client.results()
    assert result.status == m.Status.REFUSED
    assert result.payload == b"there is no engine 7; there are: 0, 1"


def test_of_several_ordered_targets_only_the_missing_one_is_refused(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    first, missing, last = client.submit(targets=(0, 7, 1), ordered=True)
    assert client.ended() == {missing: m.Status.REFUSED}
    assert bench.engines[0].given() == [first]
    assert bench.engines[1].given() == [last]


def test_of_several_targets_those_that_exist_do(bench: Bench):
    bench.start(engines=2)
    (task,) = bench.clients[0].submit(targets=(1, 7))
    assert bench.engines[1].given() == [task]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_target_that_is_being_stopped(bench: Bench, ordered):
    # Given an engine that is to go as soon as it has finished what it runs
    bench.start(engines=2)
    client = bench.clients[0]
    client.submit(targets=(1,))
    bench.engines[1].given()
    client.ask(m.Scale, 1)
    client.news()
    # When somebody addresses it
    client.submit(targets=(1,), ordered=ordered)
    # Then the truth is said
    (result,) = client.results()
    assert result.payload == b"engine 1 is being stopped"


# ------------------------------------------------------------------------------------------------------- functions


def test_an_engine_is_sent_a_function_once(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    for _ in range(2):
        client.submit()
        ((message, _),) = engine.inbox
        engine.given()
        engine.finish()
        client.results()
    assert message.functions == []


def test_a_function_is_forgotten_by_all_when_its_client_says_so(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit()
    engine.given()
    engine.finish()
    client.results()
    client.say(m.Forget([b"f"]))
    assert engine.take(m.Forget).digests == [b"f"]
    assert not bench.core.state.functions.entries
    # And it can be sent again
    client.submit()
    engine.functions.clear()
    engine.given()


def test_a_function_is_not_forgotten_while_a_task_needs_it(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(3)
    engine.given()
    client.say(m.Forget([b"f"]))
    engine.finish()
    assert len(engine.given()) == 1, "the third call"
    engine.finish()
    assert len(client.ended()) == 3
    assert engine.take(m.Forget).digests == [b"f"]


def test_a_function_stays_while_another_client_may_name_it(bench: Bench):
    bench.start(clients=2)
    one, two = bench.clients
    for client in (one, two):
        client.submit()
        bench.engines[0].given()
        bench.engines[0].finish()
        client.results()
    one.say(m.Forget([b"f"]))
    two.submit(sent=False)
    assert len(bench.engines[0].given()) == 1


def test_an_engine_without_the_function_is_not_told_to_forget_it(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    client.submit(targets=(1,))
    bench.engines[1].given()
    bench.engines[1].finish()
    client.results()
    client.say(m.Forget([b"f"]))
    bench.engines[1].take(m.Forget)


def test_an_engine_that_replaces_another_is_sent_the_function_again(bench: Bench):
    bench.start()
    client = bench.clients[0]
    client.submit()
    bench.engines[0].given()
    bench.engines[0].finish()
    bench.engines[0].die()
    bench.hello_engines()
    client.submit(sent=False)
    assert len(bench.engines[0].given()) == 1  # which looks whether it has the function
    client.results()
    client.news()


def test_operations_of_the_engine_need_no_pickle(bench: Bench):
    bench.start()
    (task,) = bench.clients[0].submit(function=b"!push")
    assert bench.engines[0].given() == [task]


# ------------------------------------------------------------------------------------------------------- leaving


def test_the_tasks_of_a_client_that_leaves_go_on(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit(4)
    engine.given()
    client.say(m.Goodbye())
    engine.finish()
    assert len(engine.given()) == 2
    engine.finish()
    assert engine.take(m.Forget).digests == [b"f"]
    assert not bench.core.state.tasks


def test_the_tasks_of_a_client_that_leaves_are_cancelled_if_it_wants(bench: Bench):
    # Given a client with tasks that run, are prefetched, and wait
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    running, prefetched, *_ = client.submit(5)
    engine.given()
    # When it leaves
    client.say(m.Goodbye(cancel=True))
    # Then all are stopped, and nothing is said to it
    request = engine.asked_back()
    assert request.tasks == [running, prefetched]
    engine.give_back(request, [prefetched])
    assert engine.interrupted() == [running]
    engine.fail(running)
    assert engine.take(m.Forget).digests == [b"f"]
    assert not bench.core.state.tasks


def test_the_divided_tasks_of_a_client_that_leaves_are_cancelled_too(bench: Bench):
    # Given a divisible task whose first part is over and whose tail went elsewhere
    bench.start(engines=2)
    client, (one, two) = bench.clients[0], bench.engines
    (task,) = client.submit(items=10)
    one.given()
    one.finish_items(task, 0, 1, item_s=1.0)
    one.give_back(one.asked_back(), tails=[(task, 2)])
    (piece,) = two.given()
    one.finish_items(task, 1, 2)
    client.results()
    two.asked_back() if two.control.inbox else None
    # When its client leaves
    client.say(m.Goodbye(cancel=True))
    # Then the tail is stopped
    two.give_back(two.asked_back())
    assert two.interrupted() == [piece]
    two.finish_items(piece, 2, 10, m.Status.ERROR)
    for engine in (one, two):
        engine.take(m.Forget)
    assert not bench.core.state.tasks


def test_a_message_after_goodbye_is_refused(bench: Bench):
    client = bench.start().clients[0]
    client.say(m.Goodbye())
    client.submit()
    assert "before hello" in client.take(m.Refused).reason


# ------------------------------------------------------------------------------------------------------- away and back


@pytest.mark.parametrize("noticed", [False, True])
def test_results_are_kept_for_a_client_that_is_away(bench: Bench, noticed):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    one, two = client.submit(2)
    engine.given()
    # Given a client that cannot be reached when its results come
    client.lose_connection(noticed=noticed)
    engine.print(one, "before")
    engine.finish(one, frames=[b"frame"], outputs=1)
    engine.finish(two)
    assert not client.inbox
    # When it is back
    welcome = client.come_back()
    # Then it gets everything, in order, once
    assert welcome.client == 1
    assert client.kinds() == ["Outputs", "Results", "Results"]
    assert client.output() == ["before"]
    assert client.ended() == {one: m.Status.OK, two: m.Status.OK}
    assert client.frames[one] == [b"frame"]
    assert client.repeated == 0


def test_only_what_was_not_heard_is_said_again(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    heard, missed = client.submit(2)
    engine.given()
    engine.finish(heard)
    assert client.ended() == {heard: m.Status.OK}
    client.lose_connection()
    engine.finish(missed)
    client.come_back()
    assert client.ended() == {missed: m.Status.OK}
    assert client.repeated == 0


def test_what_a_client_has_not_confirmed_is_said_again_and_kept(bench: Bench):
    # Given a client that has heard a result, but whose hello is older than that
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    engine.finish()
    assert client.ended() == {task: m.Status.OK}
    # When it is heard, then it is said again, as often as that happens
    for again in (1, 2):
        client.say(m.ClientHello(m.VERSION, welcomed=True))
        client.take(m.Welcome)
        assert client.repeated == again
    # And no more when it has confirmed it
    client.confirm()
    client.say(m.ClientHello(m.VERSION, welcomed=True))
    client.take(m.Welcome)
    assert client.repeated == 2


def test_what_was_said_twice_is_taken_once(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    ((submitted, frames),) = client.outgoing.after(0)
    client.say(submitted, frames)
    assert engine.given() == [task]
    engine.finish()
    client.say(submitted, frames)
    assert engine.given() == []
    assert client.ended() == {task: m.Status.OK}


def test_after_a_gap_nothing_is_taken_until_the_hello(bench: Bench):
    # Given a client one of whose messages is lost
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    bench.unreachable.add(client.name)
    client.submit(function=b"lost")
    bench.unreachable.clear()
    # When it goes on
    client.submit(function=b"after")
    # Then it is asked to say its hello
    client.take(m.Resume)
    assert engine.given() == []
    client.hello()
    assert [call.function for call in engine.calls()] == [b"lost", b"after"]


def test_a_client_is_told_what_has_come_of_it_with_its_results(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit()
    assert len(client.outgoing) == 1
    engine.given()
    engine.finish()
    client.results()
    assert len(client.outgoing) == 0


def test_a_client_that_has_no_results_is_told_what_has_come_of_it_after_some_messages(bench: Bench):
    client = bench.start(engines=0).clients[0]
    for _ in range(ACK_EVERY - 1):
        client.submit()
    assert len(client.outgoing) == ACK_EVERY - 1
    client.submit()
    assert len(client.outgoing) == 0


def test_what_was_asked_and_not_answered_can_be_asked_again(bench: Bench):
    # Given a client whose answer is lost
    bench.start(engines=1)
    client = bench.clients[0]
    request = client.ask(m.Scale, 2)
    assert client.news() == [(1, "starting")]
    client.lose_connection()
    bench.hello_engines()
    client.come_back()
    assert client.kinds() == []
    # When it asks again, then it is answered, and nothing is done twice
    client.say(m.Scale(request, 2))
    assert client.answer(request) == [0, 1]
    assert bench.nannies[0].starts() == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_restart_asked_for_again_restarts_once(bench: Bench, replaced):
    # Given a client that has lost its connection after it asked for a restart
    bench.start(engines=2)
    client = bench.clients[0]
    client.say(m.Restart(1, [0, 1], [(0, 1), (1, 1)]))
    assert bench.nannies[0].stops() == [(0, SIGKILL), (1, SIGKILL)]
    client.lose_connection()
    bench.engines[0].die()
    bench.hello_engines()
    if replaced:
        bench.engines[1].die()
        bench.hello_engines()
    # When it asks again
    client.come_back()
    client.say(m.Restart(1, [0, 1], [(0, 1), (1, 1)]))
    # Then only what is still to be restarted is
    if not replaced:
        assert bench.nannies[0].stops() == [(1, SIGKILL)]
        bench.engines[1].die()
        bench.hello_engines()
    assert [reply.value for reply, _ in client.take_all(m.Reply)] == [[0, 1]] * (1 if replaced else 2)
    client.news()
    bench.nannies[0].stops()


def test_an_away_client_that_is_heard_is_asked_for_its_hello(bench: Bench):
    # Given a client whose connection broke and was mended without its notice
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    (task,) = client.submit()
    engine.given()
    client.lose_connection(noticed=False)
    engine.finish()
    bench.unreachable.clear()
    # When it asks whether we are there
    client.say(m.Ping())
    client.take(m.Resume)
    client.hello()
    # Then it gets what it is owed, and is not given up later
    assert client.ended() == {task: m.Status.OK}
    bench.advance(2 * KEEP_S)
    assert bench.core.state.clients


def test_a_client_that_stays_away_is_given_up(bench: Bench):
    bench.start()
    client, engine = bench.clients[0], bench.engines[0]
    client.submit()
    engine.given()
    client.lose_connection()
    engine.finish()
    bench.advance(KEEP_S + 1)
    assert not bench.core.state.clients
    assert engine.take(m.Forget).digests == [b"f"]
    # It is not taken for a new one if it comes after all: its tasks are not known any more
    bench.unreachable.clear()
    client.say(m.ClientHello(m.VERSION, welcomed=True))
    assert "does not know this client" in client.take(m.Refused).reason
    assert bench.add_client().hello().client == 2


def test_a_client_that_wants_its_tasks_cancelled_when_it_vanishes(bench: Bench):
    bench.start()
    client, engine = bench.add_client(), bench.engines[0]
    client.cancel_on_exit = True
    client.hello()
    running, prefetched, _ = client.submit(3)
    engine.given()
    client.lose_connection()
    bench.advance(VANISHED_S - 0.1)
    assert engine.control.kinds() == []
    bench.advance(0.2)
    request = engine.asked_back()
    assert request.tasks == [running, prefetched]
    engine.give_back(request, [prefetched])
    assert engine.interrupted() == [running]
    engine.fail(running)
    assert engine.take(m.Forget).digests == [b"f"]
    assert not bench.core.state.tasks


def test_a_client_that_vanishes_for_a_moment_keeps_its_tasks(bench: Bench):
    bench.start()
    client = bench.add_client()
    client.cancel_on_exit = True
    client.hello()
    (task,) = client.submit()
    for _ in range(3):
        client.lose_connection()
        bench.advance(VANISHED_S * 0.7)
        client.come_back()
    bench.engines[0].given()
    bench.engines[0].finish()
    assert client.ended() == {task: m.Status.OK}


def test_the_time_away_counts_anew(bench: Bench):
    client = bench.start().clients[0]
    for _ in range(3):
        client.lose_connection()
        bench.advance(KEEP_S * 0.7)
        client.come_back()
    assert list(bench.core.state.clients) == [1]


def test_an_away_client_is_not_probed(bench: Bench):
    client = bench.start().clients[0]
    bench.core.lost(client.name, bench.now)
    bench.advance(20)
    assert client.pongs == 0


def test_a_client_that_is_there_is_probed(bench: Bench):
    client = bench.start().clients[0]
    bench.advance(21)
    assert client.pongs == 4


@pytest.mark.parametrize("noticed", [False, True])
def test_a_client_that_is_back_is_told_of_the_engines_as_they_are(bench: Bench, noticed):
    bench.start(engines=2)
    client = bench.clients[0]
    client.lose_connection(noticed=noticed)
    bench.engines[1].die(settle=False)
    bench.advance(0.1)
    welcome = client.come_back()
    assert [(engine.id, engine.state) for engine in welcome.engines] == [(0, "ready"), (1, "starting")]
    bench.hello_engines()
    assert client.news() == [(1, "ready")]


def test_the_news_that_could_not_be_sent_is_not_missed(bench: Bench):
    bench.start(engines=2)
    client = bench.clients[0]
    client.lose_connection(noticed=False)
    bench.engines[1].die(settle=False)
    welcome = client.come_back()
    assert [(engine.id, engine.state) for engine in welcome.engines] == [(0, "ready"), (1, "dead")]
    bench.advance(0.1)
    assert client.news() == [(1, "starting")]
    bench.hello_engines()
    assert client.news() == [(1, "ready")]
