"""Tasks submitted again, whoever did so first: what they were is asked of the cluster, and submitted as ours."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from ...wire import messages as m
from ..connection.core import Entry
from ..results.futures import AsyncResult
from ..results.groupresult import GroupResult
from ..results.mapresult import AsyncMapResult
from .fetches import FetchedResult, converter, find, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...wire.messages import Function, Options, Recalled, Task, TaskInfo
    from ..connection.link import Link
    from .fetches import Tasks
    from .records import Records

AT_A_TIME = 1000
"""Tasks that are asked for in one message."""

_KINDS = (AsyncResult, GroupResult, AsyncMapResult)
"""Of these, what is submitted again is of the same kind; of others (joined, split, fetched) it is a `FetchedResult`."""

Calls = list[tuple["Task", "Options", "Sequence[Any]", "Function"]]
"""What was submitted, in order."""


def resubmit(client: Records, tasks: Tasks | None, label: str | None) -> AsyncResult:
    """Submit tasks again and return the results to come. See `Client.resubmit`."""
    link = client._link
    ids, single = named(tasks, label)
    infos = find(link, client._cluster, ids, label)
    calls = _recall(link, [info.id for info in infos])  # all of them before the first is submitted
    first, now = link.new_tasks(len(infos)), time.time()
    if isinstance(tasks, AsyncResult) and type(tasks) in _KINDS:
        result = _like(tasks, first, now, infos, calls)
        result._client = client
    elif single and not infos[0].items:
        result = AsyncResult(link, first, now, m.Options(label=infos[0].label))
        result._convert = converter(infos[0])
    else:
        fresh = [msgspec.structs.replace(info, id=first + place, submitted=now) for place, info in enumerate(infos)]
        result = FetchedResult(link, fresh, label)
    at = first
    for task, options, frames, function in calls:
        again = msgspec.structs.replace(task, id=at, options=0)
        at += task.copies
        link.submit(result, Entry(again, function, options, frames), now)
    return result


def _recall(link: Link, ids: list[int]) -> Calls:
    """Ask what was submitted as these tasks."""
    calls: Calls = []
    functions: dict[bytes, Function] = {}
    left = deque(ids)
    while left:
        some = [left.popleft() for _ in range(min(AT_A_TIME, len(left)))]
        answer: tuple[Recalled, Sequence[Any]] = link.request(m.Recall, some).result()
        message, frames = answer
        functions.update((function.digest, function) for function in message.functions)
        at = 0
        for task in message.tasks:
            function = functions.setdefault(task.function, m.Function(task.function, b""))  # one built in has no pickle
            calls.append((task, message.options[task.options], frames[at : at + task.frames], function))
            at += task.frames
        left.extendleft(reversed(message.left))
    return calls


def _like(old: AsyncResult, first: int, now: float, infos: list[TaskInfo], calls: Calls) -> AsyncResult:
    """Return a result of the same kind, for tasks whose ids are those from `first` on."""
    link = old._link
    told = m.Options(label=infos[0].label if infos else None)
    result: AsyncResult
    if isinstance(old, AsyncMapResult):
        result = mapped = AsyncMapResult(
            link, first, now, told, ordered=old._ordered, return_exceptions=old._return_exceptions
        )
        for place, info in enumerate(infos):
            mapped._add_task(first + place, info.items)
        mapped._seal()
    elif isinstance(old, GroupResult):
        targets = [target for _, options, _, _ in calls for target in options.targets or ()]
        result = group = GroupResult(link, first, now, told, targets)
        group._assemble = old._assemble
    else:
        result = AsyncResult(link, first, now, told)
    result._convert = old._convert
    return result
