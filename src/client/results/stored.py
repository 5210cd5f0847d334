"""Results that travel: what a result that is done becomes when it is pickled and unpickled elsewhere.

It has the value or the error, and the metadata, and needs no client. What is not done cannot travel, for the one who
could tell how it ended is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from ... import placeholders
from .futures import AsyncResult
from .lightfuture import CANCELLED, FINISHED
from .several import SeveralResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...wire.messages import Output
    from ...wire.parts import Part as Piece
    from .metadata import Part


class Kept(NamedTuple):
    """All that is kept of a result."""

    parts: list[Part]
    uuids: list[str | None]
    errors: list[Exception | None]
    """By part."""
    items: list[tuple[Any, Exception | None]]
    engines: list[int]
    """By item."""
    opened: tuple[Any, Exception | None] | None
    """What `get()` returns or raises; None where that is the list of the items."""
    log: list[Output]
    submitted: float
    cancelled: bool
    is_map: bool


def reduced(result: AsyncResult) -> tuple[Any, ...]:
    """Return what pickling wants of a result; TypeError if it is not done."""
    if not result.done():
        raise TypeError(f"{result!r} is not done, and only then it can be pickled: wait() for it, or send its get()")
    opened: tuple[Any, Exception | None] | None = result._open()
    items: list[tuple[Any, Exception | None]] = []
    if isinstance(result, SeveralResult):
        items = [result._item(index) for index in range(len(result))]
        if result._assemble is None and not any(error for _, error in items):
            opened = None
    kept = Kept(
        [_light(part) for part in result._parts()],
        _listed(result, result.engine_uuid),
        _listed(result, result.error),
        items,
        list(result._value_engines()),
        opened,
        list(result._log()),
        result._submitted,
        result.cancelled(),
        result._is_map,
    )
    return restored, (not result._scalar, *kept)


def _listed(result: AsyncResult, value: Any) -> list[Any]:
    return [value] if result._scalar else value


def _light(part: Part) -> Part:
    """Return a part without what its value was made of."""
    return part if part.reply is None else part._replace(reply=replace(part.reply, payload=b"", frames=0, objects=()))


def restored(several: bool, *kept: Any) -> AsyncResult:
    """Return a result that travelled."""
    return StoredResults(Kept(*kept)) if several else StoredResult(Kept(*kept))


class StoredResult(AsyncResult):
    """The result of one task, unpickled: done, with its value or error and metadata, and without a client."""

    _link: Any = None

    def __init__(self, kept: Kept) -> None:
        part = kept.parts[0]
        super().__init__(None, part.task, kept.submitted, part.options)  # type: ignore[arg-type] # nothing is asked of it
        self._reply, self._received, self._data = part.reply, part.received, part.data
        self._records = kept.log
        self._opened = kept.opened
        self._uuid = kept.uuids[0]
        self._state = CANCELLED if kept.cancelled else FINISHED

    def _uuid_of(self, _part: Part) -> str | None:
        return self._uuid


class StoredResults(SeveralResult):
    """The results of several tasks, unpickled: done, with their values or errors and metadata, and without a client."""

    def __init__(self, kept: Kept) -> None:
        first = kept.parts[0].task if kept.parts else 0
        super().__init__(None, first, kept.submitted, None)  # type: ignore[arg-type] # nothing is asked of it
        self._kept = kept
        self._is_map = kept.is_map
        if kept.opened is not None:
            self._opened = kept.opened
            value = kept.opened[0]
            self._assemble = lambda _values: value
        self._state = CANCELLED if kept.cancelled else FINISHED

    def _known(self) -> dict[int, list[Piece]]:
        known: dict[int, list[Piece]] = {part.task: [] for part in self._kept.parts}
        for part in self._kept.parts:
            if part.reply is not None:
                known[part.task].append((part.reply, ()))
        return known

    def _stands_for(self) -> tuple[Any, ...]:
        return placeholders.itself, (self._outcome(),)  # it has no tasks here

    def _has(self, _index: int) -> bool:
        return True

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        return self._kept.items[index]

    def __len__(self) -> int:
        return len(self._kept.items)

    def _value_engines(self) -> Sequence[int]:
        return self._kept.engines

    def _parts(self) -> list[Part]:
        return self._kept.parts

    def _statuses(self) -> set[int]:
        return {part.reply.status for part in self._kept.parts if part.reply is not None}

    @property
    def engine_uuid(self) -> Any:
        """The engine's process that ran each, as text."""
        return self._kept.uuids

    @property
    def error(self) -> Any:
        """The error of each; None if there is none."""
        return self._kept.errors

    @property
    def progress(self) -> int:
        """How many had ended: all."""
        return len(self._kept.items)

    def _errors(self) -> list[Exception]:
        return [error for error in self._kept.errors if error is not None]

    def _log(self) -> Sequence[Output]:
        return self._kept.log

    def _engines(self) -> tuple[int, ...]:
        return () if self._is_map else tuple(dict.fromkeys(engine for engine in self._kept.engines if engine >= 0))

    def _ended_engines(self) -> list[tuple[int, bool]]:
        pairs = [(part.reply.engine, part.reply.status != 0) for part in self._kept.parts if part.reply is not None]
        return [] if self._is_map else list(dict(pairs).items())
