"""Reading the logs of a cluster: the nanny's (the controller and the zygote write there too) and each engine's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .. import rendezvous
from ..errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_S = 0.1
"""How often a follower looks for more."""

READ_AT_ONCE = 1 << 20


class _Log:
    """One log file, read as it grows."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.path = path
        self.prefix = prefix
        self._inode = 0
        self._at = 0
        self._rest = b""

    def read(self) -> Iterator[str]:
        """Return the complete lines that have come since the last call."""
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:  # set aside for being long, and begun anew
                    self._inode, self._at = inode, 0
                file.seek(self._at)
                data = file.read(READ_AT_ONCE)
        except OSError:
            return
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield self.prefix + line.decode("utf-8", "replace")

    def rest(self) -> Iterator[str]:
        """Return the last line if it has no end."""
        if self._rest:
            yield self.prefix + self._rest.decode("utf-8", "replace")
            self._rest = b""


class Logs:
    """All logs of a cluster, or one engine's. Lines of several are marked with where they are from."""

    def __init__(self, directory: Path, engine: int | None) -> None:
        self._folder = directory / rendezvous.LOGS
        self._engine = engine
        self._logs: dict[str, _Log] = {}

    def read(self) -> Iterator[str]:
        """Return the lines that have come since the last call; engines may have come too."""
        for name in self._names():
            if name not in self._logs:
                prefix = "" if self._engine is not None else f"[{name.removesuffix('.log').replace('-', ' ')}] "
                self._logs[name] = _Log(self._folder / name, prefix)
        for log in self._logs.values():
            yield from log.read()

    def rest(self) -> Iterator[str]:
        """Return last lines without an end."""
        for log in self._logs.values():
            yield from log.rest()

    def _names(self) -> list[str]:
        if self._engine is not None:
            return [f"engine-{self._engine}.log"]
        try:
            found = os.listdir(self._folder)  # noqa: PTH208 - names are all we want
        except OSError:
            return []
        return sorted((name for name in found if name.endswith(".log")), key=_order)


def _order(name: str) -> tuple[int, str]:
    number = name.removesuffix(".log").rpartition("-")[2]
    return (int(number) + 1 if number.isdecimal() else 0, name)


def read(directory: Path, engine: int | None) -> Iterator[str]:
    """Return what the logs hold now."""
    logs = Logs(directory, engine)
    yield from logs.read()
    yield from logs.rest()


def follow(directory: Path, engine: int | None, is_alive: Callable[[], bool]) -> Iterator[str]:
    """Return what the logs hold and what comes, until the cluster ends."""
    logs = Logs(directory, engine)
    while True:
        alive = is_alive()  # before the look, so that what came last is seen
        yield from logs.read()
        if not alive:
            yield from logs.rest()
            return
        time.sleep(LOOK_S)


def check_engine(directory: Path, engine: int) -> None:
    """Raise ClusterError if this engine has written nothing, because it never was or never wrote."""
    if not (directory / rendezvous.LOGS / f"engine-{engine}.log").exists():
        raise ClusterError(f"engine {engine} of cluster {directory.name} has written nothing to its standard output")
