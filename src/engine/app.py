"""Start of an engine: forked from a template that has everything loaded, or as a fresh process.

`prepare` is run once in the template: it imports, builds the IPython shell, and starts no thread and no ZeroMQ context.
`run` is run in each forked child and never returns. `python -P -m enginery.engine.app SETUP` does both.
"""

from __future__ import annotations

import builtins
import ctypes
import faulthandler
import gc
import importlib
import os
import random
import signal
import socket as socket_module
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from .. import publishing, rendezvous, serialize
from ..config import Connection, load
from ..errors import ClusterError
from ..ids import EngineId, Incarnation, control_peer, engine_peer
from ..objects.local import LocalStore
from ..recorder import FlightRecorder
from ..transport import LINGER_MS, open_dealer
from ..wire.messages import (
    VERSION,
    Ack,
    ControlHello,
    EngineHello,
    EngineWelcome,
    Forget,
    Goodbye,
    Holding,
    Run,
)
from .attach import FrontEnds
from .books import Books
from .control import FAILED, Control, stdio_flush
from .coroutines import Coroutines
from .current import Current
from .descriptors import Descriptors, keep_logs
from .functions import Functions
from .link import TaskLink, Waker, log
from .namespace import build_in
from .outbox import Outbox
from .output import OutputBuffer, TaskStream, log_fds
from .parts import Parts
from .runner import Runner
from .values import Values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..wire.messages import ToEngine
    from .kernel import Kernel

WELCOME_S = 60.0
"""How long an engine waits for a controller before it gives up."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class EngineSetup(msgspec.Struct, frozen=True):
    """What an engine is told when it starts."""

    engine: int
    incarnation: int
    connection: str
    """Path of the engines' connection file."""
    recorder: str
    """Path of its flight recorder."""
    directory: str
    """Working directory."""
    lifeline: int | None = None
    """A descriptor that reports end of file when the nanny dies."""
    pipes: tuple[str, str] | None = None
    """Named pipes to have as descriptors 1 and 2, which the nanny holds too; None: pipes of our own."""
    store: str | None = None
    """Path of the Unix socket of this host's store of objects."""
    preload: tuple[str, ...] = ()
    """Modules to import first, in a fresh process; a forked one has them from its template."""


class _Template:
    """What forked engines share: the output streams and the shell."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.current = Current()
        self.output = OutputBuffer(self.current, [0, 0])
        sys.stdout = TaskStream(self.output, "stdout", 1)
        sys.stderr = TaskStream(self.output, "stderr", 2)
        from .kernel import Kernel  # noqa: PLC0415 - the streams come first: modules keep sys.stderr when imported

        self.coroutines = Coroutines(self.current)
        self.kernel: Kernel = Kernel(self.output, self.coroutines.run)
        serialize.set_namespace(self.kernel.namespace)


_template: _Template | None = None


def prepare(preload: Sequence[str] = ()) -> None:
    """Load everything an engine needs, and the user's preload list, into a process that engines are forked from.

    Raises `ClusterError` if a module cannot be imported, or starts Python threads, which a fork would not take along.
    Threads of native libraries (the BLAS behind numpy) are those libraries' business: they see to it that they are
    made anew after a fork.
    """
    gc.disable()
    _build()
    if (threads := _threads()) > 1:
        raise ClusterError(
            f"the engines' template has {threads} threads after loading IPython, and cannot be forked safely; "
            "start the cluster with --no-fork"
        )
    for name in preload:
        _import(name)
        if (threads := threading.active_count()) > 1:
            raise ClusterError(
                f"preload module {name!r} starts threads ({threads} now), so engines cannot be forked from a process "
                "that has it; leave it out of the preload list"
            )
    serialize.user_modules.refresh()  # looks at every module once; the children need to look at new ones only
    gc.collect()
    gc.freeze()  # pages of frozen objects stay shared: the collector of a child does not write to them


def _build() -> _Template:
    global _template
    import cloudpickle  # noqa: F401, PLC0415 - for the children: nearly every function needs it

    _template = _Template()
    return _template


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:
        raise ClusterError(f"preload module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - plain names are all that is wanted
    except OSError:
        return 1  # nothing is forked where there is no /proc


def run(setup: EngineSetup | Mapping[str, Any]) -> None:
    """Be an engine until told to end. Never returns."""
    try:
        if not isinstance(setup, EngineSetup):
            setup = msgspec.convert(setup, EngineSetup)
        _die_with_parent()
        _be_named(f"engine {setup.engine}")
        gc.enable()
        keep_logs()
        faulthandler.enable(log_fds[2])
        _enter(setup.directory)
        template = _template or _build()
        template.current.install()
        template.current.own_threads()
        for name in setup.preload:
            _import(name)
        _Engine(setup, template).run()
    except ClusterError as error:
        log(f"the engine cannot start: {error}")
    except BaseException:
        log("the engine failed and ends\n" + traceback.format_exc())
    os._exit(FAILED)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux), whatever state it is in then.

    Strictly: when the thread that made this process ends; so a parent makes engines from a thread that lives as long.
    """
    if not sys.platform.startswith("linux"):
        return
    forked = _template is not None and _template.pid != os.getpid()
    parent = _template.pid if forked and _template is not None else os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked


