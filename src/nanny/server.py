"""The nanny's loop: it waits for anything to happen, tells the core, and does what the core says.

```
controller's ROUTER ──┐                     ┌── start, signal ──► zygote
zygote's events ──────┤                     ├── exits ──────────► controller
engines' output ──────┼──► core ──► actions ┤
SIGTERM, SIGCHLD ─────┤                     └── kill all, finish
owner's lifeline ─────┘
```
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import zmq

from .. import leftovers, recorder, rendezvous, transport
from ..wire import messages as m
from ..wire.codec import MalformedError, decode_to_nanny
from . import children as c
from . import core as core_
from . import metrics, oom, watch
from .output import EngineOutput
from .relief import Pipes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from ..config import Connection
    from .app import Answer
    from .store.thread import Store
    from .threads import Threads

MEASURE_EVERY_S = 2.0
"""How often the engines' memory and the kernel's kills are looked at, for death certificates."""

ZYGOTE_TRIES = 5
"""How many zygotes in a row may end before they are ready, once there has been one that was; the cluster then ends."""

GOODBYE_MS = 200
"""How long a goodbye to a controller on another host may take to leave."""

BURST = 100
"""Messages of the controller taken in one turn."""


class Server:
    """A nanny at work on one host."""

    def __init__(
        self,
        directory: Path,
        children: c.Children,
        *,
        new_zygote: Callable[[], c.Children],
        new_controller: Callable[[], tuple[subprocess.Popen[bytes], Answer]] | None = None,
        is_guest: bool = False,
        lifeline: int,
        owner: int | None,
        threads: Threads,
        store: Store | None = None,
        log: Callable[[str], None],
    ) -> None:
        """Be at work; `new_controller` starts one that takes over from one that died. A guest has none here."""
        self.directory = directory
        counter = oom.find_counter(os.getpid())
        self.core = core_.NannyCore(counter, durable=new_controller is not None, is_guest=is_guest)
        self.controller: subprocess.Popen[bytes] | None = None
        self._watch = watch.Watch()
        self.children = children
        self.zygote_ready = False
        self._zygote_served = False
        """There has been one that was ready: the template can be made."""
        self._zygotes_lost = 0
        """How many have ended in a row before they were ready."""
        self.failure = ""
        """Why the cluster could not be started, or had to end, if it is not that somebody wanted it to."""
        self._new_zygote = new_zygote
        self._new_controller = new_controller
        self._answer: Answer | None = None
        """What the controller says as it starts, if it has taken over from another."""
        self._lifeline = lifeline
        self._owner = owner
        self._threads = threads
        self.store = store
        """This host's store of objects; None: it has none."""
        self._engines = 1
        """How many engines this host has, as the controller says."""
        self._log = log
        self._outputs: dict[c.Key, EngineOutput] = {}
        self._pipes: dict[c.Key, Pipes] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: transport.Monitor | None = None
        self._hello: m.NannyHello | None = None
        self._measured = time.monotonic()
        self._count_kills(counter, self._measured)
        self._signals: list[int] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.core.finished

    # ------------------------------------------------------------------------------------------------------ starting

    def watch_controller(self, process: subprocess.Popen[bytes], answer: Answer | None = None) -> None:
        """Take charge of the controller's process."""
        self.controller = process
        self._watch = watch.Watch()
        self._answer = answer
        leftovers.note_process(self.directory, "controller", process.pid)
        self.core.on_controller_started(time.monotonic())

    def connect(self, connection: Connection, hello: m.NannyHello) -> None:
        """Introduce ourselves to the controller."""
        self._context = zmq.Context()
        name = f"n{hello.host}.{hello.pid}.".encode()[:200] + os.urandom(4).hex().encode()
        self._socket = transport.open_dealer(self._context, connection, name)
        self._monitor = transport.Monitor(self._socket)
        self._hello = hello
        self._greet()

    def _greet(self) -> None:
        """Say hello, with what we have."""
        if self._socket is not None and self._hello is not None:
            transport.send(self._socket, self.core.hello(self._hello))

    # ------------------------------------------------------------------------------------------------------ the turn

    def turn(self, also: int | None = None, timeout_s: float = MEASURE_EVERY_S) -> bool:
        """Wait for something to happen and deal with it; return whether the descriptor `also` is readable."""
        ready = self._wait(also, timeout_s)
        now = time.monotonic()
        self._read_wakeups(now)
        if self._owner is not None and self._owner in ready:
            self._owner = None
            self.core.stop("its owner has ended", now)
        for output in list(self._outputs.values()):
            if output.is_open and output.fd in ready:
                output.read()
        for pipes in self._pipes.values():
            pipes.look(now)
        self._read_children(now)
        self._read_controller(now)
        self._read_store()
        if now - self._measured >= MEASURE_EVERY_S:
            self._measure(now)
        self.core.tick(now)
        self._do(self.core.take())
        return also is not None and also in ready

    def stop(self, failure: str) -> None:
        """Stop everything because something failed; the turns that follow see it through."""
        self.failure = failure
        self.core.stop(failure, time.monotonic())
        self._do(self.core.take())

    def _measure(self, now: float) -> None:
        self._measured = now
        for key, pid in self.core.running():
            counter = oom.find_counter(pid)  # first: what weighs something afterwards was there
            self.core.on_memory(key, metrics.resident_bytes(pid), now, counter)
        for counter in self.core.counters():
            self._count_kills(counter, now)
        if self.controller is not None and self._new_controller is not None and self.core.is_connected:
            self._look_at(self.controller, now)

    def _look_at(self, controller: subprocess.Popen[bytes], now: float) -> None:
        """Kill a controller that hangs, so that another takes over."""
        if self._watch.look(now, metrics.steps(controller.pid)) and not self.core.stopping:
            self._log(f"the controller (process {controller.pid}) has not moved for {watch.HUNG_S:.0f} s: it is killed")
            controller.kill()

    def _count_kills(self, counter: str | None, now: float) -> None:
        count = None if counter is None else oom.count(counter)
        if counter is not None and count is not None:
            self.core.on_kills(counter, count, now)

    def _wait(self, also: int | None, timeout_s: float) -> dict[Any, int]:
        poller = zmq.Poller()
        poller.register(self._wake_read, zmq.POLLIN)
        poller.register(self.children.fileno(), zmq.POLLIN | (zmq.POLLOUT if self.children.is_blocked else 0))
        for fd in (also, self._owner, None if self.store is None else self.store.fileno()):
            if fd is not None:
                poller.register(fd, zmq.POLLIN)
        if self._socket is not None and self._monitor is not None:
            poller.register(self._socket, zmq.POLLIN)
            poller.register(self._monitor.socket, zmq.POLLIN)
        for output in self._outputs.values():
            if output.is_open:
                poller.register(output.fd, zmq.POLLIN)
        for pipes in self._pipes.values():
            timeout_s = min(timeout_s, pipes.look_s)
        deadline = self.core.deadline()
        if deadline is not None:
            timeout_s = min(timeout_s, max(0.0, deadline - time.monotonic()))
        return dict(poller.poll(math.ceil(timeout_s * 1000)))

    def _read_wakeups(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        signals, self._signals = self._signals, []
        for number in signals:
            if number != signal.SIGCHLD:
                self.core.stop(f"it was asked to ({signal.Signals(number).name})", now)
        if self.controller is not None and (status := self.controller.poll()) is not None:
            self.controller = None
            words = self._why_it_ended()
            self.core.on_controller_exited(status, now)
            if self.core.stopping.startswith(core_.CONTROLLER_ENDED):
                self.failure = f"the controller has ended ({core_.reason_for(status)}){words}"

    def _read_children(self, now: float) -> None:
        for event in self.children.events():
            match event:
                case c.Ready():
                    self.zygote_ready = self._zygote_served = True
                case c.Started(key, pid):
                    leftovers.note_process(self.directory, f"engine-{key.engine}", pid)
                    self.core.on_started(key, pid)
                case c.Unstarted(key, reason):
                    self._bury(key)
                    self.core.on_unstarted(key, reason)
                case c.Exited(key, status, peak_bytes):
                    self._count_kills(self.core.counter_for(key, status), now)
                    end = core_.End(now, time.time(), peak_bytes)
                    self.core.on_exited(key, status, *self._bury(key), end=end)
                case c.Failed(reason):
                    self.failure = reason
                    self.core.stop(reason, now)
                case c.Lost(status):
                    self._on_zygote_lost(status, now)

    def _fail(self, failure: str, now: float) -> None:
        """Stop because of something that has not said why."""
        self.failure = failure + self._last_words()
        self.core.stop(self.failure, now)

    def _why_it_ended(self) -> str:
        """Return what the controller said of its end, if it did."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
            if answer.error:
                return f": {answer.error}"
        return self._last_words()

    def _last_words(self) -> str:
        """Return the last line of a traceback in the log, which names what went wrong, or nothing."""
        try:
            text = (self.directory / rendezvous.LOGS / rendezvous.NANNY_LOG).read_text("utf-8", "replace")
        except OSError:
            return ""
        # At the beginning of a line: an indented one is an engine's, quoted in the account of its end.
        _, found, trace = f"\n{text}".rpartition("\nTraceback (most recent call last)")
        said = [line for line in trace.splitlines() if line[:1].isalpha()]
        return f": {said[0]}" if found and said else ""

    def _on_zygote_lost(self, status: int, now: float) -> None:
        self._zygotes_lost = 0 if self.zygote_ready else self._zygotes_lost + 1
        tries = ZYGOTE_TRIES if self._zygote_served else 1
        if self._zygotes_lost >= tries and not self.core.stopping:
            self._fail(f"the engines' template could not be made ({core_.reason_for(status)})", now)
        self.zygote_ready = False
        end = core_.End(now, time.time())
        for key, process in list(self.core.processes.items()):
            if process.pid:
                with contextlib.suppress(OSError):  # what the engine has started would outlive it
                    os.killpg(process.pid, signal.SIGKILL)
            reason = "killed because the zygote had ended"
            self.core.on_exited(key, -signal.SIGKILL, *self._bury(key), reason=reason, end=end)
        self.core.on_zygote_lost(status)

    def _read_controller(self, now: float) -> None:
        if self._socket is None or self._monitor is None:
            return
        if self._monitor.came_back():
            self._greet()
        for _ in range(BURST):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.core.on_heard(now)
            self._watch.on_heard()
            try:
                message = decode_to_nanny(frames[0])
            except MalformedError as error:
                self._log(f"ignored a message that is not one of ours: {error}")
                continue
            match message:
                case m.StartEngines():
                    self._engines = message.of or self._engines
                    self.core.on_start_engines(message)
                case m.StopEngine():
                    self.core.on_stop_engine(message)
                case m.Farewell():
                    self.core.on_farewell(message, now)
                case m.Exit():
                    self.core.on_exit(now)
                case m.Refused():
                    if not self.core.stopping:  # else it is nothing that this ends by
                        self.failure = message.reason
                    self.core.on_refused(message, now)
                case m.NannyWelcome():
                    self.core.on_nanny_welcome(message)
                case m.Resume():
                    self._greet()
                case m.Drop() | m.Pull() | m.Lacking() | m.StoreQuery():
                    if self.store is not None:
                        self.store.deliver(message)
                case m.Pong():
                    pass

    def _read_store(self) -> None:
        """Pass on what the store has to tell the controller."""
        if self.store is not None and self._socket is not None:
            for message in self.store.take():
                transport.send(self._socket, message)

    # ------------------------------------------------------------------------------------------------------- actions

    def _do(self, actions: list[core_.Action]) -> None:
        for action in actions:
            match action:
                case core_.StartProcess(key):
                    self._start(key)
                case core_.SignalProcess(key, number):
                    self.children.signal(key, number)
                case core_.Send(message):
                    if isinstance(message, m.Running) and self.store is not None:
                        message.objects, message.orphans = self.store.holdings()
                    if self._socket is not None:
                        transport.send(self._socket, message)
                case core_.RenewZygote():
                    self.children.close()
                    self.children = self._new_zygote()
                case core_.StartController():
                    self._start_controller()
                case core_.Log(text):
                    self._log(text)
                case core_.KillAll():
                    self._kill_all()
                case core_.Finish():
                    pass  # `finished` says so

    def _start(self, key: c.Key) -> None:
        path = self._recorder(key)
        output = None
        try:
            output = EngineOutput(self.directory / rendezvous.LOGS / f"engine-{key.engine}.log")
            pipes = Pipes(path, output.add, lambda: recorder.count_reads(path))
        except OSError as error:
            if output is not None:
                os.close(output.write_end)
                output.close()
            self.core.on_unstarted(key, error.strerror or str(error))
            self._do(self.core.take())
            return
        self._outputs[key] = output
        self._pipes[key] = pipes
        setup = {
            "engine": key.engine,
            "incarnation": key.incarnation,
            "connection": str(self.directory / rendezvous.ENGINE_FILE),
            "recorder": str(path),
            "pipes": [str(pipe) for pipe in pipes.paths],
            "directory": os.getcwd(),  # noqa: PTH109 - as a string
            "lifeline": self._lifeline,
            "store": None if self.store is None else self.store.path,
            "environment": self._threads.environment(self._engines),
        }
        self.children.start(key, setup, output.write_end)

    def _start_controller(self) -> None:
        assert self._new_controller is not None, "without a journal no other controller is started"
        try:
            self.watch_controller(*self._new_controller())
        except OSError as error:
            self.stop(f"no controller can be started: {error.strerror or error}")

    def _recorder(self, key: c.Key) -> Path:
        return self.directory / rendezvous.ENGINES / f"{key.engine}.{key.incarnation}.rec"

    def _bury(self, key: c.Key) -> tuple[recorder.Entry, str]:
        """Return where the process was and what it said last, and close its files."""
        path = self._recorder(key)
        entry = recorder.read(path)
        for file in (path, *rendezvous.kernel_files(path)):
            with contextlib.suppress(OSError):
                file.unlink()
        output, pipes = self._outputs.pop(key, None), self._pipes.pop(key, None)
        if output is None:
            return entry, ""
        if output.is_open:
            output.read()
        if pipes is not None:
            pipes.drain(output.add_unread)
            pipes.close()
        last = output.last()
        output.close()
        return entry, last

    def _kill_all(self) -> None:
        if self.controller is not None:
            self.controller.kill()
        self.children.close()
        if self.controller is not None:
            self.controller.wait()
            self.controller = None

    def close(self) -> None:
        """End what is left and release everything. The cluster's folder can go after that."""
        self._kill_all()
        if self.store is not None:
            self.store.close()
        if self._socket is not None and self._monitor is not None:
            self._monitor.close()
            self._socket.close(linger=GOODBYE_MS if self.core.is_guest else 0)
        if self._context is not None:
            self._context.term()
        for output in self._outputs.values():
            output.close()
        for pipes in self._pipes.values():
            pipes.close()
        sys.stderr.flush()
