"""`Guests`: other libraries that run their work on the same engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..client import Client
    from ..views.balancedview import LoadBalancedView
    from ..views.directview import Targets
    from .daskcluster import DaskCluster


class Guests:
    """The part of `Client` that lends its engines to joblib and dask."""

    _balanced: LoadBalancedView
    _dask: DaskCluster | None = None

    def register_joblib_backend(self, name: str = "enginery", make_default: bool = False) -> None:
        """Have joblib, and what uses it, run its calls on these engines: `joblib.parallel_config("enginery")`.

            client.register_joblib_backend()
            with joblib.parallel_config("enginery"):
                search.fit(x, y)                         # scikit-learn

        Only needed if joblib was imported after the client was made; else the name is known by itself. See
        LoadBalancedView.register_joblib_backend.
        """
        self._balanced.register_joblib_backend(name, make_default)

    def become_dask(
        self,
        targets: Targets = "all",
        port: int = 0,
        nanny: bool = False,
        scheduler_args: dict[str, Any] | None = None,
        *,
        security: Any = True,
        **worker_args: Any,
    ) -> Any:
        """Have these engines be dask workers too, and return a `distributed.Client` of them. Called again, the same.

            dask = client.become_dask()
            dask.submit(pow, 2, 10).result()
            dask.submit(f, workers=[0])                  # a worker has the id of its engine as name
            client.stop_dask()

        The scheduler is in this process (on `port`, 0 for any). Each worker is a thread of its engine: it shares
        modules and memory with the engine's tasks, which go on. `worker_args` are those of `distributed.Worker`,
        with `nthreads` 1 and `memory_limit` 0 (none) unless given; `scheduler_args` those of `distributed.Scheduler`.
        All connections are encrypted with a certificate of this call's own; `security` takes a `distributed.Security`,
        or False for none, on one host. Engines that start later are no workers, nor is one that was restarted. It all
        ends with `stop_dask`, with this client, or with this program.

        Waits until each engine has had time to start its worker. Raises ImportError if distributed (or cryptography) is
        not installed, ValueError for a `nanny`: a worker that is a part of its engine can have none.
        """
        if nanny:
            raise ValueError("workers live in their engines, which have a nanny already: nanny=False")
        if self._dask is None:
            from .daskcluster import DaskCluster  # noqa: PLC0415 - only who asks for dask needs it

            self._dask = DaskCluster(
                cast("Client", self),
                targets,
                security=security,
                scheduler_args={"port": port, **(scheduler_args or {})},
                worker_args=worker_args,
            )
        return self._dask.connect()

    def stop_dask(self) -> None:
        """End what `become_dask` began: client, scheduler and workers. The engines stay, with their variables.

            client.stop_dask()

        Tasks of dask's that run are waited for, for some seconds. Nothing happens if there is nothing to end.
        """
        dask, self._dask = self._dask, None
        if dask is not None:
            dask.close()
