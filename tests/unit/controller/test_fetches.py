"""Tasks that are asked for by id or label: the core decides when, the archive reads what, here one after the other."""

from __future__ import annotations

import msgspec
import pytest
from enginery.controller.core import Core
from enginery.controller.fetches import NO_JOURNAL
from enginery.controller.journal import archive
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.restore import restore
from enginery.controller.journal.store import IN_MEMORY, Store
from enginery.controller.outbox import Envelope, Turn
from enginery.ids import show_task
from enginery.wire import messages as m

from unit.controller.bench import Bench

OK, ERROR, CANCELLED, UNKNOWN = m.Status.OK, m.Status.ERROR, m.Status.CANCELLED, m.Status.UNKNOWN


class Journaled(Bench):
    """A bench whose core has a journal: what a turn has to write is written at once, and lookups are answered in it."""

    def __init__(self):
        super().__init__()
        self.store = Store(IN_MEMORY)
        self.begin("first")

    def begin(self, life):
        """Have a controller that goes on from the journal."""
        epoch = self.store.begin(life)
        state = restore(self.store.load(), "bench", epoch, self.store.last_client(), self.now)
        self.core = Core("bench", 42, self.now, state)
        self._take, self.core.take = self.core.take, self._write_and_look
        self.sides, self.engines, self.clients, self.nannies = {}, [], [], []
        return self

    def _write_and_look(self):
        turn = self._take()
        purging = any(isinstance(lookup.message, m.Purge) for lookup in turn.lookups)
        self.store.commit(turn.entries, self.core.summary() if purging else None)
        answers = [Envelope(lookup.peer, *look(self.store, lookup.message, lookup.engines)) for lookup in turn.lookups]
        return Turn([], turn.messages + answers)


def look(store, message, engines):
    """Answer a question, however many steps that takes."""
    steps = Archive(store).answer(message, engines)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def bench():
    bench = Journaled()
    yield bench
    bench.forget_what_was_said()


def finish(bench, *ids, **how):
    """Have whatever engine has these tasks finish them."""
    for id_ in ids:
        engine = next(e for e in bench.engines if e.given() is not None and id_ in e.queue)
        engine.finish(id_, **how)


def find(client, **what):
    client.ask(m.Find, **what)
    return client.take(m.Found)


def fetch(client, ids):
    """Ask for tasks that have ended; return the results with their frames, and the output, by task."""
    results, outputs = {}, {}
    while ids:
        client.ask(m.Fetch, ids)
        (message, frames), *others = client.take_all(m.Fetched)
        assert not others
        for result in message.results:
            parts, frames = frames[: result.frames], frames[result.frames :]
            results.setdefault(result.id, []).append((m.Status(result.status), result.payload, parts))
        assert not frames
        for record in message.outputs:
            outputs.setdefault(record.task, []).append(record.data)
        assert len(message.left) < len(ids), "it gets nowhere"
        ids = message.left
    return results, outputs


def error_of(client):
    return client.take(m.Reply).error


def test_another_client_finds_and_fetches_by_id(bench):
    submitter, other = bench.start(engines=2, clients=2).clients
    first, second = submitter.submit(2, label="training")
    finish(bench, first, payload=b"one", frames=[b"array"])
    finish(bench, second, status=ERROR, payload=b"failure")
    assert [(i.id, i.label, i.items, i.function) for i in find(other, tasks=[second, first]).tasks] == [
        (second, "training", 0, b"f"),
        (first, "training", 0, b"f"),
    ]
    results, _ = fetch(other, [first, second])
    assert results == {first: [(OK, b"one", [b"array"])], second: [(ERROR, b"failure", [])]}


def test_a_label_finds_its_tasks_in_order_of_submission(bench):
    one, two = bench.start(clients=2).clients
    a = one.submit(2, label="x")
    b = two.submit(1, label="x")
    c = one.submit(1, label="y")
    d = one.submit(1, label="x")
    assert [info.id for info in find(two, label="x").tasks] == [*a, *b, *d]
    assert [info.id for info in find(two, label="y").tasks] == c
    assert find(two, label="z").tasks == []


