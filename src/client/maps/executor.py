"""`ClusterExecutor`: the engines as a `concurrent.futures.Executor`."""

from __future__ import annotations

import sys
import weakref
from concurrent.futures import Executor
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..results.timeouts import deadline_of
from .imap import lazy_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..results.futures import AsyncResult
    from ..views.balancedview import LoadBalancedView
    from .flow import Flow
    from .imap import LazyMap


class ClusterExecutor(Executor):
    """A `concurrent.futures.Executor` whose calls run on whichever engine is free: `client.executor()`.

        with client.executor() as executor:
            for value in executor.map(f, xs): ...

    Functions and arguments travel as with `client.submit`: lambdas and closures too. Its futures are AsyncResults.
    Where they do more than the standard library says, it is theirs: `cancel()` also stops a call that runs. The
    client and its engines outlive the executor.
    """

    def __init__(self, view: LoadBalancedView) -> None:
        self._view = view
        self._lock = Lock()
        self._is_shut = False
        self._results: weakref.WeakSet[AsyncResult | Flow] = weakref.WeakSet()
        """What was submitted. The client holds those that are not done."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `fn(*args, **kwargs)` on an engine; return its future.

            future = executor.submit(pow, 2, 10)

        Raises RuntimeError after `shutdown`, SerializationError naming the argument that cannot travel.
        """
        with self._lock:
            self._check()
        # Not under the lock: it may wait for room, which the I/O thread brings, whose callbacks may submit here.
        future: AsyncResult = self._view.apply_async(fn, *args, **kwargs)
        with self._lock:
            self._results.add(future)
            late = self._is_shut
        if late:  # shut down meanwhile: nobody waits for it there
            self._view.client._link.cancel(future._open_tasks(), grace_s=None, interrupt=False)
            self._check()
        return future

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | str = "auto",
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call `fn` on each item (of several iterables: each row, until the shortest ends); iterate over the results.

            for value in executor.map(f, xs, timeout=60): ...
            for value in executor.map(f, endless(), buffersize=100): ...

        The iterables are read during this call, or with a `buffersize` (3.14's) as results are consumed: no more than
        so many further ones are submitted. An error is raised when its turn comes, and ends the iteration; calls that
        have not started by then are cancelled, as they are when the iterator is closed or let go of. TimeoutError if
        a result is not there `timeout` seconds after this call. Items travel in batches of a size found automatically,
        or of `chunksize`.

        Raises RuntimeError after `shutdown`, ValueError for an impossible `chunksize` or `buffersize`.
        """
        deadline = deadline_of(timeout)
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be None or > 0, not {buffersize}")
        if not iterables:
            return iter(())
        view = self._view
        most = sys.maxsize if buffersize is None else buffersize
        values = lazy_map(view.client, view._options, fn, iterables, max_outstanding=most, chunksize=chunksize)
        values._goes_on = True
        values._check_submit = self._check
        with self._lock:
            self._check()
            self._results.add(values._flow)
        values._begin(ahead=1)  # the standard library submits a further one before it waits for the next
        return self._iterate(values, deadline)

    def _iterate(self, values: LazyMap, deadline: float | None) -> Iterator[Any]:
        try:
            while True:
                try:
                    values._advance(deadline)
                except StopIteration:
                    return
                yield next(values)  # (it is nowhere else: the consumer may be the only one to hold it)
        finally:
            values._flow.close(interrupt=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and wait until those that there are have ended.

            executor.shutdown(wait=False, cancel_futures=True)

        With `cancel_futures`, those that have not started are withdrawn; without `wait`, it does not wait.
        """
        with self._lock:
            self._is_shut = True
            results = [result for result in self._results if not result.done()]
        if cancel_futures and results:
            tasks = [task for result in results for task in result._open_tasks()]
            self._view.client._link.cancel(tasks, grace_s=None, interrupt=False)
        if wait:
            for result in results:
                result._wait_done(None)

    def _check(self) -> None:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._view!r}{', shut down' if self._is_shut else ''}>"
