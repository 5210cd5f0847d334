"""`Fleet`: the engines of a cluster as a client sees them, and what it can have done to them."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING, Any

from ..errors import NoEngines, NoSuchEngine
from ..wire import messages as m
from .results.timeouts import limit_of
from .setup import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls.functions import FunctionCache
    from .connection.link import Link
    from .results.groupresult import GroupResult
    from .views.directview import Targets


class Fleet:
    """The part of `Client` that is about engines: which there are, how many, fresh ones, signals, set-up."""

    _link: Link
    _functions: FunctionCache

    @property
    def ids(self) -> list[int]:
        """The ids of the engines that are there."""
        return list(self._link.core.engines)

    def __len__(self) -> int:
        return len(self._link.core.engines)

    def _resolve(self, targets: Targets, *, empty: bool = False) -> tuple[tuple[int, ...], bool]:
        """Return the ids that targets mean now, and whether they are a single one."""
        self._link.check_lost()
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

    # ---------------------------------------------------------------- how many, and which state

    def wait_for_engines(self, n: int | None = None, timeout: float | None = -1) -> list[int]:
        """Wait until n engines (None: all that the cluster is to have) are ready; return the ids of those that are.

            client.wait_for_engines(8, timeout=60)

        Raises TimeoutError after `timeout` seconds (-1 or None: never), ClusterError if it cannot come true.
        """
        if n is not None:
            _check_number(n)
        limit = limit_of(timeout)
        try:
            ids: list[int] = self._link.request(m.WaitEngines, n).result(limit)
        except TimeoutError:
            wanted = "all" if n is None else n
            raise TimeoutError(f"{len(self)} engines are there, not {wanted}, after {timeout:g} s") from None
        return ids

    def status(self) -> dict[str, Any]:
        """Return how the cluster is, as `cluster status` shows it: a map with its engines, hosts and clients (a map
        each), and the numbers of tasks.

            [engine["pid"] for engine in client.status()["engines"]]
        """
        value: dict[str, Any] = self._link.request(m.StatusQuery).result()
        return value

    def scale(self, n: int, timeout: float | None = None) -> list[int]:
        """Have n engines; return their ids when those to start answer and those to stop are gone.

            client.scale(12, timeout=60)

        Raises ClusterError if that cannot be done, TimeoutError.
        """
        _check_number(n)
        self._link.request(m.Scale, n).result(timeout)
        return self.ids

    def restart(self, targets: Targets = "all", timeout: float | None = None) -> None:
        """Replace engines by fresh ones under the same ids; return when they answer.

            client.restart([0, 2])

        What they ran raises EngineDied. Raises NoSuchEngine, ClusterError if one cannot be started, and TimeoutError
        after `timeout` seconds.
        """
        # With what we know of them: should it be asked twice, it happens once. "All" are also those given up.
        incarnations = [(engine.id, engine.incarnation) for engine in self._link.core.engines.values()]
        self._link.request(m.Restart, self._some(targets), incarnations).result(timeout)

    def send_signal(self, sig: int | str, targets: Targets = "all") -> None:
        """Send a signal, `sig` by number or name, to the processes of engines.

            client.send_signal("SIGUSR1", targets=0)

        Raises ValueError if there is no such signal, NoSuchEngine.
        """
        if isinstance(sig, str):
            name = sig.upper() if sig.upper().startswith("SIG") else f"SIG{sig.upper()}"
            if name not in signals.Signals.__members__:
                raise ValueError(f"there is no signal {sig!r}")
            sig = signals.Signals[name]
        if sig not in signals.valid_signals():
            raise ValueError(f"there is no signal {sig!r}")
        self._link.request(m.Signal, int(sig), self._some(targets)).result()

    def shutdown(self, targets: Targets = "all", restart: bool = False, hub: bool = False) -> None:
        """Stop engines; with `restart`, replace them by fresh ones; with `hub`, stop the whole cluster.

            client.shutdown([2, 3])

        An engine first ends what it was given; what waits for it alone is refused (NoSuchEngine). Returns when they are
        gone. The ids of the others stay as they are. Raises NoSuchEngine, ClusterError if it cannot be done.
        """
        if hub:
            self._link.request(m.Shutdown).result()
        elif restart:
            self.restart(targets)
        elif targets == "all":
            self.scale(0)
        else:
            there = self._link.core.engines
            ids = self._resolve(targets)[0]
            self._link.request(m.Retire, [(i, there[i].incarnation) for i in ids if i in there]).result()

    def _some(self, targets: Targets) -> list[int] | None:
        return None if targets is None or targets == "all" else list(self._resolve(targets)[0])

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
        """Forget all set-up of the cluster, whoever registered it: engines that start from now on have none.

        client.clear_setup()
        """
        self._link.request(m.ClearSetup).result()


def _check_number(n: Any) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise ValueError(f"the number of engines is 0 or more, not {n!r}")
