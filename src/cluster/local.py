"""Starting, stopping and clearing clusters on this host: everything about a cluster's processes seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from .. import leftovers, rendezvous
from ..errors import ClusterError, ClusterExists
from . import listen as listen_

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NANNY = "enginery.nanny.app"
"""The nanny's program, by name: programs share only the wire."""

STOP_S = 3.0
"""How long a nanny may take to stop its cluster, which is ten times what it needs; then it is killed."""

LOOK_S = 0.005

REPORT_MAX = 1 << 16

OBJECT_MIN = 1_000_000
"""A value of so many bytes is an object, if nobody says otherwise."""


class Options(NamedTuple):
    """What a cluster is to be like."""

    engines: int
    fork: bool = True
    preload: Sequence[str] = ()
    listen: str | None = None
    timeout_s: float = 30.0
    journal: bool = True
    """Another controller can take over from one that dies, and results are kept."""
    keep_s: float = 7 * 24 * 3600.0
    keep_bytes: int = 2 << 30
    """How long results are kept, and how many bytes."""
    ephemeral: bool = False
    """Nothing is kept beyond the cluster's end."""
    threads: int | None = None
    """How many threads numerical libraries have in each engine; 0: as many as they like; None: cores by engines."""
    resources: tuple[tuple[str, float], ...] = ()
    """What the host offers to tasks, by name."""
    memory_limit: int | None = None
    """Bytes of shared memory for objects, and of memory for the controller; None: half of what there is."""
    object_min: int = OBJECT_MIN
    """Values of so many bytes are objects."""
    spill: str | None = None
    """Folder for objects that do not fit into memory; None: one of our own."""


class Nanny:
    """A nanny that this process has started. `owned`: its cluster ends when this process does, however it does."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], owner: int | None) -> None:
        self.directory = directory
        self.process = process
        self._owner = owner
        _started_here.add(self)

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Stop the cluster and wait for its end; clear up after a nanny that does not end by itself."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.release()
        clear(self.directory)

    def release(self) -> None:
        """Let go of it. An owned cluster stops by itself when this is the last that held it."""
        _started_here.discard(self)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


_started_here: set[Nanny] = set()


def _release_all() -> None:
    """A copy of this process is no owner: the clusters must not wait for its end too."""
    for nanny in list(_started_here):
        nanny.release()


os.register_at_fork(after_in_child=_release_all)


# ------------------------------------------------------------------------------------------------------------- start


def start(name: str, options: Options, *, owned: bool) -> Nanny:
    """Start a cluster; return when clients can find its controller and its engines are about to come.

    ClusterExists if it runs already; ClusterError with the reason if it cannot be started. Then nothing of it is left.
    """
    directory = rendezvous.cluster_dir(name)
    if rendezvous.is_running(directory):
        raise ClusterExists(rendezvous.already_running(name))
    place = listen_.parse(options.listen) if options.listen is not None else None
    if place is None:
        rendezvous.socket_path(directory)  # complains now about what the nanny could only log
    report, report_write = os.pipe()
    owner_read, owner = os.pipe() if owned else (None, None)
    plan = {
        "directory": str(directory),
        "engines": options.engines,
        "fork": options.fork,
        "preload": list(options.preload),
        "listen": place and place.bind,
        "reachable": place and place.reachable,
        "report": report_write,
        "owner": owner_read,
        "timeout_s": options.timeout_s,
        "journal": str(_journal(directory, options)) if options.journal else None,
        "keep_s": options.keep_s,
        "keep_bytes": options.keep_bytes,
        "threads": options.threads,
        "resources": dict(options.resources),
        "memory_limit": options.memory_limit,
        "object_min": options.object_min,
        "spill": options.spill and os.path.abspath(options.spill),  # noqa: PTH100 - as a string
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", NANNY, json.dumps(plan)],
            stdin=subprocess.DEVNULL,
            stdout=report_write,  # until it has a log
            stderr=report_write,
            pass_fds=[fd for fd in (report_write, owner_read) if fd is not None],
            start_new_session=True,
        )
    except OSError as error:
        for fd in (report, owner):
            if fd is not None:
                os.close(fd)
        raise ClusterError(f"cannot start a nanny with {sys.executable}: {error.strerror or error}") from error
    finally:
        os.close(report_write)
        if owner_read is not None:
            os.close(owner_read)
    nanny = Nanny(directory, process, owner)
    try:
        _await_ready(report, options.timeout_s + 2.0, name)
    except BaseException:
        with contextlib.suppress(ClusterError):  # what went wrong first is what matters
            nanny.stop()
        raise
    finally:
        os.close(report)
    return nanny


def _journal(directory: Path, options: Options) -> Path:
    return directory / rendezvous.JOURNAL if options.ephemeral else rendezvous.journal_path(directory.name)


def _await_ready(report: int, timeout_s: float, name: str) -> None:
    """Read the nanny's report until it says that it is ready, or raise what it says instead."""
    said = b""
    deadline = time.monotonic() + timeout_s
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([report], [], [], left)[0]:
            raise ClusterError(f"cannot start cluster {name}: its nanny was not ready within {timeout_s:g} s")
        data = os.read(report, REPORT_MAX)
        said = (said + data)[-REPORT_MAX:]
        lines = said.decode("utf-8", "replace").splitlines()
        if data and not said.endswith(b"\n"):
            continue
        for line in lines:
            word, _, sentence = line.partition(" ")
            if word == "ready":
                return
            if word == "exists":
                raise ClusterExists(sentence)
            if word == "error":
                raise ClusterError(sentence)
        if not data:
            last = lines[-1] if lines else "it ended without a word"
            raise ClusterError(f"cannot start cluster {name}: its nanny failed: {last}")


