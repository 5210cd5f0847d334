"""`LoadBalancedView`: calls that run on whichever engine is free first."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..wire.messages import Options, Task
from . import joblibnames
from .calls import pack
from .core import Entry
from .decorators import PARTS_PER_ENGINE
from .futures import AsyncResult
from .maps import check_map, submit_map
from .partition import join
from .sending import watch
from .views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .client import Client
    from .mapresult import AsyncMapResult


class LoadBalancedView(View):
    """Calls that run on whichever engine is free first: `client.load_balanced_view()`.

        view = client.load_balanced_view().set_flags(retries=2, timeout=60)
        results = view.map_sync(f, xs)

    Flags: `targets` (engines that may run it; None for any), `block`, `track`, `label`, `retries` (further attempts
    after an error or the death of an engine), `timeout` (seconds one attempt may run), `priority` (higher goes first).
    """

    FLAGS: ClassVar[tuple[str, ...]] = (*View.FLAGS, "retries", "timeout", "priority")

    def __init__(self, client: Client, targets: Any = None) -> None:
        super().__init__(client, targets)
        self._options = Options()
        self._set({**self._flags, "retries": 0, "timeout": None, "priority": 0})

    def __repr__(self) -> str:
        where = "any engine" if self.targets is None else repr(self.targets)
        return f"<LoadBalancedView {where}>"

    def _set(self, flags: dict[str, Any]) -> None:
        targets, retries, timeout, priority = (flags[name] for name in ("targets", "retries", "timeout", "priority"))
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries is a number of further attempts, not {retries!r}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise ValueError(f"timeout is a number of seconds or None, not {timeout!r}")
        if not isinstance(priority, int):
            raise TypeError(f"priority is an integer, not {type(priority).__name__}")
        ids = None if targets is None or targets == "all" else self._client._resolve(targets)[0]
        super()._set(flags)
        self._options = Options(ids, priority, retries, None if timeout is None else float(timeout), flags["label"])

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on an engine; return the result to come.

            future = view.apply_async(pow, 2, 10)

        A coroutine function is awaited there; an engine runs up to 64 of them at once. Raises SerializationError
        naming the argument that cannot travel.
        """
        client = self._client
        link = client._link
        function = client._functions.get(f)
        payload, frames = pack(f, args, kwargs)
        options = self._options
        task = link.new_tasks()
        now = time.time()
        future = AsyncResult(link, task, now, options)
        if frames:
            watch(link, future, task, track=self._flags["track"])
        message = Task(task, function.digest, payload, len(frames))
        link.submit(future, Entry(message, function, options, frames), now)
        return future

    def map_async(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> AsyncMapResult:
        """Call `f` on each item (of several sequences: each row, until the shortest ends); return the results to come.

        All input is read and pickled during this call; results can be iterated as they arrive. Items travel in batches
        of a size found automatically, or of `chunksize`; those of a coroutine function by themselves, so that they
        run at once (with a `chunksize`, those of a batch one after another). See AsyncMapResult for `ordered` and
        `return_exceptions`.
        Raises what the input raises, and SerializationError naming the item that cannot travel.
        """
        check_map(f, sequences)
        client = self._client
        options = self._options
        return submit_map(
            client._link,
            client._functions.get(f),
            sequences,
            options,
            engines=len(client) if options.targets is None else len(options.targets),
            chunksize=chunksize,
            ordered=ordered,
            return_exceptions=return_exceptions,
            track=self._flags["track"],
        )

    def _width(self) -> int:
        return PARTS_PER_ENGINE * (len(self._client) if self._options.targets is None else len(self._options.targets))

    def _map_parts(
        self, f: Callable[..., Any], columns: list[list[Any]], *, dist: str, ordered: bool
    ) -> AsyncMapResult:
        result = self.map_async(f, *columns, chunksize=1, ordered=ordered)
        result._assemble = partial(join, dist=dist)
        return result

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **how: Any) -> list[Any]:
        """Call `f` on each item, as `map_async`, and wait for the list of results."""
        values: list[Any] = self.map_async(f, *sequences, **how).get()
        return values

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        block: bool | None = None,
        chunksize: int | str = "auto",
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Any:
        """Call `f` on each item, as `map_async`, and wait or not as `block` (else the flag) says."""
        result = self.map_async(
            f, *sequences, chunksize=chunksize, ordered=ordered, return_exceptions=return_exceptions
        )
        return self._maybe_wait(result, block)

    def register_joblib_backend(self, name: str = "enginery", make_default: bool = False) -> None:
        """Have joblib, and what uses it, run its calls as this view does, with its flags, under a name of your choice.

            client.load_balanced_view([0, 1]).set_flags(retries=2).register_joblib_backend("two")
            with joblib.parallel_config("two"):
                joblib.Parallel()(joblib.delayed(f)(x) for x in xs)

        `n_jobs=-1`, the default, means all engines of the view; a Parallel inside a call runs its calls one after
        another there. Calls travel in batches; errors come out as themselves, and what is under way is stopped then. A
        large array (joblib's `max_nbytes`, 1 MB) that several calls share is sent to each engine once, and read-only
        there, as joblib's own memory maps are. `parallel_config(name, client=client, label="fit", ...)` takes another
        client, or other flags. With `make_default`, joblib uses it where no backend is named. Raises ImportError if
        joblib is not installed.
        """
        joblibnames.register(self, name, make_default=make_default)
