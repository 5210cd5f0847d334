"""The drill as a whole: a cluster of its own, clients at work, faults, and the account."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from .. import config, rendezvous
from ..cluster import local
from ..cluster.control import Control
from ..errors import ClusterError, EngineryError
from . import account, leavings, marks, schedule
from .crew import Crew
from .faults import Faults
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config import Connection

CLIENTS = 2
"""Clients that live to the end: one of them is at work while the other is cut off or stopped."""

TASKS_PER_MINUTE = 40_000
"""At most: over a million in half an hour, which two cores can do beside what is restarted all the time."""

TASKS_PER_ENGINE_MINUTE = 10_000
"""At most: what an engine can do, with all that sleeps in it."""

PROGRESS_S = 10.0

LOOK_S = 0.1
"""How often to look at what has no descriptor to wait for."""

CONNECT_S = 60.0
"""How long the clients may take to begin."""

UNFINISHED_S = 60.0
"""How long the tasks of killed clients may take to end, when nobody submits any more."""


class Options(NamedTuple):
    """What a drill is to be like."""

    minutes: float
    seed: int
    engines: int
    tasks: int | None = None
    """How many tasks, about; None for what is reasonable in the time."""
    kinds: Sequence[str] = schedule.NAMES
    fork: bool = True
    listen: str | None = None
    timeout_s: float = 30.0


def run(options: Options, say: Callable[[str], None]) -> account.Account:
    """Run a drill; `say` gets lines for people. Nothing is left of it but, if something was wrong, a folder of proofs.

    ClusterError if it cannot begin.
    """
    folder = _folder()
    kept = False
    try:
        with _environment(folder), _terminable():
            drill = _Drill(options, folder, say)
            try:
                evidence = drill.run()
            finally:
                drill.close()
            left = leavings.find(drill.directory, folder / "run")
            result = account.close(evidence._replace(leavings=left))
        kept = not result.is_good
        if kept:
            say(f"logs, marks and outcomes are kept in {folder}")
        return result
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """Return a new folder, whose path is short enough for sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="enginery-drill-"))
    if len(os.fsencode(path)) + 16 > rendezvous.SOCKET_PATH_LIMIT:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="enginery-drill-", dir="/tmp"))
    for name in ("run", "state", "marks"):
        (path / name).mkdir(mode=0o700)
    return path


