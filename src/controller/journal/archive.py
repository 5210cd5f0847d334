"""What the journal says of tasks that are asked for by id or label, whoever submitted them, and when.

Everything here is a generator that reads a little and yields, so that the journal's thread can write in between; what
it returns is the answer. Rows are messages of many tasks, and every task is looked for in all messages that it may be
in: those whose range of ids, all of one client, holds its own.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import TaskId, show_task
from ...wire.messages import (
    Fetch,
    Fetched,
    Find,
    Found,
    Options,
    Outputs,
    Purge,
    Query,
    Recall,
    Reply,
    Result,
    Results,
    Status,
    Submit,
    TaskInfo,
)
from .ledger import Needed
from .recall import recall
from .rows import first_of_client, ids_of, submissions_of
from .search import search
from .spans import spans

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from ...wire.messages import Output, Task
    from .store import Store

ANSWER_BYTES = 8 << 20
"""An answer is not continued beyond so many bytes of results and output."""

ROWS = 50
"""Submissions that are read at a time."""

STOPPED = "the cluster was stopped before it ended, or could not write its result down"

Answer = tuple[msgspec.Struct, "Sequence[Any]"]

_submit = msgspec.msgpack.Decoder(Submit)
_said = msgspec.msgpack.Decoder(Results | Outputs)
_frames = msgspec.msgpack.Decoder(list[bytes])
_encode = msgspec.msgpack.Encoder().encode


class Archive:
    """Answers questions from a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(
        self, message: Find | Fetch | Purge | Query | Recall | Needed, engines: Mapping[int, int]
    ) -> Generator[None, None, Answer]:
        """Find out what to say; return a message and its frames. `engines` says where tasks are now, for a `Query`."""
        match message:
            case Find(tasks=tasks):
                if tasks is None:
                    return Found(message.request, (yield from self._of_label(message.label))), ()
                found = yield from self._of_ids(tasks)
                known = [found[task] for task in tasks if task in found]
                return Found(message.request, known, [task for task in tasks if task not in found]), ()
            case Fetch():
                return (yield from self._fetch(message))
            case Query():
                return (yield from search(self._store, message, engines))
            case Recall():
                return (yield from recall(self._store, message))
            case Needed(request, tasks):
                parts = yield from self.results_of(tasks)
                divisible = {result.id for result, _ in parts if result.hi}
                # Of one that was forgotten there may be what its client has not confirmed: a part only.
                left = divisible.difference((yield from self._of_ids(divisible)))
                parts = [part for part in parts if part[0].id not in left]
                results = [result for result, _ in parts]
                return Fetched(request, results, [], sorted(left)), [frame for _, frames in parts for frame in frames]
            case Purge():
                self._purge(message.tasks)
                return Reply(message.request, value=True), ()

    # ------------------------------------------------------------------------------------------------ submissions

    def _of_label(self, label: str | None) -> Generator[None, None, list[TaskInfo]]:
        """Return the tasks of a label, in order of submission."""
        infos: list[TaskInfo] = []
        last = 0
        while True:
            rows = self._store.db.execute(
                "SELECT id, at, message FROM submitted JOIN labels ON submission = id"
                " WHERE label = ? AND id > ? ORDER BY id LIMIT ?",
                (label, last, ROWS),
            ).fetchall()
            if not rows:
                return infos
            for last, at, message in rows:  # noqa: B007 - the next rows come after it
                infos += [info for info in _infos(at, _submit.decode(message)) if info.label == label]
            yield

    def _of_ids(self, tasks: Iterable[int]) -> Generator[None, None, dict[int, TaskInfo]]:
        """Return those of the tasks that are known."""
        wanted, found = set(tasks), dict[int, TaskInfo]()
        for task in sorted(wanted):
            if task not in found:
                for row in submissions_of(self._store.db, task):
                    infos = _infos(row.at, _submit.decode(row.message))
                    found.update((info.id, info) for info in infos if info.id in wanted)
                    if task in found:
                        break
                yield
        return found

    # ------------------------------------------------------------------------------------------------ results

    def _fetch(self, message: Fetch) -> Generator[None, None, Answer]:
        infos = yield from self._of_ids(message.tasks)
        unknown = [task for task in message.tasks if task not in infos]
        if unknown:
            sentence = f"task {show_task(TaskId(unknown[0]))} is not known any more"
            return Reply(message.request, error=sentence), ()
        books = {task: _Book(info) for task, info in infos.items()}
        nbytes, over = 0, False
        for row in self._rows(books):
            nbytes += self._read(row, books)
            if nbytes > ANSWER_BYTES and any(book.is_complete for book in books.values()):
                over = True
                break
            yield
        results: list[Result] = []
        outputs: list[Output] = []
        frames: list[Any] = []
        left: list[int] = []
        for task in dict.fromkeys(message.tasks):
            book = books[task]
            if over and not book.is_complete:
                left.append(task)
                continue
            book.fill_gaps()
            outputs += book.outputs
            for result, parts in book.results:
                results.append(result)
                frames += parts
        return Fetched(message.request, results, outputs, left), frames

    def results_of(self, tasks: Iterable[int]) -> Generator[None, None, list[tuple[Result, Sequence[bytes]]]]:
        """Return all results of tasks, whether those are known otherwise or not."""
        books = {task: _Book(TaskInfo(task, 0, None, 0.0, b"")) for task in tasks}
        for row in self._rows(books):
            self._read(row, books)
            yield
        return [part for book in books.values() for part in book.results]

    def _rows(self, tasks: Iterable[int]) -> list[int]:
        """Return which rows may speak of these tasks, the oldest first."""
        rows: set[int] = set()
        for lo, hi in spans((task, task) for task in tasks):
            rows.update(
                row
                for (row,) in self._store.db.execute(
                    "SELECT id FROM delivered WHERE first BETWEEN ? AND ? AND last >= ?", (first_of_client(lo), hi, lo)
                )
            )
        return sorted(rows)

    def _read(self, row: int, books: dict[int, _Book]) -> int:
        """Enter what a row says of these tasks; return how many bytes that is."""
        execute = self._store.db.execute
        found = execute("SELECT message FROM delivered WHERE id = ?", (row,)).fetchone()
        if found is None:
            return 0
        message = _said.decode(found[0])
        nbytes = 0
        if isinstance(message, Outputs):
            for record in message.records:
                book = books.get(record.task)
                if book is not None:
                    book.outputs.append(record)
                    nbytes += len(_encode(record))
            return nbytes
        frames: Sequence[bytes] | None = None
        at = 0
        for result in message.results:
            book = books.get(result.id)
            parts: Sequence[bytes] = ()
            if book is not None and result.frames:
                if frames is None:
                    frames = _frames.decode(execute("SELECT frames FROM delivered WHERE id = ?", (row,)).fetchone()[0])
                parts = frames[at : at + result.frames]
            at += result.frames
            if book is not None and book.enter(result, parts):
                nbytes += len(result.payload) + sum(map(len, parts))
        return nbytes

    # ------------------------------------------------------------------------------------------------ deleting

    def _purge(self, tasks: Iterable[int] | None) -> None:
        """Forget tasks that have ended. All at once: whoever looked in between would find half of it."""
        store = self._store
        with store.transaction():
            if tasks is None:
                store.db.execute("DELETE FROM submitted WHERE ended")
                for row, message, open_ in store.db.execute(
                    "SELECT id, message, open FROM submitted WHERE open IS NOT NULL"
                ).fetchall():
                    submit, left = _submit.decode(message), set(memoryview(open_).cast("q"))
                    self._strike(row, submit, ids_of(submit) - left)
                store.sweep()
            else:
                wanted = set(tasks)
                done: set[int] = set()
                for task in sorted(wanted):
                    if task not in done:
                        for there in list(submissions_of(store.db, task)):
                            done |= self._strike(there.id, _submit.decode(there.message), wanted)
                            if task in done:
                                break
                for lo, hi in spans((task, task) for task in wanted):
                    store.sweep(lo, hi)
            store.db.execute("DELETE FROM labels WHERE submission NOT IN (SELECT id FROM submitted)")
            store.sweep_functions()

    def _strike(self, row: int, message: Submit, wanted: set[int]) -> set[int]:
        """Strike tasks off a submission. Return which were found there."""
        db = self._store.db
        struck: set[int] = set()
        kept, parts, at = [], list[bytes](), 0
        (blob,) = db.execute("SELECT frames FROM submitted WHERE id = ?", (row,)).fetchone()
        frames = _frames.decode(blob) if blob else []
        for task in message.tasks:
            mine = frames[at : at + task.frames]
            at += task.frames
            ids = range(task.id, task.id + max(1, task.copies))
            here = wanted.intersection(ids)
            struck |= here
            for left in _left(task, ids, here, message.options):
                kept.append(left)
                parts += mine
        if not kept:
            db.execute("DELETE FROM submitted WHERE id = ?", (row,))
        elif struck:
            header = _encode(Submit([], message.options, kept, seq=message.seq))
            body = _encode(parts) if parts else None
            db.execute(
                "UPDATE submitted SET message = ?, frames = ?, nbytes = ? WHERE id = ?",
                (header, body, len(header) + len(body or b""), row),
            )
        return struck


