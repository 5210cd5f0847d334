"""The controller's input and output: receive, decide, commit, send, and again.

ZeroMQ's descriptor tells only that something *may* have changed, and only once (it is edge-triggered). So a turn goes
on until the socket says that nothing can be read, and looks again after it has sent, because sending too may swallow
the news of an arrival.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import zmq

from .. import transport
from ..ids import Peer
from ..security import CLIENT_ROLE, ENGINE_ROLE
from ..wire import codec
from ..wire.codec import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .core import Core

log = logging.getLogger("enginery.controller")

BURST = 64
"""Messages a turn takes in at the most, so that what is decided leaves before everything has been read."""


class Journal:
    """Where the records of a turn become durable before its messages leave. There is none yet: records are empty."""

    def commit(self, records: Sequence[Any]) -> None:
        """Make the records durable."""
        assert not records


class Server:
    """Runs a core on a ROUTER socket within an asyncio loop, until the core stops."""

    def __init__(self, core: Core, socket: zmq.Socket[bytes], *, roles: bool) -> None:
        self.core = core
        self.socket = socket
        self.journal = Journal()
        self.roles = roles
        """Whether peers got roles when they proved their keys (TCP); each may then say only what its role says."""
        self.stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._clock: Callable[[], float] = time.monotonic
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._loop.add_reader(socket.fileno(), self._readable)
        self._readable()

    def _readable(self) -> None:
        """Take turns until there is nothing to read; let the loop breathe between full bursts."""
        self.turn()
        if int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._readable)

    def turn(self) -> None:
        """Receive, decide, commit, send."""
        core = self.core
        now = self._clock()
        self._receive(now)
        core.tick(now)
        turn = core.take()
        self.journal.commit(turn.records)
        for envelope in turn.messages:
            try:
                transport.send_to(self.socket, envelope.peer, envelope.message, envelope.frames)
            except zmq.ZMQError as error:
                log.info("cannot reach %r: %s", envelope.peer, error)
                core.lost(envelope.peer, now)
        if core.state.stopping:
            self.stopped.set()
        self._arm()

    def _receive(self, now: float) -> None:
        socket, core = self.socket, self.core
        for _ in range(BURST):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            sender = Peer(parts[0].bytes)
            if len(parts) < 2:
                continue
            if self.roles and not self._may_speak(sender, parts[0]):
                log.warning("dropped a message of %r, whose key is of another role", sender)
                continue
            try:
                message = codec.decode_to_controller(parts[1].buffer)
            except MalformedError as error:
                core.malformed(sender, str(error))
                continue
            try:
                core.receive(sender, message, parts[2:], now)
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

    def _arm(self) -> None:
        """See that the next deadline is kept. An early wake-up does no harm, so a later deadline moves nothing."""
        deadline = self.core.deadline()
        if deadline is None or deadline >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._readable()

    def stop(self, reason: str) -> None:
        """End the cluster: everybody is told, then `stopped` is set."""
        self.core.stop(reason)
        self.turn()

    def close(self) -> None:
        """Let go of the socket; what was sent still leaves."""
        self._loop.remove_reader(self.socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.socket.close()
