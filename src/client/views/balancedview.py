"""`LoadBalancedView`: calls that run on whichever engine is free first."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ...wire.messages import Options, Task
from ...wire.query import INT_MAX
from ..calls.arguments import pack, to_object
from ..calls.dependencies import bind, unbound
from ..calls.resources import amounts
from ..connection.core import Entry
from ..guests import joblibnames
from ..maps.batches import check_map, submit_map, width
from ..maps.imap import lazy_map
from ..maps.inputs import seeded
from ..results.futures import AsyncResult
from ..results.refs import ObjectRef
from ..results.sending import watch
from .decorators import PARTS_PER_ENGINE
from .partition import join
from .view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...wire.messages import ObjectInfo
    from ..client import Client
    from ..maps.imap import LazyMap
    from ..results.mapresult import AsyncMapResult


class LoadBalancedView(View):
    """Calls that run on whichever engine is free first: `client.load_balanced_view()`.

        view = client.load_balanced_view().set_flags(retries=2, timeout=60)
        results = view.map_sync(f, xs)

    Flags: `targets` (engines that may run it; None for any), `block`, `track`, `label`, `retries` (further attempts
    after an error or the death of an engine), `timeout` (seconds one attempt may run), `priority` (higher goes first),
    `after` (begin when these have ended: a result, a task's id, a list of these, or a `Dependency`), `follow` (the
    same, and run on an engine where they ran), `resources` (what a task takes of what its host offers while it runs:
    `{"gpu": 1}`; hosts offer what the cluster was started with), `keep` (values stay where they are made: calls return
    an ObjectRef). What can never run fails at once, with ImpossibleDependency.
    """

    FLAGS: ClassVar[tuple[str, ...]] = (
        *View.FLAGS,
        "retries",
        "timeout",
        "priority",
        "after",
        "follow",
        "resources",
        "keep",
    )

    def __init__(self, client: Client, targets: Any = None) -> None:
        super().__init__(client, targets)
        self._options = self._told = Options()
        self._set(
            {
                **self._flags,
                "retries": 0,
                "timeout": None,
                "priority": 0,
                "after": None,
                "follow": None,
                "resources": None,
                "keep": False,
            }
        )

    def __repr__(self) -> str:
        where = "any engine" if self.targets is None else repr(self.targets)
        return f"<LoadBalancedView {where}>"

    def _set(self, flags: dict[str, Any]) -> None:
        targets, retries, timeout, priority = (flags[name] for name in ("targets", "retries", "timeout", "priority"))
        if not isinstance(retries, int) or not 0 <= retries <= INT_MAX:
            raise ValueError(f"retries is a number of further attempts, not {retries!r}")
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise ValueError(f"timeout is a number of seconds or None, not {timeout!r}")
        if not isinstance(priority, int):
            raise TypeError(f"priority is an integer, not {type(priority).__name__}")
        if not -INT_MAX <= priority <= INT_MAX:
            raise ValueError(f"priority is a number of at most 63 bits, not {priority}")
        sinks = self._client._link.core.sinks
        after, follow = bind(flags["after"], sinks), bind(flags["follow"], sinks)
        ids = None if targets is None or targets == "all" else self._client._resolve(targets)[0]
        takes = amounts(flags["resources"])
        super()._set(flags)
        limit_s = None if timeout is None else float(timeout)
        self._options = Options(
            ids,
            int(priority),
            int(retries),
            limit_s,
            self._flags["label"],
            after=after,
            follow=follow,
            resources=takes,
            keep=bool(flags["keep"]),
        )
        self._told = unbound(self._options)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on an engine; return the result to come.

            future = view.apply_async(pow, 2, 10)

        A result among the arguments, at any depth, stands for its value, and need not be there yet. The call begins
        when it is, and gets it from the cluster, not from here. If there is none, the call raises what that task
        raised, with a note.

        A coroutine function is awaited there; an engine runs up to 64 of them at once. With the flag `keep`, the value
        stays there, and this returns an ObjectRef, which can be an argument before the value is made. Raises
        SerializationError naming the argument that cannot travel, ObjectStoreFull if there is no room for a large one.
        """
        client = self._client
        link = client._link
        function = client._functions.get(f)
        payload, frames = pack(f, args, kwargs)
        options = self._options
        task = link.new_tasks()
        now = time.time()
        future = AsyncResult(link, task, now, self._told)
        objects: tuple[ObjectInfo, ...] = ()
        if frames:
            payload, frames, objects = to_object(link.store, payload, frames)
            if frames:
                watch(link, future, task, track=self._flags["track"])
        message = Task(task, function.digest, payload, len(frames), objects=objects)
        link.submit(future, Entry(message, function, options, frames), now)
        return ObjectRef(link, future=future) if options.keep else future

    def _item_options(self) -> Options:
        """Return how items of maps are run: their values are never kept."""
        options = self._options
        return msgspec.structs.replace(options, keep=False) if options.keep else options

    def map_async(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        return_exceptions: bool = False,
        seed: Any = None,
    ) -> AsyncMapResult:
        """Call `f` on each item (of several sequences: each row, until the shortest ends); return the results to come.

            values = view.map_async(f, xs, ys).get()
            for value in view.map_async(simulate, range(1000), seed=42): ...

        All input is read and pickled during this call; results can be iterated as they arrive. Any iterable will do,
        and yields what it yields to `for`: a dict its keys, a DataFrame the names of its columns, an array its rows
        (which is cut rather than read, and iterated over on the engines). Items travel in batches of a size found
        automatically, or of `chunksize`; those of a coroutine function by themselves, so that they run at once (with a
        `chunksize`, those of a batch one after another). See AsyncMapResult for `ordered` and `return_exceptions`.

        With a `seed` (a whole number, a sequence of them, or a SeedSequence) item i has random numbers of its own, the
        same on any engines, in any batches and at any attempt: those of `numpy.random.SeedSequence(seed).spawn(n)[i]`.
        A function with a parameter `rng` is passed `numpy.random.default_rng` of it. For any other, the global states
        of `numpy.random` and `random` are set from it before the item, and back after it, which takes about 0.1 ms.

        Raises what the input raises (what was submitted is cancelled), SerializationError naming the item that cannot
        travel, TypeError for a coroutine function without `rng` if there is a seed.
        """
        check_map(f, sequences)
        function, rows = seeded(f, sequences, seed)
        client, options = self._client, self._item_options()
        return submit_map(
            client._link,
            client._functions.get(function),
            rows,
            options,
            engines=width(client, options),
            chunksize=chunksize,
            ordered=ordered,
            return_exceptions=return_exceptions,
            track=self._flags["track"],
        )

    def _width(self) -> int:
        return PARTS_PER_ENGINE * width(self._client, self._options)

    def _map_parts(
        self, f: Callable[..., Any], columns: list[list[Any]], *, dist: str, ordered: bool
    ) -> AsyncMapResult:
        result = self.map_async(f, *columns, chunksize=1, ordered=ordered)
        result._assemble = partial(join, dist=dist)
        return result

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **how: Any) -> list[Any]:
        """Call `f` on each item, as `map_async` (`how` is passed on), and wait for the list of results.

        view.map_sync(pow, [2, 3], [10, 2])      # [1024, 9]
        """
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
        seed: Any = None,
    ) -> Any:
        """Call `f` on each item, as `map_async`, and wait or not as `block` (else the flag) says.

        view.map(f, xs, block=True, return_exceptions=True)
        """
        result = self.map_async(
            f, *sequences, chunksize=chunksize, ordered=ordered, return_exceptions=return_exceptions, seed=seed
        )
        return self._maybe_wait(result, block)

    def imap(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        ordered: bool = True,
        max_outstanding: int | str = "auto",
        chunksize: int | str = "auto",
        return_exceptions: bool = False,
        seed: Any = None,
    ) -> LazyMap:
        """Call `f` on each item of an input that may be endless, which is read as the results are consumed.

            for value in view.imap(f, generator()): ...
            async for value in view.imap(f, generator(), ordered=False): ...

        No more than `max_outstanding` items are read beyond those whose results were consumed. "auto" is what keeps
        the engines busy for a quarter of a second, by what items are seen to take: at least 4 items for each engine,
        at most 65,536 or 64 MB with their results. Quick items travel together, within that; `chunksize` says how
        many. The input is read during `next`, in the thread that calls it. What items print is not kept. With
        `return_exceptions` errors are values; `seed` is as in `map_async`.

        Returns a LazyMap, which has more to say of errors, cancelling and the end. Raises ValueError for an impossible
        `max_outstanding` or `chunksize`, TypeError as `map_async`.
        """
        return lazy_map(
            self._client,
            self._item_options(),
            f,
            sequences,
            ordered=ordered,
            max_outstanding=max_outstanding,
            chunksize=chunksize,
            return_exceptions=return_exceptions,
            seed=seed,
        )

    def register_joblib_backend(self, name: str = "enginery", make_default: bool = False) -> None:
        """Have joblib, and what uses it, run its calls as this view does, with its flags, under a name of your choice.

            client.load_balanced_view([0, 1]).set_flags(retries=2).register_joblib_backend("two")
            with joblib.parallel_config("two"):
                joblib.Parallel()(joblib.delayed(f)(x) for x in xs)

        `n_jobs=-1`, the default, means all engines of the view; a Parallel inside a call runs its calls one after
        another there. Calls travel in batches; errors come out as themselves, and what is under way is stopped then. A
        large array (joblib's `max_nbytes`, 1 MB) that several calls share is in shared memory once, as it is when the
        first of them is submitted. `parallel_config(name, client=client, label="fit", ...)` takes another
        client, or other flags. With `make_default`, joblib uses it where no backend is named. Raises ImportError if
        joblib is not installed.
        """
        joblibnames.register(self, name, make_default=make_default)
