"""One result of several tasks, split into one for each.

The whole keeps everything: what it was split into are futures of their own that look there for values and metadata.
Whoever files a result settles its piece, and so does whoever has just split; each piece is settled by the one of them
that takes it out of the dict, which only one can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import placeholders
from .futures import AsyncResult
from .lightfuture import CANCELLED, FINISHED
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK
from .several import SeveralResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...errors import NoSuchTask
    from ...wire.messages import Output, Result
    from ...wire.parts import Part as Piece
    from .groupresult import GroupResult
    from .mapresult import AsyncMapResult
    from .metadata import Part


class Pieces:
    """What a result was split into, by a number of each."""

    def __init__(self, results: Mapping[int, TaskPiece | ItemsPiece]) -> None:
        self.results: tuple[AsyncResult, ...] = tuple(results.values())
        self._open = dict(results)

    def settle(self, number: int) -> None:
        """All of this piece is here."""
        piece = self._open.pop(number, None)
        if piece is not None:
            piece._arrived()
            _settle(piece)
            piece._notify()

    def notify(self, number: int, *, failed: bool) -> None:
        """Something of this piece is here, which failed or not."""
        piece = self._open.get(number)
        if isinstance(piece, ItemsPiece):
            piece._failed = piece._failed or failed
            piece._notify()

    def fail(self, error: Exception) -> None:
        """What is not here will not come."""
        for number in list(self._open):
            piece = self._open.pop(number, None)
            if piece is not None:
                piece._fail(error)


def _settle(piece: AsyncResult) -> None:
    statuses = piece._statuses()
    piece._settle(CANCELLED if statuses == {STATUS_CANCELLED} else FINISHED, failed=statuses != {OK})


def _forget_together(whole: AsyncResult, gone: NoSuchTask) -> None:
    """A piece is released: so is what was made of all of them, if it was."""
    if whole._opened is not None:
        whole._opened = None, gone


class TaskPiece(AsyncResult):
    """The result of one engine's call of several."""

    def __init__(self, whole: GroupResult, index: int) -> None:
        super().__init__(whole._link, whole._task + index, whole._submitted, whole._options)
        self._client = whole._client
        self._convert = whole._convert
        self._sends, self._tracked = whole._sends, whole._tracked
        self._whole = whole
        self._index = index

    def _arrived(self) -> None:
        part = self._whole._part(self._index)
        self._reply, self._received = part.reply, part.received

    def _open(self) -> tuple[Any, Exception | None]:
        return self._whole._item(self._index)

    def _known(self) -> dict[int, list[Piece]]:
        return {self._task: self._whole._known()[self._task]}

    def _hold(self) -> None:
        self._whole._hold()

    def _parts(self) -> list[Part]:
        return [self._whole._part(self._index)]

    def _release(self) -> NoSuchTask:
        gone = super()._release()
        _forget_together(self._whole, gone)
        self._whole._release_call(self._index, gone)
        return gone

    def _log(self) -> Sequence[Output]:
        return self._whole._group_records[self._index]

    def _engines(self) -> tuple[int, ...]:
        return (self._whole._targets[self._index],)


class ItemsPiece(SeveralResult):
    """The results of the items of one task of a map."""

    _is_map = True
    _what = "items"

    def __init__(self, whole: AsyncMapResult, task: int) -> None:
        super().__init__(whole._link, task, whole._submitted, whole._options)
        self._fetched = whole._fetched
        self._client = whole._client
        self._sends, self._tracked = whole._sends, whole._tracked
        self._whole = whole
        self._first, self._count, _ = whole._tasks[task]

    def _arrived(self) -> None:
        """Nothing is kept here."""

    def __len__(self) -> int:
        return self._count

    def _known(self) -> dict[int, list[Piece]]:
        return {self._task: self._whole._known()[self._task]}

    def _hold(self) -> None:
        self._whole._hold()

    def _read_again(self, reply: Result) -> tuple[Any, Exception | None]:
        return self._whole._read_again(reply)

    def _items_in(self, task: int) -> int:
        return self._whole._items_in(task)

    def _stands_for(self) -> tuple[Any, ...]:
        return placeholders.items_of, ([(self._task, self._items_in(self._task))],)

    def _has(self, index: int) -> bool:
        return self._whole._has(self._first + index)

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        return self._whole._item(self._first + index)

    def _value_engines(self) -> Sequence[int]:
        return self._whole._value_engines()[self._first : self._first + self._count]

    def _parts(self) -> list[Part]:
        return self._whole._parts_of(self._task)

    def _statuses(self) -> set[int]:
        return {part.reply.status for part in self._parts() if part.reply is not None}

    def _open_tasks(self) -> list[int]:
        return [] if self.done() else [self._task]

    def _errors(self) -> list[Exception]:
        return [error for error in self.error if error is not None]

    @property
    def error(self) -> Any:
        """The error of each part that is here, without waiting; None where there is none."""
        return self._whole._errors_of(self._task)

    @property
    def progress(self) -> int:
        """How many items have ended."""
        return self._count - self._whole._tasks[self._task][2]

    def _release(self) -> NoSuchTask:
        gone = super()._release()
        _forget_together(self._whole, gone)
        self._whole._release_task(self._task, gone)
        return gone

    def _log(self) -> Sequence[Output]:
        return [record for record in self._whole._map_records if record.task == self._task]

    def _engines(self) -> tuple[int, ...]:
        return ()

    def _ended_engines(self) -> list[tuple[int, bool]]:
        return []
