"""The controller's input and output: receive, decide, commit, send, and again.

One thread, one loop, one poll: for the ROUTER, for questions about keys (TCP) and for signals. An asyncio loop in its
place cost 20 us more for each message that comes alone (`docs/decisions/0008-the-controllers-loop.md`).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket as socket_module
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import zmq

from .. import transport
from ..ids import Peer
from ..security import CLIENT_ROLE, ENGINE_ROLE
from ..transport import NOBLOCK
from ..wire import codec
from ..wire.codec import MalformedError
from ..wire.messages import Purge

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..security import ZapHandler
    from .core import Core
    from .journal.writer import Journal
    from .outbox import Envelope

log = logging.getLogger("enginery.controller")

BURST = 64
"""Messages a turn takes in at the most, so that what is decided leaves before everything has been read."""


class Signals:
    """SIGTERM and SIGINT as something to poll for: a handler only notes its signal, the loop does the work."""

    def __init__(self) -> None:
        self._read, self._write = socket_module.socketpair()
        self._write.setblocking(False)
        self._read.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _note)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has come."""
        return self._read.fileno()

    def take(self) -> list[signal.Signals]:
        """Return the signals that have come."""
        try:
            return [signal.Signals(number) for number in self._read.recv(64)]
        except BlockingIOError:
            return []


def _note(_number: int, _frame: object) -> None:
    """Be a handler: without one the signal would end the process; its number goes to the wake-up descriptor."""


def _find_trim() -> Callable[[int], object] | None:
    """Return what makes the C library give back free memory, if it has that. To be looked for early: what an import
    leaves would lie scattered among the tasks of a flood, and keep the memory around it.
    """
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - when clients do not wait for it any more

        with contextlib.suppress(OSError, AttributeError):  # another C library
            trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
            return trim
    return None


def _give_back(trim: Callable[[int], object] | None) -> None:
    """Let the system have the memory that nothing is in. A piece of 1 MB is kept for one small object in it."""
    gc.collect()  # empties the interpreter's lists of free objects
    if sys.version_info < (3, 12):
        sys._clear_type_cache()  # which has up to 4096 names, where C code looked up attributes
    if trim is not None:
        trim(0)


class Server:
    """Runs a core on a ROUTER socket until the core stops."""

    def __init__(
        self,
        core: Core,
        socket: zmq.Socket[bytes],
        zap: ZapHandler | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.core = core
        self.socket = socket
        self.journal = journal
        core.state.journal_failure = journal.failure if journal is not None else ""
        self._held: deque[tuple[int, list[Envelope]]] = deque()
        """Messages of earlier turns, which leave when the journal has reached these tickets."""
        self._ticket = 0
        self._trim: Callable[[int], object] | None = None
        self._zap = zap
        """With it (TCP), peers have roles by their keys, and each may say only what its role says."""

    def run(self, signals: Signals) -> None:
        """Take turns until the core stops and everybody has been told."""
        core = self.core
        self._trim = _find_trim()
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(signals.fileno(), zmq.POLLIN)
        if self._zap is not None:
            poller.register(self._zap.socket, zmq.POLLIN)
        if self.journal is not None:
            poller.register(self.journal.fd, zmq.POLLIN)
        listening = True
        while not core.state.stopping:
            if self.journal is not None and listening == self.journal.is_full():
                listening = not listening
                poller.modify(self.socket, zmq.POLLIN if listening else 0)
            deadline = core.deadline()
            timeout_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            ready = poller.poll(timeout_ms)
            if len(ready) != 1 or ready[0][0] is not self.socket:
                if self._zap is not None:
                    self._zap.drain()
                for number in signals.take():
                    core.stop(f"the controller was told to stop ({number.name})")
                self._release()
            self.turn(listening=listening)
        if self.journal is not None:
            self.journal.close()
            self._release()

    def turn(self, *, listening: bool = True) -> None:
        """Receive, decide, commit, send."""
        core = self.core
        now = time.monotonic()
        if listening:
            self._receive(now)
        core.tick(now)
        turn = core.take()
        if turn.calm:
            _give_back(self._trim)
        if self.journal is None:
            self._send(turn.messages)
            return
        purging = any(isinstance(lookup.message, Purge) for lookup in turn.lookups)  # it wants to know what has ended
        summary = core.summary() if purging or self.journal.wants_summary() else None
        if self.journal.wants_books:
            self._ticket = self.journal.begin_anew(core.books())  # this turn's entries are in them
        elif turn.entries or summary is not None:
            self._ticket = self.journal.submit(turn.entries, summary)
        for lookup in turn.lookups:
            self.journal.look_up(lookup)
        if not turn.messages:
            return
        if self._ticket > self.journal.done or self._held:
            self._held.append((self._ticket, turn.messages))  # in order, also what reveals nothing new
        else:
            self._send(turn.messages)

    def _release(self) -> None:
        """Send what has waited for the journal."""
        if self.journal is None:
            return
        self.journal.acknowledge()
        done = self.journal.done
        while self._held and self._held[0][0] <= done:
            self._send(self._held.popleft()[1])
        answers = self.journal.take_answers()
        self._send([answer for answer in answers if not self.core.answered(*answer)])
        self.core.state.journal_failure = self.journal.failure

    def _send(self, messages: list[Envelope]) -> None:
        for envelope in messages:
            try:
                transport.send_to(self.socket, envelope.peer, envelope.message, envelope.frames)
            except zmq.ZMQError as error:
                log.info("cannot reach %r: %s", envelope.peer, error)
                self.core.lost(envelope.peer, time.monotonic())

    def _receive(self, now: float) -> None:
        socket, core, roles = self.socket, self.core, self._zap is not None
        for _ in range(BURST):
            try:
                if roles:
                    frame = socket.recv(NOBLOCK, copy=False)
                    sender = Peer(frame.bytes)
                    welcome = self._may_speak(sender, frame)
                else:
                    sender = Peer(socket.recv(NOBLOCK))
                    welcome = True
            except zmq.Again:
                return
            header = b""
            frames: list[zmq.Frame] = []
            if socket.get(zmq.RCVMORE):
                header = socket.recv(NOBLOCK)
                while socket.get(zmq.RCVMORE):
                    frames.append(socket.recv(NOBLOCK, copy=False))
            if not welcome:
                log.warning("dropped a message of %r, whose key is of another role", sender)
                continue
            try:
                message = codec.decode_to_controller(header)
            except MalformedError as error:
                core.malformed(sender, str(error))
                continue
            try:
                core.receive(sender, message, frames, now)
            except Exception:
                # Not the sender's fault but ours. The cluster must live on, and whoever mends it must know.
                log.exception("failed on a %s of %r", type(message).__name__, sender)

    @staticmethod
    def _may_speak(sender: Peer, frame: zmq.Frame) -> bool:
        """Return whether the key that this came under is of the role that the routing id claims."""
        role = CLIENT_ROLE if sender[:1] == b"c" else ENGINE_ROLE
        try:
            return bool(frame.get("User-Id") == role.decode())
        except zmq.ZMQError:
            return False
