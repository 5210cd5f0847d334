"""What `cluster status` is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery.wire import messages as m

if TYPE_CHECKING:
    from unit.controller.bench import Bench


def status(bench: Bench) -> dict:
    client = bench.clients[0]
    return client.answer(client.ask(m.StatusQuery))


def test_the_status_of_an_idle_cluster(bench: Bench):
    bench.start(engines=1)
    bench.advance(2.5)
    assert status(bench) == {
        "cluster": "bench",
        "controller_pid": 42,
        "uptime_s": 2.5,
        "engines": [
            {
                "id": 0,
                "incarnation": 1,
                "state": "ready",
                "pid": 100,
                "host": "host",
                "tasks": 0,
                "threads": 0,
                "reason": "",
                "setup": "",
            }
        ],
        "hosts": [{"host": "host0", "pid": 50, "cores": 4, "engines": [0], "resources": {}, "in_use": {}}],
        "clients": [{"no": 1, "name": "c0", "pid": 7, "host": "here", "unfinished": 0, "away": False}],
        "tasks": {"waiting": 0, "blocked": 0, "assigned": 0, "finished": 0},
        "objects": {"count": 0, "nbytes": 0, "lost": 0, "hosts": []},
        "functions": 0,
        "setup": [],
        "journal": bench.store is not None,
        "journal_failure": "",
    }


def test_tasks_are_counted_where_they_are(bench: Bench):
    bench.start(engines=1, clients=2)
    client, engine = bench.clients[1], bench.engines[0]
    client.submit(5)
    engine.finish(*engine.given()[:1])
    engine.given(), client.results()
    told = status(bench)
    assert told["tasks"] == {"waiting": 2, "blocked": 0, "assigned": 2, "finished": 1}
    assert [one["unfinished"] for one in told["clients"]] == [0, 4]
    assert told["engines"][0]["tasks"] == 2
    assert told["functions"] == 1


def test_engines_that_go_and_clients_that_are_away(bench: Bench):
    bench.start(engines=2, clients=2)
    bench.clients[1].submit(targets=(1,))
    bench.engines[1].given()
    bench.clients[0].ask(m.Scale, 1)
    bench.core.lost(bench.clients[1].name, bench.now)
    told = status(bench)
    assert [engine["state"] for engine in told["engines"]] == ["ready", "retiring"]
    assert [client["away"] for client in told["clients"]] == [False, True]
    for client in bench.clients:
        client.news()


def test_a_given_up_engine_is_shown_with_the_reason(bench: Bench):
    bench.start()
    bench.engines[0].die()
    for _ in range(3):
        bench.add_engine(*bench.nannies[0].starts()[0]).die(exit_code=1, reason="exited with code 1")
        bench.advance(5.0)
    (engine,) = status(bench)["engines"]
    assert (engine["state"], engine["reason"]) == ("failed", "exited with code 1; last words")
    bench.clients[0].news()


def test_an_engine_that_does_not_answer_is_shown(bench: Bench):
    bench.start(1, clients=1)
    client = bench.clients[0]
    (first, second) = client.submit(2)
    assert bench.engines[0].given() == [first, second]
    request = client.cancel([second], 60.0)
    bench.advance(4.0)
    assert status(bench)["engines"][0]["reason"] == ""
    bench.advance(8.0)
    assert status(bench)["engines"][0]["reason"] == "has not answered for 12 s"
    asked = bench.engines[0].asked_back()
    bench.engines[0].give_back(asked, [second])
    assert client.answer(request) == [second]
    assert status(bench)["engines"][0]["reason"] == ""
    assert client.ended() == {second: m.Status.CANCELLED}
    assert status(bench)["engines"][0]["reason"] == ""


def test_an_engine_that_is_away_and_the_journal(bench: Bench):
    bench.start()
    bench.core.lost(bench.engines[0].name, bench.now)
    told = status(bench)
    assert told["engines"][0]["state"] == "away"
    assert told["journal"] == (bench.store is not None)
    bench.core.state.journal_failure = "the journal cannot be written (disk full); the cluster goes on without one"
    told = status(bench)
    assert not told["journal"]
    assert "disk full" in told["journal_failure"]
    bench.clients[0].news()
    bench.engines[0].come_back()
    bench.clients[0].news()


def test_questions_change_nothing(bench: Bench):
    bench.start()
    bench.clients[0].submit(3)
    bench.engines[0].given()
    assert status(bench) == status(bench)


def queues(bench: Bench, *what: object) -> dict:
    client = bench.clients[0]
    return client.answer(client.ask(m.QueueQuery, *what))


def test_queues_of_engines_and_what_is_with_none(bench: Bench):
    bench.start(engines=2, hosts=1)
    (client,) = bench.clients
    assert queues(bench) == {0: [0, 0, 0], 1: [0, 0, 0], None: 0}
    direct = client.submit(4, targets=(0,), ordered=True)
    balanced = client.submit(6)
    for engine in bench.engines:
        engine.given()
    there = queues(bench, None, True)
    queue, tasks, _ = there[0]
    assert sorted([*queue, *there[1][0]]) == direct
    assert sorted([*tasks, *there[1][1], *there[None]]) == balanced
    assert there[None], "some wait for whichever engine is free first"
    counts = queues(bench)
    assert counts == {0: [4, len(tasks), 0], 1: [0, len(there[1][1]), 0], None: len(there[None])}
    bench.engines[0].finish(*bench.engines[0].queue)
    assert queues(bench, [0])[0][2] == 2
    assert set(queues(bench, [0])) == {0, None}
    bench.forget_what_was_said()


def test_completed_counts_tasks_not_results(bench: Bench):
    bench.start(engines=1)
    (client,) = bench.clients
    (task,) = client.submit(items=10)
    (engine,) = bench.engines
    engine.given()
    engine.finish_items(task, 0, 4)
    assert queues(bench) == {0: [0, 1, 0], None: 0}
    engine.finish_items(task, 4, 10)
    assert queues(bench) == {0: [0, 0, 1], None: 0}
    bench.forget_what_was_said()


def test_queues_of_engines_that_are_not_there(bench: Bench):
    bench.start(engines=1)
    (client,) = bench.clients
    assert "there is no engine 7" in client.error(client.ask(m.QueueQuery, [0, 7]))
