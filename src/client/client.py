"""`Client`: a program's connection to a cluster."""

from __future__ import annotations

import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from .. import rendezvous
from ..errors import ClusterError
from ..wire import messages as m
from .calls.functions import FunctionCache
from .connection.link import Link
from .fleet import Fleet
from .guests import joblibnames
from .guests.guests import Guests
from .jobs import Jobs
from .records.records import Records
from .values import Values
from .views.balancedview import LoadBalancedView
from .views.consoles import open_console
from .views.directview import DirectView

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from .maps.executor import ClusterExecutor
    from .maps.imap import LazyMap
    from .results.futures import AsyncResult
    from .results.mapresult import AsyncMapResult
    from .results.refs import ObjectRef
    from .views.directview import Targets


C = TypeVar("C", bound="Client")


class Client(Fleet, Guests, Jobs, Records, Values):
    """A connection to a running cluster.

        client = Client()                        # the running cluster; by name: Client("name")
        client.submit(pow, 2, 10).result()       # on whichever engine is free
        for r in client.map(f, xs): ...          # many calls, results in order as they come
        client[:]["x"] = 1                       # on every engine

    `cluster` is the name of a cluster or the path of its connection file; without, the only one that runs, or the one
    named "default". When the constructor returns, every engine that the cluster announced is there. It raises
    NoClusterError if there is no such cluster, ClusterError if it does not answer within `timeout` seconds.

    `cluster_id` is an older word for the name, and so is a `profile` other than "default"; TypeError if several differ.

    Tasks outlive their client. With `on_exit="cancel"` they are cancelled when it is closed, or has vanished for
    `patience` seconds (half a minute).

    A client can be used from many threads, and inside a running event loop. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        cluster: str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        cluster_id: str | None = None,
        timeout: float = 10,
        on_exit: str = "continue",
        patience: float | None = None,
    ) -> None:
        if on_exit not in ("continue", "cancel"):
            raise ValueError(f'on_exit is "continue" or "cancel", not {on_exit!r}')
        waits: Any = patience
        if waits is not None and not (isinstance(waits, int | float) and waits >= 0):
            raise ValueError(f"patience is a number of seconds, not {patience!r}")
        cluster = _which(cluster, cluster_id, None if profile == "default" else profile)
        deadline = time.monotonic() + timeout
        connection, ending = rendezvous.find(cluster), rendezvous.watch(cluster)
        name = os.path.basename(sys.argv[0] or "python")  # noqa: PTH119 - a name to show, not a path
        cancels = on_exit == "cancel"
        host = os.uname().nodename
        hello = m.ClientHello(m.VERSION, name, os.getpid(), host, cancel_on_exit=cancels, patience_s=patience)
        self._cancels = cancels
        self._functions = FunctionCache()
        self._link = link = Link(connection, hello, ending, rendezvous.find_store(cluster, connection.address))
        self._cluster = connection.cluster
        try:
            self._greet(timeout, deadline)
            link.join_store()
        except BaseException:
            link.close()
            raise
        self._balanced = LoadBalancedView(self)
        self._keeping = LoadBalancedView(self).set_flags(keep=True)
        if "IPython" in sys.modules:
            from ..jupyter.magics import activate_first  # noqa: PLC0415 - only in IPython

            activate_first(lambda: DirectView(self, "all").set_flags(block=True))
        joblibnames.offer(self)
        weakref.finalize(self, link.release).atexit = False

    def _greet(self, timeout: float, deadline: float) -> None:
        connection = self._link.connection
        try:
            self._link.wait_welcome(timeout)
        except TimeoutError:
            raise ClusterError(
                f"the controller of cluster {connection.cluster} at {connection.address} does not answer "
                f'(waited {timeout:g} s); "cluster list" shows what runs'
            ) from None
        if not self._link.core.engines:
            return  # a cluster without engines: scale() starts some
        answer = self._link.request(m.WaitEngines, None)
        try:
            answer.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            engines = self._link.core.engines.values()
            ready = sum(engine.state == "ready" for engine in engines)
            raise ClusterError(
                f"{ready} of the {len(engines)} engines of cluster {connection.cluster} answered within {timeout:g} s; "
                '"cluster status" shows their state'
            ) from None

    @classmethod
    def connect(cls, cluster: str | os.PathLike[str] | None = None, *, timeout: float = 10) -> Connecting[Self]:
        """Connect from a coroutine, without blocking its loop; raises what `Client()` raises.

            async with Client.connect() as client:
                print(await client.submit(pow, 2, 10))

        `client = await Client.connect()` works too; then `await client.aclose()`.
        """
        return Connecting(lambda: cls(cluster, timeout=timeout))

    # ---------------------------------------------------------------- engines

    @property
    def cluster_name(self) -> str:
        """The name of the cluster."""
        return self._cluster

    def __bool__(self) -> bool:
        return True  # a client, even if of no engines

    def __iter__(self) -> Iterator[DirectView]:
        return iter([DirectView(self, engine) for engine in self.ids])

    def __getitem__(self, key: Targets) -> DirectView:
        """Return a view of one engine or several.

            client[0], client[-1]                     # one: its results are values
            client[:], client[1:3], client[[0, 2]]   # several: lists

        What calls have as `targets` is the same: an id, a list of ids, or a slice; and "all". Raises
        NoSuchEngine, which is an IndexError, naming the ids that are not there.
        """
        if isinstance(key, str):
            raise TypeError(
                f"engines are named by numbers, not {key!r}; a variable of all engines is client[:][{key!r}]"
            )
        ids, scalar = self._resolve(key, empty=True)
        return DirectView(self, ids[0] if scalar else list(ids))

    # ---------------------------------------------------------------- views and calls

    def activate(self, targets: Targets = "all", suffix: str = "") -> DirectView:
        """Make `%px` and its kin, in IPython and notebooks, run on these engines; return the view, which waits.

            client.activate([0, 2], "_some")         # %px_some, %autopx_some, %pxresult_some, %pxconfig_some

        With a `suffix` they are further magics, whose names end so. The first client of a program does this by
        itself, for all engines.
        """
        view = self.direct_view(targets).set_flags(block=True)
        view.activate(suffix)
        return view

    def direct_view(self, targets: Targets = "all") -> DirectView:
        """Return a view of engines; "all" means those that are there at each call. Raises NoSuchEngine.

        client.direct_view([0, 1]).push({"x": 1}, block=True)
        """
        if targets != "all":
            self._resolve(targets)
        return DirectView(self, targets)

    def load_balanced_view(self, targets: Targets = None) -> LoadBalancedView:
        """Return a view that runs calls on whichever engine is free; with `targets`, of those. Raises NoSuchEngine.

        view = client.load_balanced_view().set_flags(retries=2)
        """
        return LoadBalancedView(self, targets)

    def broadcast_view(self, targets: Targets = "all", is_coalescing: bool | None = None) -> DirectView:
        """Return a direct view: a call on many engines is always broadcast. `is_coalescing` is accepted, and of no
        effect: results that are ready together travel together.

            client.broadcast_view().apply_sync(os.getpid)
        """
        del is_coalescing
        return self.direct_view(targets)

    def clear(self, targets: Targets = "all", block: bool | None = None) -> Any:
        """Empty the namespaces of engines, as `DirectView.clear`; wait if `block`.

        client.clear([0, 1], block=True)
        """
        return self.direct_view(targets).clear(block=block)

    @overload
    def submit(self, f: Callable[..., Any], /, *args: Any, keep: Literal[True], **kwargs: Any) -> ObjectRef: ...

    @overload
    def submit(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult: ...

    def submit(self, f: Callable[..., Any], /, *args: Any, keep: bool = False, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on an engine; return a future, which can also be awaited.

            future = client.submit(pow, 2, 10)
            future.result()

        It does not wait, unless the cluster has more to do than its `memory_limit` has room for: then it does until
        there is room (not in a coroutine, nor in a task). A result among the arguments, at any depth, stands for its
        value, which may be still to come. The function travels with what it captures, as it is now; a coroutine
        function is awaited on the engine, which runs several at once.

        With `keep` the value stays where it is made, in shared memory, and what is returned is an ObjectRef: to be an
        argument of further calls, at once if you like, or to `get()`. (A parameter of that name of the function's own
        is given by `functools.partial`.)

        Raises SerializationError naming the argument that cannot travel, ObjectStoreFull if there is no room for a
        large one, ControllerLost if the cluster is gone.
        """
        if keep:
            return self._keeping.apply_async(f, *args, **kwargs)
        return self._balanced.apply_async(f, *args, **kwargs)

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        return_exceptions: bool = False,
        seed: Any = None,
    ) -> AsyncMapResult:
        """Call `f` on each item on whichever engines are free; iterate over the result as it arrives, in order.

            for value in client.map(f, xs): ...
            values = client.map(f, xs, ys).get()

        See LoadBalancedView.map_async and AsyncMapResult.
        """
        return self._balanced.map_async(
            f, *sequences, chunksize=chunksize, ordered=ordered, return_exceptions=return_exceptions, seed=seed
        )

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

            for value in client.imap(f, endless()): ...

        See LoadBalancedView.imap and LazyMap.
        """
        return self._balanced.imap(
            f,
            *sequences,
            ordered=ordered,
            max_outstanding=max_outstanding,
            chunksize=chunksize,
            return_exceptions=return_exceptions,
            seed=seed,
        )

    def executor(self, targets: Targets = None) -> ClusterExecutor:
        """Return a `concurrent.futures.Executor` whose calls run on whichever engine is free; with `targets`, of those.

            with client.executor() as executor:
                futures = [executor.submit(pow, 2, n) for n in range(10)]
                results = list(executor.map(abs, range(-10, 10)))

        Raises NoSuchEngine. See ClusterExecutor.
        """
        from .maps.executor import ClusterExecutor  # noqa: PLC0415 - only who asks for one needs it

        return ClusterExecutor(LoadBalancedView(self, targets))

    # ---------------------------------------------------------------- front ends

    def connect_console(self, engine: int) -> None:
        """Open a Jupyter console on an engine in this terminal; return when it is closed.

            client.connect_console(3)

        It shares the engine's variables with its tasks. In a notebook, which has no terminal, print the command for
        one. Raises ClusterError if jupyter-console is not installed, or the engine is of another host.
        """
        open_console(self[engine].bind_kernel())

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Leave the cluster. Tasks that are not done go on without us (or are cancelled, if it was opened with
        `on_exit="cancel"`); their futures here fail with ControllerLost. Results that are here can still be read; but
        of large ones, only those that are in the memory of this host.

            client.close()                       # or the end of a `with` block
        """
        self.stop_dask()
        self._link.close(cancel=self._cancels)

    async def aclose(self) -> None:
        """Leave the cluster, as `close`, from a coroutine.

        await client.aclose()
        """
        import asyncio  # noqa: PLC0415 - only who awaits has it anyway

        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Any:
        raise TypeError("a client is a connection of its process, and cannot travel; code on engines can open its own")

    def __repr__(self) -> str:
        core = self._link.core
        if core.lost is not None:
            return f"<Client of cluster {self._cluster}: {core.lost}>"
        return f"<Client of cluster {self._cluster}: {len(core.engines)} engines, {len(core.sinks)} tasks unfinished>"

    def _repr_html_(self) -> str:
        from .show import client_html  # noqa: PLC0415 - for notebooks only

        return client_html(self)


def _which(*names: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    given = list(dict.fromkeys(name for name in names if name is not None))
    if len(given) > 1:
        raise TypeError(f"cluster, cluster_id and profile name different clusters: {', '.join(map(repr, given))}")
    return given[0] if given else None


class Connecting(Generic[C]):
    """A connection being made: await it, or use it in an `async with` block."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._client: C | None = None

    def __await__(self) -> Generator[Any, None, C]:
        import asyncio  # noqa: PLC0415 - only who awaits has it anyway

        return asyncio.to_thread(self._make).__await__()

    async def __aenter__(self) -> C:
        self._client = client = await self
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()
