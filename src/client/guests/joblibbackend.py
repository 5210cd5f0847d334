"""A backend for joblib: `joblib.Parallel`, and whatever uses it (scikit-learn), runs its calls on engines.

```
 joblib.Parallel (your thread)         I/O thread            reporter (one thread)
   submit(batch) ──► apply_async           |                       |
                       task ends ────────► result filed ─────────► unpickled; joblib told, which reads on in
                                                                   the input and submits the next batch
```

joblib reads the user's input and unpickles results where it is told of an end. That must not be the client's I/O
thread, on which everything else of the client depends; so a thread of the backend's own tells it.

Imported when joblib is used: importing the client does not import joblib.
"""

from __future__ import annotations

import logging
import operator
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

from .sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..results.futures import AsyncResult
    from ..views.balancedview import LoadBalancedView

    Batch = Callable[[], Any]
    """Some calls, and their values as a list: joblib's `BatchedCalls`."""
    Callback = Any
    """Is to be called with what `retrieve_result_callback` makes values of: joblib's `BatchCompletionCallBack`."""

log = logging.getLogger("enginery")


class EngineryBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # joblib has no types
    """Runs the calls of `joblib.Parallel` on the engines of a view. Registered under a name by `joblibnames`."""

    default_n_jobs = -1
    supports_retrieve_callback = True
    MIN_IDEAL_BATCH_DURATION = 0.05
    """Seconds of work in a batch at least; joblib's own value is made for slower transports."""
    MAX_IDEAL_BATCH_DURATION = 0.5

    def __init__(self, view: LoadBalancedView, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._view = view
        self._sharing = Sharing(view.client.put)
        self._calls = 0
        self._reporter = ThreadPoolExecutor(1, "enginery-joblib")
        self._lock = threading.Lock()
        self._limit: int | None = None
        """How many batches may be on their way; None if the engines are the limit."""
        self._under_way = 0
        self._running: dict[AsyncResult, tuple[Batch, Callback]] = {}
        self._held: deque[tuple[Batch, Callback]] = deque()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many calls can run at once: as many as asked for, and as there are engines (-1: all of them)."""
        if n_jobs == 0:
            raise ValueError("n_jobs is a number of jobs, or negative (-1: one for each engine), not 0")
        engines = len(self._view._client._resolve(self._view.targets)[0])
        if n_jobs is None:
            return 1
        return min(n_jobs, engines) if n_jobs > 0 else max(1, engines + 1 + n_jobs)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, *, max_nbytes: int | None = 1 << 20, **_for_local_pools: Any
    ) -> int:
        """Be ready for calls of `parallel`; return the effective number of jobs."""
        self.parallel = parallel
        self._sharing.large = max_nbytes
        jobs = self.effective_n_jobs(n_jobs)
        self._limit = None if n_jobs < 0 or jobs < n_jobs else jobs
        return jobs

    def get_nested_backend(self) -> tuple[Any, None]:
        """Return what a Parallel inside a call uses: none. There are as many engines as the cores are meant to bear."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def start_call(self) -> None:
        """A call of Parallel begins."""
        self._calls += 1

    def stop_call(self) -> None:
        """It has ended: what it shared is forgotten, unless another one may use it."""
        self._calls -= 1
        if not self._calls:
            self._sharing.end()

    def terminate(self) -> None:
        """A call is over: forget how long its batches took. The engines stay."""
        self.reset_batch_stats()

    # ---------------------------------------------------------------- batches

    def submit(self, func: Batch, callback: Callback) -> None:
        """Have a batch run; `callback` hears of its end whatever happens, also if it cannot travel."""
        with self._lock:
            if self._limit is not None and self._under_way >= self._limit:
                self._held.append((func, callback))
                return
            self._under_way += 1
        self._send(func, callback)

    apply_async = submit
    """Its name before joblib 1.5."""

    def _send(self, batch: Batch, callback: Callback) -> None:
        if _is_over(callback):  # since it was held back
            self._go_on()
            return
        try:
            future = self._view.apply_async(operator.call, self._sharing.share(batch))
        except Exception as error:  # joblib waits for the callback, and would for ever
            self._later(callback, error)
            self._go_on()
            return
        with self._lock:
            self._running[future] = batch, callback
        future.add_done_callback(self._on_done)

    def _on_done(self, future: Any) -> None:
        """A batch has ended (I/O thread)."""
        with self._lock:
            ended = self._running.pop(future, None)
        if ended is not None:
            self._later(ended[1], future)
        self._go_on()

    def _go_on(self) -> None:
        """One batch less is under way: send one that was held back, if there is one."""
        with self._lock:
            if not self._held:
                self._under_way -= 1
                return
            following = self._held.popleft()
        self._later(self._send, *following)

    def _later(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._reporter.submit(_logged, function, *args)
        except RuntimeError:  # the interpreter shuts down: nobody waits any more
            return

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the values of a batch, or raise what one of its calls raised, as its own type."""
        if isinstance(out, Exception):
            raise out
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop what a call that failed, or was left, has under way; what waits is withdrawn, what runs interrupted."""
        del ensure_ready  # the engines are ready in any case
        with self._lock:
            left = [future for future, (_, callback) in self._running.items() if _is_over(callback)]
            for future in left:
                del self._running[future]
            self._held = deque(held for held in self._held if not _is_over(held[1]))
        tasks = [task for future in left for task in future._open_tasks()]
        if tasks:
            self._view._client._link.cancel(tasks, grace_s=None, interrupt=True)


def _is_over(callback: Callback) -> bool:
    """Return whether the Parallel whose batch that is has given up; another one that shares the backend may not."""
    return bool(callback.parallel._aborting)


def _logged(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        log.exception("joblib failed when it was told that a batch had ended")
