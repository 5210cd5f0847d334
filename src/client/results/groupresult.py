"""`GroupResult`: the results of one call on each of several engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import placeholders
from .futures import DATA, AsyncResult, unpack
from .leases import Lease
from .lightfuture import CANCELLED, FINISHED
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK
from .several import SeveralResult
from .splitting import Pieces, TaskPiece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...errors import NoSuchTask
    from ...wire.messages import Options, Output, Result
    from ...wire.parts import Part as Piece
    from .futures import Canceller
    from .metadata import Part


class GroupResult(SeveralResult):
    """The results of one call on each of several engines: a list, in order of the engines.

        result = client[:].apply_async(os.getpid)
        for pid in result: ...               # in order, each as soon as it is there
        result.get_dict()                    # by engine id

    If one engine's call failed, `get()` raises its error; if several did, CompositeError.
    """

    _what = "calls"

    def __init__(
        self,
        link: Canceller,
        task: int,
        submitted: float,
        options: Options | None,
        targets: Sequence[int],
    ) -> None:
        super().__init__(link, task, submitted, options)
        self._targets = tuple(targets)
        self._replies: list[tuple[Result, Sequence[Any], float] | None] = [None] * len(targets)
        self._records = []
        self._group_records: list[list[Output]] = [[] for _ in targets]
        self._group_data: list[bytes | None] = [None] * len(targets)
        self._items: list[tuple[Any, Exception | None] | None] = [None] * len(targets)
        self._left = len(targets)
        if not targets:
            self._settle()

    def _accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take the result of one engine."""
        index = reply.id - self._task
        if self._replies[index] is None:
            self._replies[index] = (reply, frames, now)
            self._left -= 1
            if reply.status != OK:
                self._failed = True
            if self._pieces is not None:
                self._pieces.settle(index)
            self._notify()
            if not self._left:
                statuses = self._statuses()
                state = CANCELLED if statuses == {STATUS_CANCELLED} else FINISHED
                self._settle(state, failed=statuses != {OK})
        return True

    def _add_output(self, record: Output) -> None:
        """Take something that one engine printed, displayed or published."""
        index = record.task - self._task
        if record.kind == DATA:
            self._group_data[index] = record.data
            return
        if self._late is not None and self._late(record):
            return
        self._group_records[index].append(record)
        assert self._records is not None
        self._records.append(record)

    # ---------------------------------------------------------------- values

    def _has(self, index: int) -> bool:
        return self._replies[index] is not None

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        item = self._items[index]
        if item is not None:
            return item
        kept = self._replies[index]
        if kept is None:
            return None, self._lost
        item = unpack(kept[0], kept[1], self._label, self._convert, lambda: [self._part(index)])
        if self._items[index] is None:
            self._items[index] = item
        if not (self._needed or type(kept[1]) is Lease):
            self._replies[index] = (kept[0], (), kept[2])  # after that: who reads what is gone finds what was read
            if item[1] is None:
                kept[0].payload = b""
        return self._items[index] or item

    def _read(self) -> tuple[Any, Exception | None]:
        if self._lost is not None and self._left:
            return None, self._lost  # one misfortune, not one for each engine
        return super()._read()

    def _release(self) -> NoSuchTask:
        gone = super()._release()
        for place in range(len(self._items)):
            self._release_call(place, gone)
        return gone

    def _release_call(self, place: int, gone: NoSuchTask) -> None:
        """Hold the value of one engine no longer."""
        self._items[place] = None, gone
        kept = self._replies[place]
        if kept is not None:
            reply, _, received = kept
            self._replies[place] = reply, (), received
            reply.payload = b""

    def _value_engines(self) -> Sequence[int]:
        return self._targets

    def __len__(self) -> int:
        return len(self._targets)

    def split(self) -> tuple[AsyncResult, ...]:
        """Return a result for each engine's call, in order of the engines. See `AsyncResult.split`."""
        pieces = self._pieces
        if pieces is None:
            fresh = Pieces({index: TaskPiece(self, index) for index in range(len(self))})
            pieces = self.__dict__.setdefault("_pieces", fresh)
            for index in range(len(self)):
                if self._has(index):
                    pieces.settle(index)
            if self._lost is not None:
                pieces.fail(self._lost)
        return pieces.results

    # ---------------------------------------------------------------- metadata

    def _statuses(self) -> set[int]:
        return {kept[0].status for kept in self._replies if kept is not None}

    def _parts(self) -> list[Part]:
        return [self._part(index) for index in range(len(self._replies))]

    def _part(self, index: int) -> Part:
        kept = self._replies[index]
        reply, received = (None, 0.0) if kept is None else (kept[0], kept[2])
        return self._part_of(self._task + index, reply, received, self._group_records[index], self._group_data[index])

    @property
    def error(self) -> Any:
        """The error of each engine's call, without waiting: None while it is pending, or if there is none."""
        return [self._item(index)[1] if self._has(index) else self._lost for index in range(len(self))]

    def _engines(self) -> tuple[int, ...]:
        return self._targets

    def _ended_engines(self) -> list[tuple[int, bool]]:
        pairs = zip(self._targets, self._replies, strict=True)
        return [(engine, kept[0].status != OK) for engine, kept in pairs if kept is not None]

    def _errors(self) -> list[Exception]:
        there = [self._item(index)[1] for index, kept in enumerate(self._replies) if kept is not None]
        return [error for error in there if error is not None]

    # ---------------------------------------------------------------- as an argument

    def _known(self) -> dict[int, list[Piece]]:
        return {
            self._task + index: [] if kept is None else [kept[:2]] for index, kept in enumerate(self._replies.copy())
        }

    def _read_again(self, reply: Result) -> tuple[Any, Exception | None]:
        return self._item(reply.id - self._task)

    def _stands_for(self) -> tuple[Any, ...]:
        tasks = range(self._task, self._task + len(self._replies))
        return placeholders.values_of, (tasks, self._convert, self._assemble)