# -------------------------------------------------------------------------------------------------------------- stop


def stop(directory: Path) -> None:
    """Stop a running cluster and wait for its end. Nothing of it is left."""
    pid = rendezvous.info(directory).pid
    for number, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        if not rendezvous.is_running(directory):
            break
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while rendezvous.is_running(directory) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
    clear(directory)
    if rendezvous.is_running(directory):
        raise ClusterError(f"cluster {directory.name} does not stop: process {pid} does not end even when killed")


def clear(directory: Path) -> list[str] | None:
    """Clear what a dead cluster has left and say what it was; None if it runs or there is nothing."""
    if not directory.is_dir() or rendezvous.is_running(directory):
        return None
    try:
        lock = rendezvous.take_lock(directory)
        if lock is None:
            return None
        try:
            return leftovers.remove(directory) or ["its folder"]
        finally:
            os.close(lock)
    except OSError as error:
        reason = f"{error.strerror or error}"
        raise ClusterError(f"cannot clear what cluster {directory.name} has left in {directory}: {reason}") from error


def clean() -> list[tuple[str, list[str]]]:
    """Clear what dead clusters have left; return the names and what there was of each."""
    cleared = []
    for info in rendezvous.list_clusters():
        found = None if info.running else clear(info.directory)
        if found is not None:
            cleared.append((info.name, found))
    return [*cleared, *((folder.name, ["objects without a cluster"]) for folder in leftovers.clear_ownerless())]


class Kept(NamedTuple):
    """What a cluster that does not run has kept of its results."""

    name: str
    nbytes: int


def kept() -> list[Kept]:
    """Return what clusters that do not run have kept."""
    return [
        Kept(name, sum(path.stat().st_size for path in paths))
        for name, paths in rendezvous.journals().items()
        if not rendezvous.is_running(rendezvous.cluster_dir(name))
    ]


def forget() -> list[Kept]:
    """Remove what clusters that do not run have kept; return what that was."""
    forgotten = []
    for name, paths in rendezvous.journals().items():
        directory = rendezvous.cluster_dir(name)
        lock = rendezvous.take_lock(directory)
        if lock is None:
            continue  # it runs
        try:
            forgotten.append(Kept(name, sum(path.stat().st_size for path in paths)))
            for path in paths:
                path.unlink(missing_ok=True)
            leftovers.remove(directory)
        finally:
            os.close(lock)
    return forgotten
