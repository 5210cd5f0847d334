"""What both kinds of views have in common: flags, waiting, and what the cluster knows."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from ...wire.codec import check_text
from . import flags as temporary
from .decorators import parallel, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from ..client import Client
    from ..records.fetches import Tasks
    from ..results.futures import AsyncResult
    from .decorators import ParallelFunction, RemoteFunction

_SETTING = ("_flags", "_options", "_told")
"""What flags become; read at each call."""

_setting_lock = threading.RLock()


class View:
    """A way to run things on engines, with flags that say how. Made by a client; safe to use from many threads.

    Flags are attributes (`view.block`), set for all later calls by `view.block = True` or `set_flags`, and for a `with`
    block by `temp_flags`.
    """

    FLAGS: ClassVar[tuple[str, ...]] = ("targets", "block", "track", "label")

    _flags: dict[str, Any]

    def __init__(self, client: Client, targets: Any) -> None:
        self._client = client
        self._flags = {"targets": targets, "block": False, "track": False, "label": None}

    @property
    def client(self) -> Client:
        """The client that made this view."""
        return self._client

    def __getattr__(self, name: str) -> Any:
        if name in _SETTING and (base := self.__dict__.get("_base")) is not None:
            return getattr(temporary.setting_of(self, base), name)
        if name in type(self).FLAGS:
            return self._flags[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.set_flags(**{name: value})

    def set_flags(self, **flags: Any) -> Self:
        """Set flags for all later calls, and return the view; TypeError for one that it does not have.

            view.set_flags(block=True, label="warm-up").apply(f)

        This is for everybody who uses the view. Inside a `temp_flags` block it holds at once, and goes on to hold.
        """
        self._check_names(flags)
        with _setting_lock:
            base = self.__dict__.get("_base", self)
            base._set({**base._flags, **flags})
        if base is not self:
            temporary.overrule(self, flags)
        return self

    def _check_names(self, flags: Iterable[str]) -> None:
        unknown = [name for name in flags if name not in self.FLAGS]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no flag {unknown[0]!r}; its flags are: {', '.join(self.FLAGS)}")

    def _set(self, flags: dict[str, Any]) -> None:
        """Have these flags; raise if one has an impossible value."""
        label = flags["label"]
        if label is not None and not isinstance(label, str):
            raise TypeError(f"label is a string, not {type(label).__name__}")
        self._flags = flags if label is None else {**flags, "label": check_text("label", label)}

    def _copied(self) -> Self:
        """Return a view that has the same flags now."""
        copy = object.__new__(type(self))
        for name in ("_client", *_SETTING):
            if name in self.__dict__:
                copy.__dict__[name] = self.__dict__[name]
        return copy

    @contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[Self]:
        """Set flags within a `with` block, for this thread or coroutine alone.

            with view.temp_flags(block=True):
                view.apply(f)

        Other threads and asyncio tasks that use the view do not see them; an asyncio task that is started inside the
        block does, to its end. Blocks can be nested. Raises as `set_flags`, before the block begins.
        """
        self._check_names(flags)
        with _setting_lock:
            if "_base" not in self.__dict__:
                self._base = self._copied()  # before the attributes go: another thread may be reading them
                for name in _SETTING:
                    self.__dict__.pop(name, None)
        mark = temporary.enter(self, flags)
        try:
            temporary.setting_of(self, self._base)
            yield self
        finally:
            temporary.leave(mark)

    def __reduce__(self) -> Any:
        raise TypeError("a view belongs to its client, a connection of its process, and cannot travel")

    def _repr_html_(self) -> str:
        from ..show import view_html  # noqa: PLC0415 - for notebooks only

        return view_html(self, type(self).__name__)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on the engines; return its result to come."""
        raise NotImplementedError

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on the engines and wait; return the value, or raise what the call raised.

        view.apply_sync(pow, 2, 10)
        """
        return self.apply_async(f, *args, **kwargs).get()

    def _width(self) -> int:
        """Return into how many parts to cut a sequence, to occupy the engines of this view."""
        raise NotImplementedError

    def _map_parts(self, f: Callable[..., Any], columns: list[list[Any]], *, dist: str, ordered: bool) -> AsyncResult:
        """Call `f` on each part of sequences; the value is what the calls return, put together again."""
        raise NotImplementedError

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on the engines, and wait or not as the flag `block` says.

        view.set_flags(block=True).apply(pow, 2, 10)
        """
        return self._maybe_wait(self.apply_async(f, *args, **kwargs), None)

    def _maybe_wait(self, result: AsyncResult, block: bool | None) -> Any:
        if block is None:
            block = self._flags["block"]
        return result.get() if block else result

    # ---------------------------------------------------------------- decorators

    def remote(self, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
        """Decorate a function: calls of it happen on the engines of this view. See `enginery.remote`.

        @client[:].remote(block=True)
        def pid():
            return os.getpid()
        """
        return remote(self, block, **flags)

    def parallel(
        self, dist: str = "b", block: bool | None = None, ordered: bool = True, **flags: Any
    ) -> Callable[[Callable[..., Any]], ParallelFunction]:
        """Decorate a function of sequences: a call of it happens on all engines of this view, each with its part.

        See `enginery.parallel`.

            @client[:].parallel(block=True)
            def product(a, b):
                return a * b
        """
        return parallel(self, dist, block, ordered, **flags)

    # ---------------------------------------------------------------- what becomes of tasks

    def wait(self, jobs: Any = None, timeout: float | None = -1) -> bool:
        """Wait for these results, or for all of this client; return whether they are done. As `Client.wait`.

        view.wait([first, second], timeout=60)
        """
        return self._client.wait(jobs, timeout)

    def abort(self, jobs: Any = None, targets: Any = None) -> None:
        """Withdraw the unstarted tasks of these results, or of all of this client. As `Client.abort`.

        view.abort(targets=2)                # what direct views have queued on engine 2
        """
        self._client.abort(jobs, targets)

    def get_result(self, tasks: Tasks | None = None, *, label: str | None = None, block: bool | None = None) -> Any:
        """Return the results of tasks of any client, by id or label, as `Client.get_result`; wait or not as `block`
        (else the flag) says.

            view.get_result(label="training", block=True)
        """
        return self._maybe_wait(self._client.get_result(tasks, label=label), block)

    def purge_results(self, tasks: Tasks | None = None, *, label: str | None = None) -> None:
        """Have the cluster forget tasks that have ended, as `Client.purge_results`.

        view.purge_results(label="training")
        """
        self._client.purge_results(tasks, label=label)

    def queue_status(self, targets: Any = None, verbose: bool = False) -> Any:
        """Return how much each engine of this view has to do and has done, as `Client.queue_status`.

        client[[0, 2]].queue_status(verbose=True)
        """
        client: Any = self._client
        return client.queue_status(self._whom(targets), verbose)

    def shutdown(self, targets: Any = None, restart: bool = False, hub: bool = False) -> None:
        """Stop the engines of this view, or some of them; with `restart`, replace them by fresh ones; with `hub`, stop
        the whole cluster. As `Client.shutdown`.

            client[6:].shutdown()
        """
        self._client.shutdown(self._whom(targets), restart, hub)

    def _whom(self, targets: Any) -> Any:
        """Return the engines that are meant: these, or those of the view."""
        chosen = self._flags["targets"] if targets is None else targets
        return "all" if chosen is None else chosen
