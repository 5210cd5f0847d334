"""Which tasks have such records: a query, answered from the journal.

As `archive`, this reads a little and yields. Submissions are read in order, some at a time; then, if it matters what
became of their tasks, the results that may be of these. Of a million tasks no more than some hundred are in memory, and
what has been found of them: at most an answer's worth, then whoever asks has to ask for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...ids import COUNT_BITS
from ...wire.messages import Options, Queried, Reply, Results, Submit
from .query import ALWAYS, read_plan
from .rows import ids_of, submissions_of
from .spans import GAP, spans
from .subjects import Subject, ticks

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from ...wire.messages import Query
    from .query import Plan
    from .store import Store

ANSWER_BYTES = 8 << 20
"""An answer is not continued beyond so many bytes."""

WINDOW = 500
"""So many rows are looked through for submissions at a time."""

STEP = 200
"""So many tasks, or results, are looked at between two steps: some hundred microseconds. Meanwhile the controller waits
for the interpreter, and its own writing."""

_submit = msgspec.msgpack.Decoder(Submit)
_results = msgspec.msgpack.Decoder(Results)
_encode = msgspec.msgpack.Encoder().encode


class _Row(NamedTuple):
    """A submission, without what it says."""

    id: int
    first: int
    last: int


def search(
    store: Store, message: Query, engines: Mapping[int, int]
) -> Generator[None, None, tuple[msgspec.Struct, Sequence[bytes]]]:
    """Answer a query; return a message and its frames. `engines` says where tasks are now, by id."""
    try:
        plan = read_plan(message.query, message.keys)
    except ValueError as error:
        return Reply(message.request, error=str(error)), ()
    reader = _Reader(store, plan, engines)
    frames: list[bytes] = []
    nbytes = 0
    for rows in reader.rows(message.after):
        yield
        if rows:
            tasks = yield from reader.tasks(rows)
            for at in range(0, len(tasks), STEP):
                some = tasks[at : at + STEP]
                if plan.late is not None:
                    some = list(filter(plan.late, some))
                if some:
                    frames.append(_encode([[get(task) for get in plan.getters] for task in some]))
                    nbytes += len(frames[-1])
                yield
            if nbytes > ANSWER_BYTES:
                return Queried(message.request, len(frames), rows[-1].id), frames
    return Queried(message.request, len(frames)), frames


class _Reader:
    """Reads what a plan asks for."""

    def __init__(self, store: Store, plan: Plan, engines: Mapping[int, int]) -> None:
        self._db = store.db
        self._execute = store.db.execute
        self._plan = plan
        self._engines = engines
        self._reaches: dict[int, _Reach] = {}
        """By client."""

    # ------------------------------------------------------------------------------------------------ submissions

    def rows(self, after: int) -> Iterator[list[_Row]]:
        """Yield the submissions after that one which may have tasks that are asked for, in order, as many together as
        is quick; or none, after a look at some that do not.
        """
        last = self._last()
        if self._plan.ids is not None:
            yield from self._named(self._plan.ids, after)
            return
        where, values = self._where()
        while after < last:
            since = self._next(after)
            if since is None:
                return
            after = min(since + WINDOW, last)
            rows = self._execute(
                f"SELECT id, first, last FROM submitted WHERE id BETWEEN ? AND ?{where} ORDER BY id",  # noqa: S608 - words of our own
                (since, after, *values),
            ).fetchall()
            yield from _together([_Row(*row) for row in rows]) if rows else [[]]

    def _named(self, ids: frozenset[int], after: int) -> Iterator[list[_Row]]:
        """Yield the submissions of these tasks, as `rows` does."""
        left, named, looked = set(ids), dict[int, _Row](), 0
        for task in sorted(ids):
            if task not in left:
                continue
            for row in submissions_of(self._db, task):
                there = ids_of(_submit.decode(row.message))
                looked += len(there)
                if task in there:
                    left -= there
                    named[row.id] = _Row(row.id, row.first, row.last)
                    break
            if looked >= STEP:
                looked = 0
                yield []
        yield from _together(named[id_] for id_ in sorted(named) if id_ > after)

    def _last(self) -> int:
        """Return the last submission there is now: who asks while others submit is answered in the end."""
        return int(self._execute("SELECT max(id) FROM submitted").fetchone()[0] or 0)

    def _next(self, after: int) -> int | None:
        """Return the first row after that one that may matter."""
        if self._plan.labels is None:
            found = [self._execute("SELECT min(id) FROM submitted WHERE id > ?", (after,)).fetchone()[0]]
        else:
            found = [
                self._execute(
                    "SELECT min(submission) FROM labels WHERE label = ? AND submission > ?", (label, after)
                ).fetchone()[0]
                for label in self._plan.labels
            ]
        return min((row for row in found if row is not None), default=None)

    def _where(self) -> tuple[str, list[Any]]:
        """Return what can be asked of the rows themselves."""
        plan, where, values = self._plan, "", list[Any]()
        if plan.labels is not None:
            marks = ", ".join("?" * len(plan.labels))
            where += " AND EXISTS (SELECT 1 FROM labels WHERE submission = submitted.id AND label IN"
            where += f" ({marks}))"
            values += plan.labels
        if plan.clients is not None:
            where += f" AND client IN ({', '.join('?' * len(plan.clients))})"
            values += plan.clients
        if plan.since > 0 or plan.until < ALWAYS:
            where += " AND at BETWEEN ? AND ?"  # a little wider than asked, for rounding
            values += [(plan.since - 1) / 1e6, (plan.until + 1) / 1e6]
        return where, values

    # ------------------------------------------------------------------------------------------------ tasks

    def tasks(self, rows: list[_Row]) -> Generator[None, None, list[Subject]]:
        """Return the tasks of these submissions that meet the early conditions, with what became of them."""
        early, tasks = self._plan.early, list[Subject]()
        for row in rows:
            for some in self._submitted(row.id):
                tasks += some if early is None else filter(early, some)
                yield
        if tasks and self._plan.reads_results:
            yield from self._read_results(tasks)
        return tasks

    def _submitted(self, row: int) -> Iterator[list[Subject]]:
        """Yield the tasks of a submission, some at a time."""
        found = self._execute("SELECT client, at, ended, open, message FROM submitted WHERE id = ?", (row,)).fetchone()
        if found is None:
            return  # purged meanwhile
        client, at, ended, blob, message = found
        submit, at, over = _submit.decode(message), ticks(at) or 0, bool(ended)
        is_open = None if blob is None else frozenset(memoryview(blob).cast("q"))
        options, default, ids = submit.options, Options(), self._plan.ids
        for place in range(0, len(submit.tasks), STEP):
            some = [
                Subject(
                    task.id + copy,
                    client,
                    task.items,
                    task.function,
                    options[task.options] if task.options < len(options) else default,
                    copy,
                    at,
                    over,
                )
                for task in submit.tasks[place : place + STEP]
                for copy in range(task.copies)
                if ids is None or task.id + copy in ids
            ]
            if is_open is not None:
                for subject in some:
                    subject.is_over = over or subject.id not in is_open
            if self._engines:
                for subject in some:
                    subject.engine = self._engines.get(subject.id)
            yield some

    # ------------------------------------------------------------------------------------------------ results

    def _read_results(self, tasks: list[Subject]) -> Generator[None, None, None]:
        """Enter what became of these tasks."""
        by_id = {task.id: task for task in tasks}
        for lo, hi in spans((id_, id_) for id_ in by_id):
            no = lo >> COUNT_BITS
            reach = self._reaches.setdefault(no, _Reach(self._execute, no))
            looked = 0
            for row in reach.rows(lo, hi):
                looked += self._enter(row, by_id)
                if looked >= STEP:
                    looked = 0
                    yield

    def _enter(self, row: int, tasks: Mapping[int, Subject]) -> int:
        """Enter what a row says of these tasks; return how many results were looked at, and one more."""
        found = self._execute("SELECT at, message FROM delivered WHERE id = ? AND results", (row,)).fetchone()
        if found is None:
            return 1  # output, or purged meanwhile
        results = _results.decode(found[1]).results
        for result in results:
            task = tasks.get(result.id)
            if task is not None:
                task.enter(result, found[0])
        return len(results) + 1


class _Reach:
    """Which rows with results, or output, speak of a client's tasks; for ranges of ids that mostly go up, so that a
    million rows are not looked through for each.
    """

    def __init__(self, execute: Any, client: int) -> None:
        self._execute = execute
        self._begin = client << COUNT_BITS
        self._near: list[tuple[int, int, int]] = []
        """Those that begin up to `_up_to` and end at or after `_from`: `(first, last, row)`."""
        self._from = self._begin
        self._up_to = self._begin - 1
        self._known = 0
        """All rows up to this one have been looked at, as far as that goes."""

    def rows(self, lo: int, hi: int) -> list[int]:
        """Return the rows that may speak of tasks of that range, in order."""
        if lo < self._from:
            self._near, self._up_to = [], self._begin - 1
        else:
            self._near = [near for near in self._near if near[1] >= lo - GAP]
        self._from = max(self._begin, lo - GAP)
        if self._up_to >= self._begin:  # what has come since, of what was looked for before
            self._near += self._execute(
                "SELECT first, last, id FROM delivered NOT INDEXED"  # by what is new, that is
                " WHERE id > ? AND first BETWEEN ? AND ? AND last >= ?",
                (self._known, self._begin, self._up_to, self._from),
            ).fetchall()
        if hi > self._up_to:
            self._near += self._execute(
                "SELECT first, last, id FROM delivered WHERE first > ? AND first <= ? AND last >= ?",
                (self._up_to, hi, self._from),
            ).fetchall()
            self._up_to = hi
        self._known = int(self._execute("SELECT max(id) FROM delivered").fetchone()[0] or 0)
        return sorted(row for first, last, row in self._near if first <= hi and last >= lo)


def _together(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield rows in order, as many together as have few tasks."""
    some: list[_Row] = []
    size = 0
    for row in rows:
        if some and size + row.last - row.first >= STEP:
            yield some
            some, size = [], 0
        some.append(row)
        size += row.last - row.first + 1
    if some:
        yield some
