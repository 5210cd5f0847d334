"""Objects in shared memory, as people see them: which there are, where, and who holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import holders
from ...errors import ObjectLost
from ...markup import Markup, table
from ...wire import messages as m
from ...wire.objects import show_object
from ...wire.stock import ObjectRecord, read_stock
from ..results.refs import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..connection.link import Link

ROWS_MAX = 64
"""Objects that are shown a row each."""


class ObjectList(list[ObjectRecord]):
    """What `client.objects()` returns: a list of records, which shows itself as a table."""

    def __repr__(self) -> str:
        rows = [holders.HEADERS, *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(holders.HEADERS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._sum(), *lines] if self else [self._sum()])

    def _repr_html_(self) -> str:
        return Markup(self._sum()) + table(holders.HEADERS, self._rows()) if self else Markup(self._sum())

    def _rows(self) -> Sequence[tuple[str, ...]]:
        rows = [holders.row(record) for record in self[:ROWS_MAX]]
        more = len(self) - len(rows)
        return [*rows, (f"and {more:,} more", "", "", "")] if more > 0 else rows

    def _sum(self) -> str:
        if not self:
            return "no objects"
        size = holders.amount(sum(record.nbytes for record in self))
        return f"{holders.counted(len(self))}, {size}"


def find_objects(link: Link, ids: list[bytes] | None = None) -> ObjectList:
    """Return what is known of all objects, or of these."""
    answer: Any = link.request(m.ObjectsQuery, ids).result()
    return ObjectList(read_stock(answer).objects)


def explain(link: Link, ref: ObjectRef | str) -> str:
    """Return why an object is kept. See `Client.explain`."""
    if isinstance(ref, ObjectRef):
        lease = ref._find_lease()
        if lease is None:
            return f"{ref!r} has no object in shared memory"
        name, records = show_object(lease.info.id), find_objects(link, [lease.info.id])
    elif isinstance(ref, str):
        name, records = ref, find_objects(link)
    else:
        raise TypeError(f"an object is named by its ObjectRef, or its id as text, not {type(ref).__name__}")
    for record in records:
        if show_object(record.id) == name:
            return holders.explain(record)
    raise ObjectLost(f"there is no object {name}; client.objects() shows those that there are")
