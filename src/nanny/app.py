"""The nanny's program: `python -P -m enginery.nanny.app PLAN_JSON`.

Order is speed here. The zygote's imports take longest, so it is started before anything slow is imported; the
controller next; and while both get ready, the nanny imports what it needs itself.

Whoever starts a nanny gives it the write end of a pipe (`report`) and reads one line from it: `ready`, when clients can
find the controller and engines are about to be forked, `exists SENTENCE`, or `error SENTENCE`. At the end of the
stream without any of them, what the nanny wrote to its descriptor 2 says what went wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from .. import leftovers, rendezvous
from ..errors import ClusterExists, EngineryError
from . import cores, memory
from .children import Children
from .threads import Threads

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from ..config import Connection
    from ..security import Keys
    from ..wire.messages import NannyHello
    from .server import Server
    from .store.thread import Store

CONTROLLER = "enginery.controller.app"
"""The controller's program, by name: the nanny imports nothing of it."""


FILES = 1 << 16
"""More open files than anybody needs."""


class Plan(NamedTuple):
    """What the nanny is told on its command line. No secrets."""

    directory: str
    """The cluster's folder; its name is the cluster's."""
    engines: int
    fork: bool
    preload: list[str]
    listen: str | None
    """Numeric address and port of the TCP interface (`127.0.0.1:0`); None for a Unix socket."""
    reachable: str | None
    """With `listen`: the host under which others reach it."""
    report: int
    """Descriptor to write the one line to."""
    owner: int | None
    """Descriptor that is at its end when the process that wants the cluster has ended; None: it runs until stopped."""
    timeout_s: float
    """How long the start may take."""
    journal: str | None
    """Path of the controller's journal; None for none."""
    keep_s: float
    keep_bytes: int
    """How long results are kept in the journal, and how many bytes."""
    object_min: int
    """Values of so many bytes are objects."""
    join: str | None = None
    """Path of the engines' connection file (`engine.json`) of a cluster whose controller is elsewhere: this host's
    engines are to be that cluster's, and no controller is started here."""
    threads: int | None = None
    """How many threads numerical libraries have in each engine; 0: as many as they like; None: cores by engines."""
    resources: dict[str, float] | None = None
    """What the host offers to tasks."""
    memory_limit: int | None = None
    """Bytes of shared memory for objects on this host, and of memory for the controller; None: half of what there is.
    """
    spill: str | None = None
    """Folder for objects that do not fit into memory; None: one of our own."""


def main() -> NoReturn:
    """Run the nanny to its end."""
    plan = Plan(**json.loads(sys.argv[1]))
    for fd in (plan.report, plan.owner):
        if fd is not None:
            os.set_inheritable(fd, False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # until the server has a better answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directory = Path(plan.directory)
    code = 1
    try:
        lock = rendezvous.take_lock(directory)
        if lock is None:
            raise ClusterExists(rendezvous.already_running(directory.name))
        keep_logs = False
        try:
            rendezvous.sign_lock(lock)
            code = run(plan, directory)
            keep_logs = code != 0
        finally:
            if keep_logs:  # it has served, and then failed: somebody will want to know why
                leftovers.clear(directory, keep=(rendezvous.LOCK, rendezvous.LOGS, rendezvous.END))
            else:
                leftovers.remove(directory)
    except ClusterExists as error:
        tell(plan, f"exists {error}")
    except EngineryError as error:
        tell(plan, f"error {error}")
    except OSError as error:
        tell(plan, f"error cannot start cluster {directory.name}: {in_words(error)}")
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)  # the lock goes with the process; nothing needs an interpreter taken down piece by piece


