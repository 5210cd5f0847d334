"""Where clusters are found: the runtime directory, one folder per cluster in it, and who runs.

A cluster runs as long as its nanny holds the lock on `<runtime>/<name>/lock`. The kernel frees the lock when the nanny
ends, however it ends, so files that stay behind never look like a running cluster. Everything else in the folder is
only of interest while the lock is held.

This module imports little, because the nanny reads it before it starts anything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .errors import ClusterError, NoClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Connection

LOCK = "lock"
CLIENT_FILE = "client.json"
ENGINE_FILE = "engine.json"
CONTROLLER_FILE = "controller.json"
SOCKET = "controller.sock"
STORE_SOCKET = "store.sock"
_STORE_END = ".store"
"""How its name ends where its path would be too long."""
SPILL = "spill"
"""A link to the folder on disk of objects that do not fit into memory."""
LOGS = "logs"
NANNY_LOG = "nanny.log"
JOURNAL = "journal"
"""The journal of a cluster without a name of its own, which ends with it."""
END = "end"
"""Why the cluster ended, in a sentence, if it was not stopped."""
JOURNAL_END = ".journal"
"""How the names of all others end; what more there is of them has names that begin so."""
ENGINES = "engines"
"""The folder of the engines' flight recorders."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only folders with our prefix and our owner are touched

DEFAULT_NAME = "default"

NOTHING_RUNS = 'no cluster is running; start one with "cluster start -n 8" or Cluster(n=8)'

SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""The longest path of a Unix socket, in bytes, that the kernel takes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_DISTINCT = re.compile(r"enginery-.+-[0-9a-f]{8}")

_LOCK_TRIES = 25
_LOCK_PAUSE_S = 0.01
"""A look at who runs holds the lock for an instant; whoever wants it for good tries again for a quarter of a second."""


class ClusterInfo(NamedTuple):
    """One cluster's folder. `running` is the truth (its lock); the rest is what the files say."""

    name: str
    directory: Path
    running: bool
    pid: int
    """The nanny's process id."""
    started: float
    """Seconds of the epoch."""
    address: str
    """Of the controller; empty while the cluster is still starting."""


# ------------------------------------------------------------------------------------------------------- directories


def runtime_dir() -> Path:
    """Return the folder of all clusters of this user, made if missing; ClusterError if it is not private and ours."""
    chosen = os.environ.get("ENGINERY_RUNTIME_DIR")
    if chosen:
        return private_dir(Path(chosen).absolute(), "ENGINERY_RUNTIME_DIR")
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and _is_ours(Path(session)):  # after `su`, it names the folder of somebody else
        return private_dir(Path(session) / "enginery", "XDG_RUNTIME_DIR")
    return private_dir(_short_dir())


def journal_path(name: str) -> Path:
    """Return where the journal of a cluster of that name is: it outlives the cluster, whose folder goes with it."""
    return _state_dir() / f"{name}{JOURNAL_END}"


def journals() -> dict[str, list[Path]]:
    """Return the files of the journals of this user, by the cluster's name."""
    found: dict[str, list[Path]] = {}
    if not os.path.lexists(_state_place()):
        return found  # who only looks makes nothing
    for path in sorted(_state_dir().iterdir()):
        name, end, _ = path.name.rpartition(JOURNAL_END)
        if end and _NAME.fullmatch(name):
            found.setdefault(name, []).append(path)
    return found


def _state_dir() -> Path:
    return private_dir(_state_place(), "ENGINERY_STATE_DIR")


def _state_place() -> Path:
    chosen = os.environ.get("ENGINERY_STATE_DIR")
    if chosen:
        return Path(chosen).absolute()
    home = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(home) / "enginery"


def _short_dir() -> Path:
    return Path(f"/tmp/enginery-{os.getuid()}")  # noqa: S108 - private_dir() checks who owns it and who may enter


def _is_ours(path: Path) -> bool:
    try:
        info = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()


def private_dir(path: Path, variable: str = "") -> Path:
    """Return the folder, made with mode 0700 if missing, or raise ClusterError if others could get at what is in it."""
    hint = f"; set {variable} to another folder" if variable else "; set ENGINERY_RUNTIME_DIR to a folder of your own"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
    except FileExistsError:
        raise ClusterError(f"{path} is not a folder{hint}") from None
    except OSError as error:
        raise ClusterError(f"cannot use the folder {path} for clusters: {error.strerror}{hint}") from error
    if stat.S_ISLNK(info.st_mode) and variable:
        info = path.stat()  # a link is fine where the user named the place, not in a folder that others write to
    if not stat.S_ISDIR(info.st_mode):
        raise ClusterError(f"{path} is not a folder{hint}")
    if info.st_uid != os.getuid():
        raise ClusterError(f"the folder {path} belongs to another user{hint}")
    if info.st_mode & 0o077:
        raise ClusterError(
            f"other users can enter the folder {path} (mode {stat.S_IMODE(info.st_mode):04o}); "
            f'make it private with "chmod 700 {path}"'
        )
    return path