def test_tasks_of_one_message_may_have_different_labels(bench):
    (client,) = bench.start().clients
    ids = client.new_ids(3)
    tasks = [m.Task(id_, b"f", b"", 0, option) for id_, option in zip(ids, (0, 1, 2), strict=True)]
    client.say(m.Submit([m.Function(b"f", b"p")], [m.Options(label="a"), m.Options(label="b"), m.Options()], tasks))
    assert [info.id for info in find(client, label="a").tasks] == [ids[0]]
    assert [info.label for info in find(client, tasks=ids).tasks] == ["a", "b", None]


def test_an_id_that_is_not_known_is_said_to_be(bench):
    (client,) = bench.start().clients
    known = client.submit()
    found = find(client, tasks=[known[0] + 1, known[0], 5, 2**63 - 1])
    assert [info.id for info in found.tasks] == known
    assert found.unknown == [known[0] + 1, 5, 2**63 - 1]
    client.ask(m.Fetch, [known[0] + 1])
    assert error_of(client) == f"task {show_task(known[0] + 1)} is not known any more"


def test_ids_of_messages_that_overlap_are_found(bench):
    (client,) = bench.start().clients
    ids = client.new_ids(5)
    function = m.Function(b"f", b"p")
    client.say(m.Submit([function], [m.Options()], [m.Task(id_, b"f", b"") for id_ in (ids[0], ids[2], ids[4])]))
    client.say(m.Submit([], [m.Options()], [m.Task(id_, b"f", b"") for id_ in (ids[1], ids[3])]))
    assert [info.id for info in find(client, tasks=ids).tasks] == ids


def test_the_answer_waits_until_all_have_ended(bench):
    submitter, other = bench.start(engines=2, clients=2).clients
    a, b = submitter.submit(2)
    request = other.ask(m.Fetch, [a, b])
    finish(bench, a)
    assert other.kinds() == []
    finish(bench, b)
    assert other.take(m.Fetched).request == request
    assert not bench.core.state.sought


