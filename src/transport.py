"""ZeroMQ sockets as this project wants them, and messages through them.

Every peer (client, engine, nanny) has DEALER sockets to the controller's one ROUTER. Queues are unbounded here because
what may be outstanding is bounded by the cores that decide; a full queue would block a loop or drop a message.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import zmq

from .wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

    from .config import Connection, ControllerConfig

STORES_MAX = 16 << 20
"""No frame that stores and their clients send is longer: who sends one is cut off. A chunk has much less."""

LINGER_MS = 1000
"""How long closing a socket may go on sending what is queued, a last `Done` or `Goodbye`."""

RECONNECT_MS = 20
"""First pause before connecting again; on one host the controller is usually there soon."""

RECONNECT_MAX_MS = 200
"""The longest pause: what a restarted controller may cost its peers beyond its own start."""

HEARTBEAT_MS = round(1000 * float(os.environ.get("ENGINERY_HEARTBEAT_S", "5")))
"""On TCP, ZeroMQ's own heartbeat notices a cut cable, after four of them; a Unix socket cannot be cut."""

CONNECT_MS = 2000
"""An attempt to connect over TCP is made anew after this: the kernel would go on with it at growing pauses, and notice
half a minute late that a cable is whole again."""

ZAP_DOMAIN = b"enginery"


NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
# Plain integers: combining and converting the enumeration's members costs as much as sending.


def _common(socket: zmq.Socket[bytes]) -> None:
    socket.set_hwm(0)
    socket.linger = LINGER_MS
    socket.setsockopt(zmq.MAXMSGSIZE, -1)


def open_dealer(context: zmq.Context[zmq.Socket[bytes]], connection: Connection, identity: bytes) -> zmq.Socket[bytes]:
    """Return a DEALER that is connecting to the controller under this routing id. It owns nothing but the socket."""
    socket = context.socket(zmq.DEALER)
    _common(socket)
    socket.setsockopt(zmq.ROUTING_ID, identity)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    if connection.server_key is not None and connection.public_key is not None and connection.secret_key is not None:
        socket.curve_serverkey = connection.server_key.encode()
        socket.curve_publickey = connection.public_key.encode()
        socket.curve_secretkey = connection.secret_key.encode()
    if connection.address.startswith("tcp:"):
        _tcp(socket)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.connect(connection.address)
    return socket


def open_puller(
    context: zmq.Context[zmq.Socket[bytes]], address: str, key: str, connection: Connection, identity: bytes = b""
) -> zmq.Socket[bytes]:
    """Return a DEALER for a store of another host, which has this public key. It is not connecting yet.

    `connection` has the keys that are ours.
    """
    socket = context.socket(zmq.DEALER)
    _common(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, STORES_MAX)
    if identity:
        socket.setsockopt(zmq.ROUTING_ID, identity)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    if key and connection.public_key is not None and connection.secret_key is not None:
        socket.curve_serverkey = key.encode()
        socket.curve_publickey = connection.public_key.encode()
        socket.curve_secretkey = connection.secret_key.encode()
    if address.startswith("tcp:"):
        _tcp(socket)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    return socket


def open_serving(
    context: zmq.Context[zmq.Socket[bytes]], address: str, public_key: str, secret_key: str
) -> tuple[zmq.Socket[bytes], int]:
    """Return the bound ROUTER of a store that serves other hosts, and its port. Ask the ZAP handler of the context.

    What is sent to a peer that is gone is dropped: it asks again.
    """
    socket = context.socket(zmq.ROUTER)
    _common(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, STORES_MAX)
    socket.linger = 0
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    if public_key:
        socket.curve_server = True
        socket.curve_publickey = public_key.encode()
        socket.curve_secretkey = secret_key.encode()
        socket.zap_domain = ZAP_DOMAIN
    if address.startswith("tcp:"):
        _tcp(socket)
    try:
        socket.bind(address)
    except zmq.ZMQError:
        socket.close()
        raise
    bound = bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")
    return socket, int(bound.rpartition(":")[2] or 0) if bound.startswith("tcp:") else 0