class _Book:
    """What has been read of one task."""

    __slots__ = ("_left", "_seen", "info", "outputs", "results")

    def __init__(self, info: TaskInfo) -> None:
        self.info = info
        self.results: list[tuple[Result, Sequence[bytes]]] = []
        self.outputs: list[Output] = []
        self._seen: list[tuple[int, int]] = []
        """The items that have a result: `lo <= i < hi`, sorted."""
        self._left = max(1, info.items)

    @property
    def is_complete(self) -> bool:
        """Whether all there is to come has been read."""
        return self._left <= 0

    def enter(self, result: Result, frames: Sequence[bytes]) -> bool:
        """Take a result, unless it is there already."""
        lo, hi = (result.lo, result.hi) if result.hi > result.lo else (0, max(1, self.info.items))
        at = bisect_left(self._seen, (lo, hi))
        if at < len(self._seen) and self._seen[at][0] == lo:
            return False
        self._seen.insert(at, (lo, hi))
        self._left -= hi - lo
        self.results.append((result, frames))
        return True

    def fill_gaps(self) -> None:
        """What has no result will never have one."""
        at, end = 0, max(1, self.info.items)
        for lo, hi in [*self._seen, (end, end)]:
            if at < lo:
                lost = Result(self.info.id, Status.UNKNOWN, STOPPED.encode())
                if self.info.items:
                    lost.lo, lost.hi = at, lo
                self.results.append((lost, ()))
            at = max(at, hi)


def _infos(at: float, submit: Submit) -> Iterator[TaskInfo]:
    options = submit.options
    for task in submit.tasks:
        label = options[task.options].label if task.options < len(options) else None
        for copy in range(task.copies):  # none for set-up that was registered while there was no engine
            yield TaskInfo(task.id + copy, task.items, label, at, task.function)


def _left(task: Task, ids: range, struck: set[int], options: list[Options]) -> Iterator[Task]:
    """Yield what is left of a task, of which some copies are struck off: each run of others, with options of its own
    (added to these) that have only their targets.
    """
    if not struck:
        yield task
        return
    mine = options[task.options] if task.options < len(options) else Options()
    for first, last in spans(((id_, id_) for id_ in ids if id_ not in struck), gap=1):
        place = first - task.id
        targets = (mine.targets or ())[place : place + last - first + 1]
        options.append(msgspec.structs.replace(mine, targets=targets))
        yield msgspec.structs.replace(task, id=first, copies=last - first + 1, options=len(options) - 1)
