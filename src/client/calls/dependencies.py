"""`Dependency`: what tasks come after, and on which engines they follow others.

A view's options hold it together with the results it was made of (`Bound`). What of these has come by the time when a
message leaves is said in that message (`resolve`), since the controller may have forgotten it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...ids import TaskId, show_task
from ...reasons import reason_of
from ...wire import messages as m
from ..results.futures import AsyncResult
from ..results.refs import ObjectRef
from ..results.waits import is_over, known
from .taskids import read_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..results.waits import Seen

Tasks = Any
"""A result, the id of a task as text, a `Dependency`, or a list of these."""


class Dependency:
    """Tasks that others come after (`after=`), or follow to their engines (`follow=`): flags of a load-balanced view.

        view = client.load_balanced_view()
        first = view.apply_async(prepare)
        with view.temp_flags(after=Dependency(first, success=True, failure=True)):
            view.apply_async(report)                    # when `first` has ended, in whatever way

    `tasks` is a result (of several tasks: all of them), a task's id as text, or a list of these. `all`: they all have
    to end as wanted; False: the first will do. Wanted is an end with `success`, with `failure` (an error, a
    cancellation, the death of the engine), or either.

    Raises ValueError if neither is wanted, or for what is no id; TypeError for what names no task.
    """

    def __init__(self, tasks: Tasks, all: bool = True, success: bool = True, failure: bool = False) -> None:  # noqa: A002 - its name for ten years
        if not (success or failure):
            raise ValueError("a Dependency wants success, failure, or either; without both it could never be met")
        self._results: dict[int, AsyncResult | None] = {}
        self._add(tasks)
        self.all = bool(all)
        self.success = bool(success)
        self.failure = bool(failure)

    def _add(self, tasks: Tasks) -> None:
        if isinstance(tasks, AsyncResult):
            tasks._hold()
            self._results.update(dict.fromkeys(tasks._known(), tasks))
        elif isinstance(tasks, ObjectRef) and tasks.future is not None:
            self._add(tasks.future)
        elif isinstance(tasks, Dependency):
            self._results.update(tasks._results)
        elif isinstance(tasks, str):
            self._results.setdefault(read_id(tasks), None)
        elif isinstance(tasks, list | tuple | set | frozenset):
            for task in tasks:
                self._add(task)
        else:
            raise TypeError(f"tasks to depend on are results or ids of tasks, not {type(tasks).__name__}")

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks."""
        return [show_task(TaskId(task)) for task in self._results]

    def __len__(self) -> int:
        return len(self._results)

    def __bool__(self) -> bool:
        return True  # a dependency, even if on nothing

    def __repr__(self) -> str:
        tasks = self.tasks
        names = ", ".join(tasks[:3]) + (", ..." if len(tasks) > len(tasks[:3]) else "")
        return f"Dependency([{names}], all={self.all}, success={self.success}, failure={self.failure})"


class Bound(m.Dependency, frozen=True, array_like=True, dict=True):
    """A `Dependency` in options, with its results in `origin`."""

    @property
    def origin(self) -> Mapping[int, AsyncResult | None]:
        """The results of the tasks, where they are here."""
        found: Mapping[int, AsyncResult | None] = self.__dict__["origin"]
        return found


def bind(value: Any, sinks: Mapping[int, Any]) -> m.Dependency | None:
    """Return what goes into options for the value of a flag; None if that names nothing. Of tasks that are named by
    their ids, the results may be among the `sinks`.
    """
    if value is None:
        return None
    dependency = value if isinstance(value, Dependency) else Dependency(value)
    if not len(dependency):
        return None
    results = {task: result or _of_sink(sinks.get(task)) for task, result in dependency._results.items()}
    bound = Bound(tuple(results), dependency.all, dependency.success, dependency.failure)
    bound.__dict__["origin"] = results
    return bound


def unbound(options: m.Options) -> m.Options:
    """Return options that name the same tasks and keep none of their results: for a result to know by, which would
    keep alive all that it came after, and what that came after in turn.
    """
    if options.after is None and options.follow is None:
        return options
    after, follow = (
        None if one is None else m.Dependency(one.tasks, one.all, one.success, one.failure)
        for one in (options.after, options.follow)
    )
    return msgspec.structs.replace(options, after=after, follow=follow)


def _of_sink(sink: Any) -> AsyncResult | None:
    return sink if isinstance(sink, AsyncResult) else None


def resolve(options: m.Options, seen: Seen) -> m.Options:
    """Return options that say what has come of the tasks in them."""
    after, follow = options.after, options.follow
    if isinstance(after, Bound):
        after = _resolved(after, seen, needs_engines=False)
    if isinstance(follow, Bound):
        follow = _resolved(follow, seen, needs_engines=True)
    return msgspec.structs.replace(options, after=after, follow=follow)


def _resolved(bound: Bound, seen: Seen, *, needs_engines: bool) -> m.Dependency | None:
    """Return what is left to wait for; None if nothing is."""
    outcomes: list[m.Outcome] = []
    left: list[int] = []
    by_id: list[int] = []
    for task, result in bound.origin.items():
        outcome = None if result is None else _outcome_of(task, result, seen)
        if outcome is not None and outcome.over:
            if not needs_engines and (bound.success if outcome.ok else bound.failure):
                if not bound.all:
                    return None
                continue
        elif result is None or result._is_by_id(task):
            by_id.append(task)
        left.append(task)
        if outcome is not None:
            outcomes.append(outcome)
    if not left:
        return None
    return m.Dependency(tuple(left), bound.all, bound.success, bound.failure, tuple(outcomes), tuple(by_id))


def _outcome_of(task: int, result: AsyncResult, seen: Seen) -> m.Outcome | None:
    """Return what has come of a task; None if nothing has."""
    parts = known(result, seen)[task]
    if not parts:
        return None
    failed = next((reply for reply, _ in parts if reply.status != m.Status.OK), None)
    engines = tuple(sorted({reply.engine for reply, _ in parts if reply.engine >= 0}))
    why = "" if failed is None else reason_of(failed)
    return m.Outcome(task, failed is None, engines, why, is_over(result, task, parts))