def _be_named(name: str) -> None:
    """Be called so in `top` and `ps -o comm` (Linux; up to 15 characters)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _enter(directory: str) -> None:
    """Make the process the engine's own: its directory, its chance, and no standard input (that is the template's)."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise ClusterError(f"its working directory cannot be entered: {error}") from error
    sys.path.insert(0, directory)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for the process's life
    builtins.input = _no_input
    random.seed()
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _no_input(_prompt: object = "", /) -> str:
    """Stand for `input` while no front end with a keyboard runs a cell."""
    raise EOFError(
        "input() was called by a task or a cell: engines have no keyboard for those; "
        "attach a console to the engine instead (cluster console ENGINE)"
    )


def _threads_told() -> int:
    """Return how many threads the environment tells numerical libraries to have; 0 if it tells nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() else 0


def _read_connection(path: str) -> Connection:
    try:
        return load(Path(path), Connection)
    except (OSError, ValueError) as error:
        raise ClusterError(f"its connection file cannot be read: {error}") from error


class _Engine:
    """The parts of an engine, put together."""

    def __init__(self, setup: EngineSetup, template: _Template) -> None:
        self._setup = setup
        self._connection = _read_connection(setup.connection)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._welcome = False
        self._greeting = True
        """A hello is not answered yet."""
        engine, incarnation = EngineId(setup.engine), Incarnation(setup.incarnation)
        host = socket_module.gethostname()
        serialize.set_place(engine_uuid=f"{engine}.{incarnation}", host=host, pid=os.getpid())
        recorder = FlightRecorder(Path(setup.recorder))
        waker, outbox, output = Waker(), Outbox(), template.output
        output.engine, output.position, output.nudge = engine, recorder.slots, waker.nudge
        self._descriptors = Descriptors(output, setup.pipes, recorder.reads)
        output.descriptors = self._descriptors
        publishing.set_publisher(output.publish_data)
        functions = Functions(template.coroutines.adapt)
        peer = engine_peer(engine, incarnation)
        task_socket = open_dealer(self._context, self._connection, peer)
        self._parts = parts = Parts(
            engine=engine,
            current=template.current,
            slots=recorder.slots,
            since=recorder.since,
            coroutine_slots=recorder.coroutines,
            coroutine_since=recorder.begun,
            books=Books(template.current, recorder.slots, functions.estimate),
            functions=functions,
            outbox=outbox,
            output=output,
            link=TaskLink(task_socket, outbox, output, self.on_message),
            coroutines=template.coroutines,
            values=Values(LocalStore(setup.store, peer)),
            control_waker=waker,
            show_figures=template.kernel.show_figures,
        )
        template.coroutines.record, template.coroutines.after_step = recorder.step, output.catch_up
        template.coroutines.nudge = parts.link.main_waker.wake
        parts.link.wait_otherwise = template.coroutines.wait
        kernel = template.kernel
        execute = template.coroutines.in_cell(kernel.execute)
        build_in(
            functions,
            kernel.namespace,
            execute,
            kernel.clear,
            kernel.hide,
            values=parts.values,
            report=output.publish,
            receive=kernel.comms.receive,
        )
        path = rendezvous.kernel_path(Path(setup.recorder))
        self._front_ends = FrontEnds(kernel, template.coroutines, template.current, output, path)
        self._front_ends.wake = parts.link.main_waker.wake
        self._front_ends.claims = parts.books.lock
        self._runner = Runner(parts)
        self._control = Control(
            parts,
            open_socket=lambda: open_dealer(self._context, self._connection, control_peer(engine, incarnation)),
            hello=ControlHello(engine, incarnation),
            greet=self._greet,
            is_greeting=lambda: self._greeting,
            leave=self._leave,
            lifeline=setup.lifeline,
            descriptors=self._descriptors,
            questions={"attach": self._front_ends.attach, "detach": self._front_ends.detach},
        )

    def run(self) -> None:
        """Say hello, then run what comes. Returns only if the control thread is about to end the process."""
        os.register_at_fork(after_in_child=self._forked)
        self._control.start()
        self._control.said_hello.wait(LINGER_MS / 1000)
        self._greet()
        deadline = time.monotonic() + WELCOME_S
        while not (self._welcome or self._control.stopping):
            left = deadline - time.monotonic()
            if left <= 0:
                log(f"no controller answered at {self._connection.address} within {WELCOME_S:.0f} s; the engine ends")
                self._control.stop(1, orderly=False)
                break
            self._parts.link.wait(lambda: self._welcome or self._control.stopping, left)
        self._runner.run(lambda: self._control.stopping)
        while True:
            time.sleep(LINGER_MS / 1000)  # the control thread ends the process

    def on_message(self, message: ToEngine, frames: Sequence[Any]) -> None:
        """Deal with a message on the task socket; the link's lock is held."""
        if isinstance(message, Run):
            if sum(call.frames for call in message.calls) != len(frames):
                log(f"a Run with {len(frames)} frames, which its calls do not account for, was refused")
                for call in message.calls:
                    self._runner.refuse(call, "the frames of the message do not fit its calls")
                return
            self._parts.functions.add(message.functions)
            self._parts.books.add(message.calls, frames)
            self._parts.link.acked(message.ack)
        elif isinstance(message, Ack):
            self._parts.link.acked(message.have)
        elif isinstance(message, EngineWelcome):
            self._greeting = False
            self._welcome = True
            if message.session:
                self._parts.link.resume(message.have, lambda: self._holding(message.session))
        elif isinstance(message, Forget):
            self._parts.functions.forget(message.digests)
        else:
            self._control.on_notice(message)

    def _greet(self) -> None:
        """Say hello; again, when a connection was broken."""
        self._greeting = True
        setup = self._setup
        host, threads = socket_module.gethostname(), _threads_told()
        self._parts.link.send(EngineHello(VERSION, setup.engine, setup.incarnation, os.getpid(), host, threads))

    def _holding(self, session: int) -> Holding:
        holding = self._parts.books.holding(session, self._parts.functions.digests())
        parts = self._parts
        now = parts.clock()
        holding.coroutines = [(task, max(0.0, now - started)) for task, started in holding.coroutines]
        if holding.running is not None:  # not by the time of day, which may jump: it was added when the call began
            holding.elapsed_s = max(0.0, now - (parts.since[0] - parts.current.epoch))
        return holding

    def _leave(self, control_socket: zmq.Socket[bytes], code: int, orderly: bool) -> None:
        """End the process, from the control thread."""
        self._parts.books.clear()
        if orderly:
            self._parts.link.send(Goodbye())
        linger_ms = LINGER_MS if orderly else 0
        self._parts.link.close(linger_ms)
        control_socket.close(linger_ms)
        self._context.term()
        self._front_ends.remove_files()
        stdio_flush()
        os._exit(code)

    def _forked(self) -> None:
        """User code forked this process: the copy is the user's own, and must not speak for the engine."""
        self._parts.output.detached = True
        self._descriptors.forget()
        self._parts.link.lock = _EndOfCopy()  # type: ignore[assignment] # all that it is asked for, it answers by ending
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _EndOfCopy:
    """Stands for the link's lock in a forked copy that comes back from the user's code: it ends the copy."""

    def __enter__(self) -> None:
        log("a process that user code forked came back to the engine's loop; it ends here")
        os._exit(0)

    def __exit__(self, *_: object) -> None:
        """Never reached."""


def main() -> None:
    """Be an engine in a fresh process: the argument is the setup, as JSON or as the path of a JSON file."""
    _die_with_parent()
    text = sys.argv[1]
    data = text.encode() if text.lstrip().startswith("{") else Path(text).read_bytes()
    run(msgspec.json.decode(data, type=EngineSetup))


if __name__ == "__main__":
    main()
