"""Records of tasks: asked of the cluster, some at a time, and made into what people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import TaskId, show_task
from ...wire import messages as m
from ...wire.query import FIELDS, TIME, check_fields, from_ticks, read_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...wire.messages import Queried
    from ..connection.link import Link

Record = dict[str, Any]

ID = "msg_id"

AT_A_TIME = 10_000
"""Tasks that are asked for by id in one query."""

_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode


def query(link: Link, what: dict[str, Any], keys: Sequence[str] | None = None) -> list[Record]:
    """Return the records of tasks that are asked for, in order of submission. See `Client.db_query`."""
    if isinstance(keys, str):
        raise TypeError(f"keys is a list of fields, such as [{keys!r}], not a string")
    wanted = list(FIELDS) if keys is None else check_fields([ID, *keys])
    show = [_shown_as(key) for key in wanted]
    return [
        {key: value if shown is None else shown(value) for key, shown, value in zip(wanted, show, values, strict=True)}
        for values in rows(link, what, wanted)
    ]


def ids(link: Link, what: dict[str, Any]) -> list[int]:
    """Return the ids of tasks that are asked for, in order of submission."""
    return [task for (task,) in rows(link, what, [ID])]


def rows(link: Link, what: dict[str, Any], keys: list[str]) -> Iterable[list[Any]]:
    """Yield these fields of the tasks that are asked for, as they are on the wire."""
    plain, fields = read_query(what)
    places = "engine_id" in fields or "engine_id" in keys
    after = 0
    while True:
        answer: tuple[Queried, Sequence[Any]] = link.request(m.Query, plain, keys, places, after).result()
        message, frames = answer
        for frame in frames:
            yield from _decode(frame)
        after = message.left
        if not after:
            return


def _shown_as(key: str) -> Callable[[Any], Any] | None:
    """Return how a field is shown; None: as it is."""
    if key == ID:
        return _show_id
    return _time if FIELDS[key] == TIME else None


def _show_id(task: int) -> str:
    return show_task(TaskId(task))


def _time(ticks: int | None) -> Any:
    return None if ticks is None else from_ticks(ticks)