def test_a_piece_of_a_divided_task_is_no_end(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    (task,) = submitter.submit(items=10)
    other.ask(m.Fetch, [task])
    engine = bench.engines[0]
    engine.given()
    engine.finish_items(task, 0, 4)
    assert other.kinds() == []
    engine.finish_items(task, 4, 10)
    assert [(r.lo, r.hi) for r in other.take(m.Fetched).results] == [(0, 4), (4, 10)]


def test_the_death_of_the_engine_is_an_end(bench):
    submitter, other = bench.start(clients=2).clients
    (task,) = submitter.submit()
    bench.engines[0].given()
    other.ask(m.Fetch, [task])
    bench.engines[0].die(task)
    assert [result.status for result in other.take(m.Fetched).results] == [m.Status.LOST]


def test_who_asks_again_is_answered_once(bench):
    submitter, other = bench.start(clients=2).clients
    (task,) = submitter.submit()
    question = m.Fetch(7, [task])
    other.say(question)
    other.say(question)
    finish(bench, task)
    assert other.take(m.Fetched).request == 7


def test_who_has_left_is_not_answered(bench):
    submitter, other = bench.start(clients=2).clients
    (task,) = submitter.submit()
    other.ask(m.Fetch, [task])
    other.say(m.Goodbye())
    finish(bench, task)
    assert other.kinds() == []
    assert not bench.core.state.sought


def test_output_comes_with_the_results_of_its_task_only(bench):
    submitter, other = bench.start(clients=2).clients
    a, b = submitter.submit(2)
    engine = bench.engines[0]
    engine.given()
    engine.print(a, "a1", "a2")
    engine.print(b, "b1")
    engine.finish(a, outputs=2)
    engine.finish(b, outputs=1)
    assert fetch(other, [b])[1] == {b: ["b1"]}
    assert fetch(other, [a, b])[1] == {a: ["a1", "a2"], b: ["b1"]}


def test_results_of_a_client_that_is_gone_are_kept(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    done, running = submitter.submit(2, label="x")
    finish(bench, done, payload=b"1")
    submitter.say(m.Goodbye())
    bench.engines[0].print(running, "hello")
    finish(bench, running, payload=b"2", outputs=1)
    results, outputs = fetch(other, [info.id for info in find(other, label="x").tasks])
    assert results == {done: [(OK, b"1", [])], running: [(OK, b"2", [])]}
    assert outputs == {running: ["hello"]}


def test_a_client_that_vanished_has_its_tasks_cancelled_when_it_said_so(bench):
    bench.start(engines=1, clients=1)
    submitter = bench.add_client()
    submitter.say(m.ClientHello(m.VERSION, "script", 7, "here", cancel_on_exit=True, patience_s=3.0))
    submitter.no = submitter.take(m.Welcome).client
    running, waiting = submitter.submit(2, label="x")
    engine = bench.engines[0]
    engine.given()
    bench.unreachable.add(submitter.name)
    bench.core.lost(submitter.name, bench.now)
    bench.advance(2.9)
    assert not engine.interrupted()
    bench.advance(0.2)
    engine.give_back(engine.asked_back(), [waiting])
    assert engine.interrupted() == [running]
    engine.finish(running, status=ERROR, payload=b"KeyboardInterrupt")
    other = bench.clients[0]
    results, _ = fetch(other, [info.id for info in find(other, label="x").tasks])
    assert {id_: [status for status, *_ in some] for id_, some in results.items()} == {
        running: [CANCELLED],
        waiting: [CANCELLED],
    }


def test_the_next_life_of_the_cluster_finds_what_the_last_one_left(bench):
    (submitter,) = bench.start(engines=1).clients
    done, never = submitter.submit(2, label="x")
    (items,) = submitter.submit(items=10, label="x")
    bench.engines[0].given()
    finish(bench, done, payload=b"1")
    bench.engines[0].given()
    bench.engines[0].finish_items(items, 2, 4)
    later = bench.begin("second").start().clients[0]
    assert later.no > submitter.no
    results, _ = fetch(later, [info.id for info in find(later, label="x").tasks])
    assert results[done] == [(OK, b"1", [])]
    assert results[never] == [(UNKNOWN, archive.STOPPED.encode(), [])]
    later.ask(m.Fetch, [items])
    assert [(r.lo, r.hi, r.status) for r in later.take(m.Fetched).results] == [
        (2, 4, OK),
        (0, 2, UNKNOWN),
        (4, 10, UNKNOWN),
    ]


def test_a_controller_that_takes_over_is_asked_again(bench):
    (submitter,) = bench.start(engines=1).clients
    (done, open_) = submitter.submit(2)
    finish(bench, done, payload=b"1")
    submitter.results()
    bench.begin("first")
    bench.sides[submitter.name] = submitter
    submitter.come_back()
    assert submitter.repeated == 0, "it had confirmed the result with its hello"
    assert fetch(submitter, [done])[0] == {done: [(OK, b"1", [])]}
    submitter.ask(m.Fetch, [open_])
    assert submitter.kinds() == []


def test_a_long_answer_comes_in_parts(bench, monkeypatch):
    monkeypatch.setattr(archive, "ANSWER_BYTES", 100)
    submitter, other = bench.start(clients=2).clients
    ids = submitter.submit(5)
    for id_ in ids:
        finish(bench, id_, payload=b"x" * 60)
    other.ask(m.Fetch, ids)
    fetched = other.take(m.Fetched)
    assert ([r.id for r in fetched.results], fetched.left) == (ids[:2], ids[2:])
    assert set(fetch(other, ids)[0]) == set(ids)


def test_more_submissions_than_are_read_at_a_time(bench, monkeypatch):
    monkeypatch.setattr(archive, "ROWS", 2)
    (client,) = bench.start().clients
    ids = [client.submit(1, label="x")[0] for _ in range(5)]
    assert [info.id for info in find(client, label="x").tasks] == ids


def test_direct_calls_are_found_by_the_id_of_each(bench):
    submitter, other = bench.start(engines=2, clients=2).clients
    ids = submitter.submit(1, ordered=True, targets=(0, 1))
    assert len(ids) == 2
    finish(bench, *ids)
    assert [info.id for info in find(other, tasks=ids).tasks] == ids
    assert set(fetch(other, ids)[0]) == set(ids)


def test_what_never_entered_the_books_is_found_refused(bench):
    submitter, other = bench.start(clients=2).clients
    (task,) = submitter.submit(function=b"g", sent=False)
    assert [s for s, *_ in fetch(other, [task])[0][task]] == [m.Status.REFUSED]


def test_without_a_journal_there_is_nothing_to_ask():
    bench = Bench().start()
    client = bench.clients[0]
    for question in (m.Find(1, [5]), m.Fetch(1, [5]), m.Purge(1)):
        client.say(question)
        assert error_of(client) == NO_JOURNAL


def test_a_journal_that_failed_is_not_asked(bench):
    (client,) = bench.start().clients
    (task,) = client.submit()
    client.ask(m.Fetch, [task])
    bench.core.state.journal_failure = "no room"
    client.ask(m.Find, [5])
    assert error_of(client) == "no room"
    finish(bench, task)
    assert error_of(client) == "no room"


# ------------------------------------------------------------------------------------------------ purging


def test_purged_tasks_are_not_known_any_more(bench):
    submitter, other = bench.start(clients=2).clients
    a, b, c = submitter.submit(3, label="x", frames=[b"argument"])
    finish(bench, a, b, c)
    other.ask(m.Purge, [a, c])
    assert other.take(m.Reply).error is None
    assert [info.id for info in find(other, label="x").tasks] == [b]
    assert find(other, tasks=[a, b, c]).unknown == [a, c]
    assert set(fetch(other, [b])[0]) == {b}
    other.ask(m.Purge, [b])
    assert find(other, label="x").tasks == []
    assert rows(bench, "submitted") == rows(bench, "labels") == 0


def test_open_tasks_are_not_purged(bench):
    (client,) = bench.start().clients
    (task,) = client.submit()
    client.ask(m.Purge, [task])
    assert f"task {show_task(task)} has not ended" in error_of(client)
    client.ask(m.Purge)
    client.take(m.Reply)
    assert find(client, tasks=[task]).unknown == []


def test_everything_is_purged_but_what_somebody_needs(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    heard, unheard = submitter.submit(1)[0], None
    finish(bench, heard, payload=b"1")
    submitter.say(m.Ack(1))
    (unheard,) = submitter.submit(1)
    finish(bench, unheard, payload=b"2")
    (open_,) = submitter.submit(1)
    other.ask(m.Purge)
    other.take(m.Reply)
    assert find(other, tasks=[heard, unheard, open_]).unknown == [heard, unheard]
    assert rows(bench, "delivered") == 1, "the client may yet want it"


def test_a_call_on_several_engines_is_purged_as_far_as_is_asked(bench):
    (client,) = bench.start(engines=4).clients
    ids = client.submit(1, ordered=True, targets=(3, 2, 1, 0), frames=[b"array"], label="x")
    finish(bench, *ids)
    client.ask(m.Purge, ids[1:2])
    client.take(m.Reply)
    assert find(client, tasks=ids).unknown == ids[1:2]
    assert [info.id for info in find(client, label="x").tasks] == [ids[0], *ids[2:]]
    client.ask(m.Recall, [ids[0], *ids[2:]])
    ((message, frames),) = client.take_all(m.Recalled)
    assert [message.options[task.options].targets for task in message.tasks] == [(3,), (1, 0)]
    assert frames == [b"array"] * 2
    client.ask(m.Purge, ids[2:])
    client.take(m.Reply)
    client.ask(m.Purge, ids[:1])
    client.take(m.Reply)
    assert find(client, tasks=ids).unknown == ids
    assert rows(bench, "submitted") == 0


# ------------------------------------------------------------------------------------------------ bounds


def rows(bench, table):
    return bench.store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_label_lives_as_long_as_its_tasks(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    ended = submitter.submit(1, label="x")
    open_ = submitter.submit(1, label="x")
    finish(bench, *ended)
    submitter.say(m.Ack(1))
    bench.store.commit([], bench.core.summary())
    bench.store.expire(-1.0, 1 << 30)
    assert [info.id for info in find(other, label="x").tasks] == open_
    assert rows(bench, "delivered") == 0
    assert rows(bench, "labels") == 1


def test_results_are_kept_as_long_as_what_they_are_of(bench):
    """A task that is found has its results, so one without any has not ended."""
    submitter, other = bench.start(engines=1, clients=2).clients
    done, open_ = submitter.submit(2)
    finish(bench, done)
    submitter.say(m.Ack(1))
    bench.store.commit([], bench.core.summary())
    bench.store.expire(-1.0, 0)
    assert set(fetch(other, [done])[0]) == {done}
    finish(bench, open_)
    submitter.say(m.Ack(2))
    bench.store.commit([], bench.core.summary())
    bench.store.expire(-1.0, 0)
    assert find(other, tasks=[done, open_]).unknown == [done, open_]
    assert rows(bench, "delivered") == 0


# ------------------------------------------------------------------------------------------------ records


def query(client, what, *keys):
    """Ask for records; return them, as they are on the wire."""
    client.ask(m.Query, what, list(keys), "engine_id" in (*what, *keys))
    ((message, frames),) = client.take_all(m.Queried)
    assert (message.frames, message.left) == (len(frames), 0)
    return [record for frame in frames for record in msgspec.msgpack.decode(frame)]


def test_records_say_what_the_books_know_and_the_journal_does_not(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    ended, *waiting = submitter.submit(6, label="x")
    finish(bench, ended, duration=10.0)  # so it is not given all the others
    bench.engines[0].given()
    given = list(bench.engines[0].queue)
    assert set(given) < set(waiting), "the others wait"
    assert query(other, {}, "msg_id", "status", "engine_id") == [
        [ended, "ok", 0],
        *([id_, "pending", 0 if id_ in given else None] for id_ in waiting),
    ]
    assert query(other, {"engine_id": 0, "status": "pending"}, "msg_id") == [[id_] for id_ in given]
    assert query(other, {"label": "x", "status": "pending"}, "msg_id") == [[id_] for id_ in waiting]


def test_a_divided_task_is_one_record(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    (task,) = submitter.submit(items=10)
    bench.engines[0].given()
    bench.engines[0].finish_items(task, 0, 4, status=ERROR)
    assert query(other, {}, "status", "items", "completed") == [["pending", 10, None]]
    bench.engines[0].finish_items(task, 4, 10)
    assert query(other, {}, "status", "started", "completed") == [["error", 1_000_000, 1_006_000]]


def test_what_had_not_ended_with_the_cluster_is_unknown(bench):
    (client,) = bench.start().clients
    done, lost = client.submit(2)
    finish(bench, done)
    bench.begin("second").start()
    assert query(bench.clients[0], {}, "msg_id", "status") == [[done, "ok"], [lost, "unknown"]]


def test_a_query_that_is_none_harms_nobody(bench):
    (client,) = bench.start().clients
    client.ask(m.Query, {"labl": "x"}, [])
    assert "a record has no field 'labl'" in error_of(client)
    client.ask(m.Query, {}, ["nonsense"])
    assert "a record has no field 'nonsense'" in error_of(client)
    deep = {}
    for _ in range(500):
        deep = {"$not": deep}
    client.ask(m.Query, deep, [])
    assert error_of(client) == "a query is at most 20 deep"
    assert query(client, {}) == []


def test_tasks_are_recalled_when_their_client_is_gone(bench):
    submitter, other = bench.start(engines=1, clients=2).clients
    (task,) = submitter.submit(label="x", retries=3)
    finish(bench, task)
    submitter.say(m.Goodbye())
    assert not bench.core.state.functions.entries
    other.ask(m.Recall, [task])
    message = other.take(m.Recalled)
    assert message.functions == [m.Function(b"f", b"pickle of f")]
    assert message.options == [m.Options(label="x", retries=3)]
    other.ask(m.Recall, [5])
    assert error_of(other) == "task 0-5 is not known any more"


def test_without_a_journal_there_are_no_records():
    bench = Bench().start()
    (client,) = bench.clients
    for request in (client.ask(m.Query, {}, []), client.ask(m.Recall, [5])):
        assert client.inbox.popleft()[0] == m.Reply(request, error=NO_JOURNAL)