def check_name(name: str) -> str:
    """Return the name of a cluster, or raise ClusterError saying what a name may be."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"{name!r} cannot be the name of a cluster: "
            "use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    return name


def cluster_dir(name: str) -> Path:
    """Return the folder of a cluster. It need not exist."""
    return runtime_dir() / check_name(name)


def socket_path(directory: Path) -> Path:
    """Return where the controller's Unix socket is: in the cluster's folder, or in a short one if the path is too long.

    The same folder always gets the same path, so that left-overs are found.
    """
    path = directory / SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    return _short_path(directory, ".sock")


def store_path(directory: Path) -> Path:
    """Return where the Unix socket of the store of objects is that the nanny with this folder keeps."""
    path = directory / STORE_SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    return _short_path(directory, _STORE_END)


def objects_dir(directory: Path) -> Path:
    """Return the folder in shared memory of the objects that the nanny with this folder keeps. It may not exist."""
    return SHARED_MEMORY / _distinct_name(directory)


def spill_dir(directory: Path, chosen: str | None = None) -> Path:
    """Return the folder of these objects on disk: in the one that was chosen, or in one of this user's."""
    return Path(chosen).absolute() / _distinct_name(directory) if chosen else _spill_place() / _distinct_name(directory)


def _spill_place() -> Path:
    place = os.environ.get("ENGINERY_SPILL_DIR") or f"/var/tmp/enginery-{os.getuid()}"  # noqa: S108 - checked
    return Path(place).absolute()


def objects_places() -> list[Path]:
    """Return all folders of this user's clusters that objects may be in, in the usual places."""
    found: list[Path] = []
    for place in (SHARED_MEMORY, _spill_place()):
        with contextlib.suppress(OSError):
            found += [path for path in place.iterdir() if _DISTINCT.fullmatch(path.name)]
    return [path for path in found if _is_ours(path) and not path.is_symlink()]


def spill_dirs(directory: Path) -> list[Path]:
    """Return those of these folders that a cluster has, or may have left: where it was told, and where it is else."""
    found = [spill_dir(directory)]
    with contextlib.suppress(OSError):
        told = (directory / SPILL).readlink()
        if told.name == found[0].name and told not in found:
            found.append(told)
    return [folder for folder in found if _is_ours(folder) and not folder.is_symlink()]


def _distinct_name(directory: Path) -> str:
    """Return a name that no other cluster's folder has, even one of the same name elsewhere."""
    import hashlib  # noqa: PLC0415 - the nanny needs it late

    place = hashlib.blake2b(os.fsencode(directory.resolve()), digest_size=4).hexdigest()
    return f"enginery-{directory.name}-{place}"


def kernel_path(recorder: Path) -> Path:
    """Return how the names of an engine's Jupyter files begin, while a front end may attach to it: its sockets and the
    connection file. `recorder` is the path of its flight recorder.
    """
    path = recorder.with_suffix(".jupyter")
    if len(os.fsencode(path)) + len("-12345") <= SOCKET_PATH_LIMIT:
        return path
    return _short_path(recorder, ".jupyter")


def kernel_files(recorder: Path) -> list[Path]:
    """Return those of these files that are there."""
    path = kernel_path(recorder)
    try:
        return [Path(entry.path) for entry in os.scandir(path.parent) if entry.name.startswith(path.name)]
    except OSError:
        return []


def _short_path(path: Path, end: str) -> Path:
    """Return a short path that stands for a long one."""
    import hashlib  # noqa: PLC0415 - rarely needed

    digest = hashlib.blake2b(os.fsencode(path), digest_size=12).hexdigest()
    return private_dir(_short_dir()) / f"{digest}{end}"


# -------------------------------------------------------------------------------------------------------------- lock


def is_running(directory: Path) -> bool:
    """Return whether a nanny holds the lock of this cluster's folder."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def already_running(name: str) -> str:
    """Return the sentence for a start of a cluster that runs."""
    return f'cluster {name} is running already; connect with Client("{name}") or stop it with "cluster stop {name}"'


def take_lock(directory: Path) -> int | None:
    """Make the cluster's folder and take its lock; None if somebody has it. The lock ends with the descriptor."""
    for _ in range(_LOCK_TRIES):
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / LOCK
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # a nanny that ends has just removed the folder
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):  # noqa: PTH116 - beside fstat
                return fd
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        except FileNotFoundError:
            pass  # the file we locked is no longer the one that others would look at
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return None


def sign_lock(fd: int) -> None:
    """Write into the lock's file who holds it, for people and for `stop`."""
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps({"pid": os.getpid(), "started": time.time()}).encode())


# ------------------------------------------------------------------------------------------------------------ finding


def info(directory: Path) -> ClusterInfo:
    """Return what there is to know about a cluster's folder, without asking the cluster."""
    pid, started, address = 0, 0.0, ""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads((directory / LOCK).read_bytes())
        pid, started = int(data["pid"]), float(data["started"])
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        address = str(json.loads((directory / CLIENT_FILE).read_bytes())["address"])
    return ClusterInfo(directory.name, directory, is_running(directory), pid, started, address)


