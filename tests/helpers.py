"""What tests share. Everything that waits has a deadline, and says what it waited for when that passes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

LOOK_S = 0.01


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = 45.0) -> T:
    """Return the first true value of `condition`; fail if there is none in time: long, for machines with other work."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s, still not: {what}")
        time.sleep(LOOK_S)


def command(*args: str, timeout_s: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `cluster` command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "enginery", *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


def processes(runtime: str | Path) -> dict[int, str]:
    """Return the live processes of all clusters in a runtime directory: pid and command line.

    They are known by their environment, which names the directory, and which they cannot lose.
    """
    wanted = f"ENGINERY_RUNTIME_DIR={runtime}".encode()
    found = {}
    for pid in _pids():
        try:
            folder = Path("/proc") / str(pid)
            if pid != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[pid] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it has just ended, or is not ours
    return found


def _pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            yield int(entry.name)


def assert_nothing_left(runtime: str | Path, timeout_s: float = 5.0) -> None:
    """Fail if a process or a file of a cluster is still there."""
    wait_until(lambda: not processes(runtime), f"no process is left, of {processes(runtime)}", timeout_s)
    left = [str(path) for path in Path(runtime).rglob("*")] if Path(runtime).exists() else []
    assert not left, f"files are left: {left}"


def clear_up(runtime: str | Path) -> None:
    """Have nothing left of the clusters in a runtime directory, whatever a test that failed has left of them."""
    runtime = Path(runtime)
    left = processes(runtime)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left or any(runtime.rglob("*")):
        wait_until(lambda: not processes(runtime), "what was left is killed")
        command("clean", ENGINERY_RUNTIME_DIR=str(runtime))  # what they had in shared memory goes too
