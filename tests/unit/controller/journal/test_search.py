"""Queries, answered from a journal: the same as if every record were looked at by plain Python."""

from __future__ import annotations

import datetime as dt
import fnmatch
import random
from types import SimpleNamespace

import msgspec
import pytest
from enginery.controller.journal import ledger as l
from enginery.controller.journal import search as search_module
from enginery.controller.journal import store as store_module
from enginery.controller.journal.archive import Archive
from enginery.controller.journal.store import IN_MEMORY, Store
from enginery.controller.journal.subjects import GETTERS, OF_RESULTS, ticks
from enginery.ids import ClientNo, TaskId, client_of, first_task_id, show_task
from enginery.wire import messages as m
from enginery.wire.parts import Dependency
from enginery.wire.query import FIELDS, OPERATORS

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
BEGAN = 1_750_000_000
LABELS = (None, "a", "b", "train-1", "train-2", "Train")
WORST = [
    "ok",
    "cancelled",
    "error",
    "unmet",
    "impossible",
    "inherited",
    "invalid",
    "refused",
    "timeout",
    "lost",
    "unknown",
]
SEEDS = range(12)


# ------------------------------------------------------------------------------------------------ the reference


def kind(value):
    for types, name in ((bool, "bool"), ((int, float), "number"), (str, "text"), (dt.datetime, "time")):
        if isinstance(value, types):
            return name
    return type(value).__name__


def equal(a, b):
    return kind(a) == kind(b) and a == b


def holds(value, name, operand):
    match name:
        case "$eq":
            return equal(value, operand)
        case "$ne":
            return not equal(value, operand)
        case "$in":
            return any(equal(value, one) for one in operand)
        case "$nin":
            return not any(equal(value, one) for one in operand)
        case "$exists":
            return (value is not None) == operand
        case "$glob":
            return isinstance(value, str) and fnmatch.fnmatchcase(value, operand)
        case "$not":
            return not suits(value, operand)
        case "$and":
            return all(suits(value, one) for one in operand)
        case "$or":
            return any(suits(value, one) for one in operand)
    if kind(value) != kind(operand) or kind(value) not in ("number", "text", "time"):
        return False
    return {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}[name]


def suits(value, wanted):
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return all(holds(value, name, operand) for name, operand in wanted.items())
    return equal(value, wanted)


def matches(record, query):
    """Say whether a record is asked for, the slow way."""
    for name, wanted in query.items():
        if name == "$and":
            good = all(matches(record, one) for one in wanted)
        elif name == "$or":
            good = any(matches(record, one) for one in wanted)
        elif name == "$not":
            good = not matches(record, wanted)
        else:
            good = suits(record[name], wanted)
        if not good:
            return False
    return True


# ------------------------------------------------------------------------------------------------ the world