def open_router(context: zmq.Context[zmq.Socket[bytes]], config: ControllerConfig) -> tuple[zmq.Socket[bytes], str]:
    """Return the controller's bound ROUTER and the address it got. With CURVE keys, ask the ZAP handler of the context.

    A peer that comes back under its old routing id takes the id over: the old connection is dead, or it would not be
    free to connect again. Sending to a peer that is not connected raises `zmq.ZMQError` (EHOSTUNREACH).
    """
    socket = context.socket(zmq.ROUTER)
    _common(socket)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if config.server_public is not None and config.server_secret is not None:
        socket.curve_server = True
        socket.curve_publickey = config.server_public.encode()
        socket.curve_secretkey = config.server_secret.encode()
        socket.zap_domain = ZAP_DOMAIN
    if config.address.startswith("tcp:"):
        _tcp(socket)
    socket.bind(config.address)
    return socket, bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).decode().rstrip("\0")


def _tcp(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 4 * HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, 4 * HEARTBEAT_MS)


WAKE = (1).to_bytes(8, "little")
"""What to write to a wake-up descriptor."""


def open_wake_up() -> tuple[int, int]:
    """Return two descriptors (or one, twice): writing `WAKE` to the second makes the first readable. Neither blocks."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


class Monitor:
    """Tells when a DEALER's connection has broken and when it is there again. Owns the socket to watch, `socket`.

    Only one thread may use it, and reads it empty (`events`) before it waits for its descriptor.
    """

    BROKEN = "broken"
    CONNECTED = "connected"

    def __init__(self, dealer: zmq.Socket[bytes]) -> None:
        self._dealer = dealer
        self.socket: zmq.Socket[bytes] = dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._was_broken = False

    @property
    def fd(self) -> int:
        """The descriptor to watch."""
        return int(self.socket.getsockopt(zmq.FD))

    def events(self) -> list[str]:
        """Return what has happened since the last call, in order."""
        found: list[str] = []
        while True:
            try:
                head, _address = self.socket.recv_multipart(NOBLOCK)
            except zmq.Again:
                return found
            event = int.from_bytes(head[:2], "little")
            if event == zmq.EVENT_DISCONNECTED:
                found.append(self.BROKEN)
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                found.append(self.CONNECTED)

    def came_back(self) -> bool:
        """Return whether the connection is there again after it had broken, since the last call."""
        back = False
        for event in self.events():
            if event == self.BROKEN:
                self._was_broken = True
                back = False
            else:
                back, self._was_broken = self._was_broken, False
        return back

    def close(self) -> None:
        """Stop watching, before the DEALER is closed."""
        self._dealer.disable_monitor()
        self.socket.close(linger=0)


COPY_BELOW = 1 << 18
"""Smaller frames are copied into ZeroMQ's message. Handing over a buffer saves the copy, but the first time starts a
thread and a context of pyzmq's own, which many programs then never need."""


def send(socket: zmq.Socket[bytes], message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
    """Send a message and its frames from a DEALER. Large frames are not copied: they must not change any more."""
    if not frames:
        socket.send(encode(message), NOBLOCK)
        return
    socket.send(encode(message), _MORE)
    _send_frames(socket, frames)


def send_to(socket: zmq.Socket[bytes], peer: bytes, message: msgspec.Struct, frames: Sequence[Any] = ()) -> None:
    """Send a message and its frames from the ROUTER to one peer; `zmq.ZMQError` if it is not connected."""
    socket.send(peer, _MORE)
    if not frames:
        socket.send(encode(message), NOBLOCK)
        return
    socket.send(encode(message), _MORE)
    _send_frames(socket, frames)


def _send_frames(socket: zmq.Socket[bytes], frames: Sequence[Any]) -> None:
    last = len(frames) - 1
    for i, frame in enumerate(frames):
        flags = _MORE if i < last else NOBLOCK
        size = frame.nbytes if isinstance(frame, memoryview) else len(frame)
        socket.send(frame, flags, copy=size < COPY_BELOW)
