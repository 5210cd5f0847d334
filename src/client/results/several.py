"""`SeveralResult`: what all results of more than one value have in common: items that arrive one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .futures import AsyncResult, fresh, raise_errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ...wire.messages import Options
    from .futures import Canceller


class SeveralResult(AsyncResult):
    """A result of several values, in order: it has a length, indices and slices, and is iterated as they arrive.

        result = client[:].apply_async(os.getpid)
        for pid in result: ...               # each as soon as it is there; `async for` does the same in a coroutine
        result[-1], result[1:3], len(result)

    To index or to iterate is to wait for that item alone, and raises what that item raised.
    """

    _scalar = False
    _what = "results"
    """What its items are called in a message."""
    _failed = False
    """An item is here that failed."""
    _assemble: Callable[[list[Any]], Any] | None = None
    """Makes what `get()` returns of the values; None: it is the list of them."""
    _listeners: tuple[Callable[[], object], ...] = ()
    """Are called each time something has been filed."""

    def __init__(self, link: Canceller, task: int, submitted: float, options: Options | None) -> None:
        super().__init__(link, task, submitted, options)
        self._watchers: list[Callable[[], object]] = []
        """Are called when something is filed, once."""

    # ---------------------------------------------------------------- for subclasses

    def _has(self, index: int) -> bool:
        """Return whether an item is there."""
        raise NotImplementedError

    def _item(self, index: int) -> tuple[Any, Exception | None]:
        """Return the value of one item, or None and its error. It must be there, or nothing more be expected."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return how many items it has."""
        raise NotImplementedError

    # ---------------------------------------------------------------- waiting for some

    def _notify(self) -> None:
        super()._notify()
        if self._watchers:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                watcher()
        for listener in self._listeners:
            listener()

    def _fail(self, error: Exception) -> None:
        """Nothing will come any more, for this reason."""
        super()._fail(error)
        if self._pieces is not None:
            self._pieces.fail(error)
        self._notify()

    def _wait_failed(self, timeout: float | None) -> bool:
        return self._wait_for(lambda: self._failed or self.done(), timeout)

    def _wait_item(self, index: int) -> Any:
        if not self._has(index):
            self._wait_for(lambda: self._has(index) or self.done())
        value, error = self._item(index)
        if error is not None:
            raise fresh(error)
        return value

    async def _wait_news(self, there: Callable[[], bool]) -> None:
        """Return when something has been filed, or at once if what is waited for is there."""
        import asyncio  # noqa: PLC0415 - only who awaits has it anyway

        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(news.set)
            except RuntimeError:  # the loop was closed: nobody awaits any more
                return

        self._watchers.append(tell)  # before looking: what is filed after that is told
        if not there():
            self._check_wait()
            await news.wait()

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self._wait_item(index)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for index in range(len(self)):
            while not (self._has(index) or self.done()):
                await self._wait_news(lambda at=index: self._has(at) or self.done())  # type: ignore[misc] # bound now
            yield self._wait_item(index)

    # ---------------------------------------------------------------- the whole

    def _collect(self) -> tuple[list[Any], list[Exception]]:
        items = [self._item(index) for index in range(len(self))]
        errors = {id(error): error for _, error in items if error is not None}  # one may be that of many
        return [value if error is None else error for value, error in items], list(errors.values())

    def _read(self) -> tuple[Any, Exception | None]:
        values, errors = self._collect()
        try:
            raise_errors(errors, f"of {len(self)} {self._what}")
            return (values if self._assemble is None else self._assemble(values)), None
        except Exception as error:
            return None, error

    def _values(self) -> Any:
        return self._collect()[0]

    def _total(self) -> int:
        return len(self)

    def __bool__(self) -> bool:
        return True  # a result, even if of nothing

    def __getitem__(self, key: Any) -> Any:
        """Return an item, or a list of some, waiting for no others; or metadata, by name.

            result[-1], result[2:4], result["engine_id"]

        Raises what the item raised, IndexError if there is none, KeyError for what is no metadata.
        """
        if isinstance(key, int):
            index = key + len(self) if key < 0 else key
            if not 0 <= index < len(self):
                raise IndexError(f"result {key} of {len(self)}")
            return self._wait_item(index)
        if isinstance(key, slice):
            return [self._wait_item(index) for index in range(*key.indices(len(self)))]
        return super().__getitem__(key)
