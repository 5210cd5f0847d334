"""`AsyncResult.join`: several results as one."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ... import placeholders
from .futures import AsyncResult
from .lightfuture import CANCELLED, FINISHED
from .outcomes import CANCELLED as STATUS_CANCELLED
from .outcomes import OK
from .several import SeveralResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...errors import NoSuchTask
    from ...wire.messages import Output, Result
    from ...wire.parts import Part as Piece
    from .metadata import Part


_joining = threading.Lock()


class JoinedResult(SeveralResult):
    """Several results as one, of any kinds: `AsyncResult.join(a, b, c)`.

    Its value is one list: the value of a call, and all values of a result of several, in the order in which they were
    joined. Its metadata are lists likewise. What was joined stays what it is.
    """

    def __init__(self, results: Sequence[AsyncResult]) -> None:
        self._joined = joined = _flat(results)
        first = joined[0] if joined else None
        super().__init__(
            None if first is None else first._link,  # type: ignore[arg-type] # all is asked of the parts
            0 if first is None else first._task,
            min((result._submitted for result in joined), default=time.time()),
            None,
        )
        self._client = None if first is None else first._client
        self._ends = list(accumulate(len(r) if isinstance(r, SeveralResult) else 1 for r in joined))
        self._sends = [sent for result in joined for sent in result._sends or ()]
        self._tracked = all(result._tracked for result in joined)
        self._pending = len(joined)
        self._lock = threading.Lock()
        self._merged: list[Output] = []
        self._taken = [0] * len(joined)
        if not joined:
            self._settle()
        for result in joined:
            if isinstance(result, SeveralResult):
                with _joining:
                    result._listeners += (lambda one=result: self._hear(one),)  # type: ignore[misc] # bound now
            result.add_done_callback(self._one_done)

    # ---------------------------------------------------------------- what happens to the parts

    def _hear(self, result: AsyncResult) -> None:
        if result._failed if isinstance(result, SeveralResult) else has_failed(result):
            self._failed = True  # never written otherwise: parts may be of several clients, each with its own thread
        self._notify()

    def _one_done(self, result: Any) -> None:
        with self._lock:
            self._pending -= 1
            last = not self._pending
        if has_failed(result):
            self._failed = True
        if last:
            cancelled = all(one.cancelled() for one in self._joined)
            self._settle(CANCELLED if cancelled else FINISHED, failed=any(map(has_failed, self._joined)))
        self._notify()

    def _check_wait(self) -> None:
        for result in self._joined:
            if not result.done():
                result._check_wait()

    # ---------------------------------------------------------------- values

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _place(self, index: int) -> tuple[AsyncResult, int]:
        """Return of which result an item is, and which item there."""
        number = bisect_right(self._ends, index)
        return self._joined[number], index - (self._ends[number - 1] if number else 0)

    def _has(self, index: int) -> bool:
        result, place = self._place(index)
        return result._has(place) if isinstance(result, SeveralResult) else result.done()

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        result, place = self._place(index)
        return result._item(place) if isinstance(result, SeveralResult) else result._open()

    def _collect(self) -> tuple[list[Any], list[Exception]]:
        values: list[Any] = []
        errors: dict[int, Exception] = {}
        for result in self._joined:
            some, wrong = result._collect()
            values += some
            errors.update((id(error), error) for error in wrong)
        return values, list(errors.values())

    def _value_engines(self) -> Sequence[int]:
        return [engine for result in self._joined for engine in result._value_engines()]

    # ---------------------------------------------------------------- as an argument

    def _known(self) -> dict[int, list[Piece]]:
        return {task: parts for result in self._joined for task, parts in result._known().items()}

    def _hold(self) -> None:
        super()._hold()
        for result in self._joined:
            result._hold()

    @cached_property
    def _owners(self) -> dict[int, AsyncResult]:
        return {task: result for result in self._joined for task in result._known()}

    def _read_again(self, reply: Result) -> tuple[Any, Exception | None]:
        return self._owners[reply.id]._read_again(reply)

    def _items_in(self, task: int) -> int:
        return self._owners[task]._items_in(task)

    def _is_by_id(self, task: int) -> bool:
        return self._owners[task]._is_by_id(task)

    def _is_sealed(self) -> bool:
        return all(result._is_sealed() for result in self._joined)

    def _stands_for(self) -> tuple[Any, ...]:
        parts = [(*result._placeholder(), isinstance(result, SeveralResult)) for result in self._joined]
        return placeholders.joined_of, (parts,)

    def split(self) -> tuple[AsyncResult, ...]:
        """Return a result for each task of those that were joined. See `AsyncResult.split`."""
        return tuple(piece for result in self._joined for piece in result.split())

    # ---------------------------------------------------------------- stopping

    def cancel(self, *, grace_s: float | None = None, interrupt: bool = True) -> bool:
        """Stop all that is not done, as `AsyncResult.cancel`; return True if some were stopped and none runs on."""
        todo: dict[int, list[AsyncResult]] = {}
        for result in self._joined:
            if not result.done():
                todo.setdefault(id(result._link), []).append(result)
        asked = []
        for results in todo.values():
            tasks = [task for result in results for task in result._open_tasks()]
            asked.append((results[0]._link.cancel(tasks, grace_s=grace_s, interrupt=interrupt), results))
        for reply, results in asked:
            if not results[0]._link.may_wait():
                return False
            stopped = reply.result()
            for result in results:
                result._await_stopped(stopped)
        return self._is_over() and STATUS_CANCELLED in self._statuses()

    def _is_over(self) -> bool:
        """Return whether all parts are done; and if so, have it done."""
        return all(result.done() for result in self._joined) and self._wait_done(None)

    def _await_stopped(self, stopped: list[int]) -> None:
        for result in self._joined:
            result._await_stopped(stopped)
        self._is_over()

    def _release(self) -> NoSuchTask:
        for result in self._joined:
            result._release()
        return super()._release()

    def _abandon(self) -> None:
        for result in self._joined:
            if not result.done():
                result._abandon()

    def _open_tasks(self) -> list[int]:
        return [task for result in self._joined for task in result._open_tasks()]

    def _statuses(self) -> set[int]:
        return {status for result in self._joined for status in result._statuses()}

    # ---------------------------------------------------------------- metadata

    def _of_all(self, name: str) -> list[Any]:
        found: list[Any] = []
        for result in self._joined:
            value = getattr(result, name)
            found += [value] if result._scalar else value
        return found

    def _parts(self) -> list[Part]:
        return [part for result in self._joined for part in result._parts()]

    @property
    def engine_uuid(self) -> Any:
        """The engine's process that ran each, as text."""
        return self._of_all("engine_uuid")

    @property
    def status(self) -> Any:
        """How each has ended, or `pending`."""
        return self._of_all("status")

    @property
    def error(self) -> Any:
        """The error of each, without waiting: None while it is pending, or if there is none."""
        return self._of_all("error")

    @property
    def progress(self) -> int:
        """How many calls and items have ended."""
        return sum(result.progress for result in self._joined)

    def _errors(self) -> list[Exception]:
        return [error for result in self._joined for error in result._errors()]

    # ---------------------------------------------------------------- output

    @property
    def _late(self) -> Callable[[Output], bool] | None:
        return None

    @_late.setter
    def _late(self, take: Callable[[Output], bool] | None) -> None:
        for result in self._joined:
            result._late = take

    def _log(self) -> Sequence[Output]:
        with self._lock:
            for number, result in enumerate(self._joined):
                log = result._log()[self._taken[number] :]
                self._taken[number] += len(log)
                self._merged += log
        return self._merged

    def _engines(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(engine for result in self._joined for engine in result._engines()))

    def _ended_engines(self) -> list[tuple[int, bool]]:
        if not self.done():
            return []  # another of its results may be of the same engine
        failed: dict[int, bool] = {}
        for result in self._joined:
            for engine, wrong in result._ended_engines():
                failed[engine] = failed.get(engine, False) or wrong
        return list(failed.items())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._joined)} results: {self.progress} of {len(self)} done>"


def _flat(results: Sequence[Any]) -> list[AsyncResult]:
    joined: list[AsyncResult] = []
    for result in results:
        if not isinstance(result, AsyncResult):
            raise TypeError(f"join takes results, not {type(result).__name__}: AsyncResult.join(a, b)")
        joined += result._joined if isinstance(result, JoinedResult) else [result]
    return joined


def has_failed(result: AsyncResult) -> bool:
    """Return whether a result that is done has something else than a value."""
    return result._lost is not None or bool(result._statuses() - {OK})