def run(plan: Plan, directory: Path) -> int:
    """Start everything, serve until the cluster stops, end everything. The caller holds the lock.

    Return 1 if the cluster has come to be and then failed.
    """
    prepare_directory(directory)
    os.environ["ENGINERY_RUNTIME_DIR"] = str(directory.parent)
    os.environ["ENGINERY_CLUSTER"] = directory.name  # a `Client()` in a task finds its own cluster
    lifeline, _held_open = os.pipe()
    threads = Threads(cores.usable(), plan.threads, frozenset(os.environ))
    environment = threads.environment(plan.engines)

    def zygote() -> Children:
        children = Children(fork=plan.fork, preload=plan.preload, lifeline=lifeline, environment=environment)
        leftovers.note_process(directory, "zygote", children.process.pid)
        return children

    children = zygote()
    raise_file_limit()
    # What follows imports ZeroMQ, while the zygote imports far more.
    import msgspec  # noqa: PLC0415

    from .. import config, security  # noqa: PLC0415
    from .server import Server  # noqa: PLC0415

    def serve(new_controller: Callable[[], tuple[subprocess.Popen[bytes], Answer]] | None = None) -> Server:
        return Server(
            directory,
            children,
            new_zygote=zygote,
            new_controller=new_controller,
            is_guest=plan.join is not None,
            lifeline=lifeline,
            owner=plan.owner,
            threads=threads,
            store=store,
            log=log,
        )

    limit = memory.limit(plan.memory_limit)
    if plan.join is not None:
        connection = config.load(Path(plan.join), config.Connection)
        store = start_store(plan, directory, limit)
        if store is not None:
            from .store import reach  # noqa: PLC0415

            reach.as_guest(store, connection, log)
        server = serve()
        return attend(server, directory, lambda: join(plan, directory, server, connection))
    keys = security.new_keys() if plan.listen is not None else None
    address = f"tcp://{plan.listen}" if plan.listen is not None else f"ipc://{rendezvous.socket_path(directory)}"
    settings = msgspec.structs.replace(security.controller_config(directory.name, address, keys), memory_limit=limit)
    if plan.journal is not None:
        settings = msgspec.structs.replace(
            settings, life=os.urandom(8).hex(), journal=plan.journal, keep_s=plan.keep_s, keep_bytes=plan.keep_bytes
        )
    config.save(directory / rendezvous.CONTROLLER_FILE, settings)
    controller, answer = start_controller(directory)
    store = start_store(plan, directory, limit)
    if store is not None and plan.listen is not None and keys is not None:
        from .store import reach  # noqa: PLC0415

        reach.as_head(store, plan.listen, plan.reachable, keys, log)
    server = serve((lambda: start_controller(directory)) if plan.journal is not None else None)
    server.watch_controller(controller)
    return attend(server, directory, lambda: start(plan, directory, server, answer, keys))


def attend(server: Server, directory: Path, start: Callable[[], bool]) -> int:
    """See everything through, from the start to the end; return as `run` does."""
    try:
        if not start():
            return 0
        while not server.finished:
            server.turn()
    finally:
        server.close()
    if server.failure:
        with contextlib.suppress(OSError):
            (directory / rendezvous.END).write_text(server.failure, "utf-8")
    return 1 if server.failure else 0


