"""The sockets to the controller, and the pipe that wakes a sleeping thread.

The task socket carries `Run` here, and `Done`, `Started` and `Outputs` back. The main thread uses it while no user code
runs; while a call runs, the control thread may: to send results and output that have waited long enough, and to
receive calls that are to be given back unstarted. ZeroMQ allows that with a full memory barrier between the two users,
which the lock is. One socket for all of it keeps everything in order: output before the result that counts it.

What is sent is numbered, and kept until the controller says that it has it: when a connection breaks, or the controller
dies, the control thread says hello again, and what was lost is sent once more (`resume`).

The main thread waits for the task socket without the lock, on the socket's descriptor. That is edge-triggered: it is
only to be waited for when everything has been received and nobody has used the socket since. So whoever uses the
socket while the main thread is idle wakes it. When there is something on the event loop, the loop runs meanwhile
(`wait_otherwise`).
"""

from __future__ import annotations

import os
import select
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

import zmq

from ..streams import Outgoing
from ..transport import NOBLOCK, Monitor, send
from ..wire.codec import MalformedError, decode_to_engine
from ..wire.messages import Done, Outputs
from .output import log_fds, write_raw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

    from ..wire.messages import Holding, ToEngine
    from .outbox import Outbox
    from .output import OutputBuffer


class Waker:
    """Wakes a thread that waits for the descriptor `fd`."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        self.asleep = False
        """The thread has said that it waits without a time limit and wants to be woken when something is pending."""

    def wake(self) -> None:
        """Wake the thread, now or when it next waits."""
        self.asleep = False
        try:
            os.write(self._write_fd, b"w")
        except BlockingIOError:  # it has been woken many times and has not looked yet
            pass

    def nudge(self) -> None:
        """Wake the thread if it sleeps."""
        if self.asleep:
            self.wake()

    def clear(self) -> None:
        """The thread is awake: forget the wake-ups so far."""
        try:
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass


class TaskLink:
    """The task socket, what is to be sent on it, and whoever takes what comes on it."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        outbox: Outbox,
        output: OutputBuffer,
        handle: Callable[[ToEngine, Sequence[Any]], None],
    ) -> None:
        self.lock = threading.Lock()
        """Held while the socket is used. A forked copy of the process gets one that ends it."""
        self.main_waker = Waker()
        self.flushes = 0
        """How often something was sent; the control thread sees by it whether the main thread gets on."""
        self.flushed_at = perf_counter()
        self.session = 0
        """The number under which the controller was told last what we hold."""
        self.lost_touch = False
        """Something between the controller and us was lost: the control thread is to say hello (whoever sets it wakes
        that)."""
        self.monitor = Monitor(socket)
        """For the control thread."""
        self._outgoing = Outgoing()
        self._socket = socket
        self._outbox = outbox
        self._output = output
        self._handle = handle
        self._idle = False
        self.wait_otherwise: Callable[[Sequence[int], float | None], bool] = lambda _fds, _timeout_s: False
        """Waits for the main thread until one of these descriptors can be read, unless it says at once that there is no
        need to do more meanwhile (False)."""
        self._fds = (int(socket.getsockopt(zmq.FD)), self.main_waker.fd)
        self._poll = select.poll()
        for fd in self._fds:
            self._poll.register(fd, select.POLLIN)

    @property
    def pending(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._outbox.results) or self._output.pending

    def send(self, message: msgspec.Struct) -> None:
        """Send a message after everything that is pending."""
        with self.lock:
            self._send_pending()
            send(self._socket, message)

    def flush(self) -> None:
        """Send what is pending."""
        with self.lock:
            self._send_pending()

    def pump(self) -> None:
        """Send what is pending and receive what is there (main thread)."""
        with self.lock:
            self._send_pending()
            self._receive()

    def wait(self, has_work: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Send what is pending; receive; if there is nothing to do then, wait until there is, or the time is over.

        May return early. For the main thread, outside user code.
        """
        with self.lock:
            self._send_pending()
            self._receive()
            if has_work() or self._outbox.results:  # (a call that was refused on arrival)
                return
            self._idle = True
        ready = None
        if not self.wait_otherwise(self._fds, timeout_s):
            ready = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        with self.lock:
            self._idle = False
            if ready is None or any(fd == self.main_waker.fd for fd, _ in ready):
                self.main_waker.clear()
            receive_one(self._socket, self._handle)  # more is received before the next wait: the first is not kept back
        self.flushed_at = perf_counter()  # a burst begins: its first result need not leave alone

    def flush_for_main(self) -> None:
        """Send what is pending, from the control thread."""
        with self.lock:
            self._send_pending()
            self._touched()

    def receive_for_main(self, patience_s: float) -> None:
        """Receive what is there, from the control thread; leave it if the main thread is at it."""
        if self.lock.acquire(timeout=patience_s):
            try:
                self._receive()
                self._touched()
            finally:
                self.lock.release()

    def acked(self, have: int) -> None:
        """The controller has our messages up to that number. The lock is held."""
        self._outgoing.acked(have)

    def resume(self, have: int, holding: Callable[[], Holding]) -> None:
        """Send what the controller misses, which has our messages up to that number, then what we hold. The lock is
        held. What we hold is determined first: so the results of all that it does not name are sent before it.
        """
        now = holding()
        self.session = now.session
        for message, frames in self._outgoing.after(have):
            send(self._socket, message, frames)
        self._send_pending()
        send(self._socket, now)

    def close(self, linger_ms: int) -> None:
        """Close the socket for good, from the control thread. The lock is kept: nobody uses it any more."""
        self.lock.acquire()
        self.monitor.close()
        self._socket.close(linger_ms)

    def _touched(self) -> None:
        if self._idle:
            self.main_waker.wake()

    def _send_pending(self) -> None:
        results, frames = self._outbox.take()
        records = self._output.take()  # after the results: so all that they count is here
        if records:
            outputs = Outputs(records)
            self._outgoing.number(outputs)
            send(self._socket, outputs)
        if results:
            done = Done(results)
            self._outgoing.number(done, frames)
            send(self._socket, done, frames)
        self.flushes += 1
        self.flushed_at = perf_counter()

    def _receive(self) -> None:
        while receive_one(self._socket, self._handle):
            pass


def receive_one(socket: zmq.Socket[bytes], handle: Callable[[ToEngine, Sequence[Any]], None]) -> bool:
    """Receive a message if there is one, and have it handled; False if there is none. A malformed one is logged."""
    try:
        header = socket.recv(NOBLOCK)
    except zmq.Again:
        return False
    frames: list[Any] = []
    while socket.get(zmq.RCVMORE):
        frames.append(socket.recv(NOBLOCK, copy=False).buffer)
    try:
        message = decode_to_engine(header)
    except MalformedError as error:
        log(f"a message that cannot be understood was dropped: {error}")
        return True
    handle(message, frames)
    return True


def log(text: str) -> None:
    """Write a line to the engine's log, which its nanny keeps."""
    write_raw(log_fds[2], f"engine[{os.getpid()}]: {text}\n")
