"""The controller program: `python -P -m enginery.controller.app CONFIG READY_FD`.

Reads its `ControllerConfig`, binds, writes the address it got (one line) to the descriptor READY_FD and closes it, and
serves until it is told to stop (`Shutdown`, SIGTERM, SIGINT). If it cannot start it writes `error: ` and a sentence.
"""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from .. import config, transport
from ..security import ZapHandler, known_keys
from .core import Core
from .journal.restore import restore
from .server import Server, Signals

if TYPE_CHECKING:
    from .journal.writer import Journal

log = logging.getLogger("enginery.controller")

GC_THRESHOLD = 50_000
"""Young objects before a collection. Tasks are not tracked, but bursts of messages make many short-lived containers."""


def main(argv: list[str]) -> int:
    """Run the program; return its exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s controller %(levelname)s %(message)s"
    )
    path, ready_fd = Path(argv[1]), int(argv[2])
    try:
        settings = config.load(path, config.ControllerConfig)
    except (OSError, ValueError) as error:
        _report(ready_fd, f"error: the controller cannot read its configuration {path}: {error}")
        return 1
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    return _serve(settings, ready_fd)


def _serve(settings: config.ControllerConfig, ready_fd: int) -> int:
    try:
        core, journal = _take_over(settings)
    except (OSError, sqlite3.Error) as error:
        _report(ready_fd, f"error: the controller cannot use its journal {settings.journal}: {error}")
        return 1
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    signals = Signals()
    keys = known_keys(settings)
    zap = ZapHandler(context, keys) if keys else None  # before the socket is bound
    try:
        socket, address = transport.open_router(context, settings)
    except zmq.ZMQError as error:
        _report(ready_fd, f"error: the controller cannot listen on {settings.address}: {error}")
        return 1
    server = Server(core, socket, zap, journal)
    _report(ready_fd, address)
    server.run(signals)
    socket.close()
    if zap is not None:
        zap.close()
    context.term()  # waits for what was sent to leave, within the sockets' linger
    return 0


def _take_over(settings: config.ControllerConfig) -> tuple[Core, Journal | None]:
    """Return a core that goes on where an earlier controller of the same life ended, and the journal it writes to."""
    now = time.monotonic()
    if settings.journal is None:
        return Core(settings.cluster, os.getpid(), now, memory_limit=settings.memory_limit), None
    from .journal.store import begin  # noqa: PLC0415
    from .journal.writer import Journal, Keep  # noqa: PLC0415 - not needed without

    store, epoch, saved = begin(Path(settings.journal), settings.life)
    state = restore(saved, settings.cluster, epoch, store.last_client(), now)
    if state.clients or state.engines:
        log.info("took over %d tasks, %d clients, %d engines", len(state.tasks), len(state.clients), len(state.engines))
    state.keep_s, state.keep_bytes = settings.keep_s, settings.keep_bytes
    core = Core(settings.cluster, os.getpid(), now, state, memory_limit=settings.memory_limit)
    return core, Journal(store, Keep(settings.keep_s, settings.keep_bytes))


def _report(fd: int, line: str) -> None:
    """Say one line to whoever started us, who may be gone."""
    if line.startswith("error"):
        log.error("%s", line)
    try:
        os.write(fd, (line + "\n").encode())
        os.close(fd)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