@contextlib.contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Let all that is started here have its files in this folder, the journal too."""
    places = {"ENGINERY_RUNTIME_DIR": folder / "run", "ENGINERY_STATE_DIR": folder / "state"}
    before = {variable: os.environ.get(variable) for variable in places}
    os.environ.update((variable, str(place)) for variable, place in places.items())
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: what is stopped must not stay so."""

    def leave(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Drill:
    """A drill under way."""

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._proxies: list[Proxy] = []
        self._crew: Crew | None = None
        self._faults: Faults | None = None
        self._errors: list[str] = []
        self._nanny = local.start(
            f"drill-{options.seed}",
            local.Options(options.engines, options.fork, (), options.listen, options.timeout_s),
            owned=True,
        )
        self.directory = self._nanny.directory

    def run(self) -> account.Evidence:
        """Do everything but the end; return what there is to be accounted for."""
        options = self._options
        with self._control() as control:
            control.wait_engines(options.timeout_s)
        seconds = 60 * options.minutes
        per_minute = min(TASKS_PER_MINUTE, TASKS_PER_ENGINE_MINUTE * options.engines)
        tasks = per_minute * options.minutes if options.tasks is None else options.tasks
        connections = self._connections()
        began = time.monotonic()
        crew = self._crew = Crew(
            self._folder,
            connections,
            seed=options.seed,
            until=began + seconds,
            rate=max(1.0, tasks / seconds),
        )
        if "client-kill" in options.kinds:
            crew.add_extra()
        faults = self._faults = Faults(
            options.seed,
            schedule.plan(options.seed, seconds, options.kinds),
            directory=self.directory,
            crew=crew,
            proxies=self._proxies,
        )
        self._await_work(crew)
        self._hurt(crew, faults, began, seconds)
        faults.undo_all()
        crew.finish()
        unfinished = self._await_calm()
        self._keep_logs()
        self._remove_connections()
        self._nanny.stop()
        outcomes = {member.number: Path(member.outcomes).read_bytes() for member in crew.members}
        for kind, count in faults.missed.items():
            self._say(f"{count} of {kind} found nobody to hurt")
        return account.Evidence(
            [member.report for member in crew.members],
            outcomes,
            marks.read(self._folder / "marks"),
            {kind: faults.done[kind] for kind in options.kinds},
            unfinished,
            (),
            [*self._errors, *crew.errors],
        )

    def close(self) -> None:
        """Make everything whole, and end it."""
        if self._faults is not None:
            self._faults.undo_all()
        if self._crew is not None:
            self._crew.kill()
        for proxy in self._proxies:
            proxy.close()
        self._remove_connections()
        self._nanny.stop()

    def _connections(self) -> list[Path]:
        """Return the clients' connection files; with faults of connections, each leads through a proxy of its own."""
        path = self.directory / rendezvous.CLIENT_FILE
        if not {"cut", "freeze"} & set(self._options.kinds):
            return [path] * CLIENTS
        connection = rendezvous.find(path)
        paths = []
        for i in range(CLIENTS):
            ours = self._folder / f"{i}.sock"
            local_ = connection.address.startswith("ipc:")
            proxy = Proxy(f"ipc://{ours}" if local_ else "tcp://127.0.0.1:0", connection.address)
            self._proxies.append(proxy)
            paths.append(self.directory / f"drill-{i}.json")  # beside the cluster's own: so it is of this host
            config.save(paths[-1], msgspec.structs.replace(connection, address=proxy.address))
        return paths

    def _remove_connections(self) -> None:
        for path in self.directory.glob("drill-*.json"):
            path.unlink(missing_ok=True)

    def _await_work(self, crew: Crew) -> None:
        deadline = time.monotonic() + CONNECT_S
        while not crew.is_working:
            crew.listen(LOOK_S)
            for member in crew.members:
                if not member.is_alive():
                    raise ClusterError(f"a client of the drill failed: {member.last_words()}")
            if time.monotonic() > deadline:
                raise ClusterError(f"the drill's clients did not begin within {CONNECT_S:g} s")

    def _hurt(self, crew: Crew, faults: Faults, began: float, seconds: float) -> None:
        """Carry out the faults, as long as all are at work."""
        told = 0.0
        while (now_s := time.monotonic() - began) < seconds:
            faults.act(now_s)
            crew.listen(max(0.0, min(LOOK_S, faults.next_s() - now_s)))
            if now_s - told >= PROGRESS_S:
                told = now_s
                self._say(_progress(now_s, crew, faults))
            if not self._nanny.is_alive():
                self._errors.append(f"the cluster has ended: {self._last_words()}")
                return
            if crew.gone() and time.monotonic() < began + seconds:
                return  # it has said why, or `finish` finds out

    def _control(self) -> Control:
        connection: Connection = rendezvous.find(self.directory / rendezvous.CLIENT_FILE)
        return Control(connection, self._options.timeout_s, self._nanny.is_alive)

    def _await_calm(self) -> int:
        """Wait until the controller has all its engines and no task; return how many it has in the end."""
        deadline = time.monotonic() + UNFINISHED_S
        if not self._nanny.is_alive():
            return 0
        try:
            with self._control() as control:
                control.wait_engines(self._options.timeout_s)
                while True:
                    tasks = control.status()["tasks"]
                    unfinished = int(tasks["waiting"]) + int(tasks["assigned"])
                    if not unfinished or time.monotonic() > deadline:
                        return unfinished
                    time.sleep(LOOK_S)
        except EngineryError as error:
            self._errors.append(f"the cluster is not whole at the end: {error}")
            return 0

    def _last_words(self) -> str:
        """Return the last line of the nanny's log."""
        with contextlib.suppress(OSError):
            lines = (self.directory / rendezvous.LOGS / rendezvous.NANNY_LOG).read_text("utf-8", "replace").splitlines()
            return lines[-1] if lines else "it said nothing"
        return "its log is gone"

    def _keep_logs(self) -> None:
        with contextlib.suppress(OSError):
            shutil.copytree(self.directory / rendezvous.LOGS, self._folder / "logs", dirs_exist_ok=True)


def _progress(now_s: float, crew: Crew, faults: Faults) -> str:
    reports = [member.report for member in crew.members]
    submitted = sum(report.tasks.submitted for report in reports)
    ended = sum(sum(report.tasks.outcomes.values()) for report in reports)
    errors = sum(len(report.errors) for report in reports)
    wrong = f", {errors} errors" if errors else ""
    return f"{now_s:6.0f} s  {submitted:,} tasks, {ended:,} accounted for, {faults.done.total()} faults{wrong}"