class World:
    """A journal with tasks of some clients, and the records that it should give."""

    def __init__(self, seed, monkeypatch):
        self.rng = random.Random(seed)
        self.clock = float(BEGAN)
        monkeypatch.setattr(store_module, "time", SimpleNamespace(time=lambda: self.clock))
        self.store = Store(IN_MEMORY)
        self.store.begin("one")
        self.counts = {1: 0, 2: 0, 5: 0}
        self.records = {}
        self.left = {}
        """The runs of items (of a plain call: one of none) of which no result has come, by task."""
        self.engines = {}
        for _ in range(14):
            self.rng.choice([self.submit, self.submit, self.end_some])()
        self.end_some()
        self.over = {task for task in self.left if self.left[task] and self.rng.random() < 0.3}
        open_ = sorted(task for task, runs in self.left.items() if runs and task not in self.over)
        self.store.commit([], l.Summary([], open_))
        for task in open_:
            if self.rng.random() < 0.5:
                self.engines[task] = self.records[task]["engine_id"] = self.records[task]["engine_id"] or 4
        for task in self.over:
            self.records[task]["status"] = "unknown"

    def submit(self):
        rng, no = self.rng, self.rng.choice(list(self.counts))
        self.clock += rng.choice([0.0, 0.25, 3.123456])
        options = [self.options() for _ in range(2)]
        tasks = []
        for _ in range(rng.randint(1, 6)):
            place = rng.randint(0, 2)  # one of them is none
            mine = options[place] if place < 2 else m.Options()
            copies = len(mine.targets) if mine.ordered else 1
            id_ = first_task_id(ClientNo(no)) + self.counts[no] + rng.choice([0, 0, 2])
            self.counts[no] = id_ + copies - first_task_id(ClientNo(no))
            items = 0 if mine.ordered else rng.choice([0, 0, 6])
            task = m.Task(id_, rng.choice([b"fgh", b"!execute"]), b"", 0, place, items, copies)
            tasks.append(task)
            for copy in range(copies):
                self.records[id_ + copy] = self.record(no, task, mine, copy)
                runs = rng.choice([[(0, 6)], [(0, 2), (2, 6)]]) if items else [(0, 0)]
                self.left[id_ + copy] = list(runs)
        self.store.commit([l.Submitted(no, m.Submit([], options, tasks), ())])

    def options(self):
        rng = self.rng
        ordered = rng.random() < 0.3
        return m.Options(
            targets=rng.choice([(0, 1), (2,)]) if ordered or rng.random() < 0.3 else None,
            priority=rng.randint(-1, 2),
            retries=rng.randint(0, 1),
            timeout_s=rng.choice([None, 1.5, 60.0]),
            label=rng.choice(LABELS),
            ordered=ordered,
            after=rng.choice([None, Dependency((first_task_id(ClientNo(1)), first_task_id(ClientNo(2)) + 3))]),
            resources=rng.choice([(), (("gpu", 1.0),)]),
        )

    def record(self, no, task, options, copy):
        targets = None if options.targets is None else list(options.targets)
        return {
            "msg_id": show_task(TaskId(task.id + copy)),
            "label": options.label,
            "status": "pending",
            "client": no,
            "engine_id": None,
            "submitted": self.now(),
            "started": None,
            "completed": None,
            "received": None,
            "duration": None,
            "items": task.items or None,
            "function": "!execute" if task.function[:1] == b"!" else task.function.hex(),
            "targets": [targets[copy]] if options.ordered else targets,
            "retries": options.retries,
            "priority": options.priority,
            "timeout": options.timeout_s,
            "resources": dict(options.resources),
            "after": None if options.after is None else [show_task(TaskId(task)) for task in options.after.tasks],
            "follow": None,
        }

    def now(self):
        return EPOCH + dt.timedelta(microseconds=round(self.clock * 1e6))

    def end_some(self):
        """Have results of some tasks of each client, in one message, and perhaps another one with the same again."""
        rng = self.rng
        self.clock += rng.choice([0.0, 1.0])
        for no in self.counts:
            some = [task for task, runs in self.left.items() if runs and client_of(task) == no and rng.random() < 0.5]
            results = []
            for task in rng.sample(some, len(some)):
                results += [self.end(task, *run) for run in list(self.left[task]) if rng.random() < 0.8]
            if results:
                said = l.Delivered(no, m.Results(results))
                printed = l.Delivered(no, m.Outputs([m.Output(results[0].id, "stdout", "x")]))
                self.store.commit(rng.choice([[said, printed], [said, printed, said]]))

    def end(self, task, lo, hi):
        rng, record = self.rng, self.records[task]
        self.left[task].remove((lo, hi))
        status = rng.choice([m.Status.OK] * 4 + list(m.Status))
        started = rng.choice([0.0, BEGAN + rng.randint(0, 9) + 0.5])
        duration = rng.choice([0.25, 2.0]) if started else 0.0
        engine = rng.randint(0, 3) if started else -1
        before = record.setdefault("_status", "ok")
        record["_status"] = max(before, status.name.lower(), key=WORST.index)
        ends = EPOCH + dt.timedelta(seconds=started + duration)
        if started:
            begins = EPOCH + dt.timedelta(seconds=started)
            record["started"] = min(record["started"] or begins, begins)
            record["duration"] = (record["duration"] or 0.0) + duration
            if record.setdefault("_ended", ends) <= ends:
                record["_ended"], record["engine_id"] = ends, engine
        if not self.left[task]:
            record["status"] = record["_status"]
            record["completed"] = record.get("_ended")
            record["received"] = self.now()
        return m.Result(task, status, b"v", 0, engine, started, duration, 0, lo, hi)

    def expected(self, query):
        rows = {id_: row for row, id_ in enumerate(self.records)}
        return [self.public(id_) for id_ in rows if matches(self.public(id_), query)]

    def public(self, id_):
        return {key: value for key, value in self.records[id_].items() if not key.startswith("_")}

    def ask(self, query, keys=tuple(FIELDS)):
        return ask(self.store, query, keys, self.engines)

    # -- queries

    def query(self, depth=0):
        rng = self.rng
        query = {}
        for _ in range(rng.choice([0, 1, 1, 2, 3]) if depth else rng.choice([1, 1, 2, 3])):
            if depth < 3 and rng.random() < 0.25:
                name = rng.choice(["$and", "$or", "$not"])
                query[name] = self.query(depth + 1) if name == "$not" else self.several(self.query, depth)
            else:
                field = rng.choice([*FIELDS, "label", "status", "msg_id", "submitted"])
                query[field] = self.wanted(field, depth)
        return query

    def wanted(self, field, depth):
        rng = self.rng
        if rng.random() < 0.3:
            return self.value(field)
        wanted = {}
        for _ in range(rng.choice([1, 1, 2])):
            name = rng.choice(OPERATORS)
            if name in ("$in", "$nin"):
                wanted[name] = [self.value(field) for _ in range(rng.randint(0, 4))]
            elif name == "$exists":
                wanted[name] = rng.random() < 0.5
            elif name == "$glob":
                wanted[name] = rng.choice(["*", "train-?", "[ab]", "1-*", "*o*", "T*"])
            elif name == "$not" and depth < 3:
                wanted[name] = self.wanted(field, depth + 1)
            elif name in ("$and", "$or") and depth < 3:
                wanted[name] = self.several(lambda deep: self.wanted(field, deep), depth)
            elif name in ("$not", "$and", "$or"):
                wanted["$ne"] = self.value(field)
            else:
                wanted[name] = self.value(field)
        return wanted

    def several(self, make, depth):
        return [make(depth + 1) for _ in range(self.rng.randint(1, 3))]

    def value(self, field):
        """Return what some record has there, mostly; else something of whatever kind."""
        rng = self.rng
        if rng.random() < 0.75:
            return self.public(rng.choice(list(self.records)))[field]
        return rng.choice([None, True, 0, 1, 1.5, "ok", "77-7", "nonsense", self.now(), [0], {}, -3])


