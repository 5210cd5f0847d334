"""Dask workers inside engines: in a thread with an event loop of its own, next to the main thread and its tasks.

What is here runs on engines, as tasks of a client that becomes a dask cluster (`client.guests.daskcluster`).
distributed is imported when the first worker starts.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from concurrent.futures import Future
from typing import Any

START_S = 60.0
"""A worker that has not registered with its scheduler after so long has failed."""

STOP_S = 10.0
"""How long a worker's running tasks are waited for at its end. They cannot be stopped: they are threads."""

STOPPED_S = 2 * STOP_S
"""A worker has ended by then."""

_workers: dict[str, Worker] = {}
"""The workers of this process, by the address of their scheduler."""


class Worker(threading.Thread):
    """A thread that is a dask worker until it is stopped, or its scheduler has gone."""

    def __init__(self, scheduler: str, options: dict[str, Any]) -> None:
        super().__init__(name="dask-worker", daemon=True)
        self._scheduler = scheduler
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Any = None
        self.address: Future[str] = Future()
        """Where the worker listens, or why it does not."""

    def run(self) -> None:
        """Work."""
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self.address.done():
                self.address.set_exception(error)
        finally:
            _workers.pop(self._scheduler, None)

    async def _serve(self) -> None:
        import distributed  # noqa: PLC0415 - only engines that become workers have it

        self._loop = asyncio.get_running_loop()
        with tempfile.TemporaryDirectory(prefix="enginery-dask-", ignore_cleanup_errors=True) as scratch:
            options = {"local_directory": scratch, **self._options}
            self._worker = worker = distributed.Worker(self._scheduler, **options)
            async with worker:
                self.address.set_result(worker.address)
                await worker.finished()

    def stop(self) -> None:
        """End the worker, and wait for that."""
        if self._loop is not None and self._worker is not None:
            try:
                ending = self._worker.close(timeout=STOP_S, reason="stop_dask")
                asyncio.run_coroutine_threadsafe(ending, self._loop)
            except RuntimeError:  # it has just ended by itself
                ending.close()
        self.join(STOPPED_S)


def start(scheduler: str, options: dict[str, Any]) -> str:
    """Become a worker of that scheduler; return the worker's address. Raises what keeps the worker from starting."""
    running = _workers.get(scheduler)
    if running is None:
        running = _workers[scheduler] = Worker(scheduler, options)
        running.start()
    return running.address.result(START_S)


def stop(scheduler: str) -> None:
    """Be no worker of that scheduler any more."""
    running = _workers.get(scheduler)
    if running is not None:
        running.stop()
