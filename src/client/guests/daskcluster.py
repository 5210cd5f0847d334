"""Engines that are dask workers for a while: the scheduler is in this process, a worker in each engine's.

```
 this process                                  each engine
   distributed.Client ── TLS ── scheduler ── TLS ── worker, in a thread of its own
   Client ── controller ──────────────────────── main thread: tasks, as before
```
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ... import daskworkers
from ...errors import EngineryError

if TYPE_CHECKING:
    from ..client import Client
    from ..views.directview import Targets

LOOPBACK = "127.0.0.1"


class DaskCluster:
    """A scheduler, and workers in the engines of a client."""

    def __init__(
        self,
        client: Client,
        targets: Targets,
        *,
        security: Any,
        scheduler_args: dict[str, Any],
        worker_args: dict[str, Any],
    ) -> None:
        distributed = _distributed()
        self._view = client.direct_view(list(client._resolve(targets)[0]))
        security = _secure(distributed, security)
        host = self._host(client, safe=security is not None)
        common = {"host": host, "protocol": "tcp://" if security is None else "tls://", "security": security}
        scheduler = {"dashboard_address": f"{LOOPBACK}:0", "dashboard": True, **common, **scheduler_args}
        self._cluster = distributed.SpecCluster(
            workers={},
            scheduler={"cls": distributed.Scheduler, "options": scheduler},
            security=security,
            silence_logs=30,  # warnings
            name=f"enginery-{client.cluster_name}",
        )
        self._scheduler = self._cluster.scheduler_address
        self._client: Any = None
        try:
            bound = common if host == LOOPBACK else {**common, "host": None}  # where the scheduler can reach them
            self._start_workers({"nthreads": 1, "memory_limit": 0, **bound, **worker_args})
            self.connect()
        except BaseException:
            self.close()
            raise

    def _host(self, client: Client, *, safe: bool) -> str:
        """Return the address to listen on: that of the loopback, unless engines run elsewhere."""
        there = {client._link.core.engines[engine].host for engine in self._view.targets} - {os.uname().nodename, ""}
        if not there:
            return LOOPBACK
        if not safe:
            raise ValueError(
                f"without security, dask runs on one host only, and there are engines on {', '.join(sorted(there))}: "
                "anybody on the network could run code on them"
            )
        return own_address(client._link.connection.address)

    def _start_workers(self, options: dict[str, Any]) -> None:
        view, client = self._view, self._view.client
        starting = [
            client[engine].apply_async(daskworkers.start, self._scheduler, {"name": engine, **options})
            for engine in view.targets
        ]
        for result in starting:
            result.wait()
        for result in starting:
            try:
                result.get()
            except ImportError as error:
                raise ImportError(
                    f"engine {result.engine_id} cannot import dask ({error}): pip install distributed there"
                ) from error

    def connect(self) -> Any:
        """Return the dask client; a new one if the last was closed."""
        if self._client is None or self._client.status in ("closed", "closing"):
            self._client = _distributed().Client(self._cluster)
        return self._client

    def close(self) -> None:
        """End the client, the scheduler and the workers."""
        if self._client is not None:
            self._client.close()
        self._cluster.close()  # the scheduler tells its workers to end; what follows sees to it that they have
        alive = [engine for engine in self._view.targets if engine in self._view.client._link.core.engines]
        if alive:
            try:
                stopping = self._view.client.direct_view(alive).apply_async(daskworkers.stop, self._scheduler)
                stopping.wait(daskworkers.STOPPED_S)  # an engine that is busy for longer ends its worker after that
            except EngineryError:  # the cluster has ended, and its engines with it
                return


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - only who asks for dask has it
    except ImportError as error:
        raise ImportError(f"become_dask needs dask ({error}): pip install distributed") from error
    return distributed


def _secure(distributed: Any, security: Any) -> Any:
    """Return the security that this means, None for none: True stands for a new certificate, known to nobody else."""
    if security is not True:
        return security or None
    try:
        return distributed.Security.temporary()
    except ImportError as error:
        raise ImportError(
            "become_dask encrypts dask's connections, which needs the package cryptography: pip install cryptography "
            "(or security=False: then any user of this host can run code on the engines)"
        ) from error


def own_address(controller: str) -> str:
    """Return this host's address as seen from the controller's side: that of the interface that leads there.

    >>> own_address("tcp://127.0.0.1:5000")
    '127.0.0.1'
    """
    there = urlsplit(controller)
    family, _, _, _, target = socket.getaddrinfo(there.hostname, there.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:  # connecting sends nothing
        probe.connect(target)
        return str(probe.getsockname()[0])
