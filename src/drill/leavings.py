"""What of a stopped cluster is still there: nothing should be."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from .. import leftovers, rendezvous

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 5.0
"""How long killed processes may take to vanish."""

LOOK_S = 0.05


def find(directory: Path, runtime: Path) -> list[str]:
    """Return, in words, what is left of a cluster that was stopped. `runtime` is a runtime directory of its own."""
    return [
        *(f"process {pid} ({command})" for pid, command in await_none(runtime).items()),
        *(f"objects in {path}" for path in leftovers.objects(directory)),
        *(f"file {path}" for path in sorted(runtime.rglob("*"))),
        *_socket_elsewhere(directory),
    ]


def await_none(runtime: Path) -> dict[int, str]:
    """Wait until no process of the runtime directory is left; return those that do not go."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := processes(runtime)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return found


def processes(runtime: Path) -> dict[int, str]:
    """Return pid and command line of the processes that were started for a runtime directory, other than this one.

    They are known by their environment, which names it and which they cannot lose.
    """
    import psutil  # noqa: PLC0415 - slow to import, and only for the end

    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("ENGINERY_RUNTIME_DIR") == str(runtime):
                found[process.pid] = " ".join(process.cmdline())[:100]
    return found


def _socket_elsewhere(directory: Path) -> list[str]:
    """Return the controller's socket, should it be left in a folder with a shorter path."""
    path = rendezvous.socket_path(directory)
    return [f"socket {path}"] if path.parent != directory and path.exists() else []
