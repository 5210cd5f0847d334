"""What a cluster leaves behind when it is killed, and how to clear it: processes, sockets, shared memory, files.

Nothing here decides by name alone. A process is one of ours only if its start time is the one that its nanny wrote
down, so a number that the kernel has given to somebody else since is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from . import rendezvous

PROCESSES = "processes"
"""The file in a cluster's folder that lists its processes: role, process id and start time, a line each."""

_LINUX: bool = sys.platform == "linux"

NEW_S = 3600.0
"""A folder of objects that was changed so lately may be one whose owner is about to take its lock."""

GONE_WITHIN_S = 2.0
"""How long a killed process may take to vanish before we go on without it."""


def start_time(pid: int) -> str | None:
    """Return when a process started, in a form that tells it from a later one of the same id; None if it is gone."""
    if _LINUX:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = text[text.rindex(")") + 2 :].split()  # a process's name may hold anything, but it ends with ")"
        return None if fields[0] in "ZX" else fields[19]
    import psutil  # noqa: PLC0415 - where there is no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def note_process(directory: Path, role: str, pid: int) -> None:
    """Write down that this process belongs to the cluster. Never fails: a full disk must not stop an engine."""
    started = start_time(pid)
    if started is None:
        return
    with contextlib.suppress(OSError):
        fd = os.open(directory / PROCESSES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{role} {pid} {started}\n".encode())
        finally:
            os.close(fd)


def noted_processes(directory: Path) -> list[tuple[str, int]]:
    """Return role and id of the cluster's noted processes that are alive."""
    try:
        lines = (directory / PROCESSES).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    alive = []
    for line in lines:
        fields = line.split()
        if len(fields) == 3 and fields[1].isdecimal() and start_time(int(fields[1])) == fields[2]:
            alive.append((fields[0], int(fields[1])))
    return alive


def objects(directory: Path) -> list[Path]:
    """Return the folders that a cluster has its objects in, in shared memory and on disk, as far as they are there."""
    memory = rendezvous.objects_dir(directory)
    found = rendezvous.spill_dirs(directory)
    with contextlib.suppress(OSError):
        if memory.lstat().st_uid == os.getuid():
            found.insert(0, memory)
    return found


def clear_objects_of_others(directory: Path) -> list[Path]:
    """Remove the objects of other clusters of this user that are dead; return the folders they were in."""
    cleared: list[Path] = []
    for other in directory.parent.iterdir():
        folders = objects(other) if other != directory and other.is_dir() else []
        lock = None if not folders or rendezvous.is_running(other) else rendezvous.take_lock(other)
        if lock is not None:
            try:
                for folder in folders:
                    _remove(folder)
            finally:
                os.close(lock)
            cleared += folders
    return cleared + clear_ownerless()


def clear_ownerless() -> list[Path]:
    """Remove objects whose cluster's folder is gone too, as after the host has gone down; return where they were."""
    cleared = []
    for folder in rendezvous.objects_places():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < NEW_S:
                continue
            lock = hold(folder)
            if lock is not None:
                try:
                    _remove(folder)
                finally:
                    os.close(lock)
                cleared.append(folder)
    return cleared


def hold(folder: Path) -> int | None:
    """Take the lock of a folder of objects: as long as a nanny has it, they have an owner. None: somebody has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def clear(directory: Path, keep: tuple[str, ...] = (rendezvous.LOCK,)) -> list[str]:
    """Clear everything of a dead cluster but its lock, and say what there was. The caller holds the lock."""
    cleared = []
    strays = noted_processes(directory)
    if strays:
        _kill([pid for _, pid in strays])
        cleared.append(f"{len(strays)} {'process' if len(strays) == 1 else 'processes'}")
    count = 0
    for folder in objects(directory):
        with contextlib.suppress(OSError):
            count += len(os.listdir(folder))  # noqa: PTH208 - only counted
        _remove(folder)
    if count:
        cleared.append(f"{count} {'object' if count == 1 else 'objects'}")
    for recorder in (directory / rendezvous.ENGINES).glob("*.rec"):
        for path in rendezvous.kernel_files(recorder):  # which may be elsewhere, as the socket may
            _remove(path)
    files = [path for path in directory.iterdir() if path.name not in keep]
    for path in files:
        _remove(path)
    if files:
        cleared.append("its files")
    for socket in (rendezvous.socket_path(directory), rendezvous.store_path(directory)):
        if socket.parent != directory:
            _remove(socket)
    return cleared


def remove(directory: Path) -> list[str]:
    """Clear everything of a cluster, its folder too. The caller holds the lock, which is worth nothing after that."""
    cleared = clear(directory)
    # The lock goes last: from then on the name is free, and whoever takes it next may already use the folder.
    _remove(directory / rendezvous.LOCK)
    with contextlib.suppress(OSError):
        directory.rmdir()
    return cleared


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # noqa: PLC0415 - slow to import, and the nanny is in a hurry when it imports us

        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + GONE_WITHIN_S
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < until:
        time.sleep(0.005)
