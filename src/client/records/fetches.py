"""Results of tasks that are asked for by id or label, whoever submitted them, and when.

The controller is asked twice: which tasks there are (`Find`), which is answered at once; then what became of them
(`Fetch`), which is answered when they have ended, some tasks at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...errors import NoSuchTask
from ...ids import TaskId, show_task
from ...wire import messages as m
from ..calls.taskids import read_id
from ..results.execution import executed
from ..results.futures import AsyncResult, unpack
from ..results.mapresult import AsyncMapResult, Run
from ..results.metadata import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from ...wire.messages import Fetched, Found, Output, Result, TaskInfo
    from ..connection.link import Link
    from ..connection.sink import Sink
    from ..results.futures import Canceller

AT_A_TIME = 1000
"""Tasks that are asked for in one message."""

ALL = "all"

Tasks = str | int | AsyncResult | list[Any] | tuple[Any, ...]


def get_result(link: Link, cluster: str, tasks: Tasks | None, label: str | None) -> AsyncResult:
    """Return the results of tasks, or of those of a label; NoSuchTask if there is none. See `Client.get_result`."""
    ids, single = named(tasks, label)
    infos = find(link, cluster, ids, label)
    result: AsyncResult
    if single and not infos[0].items:
        result = AsyncResult(link, infos[0].id, infos[0].submitted, m.Options(label=infos[0].label))
        result._convert = converter(infos[0])
        result._fetched = True
    else:
        result = FetchedResult(link, infos, label)
    _Fetch(link, result, [info.id for info in infos]).ask()
    return result


# ------------------------------------------------------------------------------------------------ which tasks


def named(tasks: Tasks | None, label: str | None) -> tuple[list[int] | None, bool]:
    """Return the ids that are named (None: a label is, which is checked), and whether they are a single one."""
    if (tasks is None) == (label is None):
        raise TypeError('name either tasks, by their ids ("3-17"), or a label')
    if tasks is None:
        if not isinstance(label, str):
            raise TypeError(f"label is a string, not {type(label).__name__}")
        return None, False
    if isinstance(tasks, AsyncResult):
        return tasks._task_ids(), tasks._scalar
    if isinstance(tasks, str | int):
        return [read_id(tasks)], True
    ids: list[int] = []
    for task in tasks:
        ids += task._task_ids() if isinstance(task, AsyncResult) else [read_id(task)]
    return list(dict.fromkeys(ids)), False  # the id of a map's task is there once for each run of its items


def find(link: Link, cluster: str, ids: list[int] | None, label: str | None) -> list[TaskInfo]:
    """Return what is known of tasks, or of those of a label; NoSuchTask names what is not."""
    answer: tuple[Found, object] = link.request(m.Find, ids, label).result()
    found = answer[0]
    if found.unknown:
        names = ", ".join(show_task(TaskId(task)) for task in found.unknown[:5])
        what = f"task {names}" if len(found.unknown) == 1 else f"{len(found.unknown)} of the tasks: {names}"
        more = ", ..." if len(found.unknown) > len(found.unknown[:5]) else ""
        raise NoSuchTask(f"cluster {cluster} does not know {what}{more}; {_KEPT}")
    if not found.tasks and label is not None:
        raise NoSuchTask(f"cluster {cluster} does not know a task with the label {label!r}; {_KEPT}")
    return found.tasks


_KEPT = 'results are kept as long, and as far, as "cluster start" was told by --keep and --keep-bytes'


# ------------------------------------------------------------------------------------------------ what became of them


class _Fetch:
    """Brings the results of tasks, some at a time, to one who waits for them. After `ask`, in the I/O thread."""

    def __init__(self, link: Link, sink: Sink, tasks: Sequence[int]) -> None:
        self._link = link
        self._sink = sink
        self._left = list(tasks)

    def ask(self) -> None:
        """Ask for the next tasks, if any are left."""
        some, self._left = self._left[:AT_A_TIME], self._left[AT_A_TIME:]
        if some:
            self._link.request(m.Fetch, some).add_done_callback(self._take)

    def _take(self, request: Future[Any]) -> None:
        try:
            answer: tuple[Fetched, Sequence[Any]] = request.result()
            self._file(*answer)
        except Exception as error:  # whatever it is, nobody is to wait for ever
            self._sink._fail(error)

    def _file(self, message: Fetched, frames: Sequence[Any]) -> None:
        for record in message.outputs:
            self._sink._add_output(record)
        now = time.time()
        for result, parts in zip(message.results, frames, strict=True):  # the frames of each: see `Core`
            self._sink._accept(result, parts, now)
        self._left = message.left + self._left
        self.ask()


class FetchedResult(AsyncMapResult):
    """The results of several tasks, in order: the value of a call, the values of all items of a map's task.

    As AsyncMapResult, it can be iterated as they arrive, and indexed.
    """

    _fetched = True

    def __init__(self, link: Canceller, infos: Sequence[TaskInfo], label: str | None) -> None:
        labels = {info.label for info in infos}
        shared = label if label is not None else labels.pop() if len(labels) == 1 else None
        first = infos[0].id if infos else 0
        submitted = min((info.submitted for info in infos), default=time.time())
        super().__init__(link, first, submitted, m.Options(label=shared))
        self._infos = {info.id: info for info in infos}
        self._calls: dict[int, TaskInfo] = {}
        """Those that are plain calls, by the number of their value."""
        for info in infos:
            if not info.items:
                self._calls[len(self)] = info
            self._add_task(info.id, max(1, info.items))
        self._seal()

    def _new_run(self, lo: int, hi: int, reply: Result, frames: Sequence[Any], now: float) -> Run:
        info = self._calls.get(lo)
        if info is None:
            return super()._new_run(lo, hi, reply, frames, now)
        return _Call(info, lo, Part(info.id, reply, now, self._map_records), frames)

    def _items_in(self, task: int) -> int:
        return self._infos[task].items

    def _part_of(
        self, task: int, reply: Result | None, received: float, outputs: Sequence[Output], data: bytes | None
    ) -> Part:
        info = self._infos[task]
        return Part(task, reply, received, outputs, data, info.submitted, m.Options(label=info.label))


class _Call(Run):
    """The one value, or the error, of a plain call."""

    __slots__ = ("_info", "_records")

    def __init__(self, info: TaskInfo, lo: int, part: Part, frames: Sequence[Any]) -> None:
        assert part.reply is not None
        super().__init__(lo, lo + 1, part.reply, frames, part.received)
        self._info = info
        self._records = part.outputs

    def _read(self, label: str | None) -> tuple[list[Any], Exception | None]:
        convert = converter(self._info)
        value, error = unpack(self.reply, self.frames, self._info.label or label, convert, self._parts)
        return ([value] if error is None else []), error

    def _parts(self) -> list[Part]:
        mine = [record for record in self._records if record.task == self._info.id]
        return [Part(self._info.id, self.reply, self.received, mine)]


def converter(info: TaskInfo) -> Callable[[Any, Part], Any] | None:
    """Return how the value of a task becomes what users get, if that is not as it is."""
    return executed if info.function == b"!execute" else None