class Answer:
    """What the controller says as it starts: its address, or why it cannot. Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd: int | None = fd
        self.address = ""
        self.error = ""
        self._said = b""

    def read(self) -> None:
        """Take what there is; to be called when `fd` is readable."""
        if self.fd is None:
            return
        data = os.read(self.fd, 4096)
        self._said += data
        if data and not data.endswith(b"\n"):
            return
        os.close(self.fd)
        self.fd = None
        self._take_in()

    def close(self) -> None:
        """Take what there is, and wait for no more: who was to say it has ended, or said it long ago."""
        if self.fd is not None:
            os.set_blocking(self.fd, False)
            with contextlib.suppress(BlockingIOError):
                self._said += os.read(self.fd, 4096)
            os.close(self.fd)
            self.fd = None
            self._take_in()

    def _take_in(self) -> None:
        text = self._said.decode("utf-8", "replace").strip()
        if text.startswith("error:"):
            self.error = text.removeprefix("error:").strip()
        else:
            self.address = text


def start(plan: Plan, directory: Path, server: Server, answer: Answer, keys: Keys | None) -> bool:
    """Serve until controller and zygote are ready, and report it; else report why not and return False."""
    deadline = time.monotonic() + plan.timeout_s
    connected = False
    while not (connected and server.zygote_ready):
        left = deadline - time.monotonic()
        if left <= 0 and not server.finished:
            late = "engines' template" if connected else "controller"
            server.stop(f"the {late} was not ready within {plan.timeout_s:g} s")
        elif server.turn(answer.fd, max(0.0, left)):
            answer.read()
        if server.finished:
            answer.read()  # a controller that cannot start says why, and ends
            why = answer.error or server.failure or f"it was stopped while it started ({server.core.stopping})"
            tell(plan, f"error cannot start cluster {directory.name}: {why}")
            return False
        if answer.address and not connected:
            connect(plan, directory, server, answer.address, keys)
            connected = True
    tell(plan, "ready")
    log(f"cluster {directory.name} is ready for {plan.engines} engines")
    return True


def join(plan: Plan, directory: Path, server: Server, connection: Connection) -> bool:
    """Serve until zygote and controller are ready for us, and report it; else report why not and return False."""
    from .. import config  # noqa: PLC0415

    config.save(directory / rendezvous.ENGINE_FILE, connection)
    server.connect(connection, introduction(plan, server.store))
    deadline = time.monotonic() + plan.timeout_s
    while not (server.core.is_connected and server.zygote_ready):
        left = deadline - time.monotonic()
        if left <= 0 and not server.finished:
            where = f"the controller of cluster {connection.cluster} at {connection.address}"
            server.stop(f"{where} did not answer within {plan.timeout_s:g} s")
        else:
            server.turn(timeout_s=max(0.0, left))
        if server.finished:
            tell(plan, f"error cannot join cluster {connection.cluster}: {server.failure or server.core.stopping}")
            return False
    tell(plan, "ready")
    log(f"joined cluster {connection.cluster} with {plan.engines} engines")
    return True


def introduction(plan: Plan, store: Store | None, *, head: bool = False) -> NannyHello:
    """Return our hello."""
    from ..wire import messages as m  # noqa: PLC0415

    cores, resources = os.cpu_count() or 1, plan.resources or {}
    host = socket.gethostname()
    source = None if store is None else store.source
    return m.NannyHello(m.VERSION, host, os.getpid(), cores, plan.engines, head=head, resources=resources, store=source)


def connect(plan: Plan, directory: Path, server: Server, address: str, keys: Keys | None) -> None:
    """Write the files with which others find the controller, and introduce ourselves to it."""
    import msgspec  # noqa: PLC0415

    from .. import config, security  # noqa: PLC0415

    host = socket.gethostname()
    if plan.reachable is not None:
        settings = config.load(directory / rendezvous.CONTROLLER_FILE, config.ControllerConfig)
        bound = msgspec.structs.replace(settings, address=address)  # another controller is to be found there
        config.save(directory / rendezvous.CONTROLLER_FILE, bound)
        port = address.rpartition(":")[2]
        address = f"tcp://{plan.reachable}:{port}"
    client, engine = security.connections(directory.name, address, keys, host)
    config.save(directory / rendezvous.ENGINE_FILE, engine)
    config.save(directory / rendezvous.CLIENT_FILE, client)
    server.connect(engine, introduction(plan, server.store, head=True))


def start_store(plan: Plan, directory: Path, limit: int) -> Store | None:
    """Return this host's store of objects, at work; None if there can be none."""
    from .store import start  # noqa: PLC0415

    return start.start(directory, limit=limit, least=plan.object_min, spill=plan.spill, log=log)


def prepare_directory(directory: Path) -> None:
    """Clear what a dead cluster of the same name has left, make the folders, and write to the log from now on."""
    found: list[str] = []
    if len(os.listdir(directory)) > 1:  # noqa: PTH208 - more than the lock
        found = leftovers.clear(directory)
    for name in (rendezvous.LOGS, rendezvous.ENGINES):
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    fd = os.open(
        directory / rendezvous.LOGS / rendezvous.NANNY_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    if found:
        log(f"cleared what a dead cluster of this name had left: {', '.join(found)}")


def start_controller(directory: Path) -> tuple[subprocess.Popen[bytes], Answer]:
    """Start the controller; return it and what will be its answer."""
    import subprocess  # noqa: PLC0415 - the zygote's start has imported it

    from .zygote import die_with_parent  # noqa: PLC0415

    nanny = os.getpid()
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", CONTROLLER, str(directory / rendezvous.CONTROLLER_FILE), str(write)],
            stdin=subprocess.DEVNULL,
            pass_fds=(write,),
            # It takes no lock that another thread could have; nor is there another way to hear of our death.
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, nanny),  # noqa: PLW1509
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    return process, Answer(read)


def raise_file_limit() -> None:
    """Allow as many open files as the system does: an engine takes three here and four in the controller."""
    import resource  # noqa: PLC0415

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def in_words(error: OSError) -> str:
    """Return what the system objected to, with the file."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def log(text: str) -> None:
    """Write a line to the nanny's log."""
    with contextlib.suppress(OSError):  # a full disk
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)  # noqa: T201 - it is the log


def tell(plan: Plan, line: str) -> None:
    """Say the one line that the starter waits for."""
    with contextlib.suppress(OSError):  # nobody waits any more
        os.write(plan.report, f"{line}\n".encode())
        os.close(plan.report)


if __name__ == "__main__":
    main()