def list_clusters() -> list[ClusterInfo]:
    """Return every cluster's folder, running or left over, by name."""
    runtime = runtime_dir()
    try:
        folders = [Path(entry.path) for entry in os.scandir(runtime) if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise ClusterError(f"cannot read the folder {runtime}: {error.strerror}") from error
    return [info(folder) for folder in sorted(folders) if _NAME.fullmatch(folder.name)]


def find(cluster: str | os.PathLike[str] | None = None) -> Connection:
    """Return how to reach a cluster, for a client.

    `cluster` is a name or the path of a `client.json`. Without, it is what $ENGINERY_CLUSTER says, else the only one
    that runs, else the one named "default". NoClusterError if that one does not run.
    """
    return _load(_locate(cluster))


def find_dir(cluster: str | None = None) -> Path:
    """Return the folder of a running cluster of this host and user, named as for `find`."""
    folder = _locate(cluster).parent
    _check_runs(folder)
    if not is_running(folder):
        raise NoClusterError(_no_such(folder.name))
    return folder


def _locate(cluster: str | os.PathLike[str] | None) -> Path:
    chosen = cluster if cluster is not None else os.environ.get("ENGINERY_CLUSTER") or None
    if chosen is None:
        return _only_running() / CLIENT_FILE
    if isinstance(chosen, os.PathLike) or os.sep in chosen or chosen.endswith(".json"):
        path = Path(chosen).absolute()
        return path / CLIENT_FILE if path.is_dir() else path
    return cluster_dir(chosen) / CLIENT_FILE


def watch(cluster: str | os.PathLike[str] | None = None) -> Callable[[], str | None] | None:
    """Return what tells why a cluster, named as for `find`, has ended, as far as is known; and None while it is there.

    There is nothing to tell it (None) if the cluster is not of this host.
    """
    folder = _locate(cluster).parent
    return (lambda: None if is_running(folder) else why_ended(folder)) if (folder / LOCK).exists() else None


def find_store(cluster: str | os.PathLike[str] | None, address: str) -> Path | None:
    """Return where the socket of the store of objects is that the nanny of a cluster, named as for `find`, keeps; None
    if that is not of this host, or has none. `address` is the controller's.
    """
    folder = _locate(cluster).parent
    if (folder / LOCK).exists():  # a copy of the file elsewhere has no lock beside it
        path = store_path(folder)
    elif address.startswith("ipc://"):  # the copy is of this host all the same
        socket = Path(address.removeprefix("ipc://"))
        path = socket.with_name(STORE_SOCKET) if socket.name == SOCKET else socket.with_suffix(_STORE_END)
    else:
        return None
    return path if path.exists() else None


def why_ended(directory: Path) -> str:
    """Return why a cluster has ended; empty if that is not known, or it was stopped."""
    try:
        return (directory / END).read_text("utf-8", "replace").strip()
    except OSError:
        return "its nanny was killed" if (directory / LOCK).exists() else ""


def _only_running() -> Path:
    running = [cluster for cluster in list_clusters() if cluster.running]
    if len(running) == 1:
        return running[0].directory
    for cluster in running:
        if cluster.name == DEFAULT_NAME:
            return cluster.directory
    if not running:
        raise NoClusterError(NOTHING_RUNS)
    names = ", ".join(cluster.name for cluster in running)
    raise NoClusterError(
        f"{len(running)} clusters are running ({names}); name the one you mean, or set ENGINERY_CLUSTER to its name"
    )


def _check_runs(folder: Path) -> bool:
    """Return whether a nanny of this host has the folder; raise NoClusterError if it has ended."""
    ours = (folder / LOCK).exists()  # a copy of the file elsewhere has no lock beside it
    if ours and not is_running(folder):
        name = folder.name
        raise NoClusterError(f"cluster {name} is not running any more; start it with {_start_command(name)}")
    return ours


def _load(path: Path) -> Connection:
    from . import config  # noqa: PLC0415 - the nanny has no use for it in its first milliseconds

    folder = path.parent
    ours = _check_runs(folder)
    try:
        return config.load(path, config.Connection)
    except FileNotFoundError:
        if ours:
            raise NoClusterError(f"cluster {folder.name} is still starting; try again in a moment") from None
        if path.name == CLIENT_FILE and not folder.exists():
            raise NoClusterError(_no_such(folder.name)) from None
        raise NoClusterError(f"there is no file {path}") from None
    except OSError as error:
        raise ClusterError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ClusterError(f"{path} is not the connection file of a cluster: {error}") from error


def _no_such(name: str) -> str:
    running = [cluster.name for cluster in list_clusters() if cluster.running]
    if not running:
        return (
            NOTHING_RUNS
            if name == DEFAULT_NAME
            else f"no cluster {name} is running; start it with {_start_command(name)}"
        )
    return f"no cluster {name} is running (running: {', '.join(running)}); start it with {_start_command(name)}"


def _start_command(name: str) -> str:
    return '"cluster start -n 8"' if name == DEFAULT_NAME else f'"cluster start -n 8 --name {name}"'
