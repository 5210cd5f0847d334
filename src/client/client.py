"""`Client`: a program's connection to a cluster."""

from __future__ import annotations

import os
import signal as signals
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import rendezvous
from ..errors import ClusterError, NoEngines, NoSuchEngine
from ..wire import messages as m
from .balancedview import LoadBalancedView
from .consoles import open_console
from .directview import DirectView
from .fetches import forget, get_result
from .functions import FunctionCache
from .link import Link
from .setup import register

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from .directview import Targets
    from .fetches import Tasks
    from .futures import AsyncResult
    from .groupresult import GroupResult
    from .mapresult import AsyncMapResult


C = TypeVar("C", bound="Client")


class Client:
    """A connection to a running cluster.

        client = Client()                        # the running cluster; by name: Client("name")
        client.submit(pow, 2, 10).result()       # on whichever engine is free
        for r in client.map(f, xs): ...          # many calls, results in order as they come
        client[:]["x"] = 1                       # on every engine

    `cluster` is the name of a cluster or the path of its connection file; without, the only one that runs, or the one
    named "default". When the constructor returns, every engine that the cluster announced is there. It raises
    NoClusterError if there is no such cluster, ClusterError if it does not answer within `timeout` seconds.

    Tasks outlive their client. With `on_exit="cancel"` they are cancelled when it is closed, or has vanished for
    `patience` seconds (half a minute).

    A client can be used from many threads, and inside a running event loop. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        cluster: str | os.PathLike[str] | None = None,
        *,
        timeout: float = 10,
        on_exit: str = "continue",
        patience: float | None = None,
    ) -> None:
        if on_exit not in ("continue", "cancel"):
            raise ValueError(f'on_exit is "continue" or "cancel", not {on_exit!r}')
        waits: Any = patience
        if waits is not None and not (isinstance(waits, int | float) and waits >= 0):
            raise ValueError(f"patience is a number of seconds, not {patience!r}")
        deadline = time.monotonic() + timeout
        connection, ending = rendezvous.find(cluster), rendezvous.watch(cluster)
        name = os.path.basename(sys.argv[0] or "python")  # noqa: PTH119 - a name to show, not a path
        cancels = on_exit == "cancel"
        host = os.uname().nodename
        hello = m.ClientHello(m.VERSION, name, os.getpid(), host, cancel_on_exit=cancels, patience_s=patience)
        self._cancels = cancels
        self._functions = FunctionCache()
        self._link = link = Link(connection, hello, ending)
        self._cluster = connection.cluster
        try:
            self._greet(timeout, deadline)
        except BaseException:
            link.close()
            raise
        self._balanced = LoadBalancedView(self)
        if "IPython" in sys.modules:
            from ..jupyter.magics import activate_first  # noqa: PLC0415 - only in IPython

            activate_first(lambda: DirectView(self, "all").set_flags(block=True))
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

    @property
    def ids(self) -> list[int]:
        """The ids of the engines that are there."""
        return list(self._link.core.engines)

    def __len__(self) -> int:
        return len(self._link.core.engines)

    def __bool__(self) -> bool:
        return True  # a client, even if of no engines

    def __iter__(self) -> Iterator[DirectView]:
        return iter([DirectView(self, engine) for engine in self.ids])

    def __getitem__(self, key: Targets) -> DirectView:
        """Return a view of one engine (`client[0]`, `client[-1]`) or several (`client[1:3]`, `client[[0, 2]]`).

        Raises NoSuchEngine, which is an IndexError, naming the ids that are not there.
        """
        if isinstance(key, str):
            raise TypeError(
                f"engines are named by numbers, not {key!r}; a variable of all engines is client[:][{key!r}]"
            )
        ids, scalar = self._resolve(key, empty=True)
        return DirectView(self, ids[0] if scalar else list(ids))

    def _resolve(self, targets: Targets, *, empty: bool = False) -> tuple[tuple[int, ...], bool]:
        """Return the ids that targets mean now, and whether they are a single one."""
        self._link.check()
        there = self._link.core.engines
        ids = tuple(there)
        scalar = False
        if targets is None or targets == "all":
            chosen = ids
        elif isinstance(targets, int) and not isinstance(targets, bool):
            chosen, scalar = (self._one(targets, ids),), True
        elif isinstance(targets, slice):
            chosen = ids[targets]
        elif isinstance(targets, list | tuple | range):
            named: list[Any] = list(targets)
            wrong = [t for t in named if not isinstance(t, int) or isinstance(t, bool)]
            if wrong:
                raise TypeError(f"engines are named by numbers, not {wrong[0]!r}")
            missing = [t for t in targets if t not in there and not -len(ids) <= t < 0]
            if missing:
                raise self._no_such(missing)
            chosen = tuple(self._one(t, ids) for t in targets)
        else:
            raise TypeError(f'targets are a number, a slice, a list of numbers or "all", not {targets!r}')
        if not chosen and not empty:
            raise NoEngines("there is no engine to do this; wait_for_engines(1) waits for one, scale(n) starts some")
        return chosen, scalar

    def _one(self, target: int, ids: tuple[int, ...]) -> int:
        if target in self._link.core.engines:
            return target
        if -len(ids) <= target < 0:
            return ids[target]
        raise self._no_such([target])

    def _no_such(self, missing: list[int]) -> NoSuchEngine:
        there = ", ".join(map(str, self._link.core.engines)) or "none"
        return NoSuchEngine(f"there is no engine {', '.join(map(str, missing))}; there are: {there}")

    # ---------------------------------------------------------------- views and calls

    def activate(self, targets: Targets = "all", suffix: str = "") -> DirectView:
        """Make `%px` and its kin, in IPython and notebooks, run on these engines; return the view, which waits.

            client.activate([0, 2], "_some")         # %px_some, %autopx_some, %pxresult_some, %pxconfig_some

        The first client of a program does so by itself, for all engines.
        """
        view = self.direct_view(targets).set_flags(block=True)
        view.activate(suffix)
        return view

    def direct_view(self, targets: Targets = "all") -> DirectView:
        """Return a view of engines; "all" means those that are there at each call. Raises NoSuchEngine."""
        if targets != "all":
            self._resolve(targets)
        return DirectView(self, targets)

    def load_balanced_view(self, targets: Targets = None) -> LoadBalancedView:
        """Return a view that runs calls on whichever engine is free; with `targets`, of those. Raises NoSuchEngine."""
        return LoadBalancedView(self, targets)

    def submit(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on an engine; return a future, which can also be awaited.

            future = client.submit(pow, 2, 10)
            future.result()

        Never waits. The function travels with what it captures, as it is now; a coroutine function is awaited on the
        engine, which runs several at once. Raises SerializationError naming the argument that cannot travel,
        ControllerLost if the cluster is gone.
        """
        return self._balanced.apply_async(f, *args, **kwargs)

    def map(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> AsyncMapResult:
        """Call `f` on each item on whichever engines are free; iterate over the result as it arrives, in order.

            for value in client.map(f, xs): ...
            values = client.map(f, xs, ys).get()

        See LoadBalancedView.map_async and AsyncMapResult.
        """
        return self._balanced.map_async(
            f, *sequences, chunksize=chunksize, ordered=ordered, return_exceptions=return_exceptions
        )

    # ---------------------------------------------------------------- set-up

    def register_setup(self, code: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> GroupResult:
        """Have every engine of the cluster run this: those that are there now, and each that starts later (in place of
        one that died or was restarted, or because there are to be more) before anything else.

            client.register_setup("import numpy as np").get()
            client.register_setup(os.chdir, "/data/run7")

        `code` is run as by `DirectView.execute`, a function called with these arguments. Returns the results to come of
        the engines that are there. Set-up is run in the order in which it was registered; what is registered twice runs
        again now, and is kept once. Where it fails later, the controller's log and `cluster status` tell; an engine
        that it kills each time is given up. Set-up belongs to the cluster: it stays when this client leaves.
        """
        return register(self, code, args, kwargs)

    def clear_setup(self) -> None:
        """Forget all set-up of the cluster, whoever registered it: engines that start from now on have none."""
        self._link.request(m.ClearSetup).result()

    # ---------------------------------------------------------------- results for later

    def get_result(self, tasks: Tasks | None = None, *, label: str | None = None, block: bool = False) -> Any:
        """Return the results of tasks of any client, by id or label: also of one that is gone, or of a cluster of this
        name that was stopped since.

            client.get_result("3-17")                # an id, as `msg_id` gives it: an AsyncResult
            client.get_result(["3-17", "3-18"])      # several, or a label: all of them, in order of submission
            client.get_result(label="training").get()

        Of several, the value is a list; a task of a map counts for as many values as it has items. What comes back is
        done when all the tasks have ended. Their errors, output and times are those that their client gets. With
        `block`, wait and return the value. Raises NoSuchTask (a KeyError) naming what the cluster does not know,
        ClusterError if it has no journal.
        """
        result = get_result(self._link, self._cluster, tasks, label)
        return result.get() if block else result

    def purge_results(self, tasks: Tasks | None = None, *, label: str | None = None) -> None:
        """Have the cluster forget tasks that have ended, by id or label, or `"all"`: nobody finds them any more.

        Raises NoSuchTask naming what it does not know, ClusterError naming a task that has not ended.
        """
        forget(self._link, self._cluster, tasks, label)

    # ---------------------------------------------------------------- waiting and stopping

    def wait(self, jobs: AsyncResult | Iterable[AsyncResult] | None = None, timeout: float | None = -1) -> bool:
        """Wait for these results, or for all of this client; return whether they are done.

        At most `timeout` seconds; -1 or None: as long as it takes.
        """
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        for job in self._jobs(jobs):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not job._wait_done(left):
                return False
        return True

    def cancel(self, jobs: AsyncResult | Iterable[AsyncResult] | None = None, *, grace_s: float | None = None) -> bool:
        """Stop these results' tasks, or all of this client; return whether none of them runs on.

        Unstarted tasks are withdrawn, running ones interrupted, again each second; with `grace_s`, the engine of one
        that still runs so many seconds later is killed and replaced.
        """
        return self._stop(jobs, grace_s=grace_s, interrupt=True)

    def abort(self, jobs: AsyncResult | Iterable[AsyncResult] | None = None) -> None:
        """Withdraw the unstarted tasks of these results, or of all of this client; leave alone what runs."""
        self._stop(jobs, grace_s=None, interrupt=False)

    def _stop(
        self, jobs: AsyncResult | Iterable[AsyncResult] | None, *, grace_s: float | None, interrupt: bool
    ) -> bool:
        todo = [job for job in self._jobs(jobs) if not job.done()]
        tasks = [task for job in todo for task in job._open_tasks()]
        if not tasks:
            return True
        reply = self._link.cancel(tasks, grace_s=grace_s, interrupt=interrupt)
        if not self._link.may_wait():
            return False
        stopped = reply.result()
        for job in todo:
            job._await_stopped(stopped)
        return all(job.done() for job in todo)

    def _jobs(self, jobs: AsyncResult | Iterable[AsyncResult] | None) -> list[AsyncResult]:
        if jobs is None:
            every: dict[int, Any] = {id(sink): sink for sink in list(self._link.core.sinks.values())}
            return list(every.values())
        if isinstance(jobs, list | tuple | set | frozenset):
            return list(jobs)
        return [jobs] if hasattr(jobs, "_open_tasks") else list(jobs)  # type: ignore[list-item] # told apart by hasattr

    def wait_for_engines(self, n: int | None = None, timeout: float | None = -1) -> list[int]:
        """Wait until n engines (None: all that the cluster is to have) are ready; return the ids of those that are.

        Raises TimeoutError after `timeout` seconds (-1 or None: never), ClusterError if it cannot come true.
        """
        limit = None if timeout is None or timeout < 0 else timeout
        try:
            ids: list[int] = self._link.request(m.WaitEngines, n).result(limit)
        except TimeoutError:
            wanted = "all" if n is None else n
            raise TimeoutError(f"{len(self)} engines are there, not {wanted}, after {timeout:g} s") from None
        return ids

    # ---------------------------------------------------------------- the cluster

    def status(self) -> dict[str, Any]:
        """Return how the cluster is: its engines, hosts, clients, and numbers of tasks."""
        value: dict[str, Any] = self._link.request(m.StatusQuery).result()
        return value

    def scale(self, n: int, timeout: float | None = None) -> list[int]:
        """Have n engines; return their ids when those to start answer and those to stop are gone.

        Raises ClusterError if that cannot be done, TimeoutError.
        """
        number: Any = n
        if not isinstance(number, int) or isinstance(number, bool) or n < 0:
            raise ValueError(f"the number of engines is 0 or more, not {n!r}")
        self._link.request(m.Scale, n).result(timeout)
        return self.ids

    def restart(self, targets: Targets = "all", timeout: float | None = None) -> None:
        """Replace engines by fresh ones under the same ids; return when they answer. What they ran is EngineDied."""
        # With what we know of them: should it be asked twice, it happens once. "All" are also those given up.
        incarnations = [(engine.id, engine.incarnation) for engine in self._link.core.engines.values()]
        self._link.request(m.Restart, self._some(targets), incarnations).result(timeout)

    def send_signal(self, sig: int | str, targets: Targets = "all") -> None:
        """Send a signal, by number or name (`"SIGINT"`), to the processes of engines."""
        if isinstance(sig, str):
            name = sig.upper() if sig.upper().startswith("SIG") else f"SIG{sig.upper()}"
            if name not in signals.Signals.__members__:
                raise ValueError(f"there is no signal {sig!r}")
            sig = signals.Signals[name]
        self._link.request(m.Signal, int(sig), self._some(targets)).result()

    def shutdown(self, targets: Targets = "all", restart: bool = False, hub: bool = False) -> None:
        """Stop engines; with `restart`, replace them by fresh ones; with `hub`, stop the whole cluster."""
        if hub:
            self._link.request(m.Shutdown).result()
        elif restart:
            self.restart(targets)
        elif targets == "all":
            self.scale(0)
        else:
            raise ValueError("single engines can be restarted, not stopped; scale(n) says how many there are")

    def _some(self, targets: Targets) -> list[int] | None:
        return None if targets is None or targets == "all" else list(self._resolve(targets)[0])

    def connect_console(self, engine: int) -> None:
        """Open a Jupyter console on an engine in this terminal; return when it is closed.

        It shares the engine's variables with its tasks. In a notebook, which has no terminal, print the command for
        one. Raises ClusterError if jupyter-console is not installed, or the engine is of another host.
        """
        open_console(self[engine].bind_kernel())

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """Leave the cluster. Tasks that are not done go on without us (or are cancelled, if it was opened with
        `on_exit="cancel"`); their futures here fail.
        """
        self._link.close(cancel=self._cancels)

    async def aclose(self) -> None:
        """Leave the cluster, as `close`, from a coroutine."""
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

    def __repr__(self) -> str:
        core = self._link.core
        if core.lost is not None:
            return f"<Client of cluster {self._cluster}: {core.lost}>"
        return f"<Client of cluster {self._cluster}: {len(core.engines)} engines, {len(core.sinks)} tasks unfinished>"

    def _repr_html_(self) -> str:
        from .show import client_html  # noqa: PLC0415 - for notebooks only

        return client_html(self)


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
