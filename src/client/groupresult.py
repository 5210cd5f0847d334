"""`GroupResult`: the results of one call on each of several engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import placeholders
from .futures import DATA, AsyncResult, Part, raise_errors, unpack
from .lightfuture import CANCELLED, FINISHED
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..wire.messages import Output, Result
    from .futures import Canceller


class GroupResult(AsyncResult):
    """The results of one call on each of several engines: a list, in order of the engines.

        result = client[:].apply_async(os.getpid)
        for pid in result: ...               # in order, each as soon as it is there
        result.get_dict()                    # by engine id

    If one engine's call failed, `get()` raises its error; if several did, CompositeError.
    """

    _scalar = False

    def __init__(
        self,
        link: Canceller,
        task: int,
        submitted: float,
        label: str | None,
        targets: Sequence[int],
    ) -> None:
        super().__init__(link, task, submitted, label)
        self._targets = tuple(targets)
        self._replies: list[tuple[Result, Sequence[Any], float] | None] = [None] * len(targets)
        self._records = []
        self._group_records: list[list[Output]] = [[] for _ in targets]
        self._group_data: list[bytes | None] = [None] * len(targets)
        self._items: list[tuple[Any, Exception | None] | None] = [None] * len(targets)
        self._left = len(targets)
        self._assemble: Callable[[list[Any]], Any] | None = None
        if not targets:
            self._settle()

    def accept(self, reply: Result, frames: Sequence[Any], now: float) -> bool:
        """Take the result of one engine."""
        index = reply.id - self._task
        if self._replies[index] is None:
            self._replies[index] = (reply, frames, now)
            self._left -= 1
            self._notify()
            if not self._left:
                statuses = self._statuses()
                state = CANCELLED if statuses == {STATUS_CANCELLED} else FINISHED
                self._settle(state, failed=statuses != {OK})
        return True

    def add_output(self, record: Output) -> None:
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

    def _statuses(self) -> set[int]:
        return {kept[0].status for kept in self._replies if kept is not None}

    def _parts(self) -> list[Part]:
        return [self._part(index) for index in range(len(self._replies))]

    def _part(self, index: int) -> Part:
        kept = self._replies[index]
        reply, received = (None, 0.0) if kept is None else (kept[0], kept[2])
        return Part(self._task + index, reply, received, self._group_records[index], self._group_data[index])

    def _engines(self) -> tuple[int, ...]:
        return self._targets

    def _ended_engines(self) -> list[tuple[int, bool]]:
        pairs = zip(self._targets, self._replies, strict=True)
        return [(engine, kept[0].status != OK) for engine, kept in pairs if kept is not None]

    def _errors(self) -> list[Exception]:
        there = [self._item(index)[1] for index, kept in enumerate(self._replies) if kept is not None]
        return [error for error in there if error is not None]

    def _total(self) -> int:
        return len(self._targets)

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        """Return the value of one engine, or None and its error. It must be there, or nothing more be expected."""
        item = self._items[index]
        if item is None:
            kept = self._replies[index]
            if kept is None:
                return None, self._lost
            item = self._items[index] = unpack(
                kept[0], kept[1], self._label, self._convert, lambda: [self._part(index)]
            )
            if not self._needed:
                self._replies[index] = (kept[0], (), kept[2])
                if item[1] is None:
                    kept[0].payload = b""
        return item

    def _read(self) -> tuple[Any, Exception | None]:
        items = [self._item(index) for index in range(len(self._replies))]
        if self._lost is not None and self._left:
            return None, self._lost  # one misfortune, not one for each engine
        try:
            raise_errors([error for _, error in items if error is not None], f"of {len(items)} calls")
            values = [value for value, _ in items]
            return (values if self._assemble is None else self._assemble(values)), None
        except Exception as error:
            return None, error

    def _known(self) -> dict[int, list[tuple[Result, Sequence[Any]]]]:
        return {
            self._task + index: [] if kept is None else [kept[:2]] for index, kept in enumerate(self._replies.copy())
        }

    def _read_again(self, reply: Result) -> tuple[Any, Exception | None]:
        return self._item(reply.id - self._task)

    def _stands_for(self) -> tuple[Any, ...]:
        tasks = range(self._task, self._task + len(self._replies))
        return placeholders.values_of, (tasks, self._convert, self._assemble)

    def _values(self) -> list[Any]:
        items = [self._item(index) for index in range(len(self._replies))]
        return [value if error is None else error for value, error in items]

    def _wait_item(self, index: int) -> Any:
        if self._replies[index] is None and not self.done():
            self._wait_for(lambda: self._replies[index] is not None or self.done())
        value, error = self._item(index)
        if error is not None:
            raise error
        return value

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self._wait_item(index)

    def __len__(self) -> int:
        return len(self._targets)

    def __bool__(self) -> bool:
        return True  # a result, even if of no engine

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            index = key + len(self) if key < 0 else key
            if not 0 <= index < len(self):
                raise IndexError(f"result {key} of {len(self)}")
            return self._wait_item(index)
        if isinstance(key, slice):
            return [self._wait_item(index) for index in range(*key.indices(len(self)))]
        return super().__getitem__(key)

    def get_dict(self, timeout: float | None = None) -> dict[int, Any]:
        """Return the values by engine id, as `get()`."""
        return dict(zip(self._targets, self.get(timeout), strict=True))
