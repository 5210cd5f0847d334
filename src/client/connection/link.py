"""The client's one I/O thread, and the only file of the client that knows ZeroMQ.

```
 user threads                                   I/O thread (daemon)
   submit ──► core.outbox ──► wake-up fd ─────►  poll: wake-up fd, socket fd, monitor fd
        └───► socket.send, when all is idle      outbox -> Submit batches -> socket
   future.result() ◄───────────────────────────  socket -> core -> futures
```

The socket is used by the I/O thread, and by a submitting thread that finds everything idle: it saves the hop through
the I/O thread, which costs more than the rest of a submission. Whoever uses the socket holds `_socket_lock`.

Why no wake-up is lost:

- *Outbox.* A poster appends, then looks at `_woken`; the I/O thread clears `_woken`, then empties the outbox. If the
  poster finds it set, the I/O thread has not cleared it yet and will find what was appended. If it finds it clear, it
  sets it and writes to the wake-up fd. Two posters may both write: harmless.
- *Socket.* ZeroMQ's fd is readable when there are commands for the socket; any call on the socket may consume them, so
  the fd says nothing about messages that wait already. The I/O thread therefore polls only after `recv` said there is
  nothing, which consumed all commands up to then: what comes later makes the fd readable. A submitting thread that
  sends directly may consume a command that announced a message: so, before it lets go of the lock, it asks for `EVENTS`
  and wakes the I/O thread if there is something to read.
- *Monitor.* Only the I/O thread touches it, and reads it empty before it polls.

Ctrl-C strikes between any two steps of a thread that sends directly. So it sends one task in one call, and nothing
that is another thread's; if it is torn away it does not know whether the message left, and arranges its books for both:
the task's sink is withdrawn, and what may be missing is sent again after another hello. The lock is taken by `with`
alone, which cannot be interrupted between taking and remembering. Were it torn away before it asked for `EVENTS`, a
message may wait until the next thing that happens, at the latest the controller's next `Pong` (5 s).
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import zmq

from ...errors import ControllerLost, EngineryError
from ...objects.far import FarStore
from ...objects.local import LocalStore
from ...transport import NOBLOCK, WAKE, Monitor, open_dealer, open_wake_up, send
from ...wire import messages as m
from ...wire.codec import MalformedError, check_request, decode_to_client, encode
from .core import Core, Entry
from .gate import Gate
from .requests import RequestFuture
from .room import LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import msgspec

    from ...config import Connection
    from ...objects.packing import Packing
    from ..results.leases import Lease
    from ..results.lightfuture import LightFuture
    from ..results.sending import Sent
    from .sink import Sink

log = logging.getLogger("enginery")

LOOK_S = 0.1
"""How often to look whether the cluster is still there while the connection is broken."""

BURST = 64
"""Messages read before what they bring about is done."""

LULL_S = 0.001
"""A task may be sent directly if nothing else is under way, or nothing was submitted for so long; in a flood, batches
are worth more."""

CLOSE_S = 2.0
"""How long closing waits for the I/O thread."""

_WOULD_HANG = (
    "a callback of a result runs in the thread that brings all results, and so cannot wait for one; submit, or set an "
    "event, and wait in another thread"
)

_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """A connection to a controller. `core` is its memory; see there for what other threads may touch."""

    def __init__(
        self,
        connection: Connection,
        hello: m.ClientHello,
        ending: Callable[[], str | None] | None = None,
        store: Path | None = None,
    ) -> None:
        """Begin to connect; `ending` says why the cluster has ended (None: it is there), where that can be known;
        `store` is the path of the socket of this host's store of objects, if it has one.
        """
        self.connection = connection
        self._store_path = None if store is None else str(store)
        self._ending = ending
        self.core = Core(hello, time.monotonic())
        self._gate = Gate(self.core)
        self._pid = os.getpid()
        self._woken = True  # until the thread runs there is nobody to wake
        self._closing = False
        self._released = False
        self._last_post = 0.0
        self._socket_lock = threading.Lock()
        self._ids_lock = threading.RLock()
        self._next_task = 0
        self._peer = _new_peer()
        self.store: Packing = LocalStore(self._store_path, self._peer)
        self.core.leases.store, self.core.leases.wake = self.store, self._wake_up
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self._socket = open_dealer(self._context, connection, self._peer)
            self._monitor = Monitor(self._socket)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._wake_read, self._wake_write = open_wake_up()
        self._thread = threading.Thread(target=self._run, name="enginery-io", daemon=True)
        _links.add(self)
        self._thread.start()

    # ------------------------------------------------------------------------------------------------ users' threads

    def wait_welcome(self, timeout: float | None) -> None:
        """Wait for the controller's answer to our hello; TimeoutError, or why it will not come."""
        self.core.welcomed.result(timeout)
        with self._ids_lock:
            self._next_task = self._next_task or self.core.first_task()

    def join_store(self) -> None:
        """Use the store of objects: that of this host, which from now on knows when this process ends; or else that of
        the cluster's head, from afar. After the welcome.
        """
        self._open_store()
        self.store.begin()

    def _open_store(self) -> None:
        far = self.core.far_store
        if self._store_path is None and far is not None:
            self.store = FarStore(far, self.connection, self._peer)
        else:
            self.store = LocalStore(self._store_path, self._peer)
        self.core.leases.store = self.store

    def check(self) -> None:
        """Raise if to wait here can only hang: nothing will come any more, or it is this thread that would bring it."""
        self.check_lost()
        if threading.current_thread() is self._thread:
            raise EngineryError(_WOULD_HANG)

    def check_lost(self) -> None:
        """Raise if nothing will come any more."""
        if self.core.lost is not None:
            raise self.core.lost

    def may_wait(self) -> bool:
        """Return False in the I/O thread and in a coroutine, where waiting would block what is waited for."""
        if threading.current_thread() is self._thread:
            return False
        asyncio = sys.modules.get("asyncio")  # not imported for this: without it there is no coroutine
        return asyncio is None or asyncio._get_running_loop() is None

    def find_incarnation(self, engine: int, at: float) -> int | None:
        """Return which process of an engine was there at a time, in seconds of the epoch, if that is known."""
        return self.core.incarnations.find(engine, at)

    def new_tasks(self, count: int = 1) -> int:
        """Return the first of so many new task ids in a row."""
        with self._ids_lock:
            first = self._next_task
            self._next_task = first + count
        return first

    def has_made(self, task: int) -> bool:
        """Return whether a task id of this client is one of those handed out."""
        return task < self._next_task

    def submit(self, sink: Sink, entry: Entry, now: float) -> None:
        """Have a task run; its sink hears what becomes of it. `now` is the time of submission. It waits while there is
        no room for it, if it may (`room`), before anything is registered.
        """
        task = entry.task
        core = self.core
        if core.room.full and self.may_wait():
            try:
                self._gate.wait()
            except BaseException:  # Ctrl-C: nobody will hear of its arguments
                self.disown(list(task.objects))
                raise
        sinks = core.sinks
        calm = not sinks or now - self._last_post > LULL_S
        self._last_post = now
        if task.copies == 1:
            sinks[task.id] = sink
        else:
            sinks.update((task.id + copy, sink) for copy in range(task.copies))
        if calm and core.is_calm and not (self._woken or entry.frames or self._socket_lock.locked()):
            self._send_now(entry)
        else:
            if entry.frames or len(task.payload) > LARGE_BYTES:
                self._gate.posted(entry)
            core.outbox.append(entry)
            if len(core.outbox) > core.room.most:
                core.room.full = True
            if not self._woken:
                self._wake()
        if core.lost is not None:
            self._withdraw(task)
            raise core.lost

    def track(self, task: int) -> Sent:
        """Return what is done when the controller has a task, which is about to be submitted."""
        return self.core.sends.add(task, self.check)

    def _withdraw(self, task: m.Task) -> None:
        for copy in range(task.copies):
            self.core.sinks.pop(task.id + copy, None)

    def request(self, kind: type[msgspec.Struct], *args: Any) -> RequestFuture:
        """Ask the controller something; the answer is the future's value. Never waits. ValueError for what no message
        can say: sent, it would be the end of this client.
        """
        number = self.core.next_request()
        message = kind(number, *args)
        check_request(message)
        future = RequestFuture(self.check)
        self.core.requests[number] = future
        self.post(message)
        if self.core.lost is not None:
            self.core.requests.pop(number, None)
            future.resolve(None, self.core.lost)
        return future

    def cancel(self, tasks: list[int], *, grace_s: float | None, interrupt: bool) -> LightFuture[Any]:
        """Ask the controller to stop tasks; the answer is the list of those stopped."""
        return self.request(m.Cancel, tasks, grace_s, interrupt)

    def own(self, info: m.ObjectInfo) -> Lease:
        """Have the controller know of an object that was made here; return what holds it."""
        lease = self.core.leases.new(info)
        self.post(m.Put([info]))
        return lease

    def disown(self, objects: list[m.ObjectInfo]) -> None:
        """Let go of objects that were made here, and of which the controller has not been told."""
        if objects:
            self.post(m.Put(objects))
            self.post(m.Release([info.id for info in objects]))

    def post(self, message: msgspec.Struct) -> None:
        """Have a message sent, after what was posted before."""
        self.core.outbox.append(message)
        if not self._woken:
            self._wake()

    def _wake_up(self) -> None:
        """Have the I/O thread look; it may be awake."""
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        try:
            os.write(self._wake_write, WAKE)
        except OSError:  # closed meanwhile, or full: it is awake then
            return

    def _send_now(self, entry: Entry) -> None:
        """Send a task from this thread: the I/O thread sleeps and there is nothing else to send."""
        try:
            with self._socket_lock:
                if self._closing:  # whoever closes will fail the sink
                    return
                try:
                    self._socket.send(encode(self.core.take_single(entry)), NOBLOCK)
                finally:
                    if int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                        self._wake()
        except BaseException:
            self._withdraw(entry.task)
            self.core.unsay()
            self._wake()
            raise

    # ------------------------------------------------------------------------------------------------ the I/O thread

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # a bug of ours must not leave anybody waiting
            self.core.lose(ControllerLost(f"the client's I/O thread failed: {type(error).__name__}: {error}"))
            if not self._closing:
                raise
        finally:
            with self._socket_lock:
                self._closing = True
                self._close_sockets()
            self._gate.look()
            self.store.close()

    def _serve(self) -> None:
        core = self.core
        poller = select.poll()
        wake, data, monitor = self._wake_read, int(self._socket.get(zmq.FD)), self._monitor.fd
        for fd in (wake, data, monitor):
            poller.register(fd, select.POLLIN)
        clock = time.monotonic
        self._read_monitor(clock())  # its descriptor says nothing until it was once read empty
        more = True
        while not self._closing:
            if not more:
                timeout_s = max(0.0, core.deadline() - clock())
                if core.is_broken and self._ending is not None:
                    timeout_s = min(timeout_s, LOOK_S)
                ready = [fd for fd, _ in poller.poll(timeout_s * 1000 + 1)]
                if wake in ready:
                    _drain_wake_up(wake)
                if monitor in ready:
                    self._read_monitor(clock())
            with self._socket_lock:
                self._woken = False
                if core.has_to_send:
                    self._send_all()
                received = self._receive_burst()
            more = len(received) == BURST
            if received:
                self._take_in(received)
            if core.is_broken and self._ending is not None and (why := self._ending()) is not None:
                core.gone(why)
            if core.interrupted:
                log.warning("%s", core.interrupted)
                core.interrupted = ""
            core.tick(clock())
            if core.room.full or core.room.held:
                self._gate.look()
            more = more or (core.has_to_send and not core.is_broken)
            if core.lost is not None or (self._released and self._is_idle()):
                break
        if not self._closing:
            core.leases.end(hold=core.lost is not None)
        if self._released:
            core.outbox.append(m.Goodbye())
        with self._socket_lock:
            self._closing = True
            self._send_all()

    def _is_idle(self) -> bool:
        core = self.core
        return not core.sinks and not core.requests and core.leases.is_idle

    def _send_all(self) -> None:
        socket = self._socket
        for message, frames in self.core.take():
            send(socket, message, frames)

    def _receive_burst(self) -> list[list[Any]]:
        """Return the messages that are there, at most BURST; fewer mean that there are no more."""
        socket = self._socket
        received: list[list[Any]] = []
        try:
            while len(received) < BURST:
                header = socket.recv(NOBLOCK)
                parts: list[Any] = [header]
                while socket.get(zmq.RCVMORE):
                    parts.append(socket.recv(copy=False))
                received.append(parts)
        except zmq.Again:
            pass
        return received

    def _take_in(self, received: list[list[Any]]) -> None:
        core, now, wall = self.core, time.monotonic(), time.time()
        for header, *frames in received:
            try:
                message = decode_to_client(header)
            except MalformedError as error:
                core.lose(ControllerLost(f"the controller said something this client does not understand: {error}"))
                return
            core.receive(message, [frame.buffer for frame in frames], now, wall)

    def _read_monitor(self, now: float) -> None:
        for event in self._monitor.events():
            if event == Monitor.BROKEN:
                self.core.broken(now)
            else:
                self.core.connected(now)

    # ------------------------------------------------------------------------------------------------ the end

    def close(self, *, cancel: bool = False, hold: bool = True) -> None:
        """Say goodbye, end the thread, free everything. What is pending fails. Doing it twice is fine. With
        `hold`, what has come can be read after that.
        """
        if self._pid != os.getpid():
            return
        if not self._closing:
            self.core.leases.end(hold=hold)
            self.core.outbox.append(m.Goodbye(cancel))
            self._closing = True
            self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)
        self.core.lose(ControllerLost("this client is closed"))
        self._gate.look()

    def release(self) -> None:
        """Nobody will submit any more: close when everything asked is answered. Does not wait."""
        if self._pid == os.getpid():
            self._released = True
            self._wake()

    def _close_sockets(self) -> None:
        self._monitor.close()
        self._socket.close(linger=None if self.core.client is not None else 0)  # nobody there, nobody to wait for
        self._context.term()
        for fd in {self._wake_read, self._wake_write}:
            os.close(fd)
        self._wake_read = self._wake_write = -1

    def _forked(self) -> None:
        """Be of no use in a child process: its copy has no I/O thread, and the socket is the parent's."""
        self.core.lost = EngineryError(
            f"this client was made in process {self._pid} and does not work in a process forked from it; "
            "make a new Client() here"
        )
        self._woken = True  # nobody is to be woken, and nothing to be sent
        self._socket_lock = threading.Lock()
        self._ids_lock = threading.RLock()
        self._gate = Gate(self.core)
        # The parent's connection to the store must end here, and one of ours must not speak for the parent.
        self._peer = _new_peer()
        self._open_store()
        self.core.leases.is_over = True


def _new_peer() -> bytes:
    return b"c" + os.urandom(8)


def _drain_wake_up(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        return


def _after_fork() -> None:
    for link in list(_links):
        link._forked()


def _at_exit() -> None:
    for link in list(_links):
        link.close(hold=False)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
