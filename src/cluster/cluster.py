"""`Cluster`: a cluster of this host from Python, gone when its block, its object's `stop` or its process ends."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from .. import rendezvous
from ..client.calls.resources import amounts
from ..errors import ClusterError
from . import limits, local
from .control import Control

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from ..client.client import Client


class Cluster:
    """A cluster that belongs to this process.

    ```
    with Cluster(n=8) as client:        # also: async with
        client.map(...)
    ```

    or step by step: `start()` returns when all engines answer, `connect()` gives a client, `stop()` ends everything.
    If this process ends in whatever way, its cluster does too. `n` is the number of engines, by default one per core;
    without a `name` it gets one of its own, so that clusters never meet by accident. More engines than this machine can
    bear are a ClusterError, unless `force` insists; so is one that is not there in `timeout` seconds.

    `preload` names modules for all engines to share; `fork=False` starts each engine as a fresh process; `listen`
    ("HOST" or "HOST:PORT") has the controller listen on TCP, encrypted, instead of a Unix socket. Should the controller
    die, another takes over from its journal, unless `journal` is False; results are kept in it for `keep` (seconds, or
    "12h", "7d") up to `keep_bytes` (bytes, or "500MB", "2GB"), beyond the cluster's end if it has a name.

    In each engine, numerical libraries have as many threads as there are cores for it (cores by engines), or `threads`
    (0: as many as they like). `resources`, such as `{"gpu": 2}`, are what the host offers to tasks that take some: see
    LoadBalancedView.

    Values of `object_min` bytes or more are written once into shared memory, for all engines of the host to map. They
    take up to `memory_limit` of it (bytes, or "8GB", "1.5GiB"; by default half of the memory of the host or of its
    container), which also bounds the controller's memory; what is beyond goes to disk, into the folder `spill` (by
    default one in /var/tmp, or in $ENGINERY_SPILL_DIR) until it is used.
    """

    def __init__(
        self,
        n: int | None = None,
        *,
        name: str | None = None,
        fork: bool = True,
        preload: str | Sequence[str] = (),
        listen: str | None = None,
        timeout: float = 30,
        force: bool = False,
        journal: bool = True,
        keep: float | str = "7d",
        keep_bytes: int | str = "2GB",
        threads: int | None = None,
        resources: Mapping[str, float] | None = None,
        memory_limit: int | str | None = None,
        object_min: int | str = local.OBJECT_MIN,
        spill: str | os.PathLike[str] | None = None,
    ) -> None:
        self.n = (os.cpu_count() or 1) if n is None else n
        limits.check_count(self.n, force=force)
        self.name = rendezvous.check_name(name if name is not None else f"python-{os.getpid()}-{secrets.token_hex(3)}")
        modules = preload.split(",") if isinstance(preload, str) else preload
        self.timeout = timeout
        self._options = local.Options(
            self.n,
            fork,
            [module for module in modules if module],
            listen,
            timeout,
            journal,
            limits.seconds(keep),
            limits.nbytes(keep_bytes),
            ephemeral=name is None,
            threads=limits.check_threads(threads),
            resources=amounts(resources),
            memory_limit=None if memory_limit is None else limits.nbytes(memory_limit),
            object_min=limits.nbytes(object_min),
            spill=None if spill is None else os.fspath(spill),
        )
        self._nanny: local.Nanny | None = None
        self._client: Client | None = None
        self._pid = 0

    # ------------------------------------------------------------------------------------------------ start and stop

    def start(self) -> Cluster:
        """Start it, and return it when all its engines answer.

            cluster = Cluster(n=8, name="mine").start()

        Raises ClusterExists if one of its name runs already, ClusterError if it cannot be started.
        """
        if self._nanny is not None and self._nanny.is_alive():
            return self
        deadline = time.monotonic() + self.timeout
        self._nanny = local.start(self.name, self._options, owned=True)
        self._pid = os.getpid()
        atexit.register(self.stop)
        try:
            with self._control() as control:
                control.wait_engines(max(1.0, deadline - time.monotonic()))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it: every process, file and socket of it is gone when this returns. Does nothing the second time.

            cluster.stop()                       # its clients' futures fail with ControllerLost

        What its journal keeps can be had from the next cluster of the same name.
        """
        atexit.unregister(self.stop)
        if self._pid != os.getpid():
            return  # a forked copy of the process that it belongs to
        client, self._client = self._client, None
        if client is not None:
            client.close()
        nanny, self._nanny = self._nanny, None
        if nanny is not None:
            nanny.stop()

    def connect(self) -> Client:
        """Return a client of this cluster, the same each time until it is closed or lost; `stop()` closes it.

            client = cluster.connect()

        Raises ClusterError if it is not running.
        """
        if self._client is None or self._client._link.core.lost is not None:
            from ..client.client import Client  # noqa: PLC0415 - a cluster can be had without

            self._client = Client(self._running().directory / rendezvous.CLIENT_FILE, timeout=self.timeout)
        return self._client

    def __enter__(self) -> Client:
        """Start it and connect."""
        self.start()
        try:
            return self.connect()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Client:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # ------------------------------------------------------------------------------------------------------ steering

    def scale(self, n: int, *, force: bool = False) -> list[int]:
        """Have n engines; return their ids when those to come answer and those to go are gone.

            cluster.scale(12)

        Those to go finish what they run. More than this machine can bear is an error, unless `force` insists. Raises
        ClusterError if it cannot be done.
        """
        limits.check_count(n, force=force)
        with self._control() as control:
            ids = control.scale(n, self.timeout)
        self.n = n
        return ids

    def restart(self, engines: int | Iterable[int] | None = None) -> list[int]:
        """Replace engines (all: None) by fresh ones with the same ids; return the ids when these answer.

            cluster.restart([0, 2])

        What they ran raises EngineDied. Raises ClusterError naming ids that are not there.
        """
        ids = None if engines is None else [engines] if isinstance(engines, int) else list(engines)
        with self._control() as control:
            return control.restart(ids, self.timeout)

    def status(self) -> dict[str, Any]:
        """Return how it is: engines, hosts, clients, tasks. As `Client.status`.

        cluster.status()["tasks"]            # {"waiting": 0, "assigned": 3, ...}
        """
        with self._control() as control:
            return control.status()

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended since."""
        return self._nanny is not None and self._nanny.is_alive()

    def _running(self) -> local.Nanny:
        if self._nanny is None:
            raise ClusterError(f"cluster {self.name} is not started; call start() first")
        if not self._nanny.is_alive():
            raise ClusterError(f"cluster {self.name} has ended")
        return self._nanny

    def _control(self) -> Control:
        nanny = self._running()
        connection = rendezvous.find(nanny.directory / rendezvous.CLIENT_FILE)
        return Control(connection, self.timeout, nanny.is_alive)

    def _repr_html_(self) -> str:
        from ..client.show import cluster_html  # noqa: PLC0415 - for notebooks only

        return cluster_html(self.name, self.n, self._client, running=self.is_running)

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {self.n} engines, {'running' if self.is_running else 'not running'}>"
