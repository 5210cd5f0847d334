"""Carrying out faults, and undoing them. What has been stopped or cut is whole again at the end, whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .. import leftovers, rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .crew import Crew
    from .proxy import Proxy
    from .schedule import Fault

AGAIN_S = 0.1
"""When there is nobody to hurt (an engine is just being replaced), look again after this."""

TRIES_S = 5.0
"""For how long; then the fault is left out, and counted as missed."""

_SIGNALS = {
    "engine-kill": signal.SIGKILL,
    "engine-segv": signal.SIGSEGV,
    "engine-term": signal.SIGTERM,
    "zygote-kill": signal.SIGKILL,
    "controller-kill": signal.SIGKILL,
}


class Process(NamedTuple):
    """A process that may be hurt, told from a later one of the same number by when it started."""

    pid: int
    started: str

    def signal(self, number: int) -> bool:
        """Send a signal; return whether there was somebody to get it."""
        if leftovers.start_time(self.pid) != self.started:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Faults:
    """The faults of a drill. Times are seconds since its beginning."""

    def __init__(
        self, seed: int, schedule: Sequence[Fault], *, directory: Path, crew: Crew, proxies: Sequence[Proxy]
    ) -> None:
        """`directory` is the cluster's: the list of its processes is there, whether or not the controller answers."""
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._rng = random.Random(f"victims {seed}")
        self._coming = [(fault.at_s, fault) for fault in schedule]
        self._directory = directory
        self._crew = crew
        self._proxies = proxies
        self._undoings: list[tuple[float, Callable[[], object]]] = []

    def next_s(self) -> float:
        """Return when there is something to do."""
        return min((at for at, _ in (*self._coming[:1], *self._undoings)), default=float("inf"))

    def act(self, now_s: float) -> None:
        """Do what is due, and undo it."""
        due = [undo for at, undo in self._undoings if at <= now_s]
        self._undoings = [(at, undo) for at, undo in self._undoings if at > now_s]
        for undo in due:
            undo()
        while self._coming and self._coming[0][0] <= now_s:
            _, fault = self._coming.pop(0)
            if self._carry_out(fault, now_s):
                self.done[fault.kind] += 1
            elif now_s - fault.at_s < TRIES_S:
                self._coming.append((now_s + AGAIN_S, fault))
                self._coming.sort()
            else:
                self.missed[fault.kind] += 1

    def undo_all(self) -> None:
        """Make everything whole. Nothing is done after that."""
        self._coming.clear()
        while self._undoings:
            with contextlib.suppress(OSError):  # whatever this one meets, the others are to be undone
                self._undoings.pop()[1]()

    def _carry_out(self, fault: Fault, now_s: float) -> bool:
        """Do it; return whether there was somebody to do it to."""
        undo: Callable[[], object]
        if fault.kind == "client-kill":
            return self._crew.kill_extra()
        if fault.kind in ("cut", "freeze"):
            if not self._proxies:
                return False
            proxy = self._rng.choice(self._proxies)
            (proxy.cut if fault.kind == "cut" else proxy.freeze)()
            undo = proxy.heal
        else:
            victim = self._choose(fault.kind.partition("-")[0])
            if victim is None:
                return False
            number = _SIGNALS.get(fault.kind)
            if number is not None:
                return victim.signal(number)
            if not victim.signal(signal.SIGSTOP):
                return False
            undo = lambda: victim.signal(signal.SIGCONT)  # noqa: E731 - one line beside the other
        self._undoings.append((now_s + fault.lasts_s, undo))
        return True

    def _choose(self, who: str) -> Process | None:
        """Return one of the processes of this sort, or None if there is none."""
        if who == "nanny":
            pids = [rendezvous.info(self._directory).pid]
        elif who == "client":
            pids = [member.process.pid for member in self._crew.everybody() if member.is_alive()]
        else:
            noted = leftovers.noted_processes(self._directory)
            pids = [pid for role, pid in noted if role.partition("-")[0] == who]
        pids = [pid for pid in pids if pid > 0]
        if not pids:
            return None
        pid = self._rng.choice(pids)
        started = leftovers.start_time(pid)
        return None if started is None else Process(pid, started)
