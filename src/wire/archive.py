"""Messages about tasks that are asked for by id or label: of any client, and of earlier runs of the cluster too.

See `messages`, which they belong to, and whose `VERSION` covers them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .parts import Count, Function, Options, Output, Result, Task, TaskNo  # noqa: TC001 - msgspec reads the annotations


class TaskInfo(msgspec.Struct, array_like=True, gc=False):
    """What is known of a task since it was submitted."""

    id: int
    items: Count = 0
    """As `Task.items`."""
    label: str | None = None
    submitted: float = 0.0
    """Seconds since the epoch, by the controller's clock."""
    function: bytes = b""
    """Digest of its function."""


class Find(msgspec.Struct, array_like=True, tag=True):
    """Which tasks are these, or (tasks None) have that label? Answered by `Found` at once (from a client)."""

    request: int
    tasks: list[TaskNo] | None = None
    label: str | None = None


class Found(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Find`: in the order asked for, or for a label that of submission."""

    request: int
    tasks: list[TaskInfo]
    unknown: list[int] = []
    """Of the tasks asked for, those that the cluster does not know, or not any more."""


class Fetch(msgspec.Struct, array_like=True, tag=True):
    """What became of these tasks? Answered by `Fetched` when all of them have ended (from a client)."""

    request: int
    tasks: list[TaskNo]


class Fetched(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Fetch`, as much of it as one message should hold: all output and all results of some of the tasks,
    with frames in order of the results.
    """

    request: int
    results: list[Result]
    outputs: list[Output]
    left: list[int] = []
    """The other tasks, to be fetched next."""


class Purge(msgspec.Struct, array_like=True, tag=True):
    """Forget these tasks, or (None) all that have ended, with their results and output (from a client). Answered by a
    `Reply` when that is done.
    """

    request: int
    tasks: list[TaskNo] | None = None


class Query(msgspec.Struct, array_like=True, tag=True):
    """Which tasks have such records? Answered by `Queried`, or by a `Reply` that says what is wrong with the query
    (from a client).
    """

    request: int
    query: Any
    """As `wire.query` has it."""
    keys: list[str]
    """The fields that are wanted of each, each named once."""
    places: bool = False
    """It is asked where tasks are now: their `engine_id` is in the query, or wanted."""
    after: Count = 0
    """Go on from there: what `Queried.left` said."""


class Queried(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Query`, as much of it as one message should hold. Each frame is a MessagePack list of records, in
    order of submission; a record is the list of its fields in the order asked for: `msg_id` as an integer, times in
    microseconds since 1970.
    """

    request: int
    frames: Count = 0
    left: Count = 0
    """There may be more, to be asked for with this as `after`; 0: that was all."""


class Recall(msgspec.Struct, array_like=True, tag=True):
    """What was submitted as these tasks? Answered by `Recalled`, or by a `Reply` naming one of which that is not known
    any more (from a client).
    """

    request: int
    tasks: list[TaskNo]


class Recalled(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Recall`, as much of it as one message should hold: what a `Submit` of some of these tasks would
    be, with frames in order of the tasks. Copies of one call that were asked for one after another are one task again.
    """

    request: int
    functions: list[Function]
    options: list[Options]
    tasks: list[Task]
    left: list[int] = []
    """The other tasks, to be recalled next."""