def ask(store, query, keys=tuple(FIELDS), engines=None):
    """Ask until all is answered; return the records as users get them."""
    found, after, steps = [], 0, 0
    while True:
        answer = Archive(store).answer(m.Query(1, query, list(keys), after=after), engines or {})
        while True:
            try:
                next(answer)
                steps += 1
            except StopIteration as end:
                message, frames = end.value
                break
        assert isinstance(message, m.Queried), message
        assert message.frames == len(frames)
        for frame in frames:
            for values in msgspec.msgpack.decode(frame):
                record = dict(zip(keys, values, strict=True))
                for key, value in record.items():
                    if key == "msg_id":
                        record[key] = show_task(TaskId(value))
                    elif FIELDS[key] == "time" and value is not None:
                        record[key] = EPOCH + dt.timedelta(microseconds=value)
                found.append(record)
        assert message.left == 0 or message.left > after, "it gets nowhere"
        after = message.left
        if not after:
            return found


@pytest.mark.parametrize("seed", SEEDS)
def test_records_are_what_was_submitted_and_what_became_of_it(seed, monkeypatch):
    world = World(seed, monkeypatch)
    assert len(world.records) > 10
    assert world.ask({}) == world.expected({})


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_are_those_of_plain_python(seed, monkeypatch):
    world = World(seed, monkeypatch)
    monkeypatch.setattr(search_module, "ANSWER_BYTES", world.rng.choice([1, 300, 1 << 20]))
    monkeypatch.setattr(search_module, "STEP", world.rng.choice([1, 4, 200]))
    monkeypatch.setattr(search_module, "WINDOW", world.rng.choice([1, 3, 500]))
    some, sizes = 0, set()
    for _ in range(60):
        query = world.query()
        expected = world.expected(query)
        assert world.ask(query) == expected, query
        sizes.add(len(expected))
        some += 0 < len(expected) < len(world.records)
    assert some > 10, "most of these queries ask for nothing or all"


def test_the_fields_are_those_that_are_declared():
    assert list(GETTERS) == list(FIELDS)
    assert set(FIELDS) > OF_RESULTS


def test_times_are_rounded_as_those_of_results():
    rng = random.Random(1)
    for _ in range(2000):
        seconds = BEGAN + rng.random() * 1000
        assert EPOCH + dt.timedelta(microseconds=ticks(seconds)) == dt.datetime.fromtimestamp(seconds, dt.UTC)


# ------------------------------------------------------------------------------------------------ by hand

FIRST = first_task_id(ClientNo(1))


@pytest.fixture
def store():
    store = Store(IN_MEMORY)
    store.begin("one")
    return store


def submitted(first, count=1, **options):
    tasks = [m.Task(first + i, b"f", b"arguments") for i in range(count)]
    return l.Submitted(1, m.Submit([], [m.Options(**options)], tasks), ())


def delivered(*ids):
    return l.Delivered(1, m.Results([m.Result(id_, m.Status.OK, b"value", engine=2, started=5.0) for id_ in ids]), ())


