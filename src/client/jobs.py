"""`Jobs`: waiting for tasks of a client, and stopping them, by their results or their ids."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from ..errors import NoSuchTask
from ..ids import TaskId, client_of, show_task
from .calls.taskids import read_id
from .records.fetches import get_result
from .results.refs import ObjectRef
from .results.timeouts import deadline_of, left_until, limit_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .connection.link import Link
    from .results.futures import AsyncResult
    from .views.directview import Targets


class Jobs:
    """The part of `Client` that is about tasks under way.

    `jobs` is a result, an ObjectRef of one, the id of a task (as `msg_id` gives it), or several of these; None: all
    that this client has submitted and that have not ended.
    """

    _link: Link
    _cluster: str

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for these results, or for all of this client; return whether they are done.

            client.wait([first, "3-17"], timeout=60)

        `jobs` is a result, the id of a task (as `msg_id` gives it, whoever submitted it), or a list of these. At most
        `timeout` seconds; -1 or None: as long as it takes. Raises NoSuchTask for an id that the cluster does not know.
        """
        deadline = deadline_of(limit_of(timeout))
        return all(job._wait_done(left_until(deadline)) for job in self._results(jobs))

    def wait_interactive(self, jobs: Any = None, interval: float = 1.0, timeout: float | None = -1) -> bool:
        """Wait as `wait`, with one progress bar for all; it is drawn anew every `interval` seconds.

        client.wait_interactive()            # for everything that is under way
        """
        from ..jupyter.live import wait_interactive  # noqa: PLC0415 - only who looks needs it

        together: Any = Together(self._results(jobs))
        return wait_interactive(together, interval, limit_of(timeout))

    def cancel(self, jobs: Any = None, *, grace_s: float | None = None) -> bool:
        """Stop these results' tasks, or all of this client; return whether none of them runs on.

            client.cancel()                      # everything that is under way

        Unstarted tasks are withdrawn, running ones interrupted, again each second; with `grace_s`, the engine of one
        that still runs so many seconds later is killed and replaced.
        """
        return self._stop(jobs, None, grace_s=grace_s, interrupt=True)

    def abort(self, jobs: Any = None, targets: Targets = None) -> None:
        """Withdraw the unstarted tasks of these results, or of all of this client; leave alone what runs.

            client.abort(targets=[0, 1])          # what direct views have queued on these engines

        With `targets`, only tasks that a direct view has addressed to these engines: others are of no engine until they
        start. A task can also be named by its id, as `msg_id` gives it; raises ValueError if it is another client's.
        """
        engines = None if targets is None else set(self._resolve(targets, empty=True)[0])
        self._stop(jobs, engines, grace_s=None, interrupt=False)

    def _resolve(self, targets: Targets, *, empty: bool = False) -> tuple[tuple[int, ...], bool]:
        raise NotImplementedError

    def _stop(self, jobs: Any, engines: set[int] | None, *, grace_s: float | None, interrupt: bool) -> bool:
        todo = [(job, tasks) for job, tasks in self._named(jobs) if not job.done()]
        if engines is not None:
            todo = [(job, _addressed(job, tasks, engines)) for job, tasks in todo]
        asked = [task for _, tasks in todo for task in tasks]
        if not asked:
            return True
        reply = self._link.cancel(asked, grace_s=grace_s, interrupt=interrupt)
        if not self._link.may_wait():
            return False
        stopped = reply.result()
        for job, _ in todo:
            job._await_stopped(stopped)
        return all(job.done() or set(stopped).issuperset(tasks) for job, tasks in todo)

    # ---------------------------------------------------------------- which tasks

    def _named(self, jobs: Any) -> Iterator[tuple[AsyncResult, list[int]]]:
        """Yield results of ours, each with the tasks of it that are meant and open."""
        sinks = self._link.core.sinks
        if jobs is None:
            every: dict[int, Any] = {id(sink): sink for sink in list(sinks.values())}
            yield from ((job, job._open_tasks()) for job in every.values())
            return
        for job in _each(jobs):
            if not isinstance(job, str | int):
                yield job, job._open_tasks()
            elif self._is_ours(task := read_id(job)):
                sink: Any = sinks.get(task)
                if sink is not None:
                    yield sink, [task]
            else:
                raise ValueError(f"task {show_task(TaskId(task))} is another client's, which alone can stop it")

    def _results(self, jobs: Any) -> list[AsyncResult]:
        if jobs is None:
            return [job for job, _ in self._named(None)]
        results: list[Any] = []
        for job in _each(jobs):
            if not isinstance(job, str | int):
                results.append(job)
            elif not self._is_ours(task := read_id(job)):
                results.append(get_result(self._link, self._cluster, task, None))
            elif (sink := self._link.core.sinks.get(task)) is not None:
                results.append(sink)
        return results

    def _is_ours(self, task: int) -> bool:
        if client_of(TaskId(task)) != self._link.core.client:
            return False
        if not self._link.has_made(task):
            raise NoSuchTask(f"this client has not submitted a task {show_task(TaskId(task))}")
        return True


def _each(jobs: Any) -> list[Any]:
    if isinstance(jobs, str | int | ObjectRef) or hasattr(jobs, "_open_tasks"):
        jobs = [jobs]
    futures = [job.future if isinstance(job, ObjectRef) else job for job in jobs]
    return [job for job in futures if job is not None]  # what was put is of no task


def _addressed(job: AsyncResult, tasks: list[int], engines: set[int]) -> list[int]:
    """Return those of some tasks that are addressed to these engines."""
    where = job._addressed
    places: dict[int, int] = where if isinstance(where, dict) else dict(zip(count(job._task), where, strict=False))
    return [task for task in tasks if places.get(task) in engines]


class Together:
    """Several results, to be waited for behind one bar: what `jupyter.live` asks of a result."""

    _is_map = False
    _handed_over = 0
    _client = None
    _late = None

    def __init__(self, results: list[AsyncResult]) -> None:
        self._results = results

    @property
    def progress(self) -> int:
        """How many tasks and items have ended."""
        return sum(result.progress for result in self._results)

    def done(self) -> bool:
        """Return whether all are done."""
        return all(result.done() for result in self._results)

    def _total(self) -> int:
        return sum(result._total() for result in self._results)

    def _wait_done(self, timeout: float | None) -> bool:
        """Wait for one that is not done yet, and no longer than that; return whether all are."""
        for result in self._results:
            if not result.done():
                result._wait_done(timeout)
                break
        return self.done()

    def _engines(self) -> tuple[int, ...]:
        return ()

    def _ended_engines(self) -> list[tuple[int, bool]]:
        return []

    def _log(self) -> list[Any]:
        return []
