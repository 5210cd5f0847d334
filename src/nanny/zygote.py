"""The engines' parent process: a fork server that knows nothing of engines but the names of two functions.

It runs `prepare(preload)` once (slow imports), then forks a child per request that runs `run(setup)`. Children share
the template's memory copy-on-write and are there in milliseconds. With `fork` off each child is a fresh interpreter
instead, and everything else is the same.

The rules of this file:

- It stays single-threaded and has no ZeroMQ context, so forking is safe.
- It ends when the nanny does (its end of the socket closes), and takes its children and *their* children along.
- A child is a process group of its own. Before an ended child is reaped, while the kernel still keeps its number for
  us, what is left of its group is killed; and only its parent, here, signals it, so no signal ever hits a stranger.

Messages are JSON datagrams on a Unix socket. From the nanny: `{"start": key, "setup": {...}}` with the descriptor for
the child's output, `{"signal": key, "number": n}`. To the nanny: `{"ready": true}`, `{"failed": sentence}`,
`{"started": key, "pid": n}`, `{"unstarted": key, "reason": sentence}`, `{"exited": key, "status": n, "peak_bytes": n}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from typing import Any, NamedTuple, NoReturn

from ..errors import EngineryError

MESSAGE_MAX = 1 << 16

PR_SET_PDEATHSIG = 1

_LINUX: bool = sys.platform == "linux"

_libc = ctypes.CDLL(None)
"""Loaded before there is a second thread, whose locks a forked process could wait for."""

_MAXRSS_UNIT = 1024 if _LINUX else 1
"""Linux counts in KB, macOS in bytes."""


class Template(NamedTuple):
    """What the nanny says on the command line, as JSON."""

    socket: int
    """Descriptor of our end of the socket."""
    lifeline: int
    """Descriptor that is at its end when the nanny has died."""
    nanny: int
    """The nanny's process id."""
    prepare: str
    """`module:function`, called once with the preload list."""
    run: str
    """`module:function`, called in each child with its setup."""
    preload: list[str]
    fork: bool


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel (Linux) for this signal when our parent dies; end at once if it has died already."""
    if _LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, number)
    if number and os.getppid() != parent:
        os._exit(1)


def named(entry: str) -> Any:
    """Return the function that `module:function` names."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


class Zygote:
    """The fork server's loop."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.socket = socket.socket(fileno=template.socket)
        self.children: dict[int, str] = {}
        """Key of every child that is not reaped yet, by process id."""
        self.wake_read, self.wake_write = os.pipe()

    def prepare(self) -> None:
        """Do what all children have in common."""
        gc.disable()  # imports make much that lives and little that dies
        if self.template.fork:
            named(self.template.prepare)(self.template.preload)
        gc.freeze()  # what is in no generation is never written to by a child's collector, and stays shared

    def serve(self) -> None:
        """Start and bury children until the nanny is gone; then kill what is left."""
        os.set_blocking(self.wake_write, False)
        os.set_blocking(self.wake_read, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        for fd in (self.socket.fileno(), self.template.lifeline, self.wake_read):
            poll.register(fd, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self.wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake_read, 4096)
                self.reap()
            if self.template.lifeline in ready:
                break
            if self.socket.fileno() in ready and not self.receive():
                break
        self.kill_all()

    def receive(self) -> bool:
        """Take one message; False when the nanny has closed the socket."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_MAX, 1)
        except OSError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "start" in message:
            try:
                self.start(message["start"], message["setup"], fds[0])
            finally:
                os.close(fds[0])
        elif "signal" in message:
            self.signal(message["signal"], message["number"])
        return True

    def start(self, key: str, setup: dict[str, Any], output: int) -> None:
        """Fork a child, in a process group of its own."""
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(unstarted=key, reason=error.strerror or str(error))
            return
        if pid == 0:
            self.become_child(setup, output, parent)
        self.children[pid] = key
        self.tell(started=key, pid=pid)

    def become_child(self, setup: dict[str, Any], output: int, parent: int) -> NoReturn:
        """Leave everything of the zygote behind and run, in the child."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            die_with_parent(signal.SIGKILL, parent)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for fd in (output, self.socket.fileno(), self.wake_read, self.wake_write):
                os.close(fd)
            os.environ.update(setup.pop("environment", {}))
            if self.template.fork:
                _unshare_randomness()
                gc.enable()
                named(self.template.run)(setup)
            else:
                module = self.template.run.partition(":")[0]
                os.set_inheritable(self.template.lifeline, True)
                setup["preload"] = self.template.preload
                os.execv(sys.executable, [sys.executable, "-P", "-m", module, json.dumps(setup)])  # noqa: S606
        except BaseException:
            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(1)

    def signal(self, key: str, number: int) -> None:
        """Send a signal to a child. An interrupt reaches its children too, as in a terminal."""
        for pid, child in self.children.items():
            if child == key:
                with contextlib.suppress(OSError):
                    (os.killpg if number == signal.SIGINT else os.kill)(pid, number)

    def reap(self) -> None:
        """Bury every child that has ended, and tell."""
        while (ended := _next_ended()) is not None:
            pid, status, peak_bytes = ended
            key = self.children.pop(pid, None)
            if key is not None:
                self.tell(exited=key, status=status, peak_bytes=peak_bytes)

    def kill_all(self) -> None:
        """Kill the children with all that they have started, and reap them."""
        for pid in self.children:
            _kill_group(pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def tell(self, **message: Any) -> None:
        """Send a message to the nanny. If it is gone, the loop is about to notice."""
        with contextlib.suppress(OSError):
            self.socket.send(json.dumps(message).encode())


def _next_ended() -> tuple[int, int, int] | None:
    """Reap one ended child, its group first.

    Return its id, its exit code (negative for a signal), and the most memory it, or a child of its own that it had
    waited for, ever had resident: the kernel's own figure, which no measuring could be late for.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: kill its group a moment late
        try:
            pid, waited, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        _kill_group(pid)
        return pid, os.waitstatus_to_exitcode(waited), used.ru_maxrss * _MAXRSS_UNIT
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    _kill_group(ended.si_pid)
    _, waited, used = os.wait4(ended.si_pid, 0)
    return ended.si_pid, os.waitstatus_to_exitcode(waited), used.ru_maxrss * _MAXRSS_UNIT


def _kill_group(leader: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def _unshare_randomness() -> None:
    """Give the child random numbers of its own. The standard library does so for `random`, numpy does not."""
    mtrand = sys.modules.get("numpy.random.mtrand")
    if mtrand is not None:
        mtrand.seed()


def why_unprepared(error: BaseException) -> str:
    """Return the sentence for a template that could not be made."""
    if isinstance(error, EngineryError):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"the engines' template could not be made: {text}"


def main() -> NoReturn:
    """Run the zygote: `python -P -m enginery.nanny.zygote TEMPLATE_JSON`."""
    template = Template(**json.loads(sys.argv[1]))
    os.set_inheritable(template.socket, False)
    os.set_inheritable(template.lifeline, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries that are preloaded may keep threads that survive a fork in good order (OpenBLAS does).
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning)
    # During imports nothing of ours runs that could see the nanny's end.
    die_with_parent(signal.SIGKILL, template.nanny)
    zygote = Zygote(template)
    try:
        zygote.prepare()
    except BaseException as error:
        traceback.print_exc()
        zygote.tell(failed=why_unprepared(error))
        os._exit(1)
    # From here on the loop sees it, and ends the children's children too, which the kernel would not.
    die_with_parent(0, template.nanny)
    zygote.tell(ready=True)
    zygote.serve()
    os._exit(0)


if __name__ == "__main__":
    main()