def ids(store, query):
    return [record["msg_id"] for record in ask(store, query, ["msg_id"])]


def test_what_comes_while_it_is_asked_is_seen_and_what_was_over_is_not_forgotten(store, monkeypatch):
    """Results that come in the midst are found, wherever they are in the order of ids."""
    monkeypatch.setattr(search_module, "STEP", 1)
    store.commit([submitted(FIRST), submitted(FIRST + 1), submitted(FIRST + 2)])
    store.commit([delivered(FIRST)])
    answer = Archive(store).answer(m.Query(1, {}, ["msg_id", "status"]), {})
    for _ in range(4):
        next(answer)
    store.commit([delivered(FIRST + 1, FIRST + 2)], l.Summary([], []))
    with pytest.raises(StopIteration) as end:
        while True:
            next(answer)
    records = [record for frame in end.value.value[1] for record in msgspec.msgpack.decode(frame)]
    assert [id_ for id_, _ in records] == [FIRST, FIRST + 1, FIRST + 2]
    assert {status for _, status in records} == {"ok"}


def test_ids_that_do_not_go_up_are_found(store):
    store.commit([submitted(FIRST + 5000), delivered(FIRST + 5000), submitted(FIRST), delivered(FIRST)])
    assert ids(store, {"status": "ok"}) == ["1-5000", "1-0"]


def test_where_a_task_is_now(store):
    store.commit([submitted(FIRST, 3), delivered(FIRST)])
    records = ask(store, {}, ["status", "engine_id"], {FIRST + 1: 7, FIRST: 9})
    assert [(r["status"], r["engine_id"]) for r in records] == [("ok", 2), ("pending", 7), ("pending", None)]


def test_by_id_little_is_read(store, monkeypatch):
    store.commit([submitted(FIRST + i, label=str(i % 7)) for i in range(50)])
    read = []
    decode = search_module._submit.decode
    monkeypatch.setattr(search_module, "_submit", SimpleNamespace(decode=lambda blob: read.append(1) or decode(blob)))
    assert ids(store, {"msg_id": {"$in": ["1-3", "1-40", "9-9", None, 4]}}) == ["1-3", "1-40"]
    assert len(read) == 4, "each is found, then read"
    read.clear()
    assert len(ids(store, {"label": "3"})) == 7
    assert len(read) == 7
    assert len(ids(store, {"$and": [{"label": {"$in": ["3", "4"]}}, {"label": "4"}]})) == 7
    assert len(read) == 14
    assert ids(store, {"client": 2}) == []
    assert ids(store, {"client": {"$in": [1e300, float("nan"), (1 << 63) - 1, 0.5]}}) == [], "of none of those numbers"
    assert ids(store, {"submitted": {"$gt": dt.datetime(2100, 1, 1, tzinfo=dt.UTC)}}) == []
    assert len(read) == 14


def test_of_what_is_far_apart_the_results_between_are_not_read(store, monkeypatch):
    for first in range(FIRST, FIRST + 100_000, 2000):
        store.commit([submitted(first), delivered(first)])
    read = []
    enter = search_module._Reader._enter
    monkeypatch.setattr(
        search_module._Reader, "_enter", lambda self, row, tasks: read.append(row) or enter(self, row, tasks)
    )
    assert ids(store, {"msg_id": {"$in": ["1-0", "1-90000"]}, "status": "ok"}) == ["1-0", "1-90000"]
    assert read == [1, 46]


def test_what_is_purged_is_gone(store):
    store.commit([submitted(FIRST, 3, label="x"), delivered(FIRST, FIRST + 1, FIRST + 2)], l.Summary([], []))
    purge(store, [FIRST + 1])
    assert ids(store, {}) == ids(store, {"label": "x"}) == ["1-0", "1-2"]
    purge(store, None)
    assert ids(store, {}) == ids(store, {"label": "x"}) == []


def test_all_that_has_ended_is_purged_also_of_messages_of_which_some_has_not(store):
    store.commit([submitted(FIRST, 3), delivered(FIRST, FIRST + 2)], l.Summary([], [FIRST + 1]))
    purge(store, None)
    assert ids(store, {}) == ["1-1"]


def purge(store, tasks):
    with pytest.raises(StopIteration):
        next(Archive(store).answer(m.Purge(1, tasks), {}))


def test_a_query_that_is_none_is_answered(store):
    with pytest.raises(StopIteration) as end:
        next(Archive(store).answer(m.Query(4, {"labl": 1}, []), {}))
    message, _ = end.value.value
    assert message.request == 4
    assert "no field 'labl'" in message.error
