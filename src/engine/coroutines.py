"""Coroutine functions as tasks: run to completion on one event loop that lives as long as the engine."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine


class CoroutineRunner:
    """The event loop of the main thread. Made when first needed; it runs only while a coroutine is awaited.

    What a coroutine leaves running on the loop goes on whenever the next one runs.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what the coroutine returns. If an interrupt breaks in, the coroutine is cancelled, and ends first."""
        import asyncio  # noqa: PLC0415 - only for programs that use it

        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = asyncio.new_event_loop()
        task = loop.create_task(_awaited(coroutine))
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                loop.run_until_complete(asyncio.wait([task]))
                if not task.cancelled():
                    task.exception()  # it has been seen: the interrupt is what is reported
            raise

    def adapt(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and can be called plainly."""
        called = function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)):
            return function

        @functools.wraps(function)
        def awaited(*args: Any, **kwargs: Any) -> Any:
            return self.run(function(*args, **kwargs))

        return awaited


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
