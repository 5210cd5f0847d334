"""Values of other tasks that a call was given with its arguments: each is unpickled once, where it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ids import TaskId, show_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..wire.messages import Result
    from ..wire.parts import Part


class GivenValues:
    """What placeholders stand for, by task."""

    def __init__(self, results: Iterable[Part], load: Callable[[bytes, Sequence[Any]], Any]) -> None:
        self._load = load
        self._results: dict[int, list[Part]] = {}
        for result, frames in results:
            self._results.setdefault(result.id, []).append((result, frames))
        self._values: dict[int, Any] = {}

    def value(self, task: int) -> Any:
        """Return the value of a plain call."""
        if task not in self._values:
            (part,) = self._parts(task)
            self._values[task] = self._unpickle(*part)
        return self._values[task]

    def items(self, task: int, count: int) -> list[Any]:
        """Return the values of all items of a divisible call, in order."""
        if task not in self._values:
            values: list[Any] = []
            for result, frames in sorted(self._parts(task), key=lambda part: part[0].lo):
                if result.lo != len(values):
                    break
                values += self._unpickle(result, frames)
            if len(values) != count:
                raise ValueError(f"of the {count} values of task {show_task(TaskId(task))}, {len(values)} were given")
            self._values[task] = values
        found: list[Any] = self._values[task]
        return found

    def _parts(self, task: int) -> list[Part]:
        parts = self._results.get(task)
        if parts is None:
            raise ValueError(f"the value of task {show_task(TaskId(task))} was not given")
        return parts

    def _unpickle(self, result: Result, frames: Sequence[Any]) -> Any:
        try:
            return self._load(result.payload, frames)
        except Exception as error:
            task = show_task(TaskId(result.id))
            error.add_note(f"(raised while the value of task {task}, an argument, was unpickled on the engine)")
            raise
