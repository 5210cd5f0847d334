"""Jupyter front ends on an engine: a kernel is built around the engine's shell when somebody asks for it, and taken
down when a front end shuts it down, or somebody asks for that.

The parts are ipykernel's own. They adopt the shell, which is a singleton, and speak Jupyter's protocol on Unix sockets
in the cluster's private folder, with a key of their own in a private file. An engine that nobody is attached to has
none of it: no thread, no socket, no port.

What a front end asks of the shell is done by the main thread, between tasks. What it asks of the control channel
(interrupt, debugger, subshells) is done by ipykernel's threads, whatever the engine runs. So a kernel can be built, and
be of use, while a task hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import secrets
import signal
import socket as socket_module
import sys
import threading
from typing import TYPE_CHECKING, Any

import zmq

from ..recorder import NO_TASK
from .control import leave_to_itself
from .current import FRONT_END, OF_TASK
from .link import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .coroutines import Coroutines
    from .current import Current
    from .kernel import Kernel
    from .output import OutputBuffer

STOP_S = 5.0
"""How long a front end's cell that was interrupted may take to end before the channels are taken from under it."""

REPLY_S = 0.1
"""What a front end is told last needs so long to leave."""


class FrontEnds:
    """The kernel of this engine, while there is one. Its methods are for any thread but the main thread."""

    def __init__(
        self, kernel: Kernel, coroutines: Coroutines, current: Current, output: OutputBuffer, path: Path
    ) -> None:
        """`path` is how the names of the files begin (`rendezvous.kernel_path`)."""
        self.shell = kernel.shell
        self._comms = kernel.comms
        self.current = current
        self.wake: Callable[[], None] = lambda: None
        """Wakes the main thread."""
        self.claims = threading.Lock()
        """That of the books, under which tasks are claimed: an interrupt hits what runs, and not what comes next."""
        self._in_cell = False
        """The main thread does what a front end has asked for. Changed with `claims` held."""
        self._coroutines = coroutines
        self._output = output
        self._path = path
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        """Held by the main thread while it does what a front end has asked for."""
        self._app: Any = None
        self._pump: _Pump | None = None
        self._undo = contextlib.ExitStack()

    def attach(self) -> dict[str, Any]:
        """Have a kernel, and return where: the path of its connection file, and the host."""
        with self._lock:
            if self._app is None:
                try:
                    self._build()
                except BaseException:
                    self._take_down()
                    raise
            return {"connection_file": self._app.abs_connection_file, "host": socket_module.gethostname()}

    def detach(self) -> bool:
        """Take the kernel down, if there is one, and return whether there was; a front end's cell is interrupted."""
        with self._lock:
            if self._app is None:
                return False
            stopped = self._turn.acquire(blocking=False)
            if not stopped:
                self.interrupt(tasks=False)
                stopped = self._turn.acquire(timeout=STOP_S)
            if not stopped:
                raise TimeoutError("a cell of a front end runs on and cannot be interrupted")
            try:
                self._take_down()
            finally:
                self._turn.release()
            return True

    def interrupt(self, *, tasks: bool = True) -> None:
        """Interrupt the front end's cell that runs; else the running task, unless tasks are to be left alone."""
        current = self.current
        with self.claims:
            if FRONT_END in current.awaited:
                current.aim(FRONT_END)
            elif self._in_cell:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            elif tasks and current.task != NO_TASK:
                current.aim(current.task)

    def catch_up(self) -> None:
        """Take what a cell's C code and subprocesses have written, before the cell is answered (main thread)."""
        self._output.descriptors.flush()
        self._output.catch_up()

    def remove_files(self) -> None:
        """The engine ends: nobody is to find what it leaves."""
        if self._app is not None:
            self._app.remove_files()

    # ------------------------------------------------------------------------------------------ up and down

    def _build(self) -> None:
        from . import frontkernel  # noqa: PLC0415 - for who attaches; it is much

        self._comms.install()  # ipykernel has taken its place
        OF_TASK.set(FRONT_END)  # what a subshell shows, too, is for the front ends, whatever task runs
        undo, shell = self._undo, self.shell
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        undo.callback(loop.close)
        undo.callback(asyncio.set_event_loop, None)
        key = secrets.token_hex(16).encode()
        app = self._app = frontkernel.KernelApp(frontkernel.make_kernel_class(self), self._path, key)
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # its threads are not to get any
        umask = os.umask(0o077)
        try:
            kernel = shell.kernel = app.build(shell)
        finally:
            os.umask(umask)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        undo.callback(setattr, shell, "compile", shell.compile)
        shell.compile = frontkernel.Compiler()
        self._connect_streams(
            [frontkernel.Stream(app.session, app.iopub_thread, name, watchfd=False) for name in _STREAMS]
        )
        manager = kernel.shell_channel_thread.manager
        set_callback = manager.set_on_recv_callback
        manager.set_on_recv_callback = lambda callback: setattr(manager, "_on_recv_callback", callback)  # of subshells
        loop.run_until_complete(_started(kernel))
        manager.set_on_recv_callback = set_callback
        kernel.io_loop = app.control_thread.io_loop  # it is only ever asked to stop
        # From here on the main thread is who deals with what the shell is asked.
        kernel.shell_channel_thread.parent_thread = manager._parent_thread = threading.main_thread()
        socket = manager.get_shell_channel_to_subshell_pair(None).to_socket
        self._pump = _Pump(app.context, socket, lambda frames: self._have_done(kernel, frames))

    def _connect_streams(self, streams: list[Any]) -> None:
        """Have what belongs to no task go to the front ends."""
        output, by_name = self._output, dict(zip(_STREAMS, streams, strict=True))
        output.stray = lambda stream, text: by_name[stream].write(text)
        self._undo.callback(setattr, output, "stray", None)
        for name, stream in by_name.items():
            mine: Any = getattr(sys, name)
            for method in ("set_parent", "flush"):
                setattr(mine, method, getattr(stream, method))
                self._undo.callback(delattr, mine, method)

    def _take_down(self) -> None:
        app, shell = self._app, self.shell
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        self._undo.close()
        kernel = app.kernel if app is not None else None
        if kernel is not None:
            shell.configurables = [part for part in shell.configurables if part is not kernel.comm_manager]
            type(kernel).clear_instance()
        shell.kernel = None
        for part in (shell.display_pub, shell.displayhook):
            part.session = part.pub_socket = None
        if app is not None:
            app.take_down()
        self._app = None

    def shut_down_soon(self) -> None:
        """A front end has asked the kernel to shut down: detach, from a thread that is none of the kernel's."""

        def leave() -> None:
            threading.Event().wait(REPLY_S)
            try:
                self.detach()
            except TimeoutError as error:
                log(f"the front ends stay attached: {error}")

        thread = threading.Thread(target=leave, name="enginery-detach", daemon=True)
        leave_to_itself(thread)
        thread.start()

    # ------------------------------------------------------------------------------------------ the main thread

    def _have_done(self, kernel: Any, frames: list[Any]) -> None:
        """Have the main thread do what a front end asks of the shell, when no task runs."""
        self._coroutines.do(lambda: self._do(kernel, frames))
        self.wake()

    def _do(self, kernel: Any, frames: list[Any]) -> None:
        with self._turn:
            if self._app is None or self._app.kernel is not kernel:
                return
            current = self.current
            with self.claims:
                if current.target != NO_TASK:
                    current.settle()
                self._in_cell = True
            try:
                contextvars.copy_context().run(self._dispatch, kernel, frames)
            except KeyboardInterrupt:  # where it struck, the front end is told by its cell
                pass
            except Exception as error:
                log(f"what a front end asked for failed: {type(error).__name__}: {error}")
            finally:
                current.armed = False
                with self.claims:
                    self._in_cell = False
                    current.settle()

    def _dispatch(self, kernel: Any, frames: list[Any]) -> None:
        # Step by step rather than by the loop, which a cell that awaits something runs itself.
        coroutine = kernel.shell_main(None, frames)
        with self._coroutines.cell(FRONT_END):
            try:
                coroutine.send(None)
            except StopIteration:
                return
        coroutine.close()
        log("what a front end asked for cannot be done: its handler waits for something")


class _Pump:
    """Takes what the kernel's shell channel hands to the main thread, in a thread of its own."""

    def __init__(self, context: Any, socket: Any, handle: Callable[[list[Any]], None]) -> None:
        address = f"inproc://enginery-{secrets.token_hex(8)}"
        self._socket = socket
        self._handle = handle
        self._stop = context.socket(zmq.PAIR)
        self._stopped = context.socket(zmq.PAIR)
        self._stop.bind(address)
        self._stopped.connect(address)
        self._thread = threading.Thread(target=self._run, name="enginery-front-ends", daemon=True)
        leave_to_itself(self._thread)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stopped, zmq.POLLIN)
        while self._stopped not in dict(poller.poll()):
            with contextlib.suppress(zmq.Again):
                self._handle(self._socket.recv_multipart(zmq.NOBLOCK, copy=False))

    def stop(self) -> None:
        """End the thread; the socket is free then."""
        self._stop.send(b"")
        self._thread.join()
        self._stop.close(0)
        self._stopped.close(0)


_STREAMS = ("stdout", "stderr")


async def _started(kernel: Any) -> None:
    kernel.start()
