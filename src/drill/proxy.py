"""A stretch of wire between clients and a controller that can be cut, frozen and healed.

It forwards bytes and understands nothing of them, so encryption passes through it. One thread does it all:

```
client ──► listener ─┬─ near ──► ahead ──► far ──► controller
                     └─ near ◄── back  ◄── far ◄──
```
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFER_MAX = 1 << 20
"""Of one direction. Who sends more waits, as on any wire."""

CHUNK = 1 << 18

CONNECT_S = 1.0
"""How long a connection onward may take to come about. All is on this host."""

ANSWER_S = 10.0
"""How long the thread may take to do what it is told."""


class Place(NamedTuple):
    """A ZeroMQ address, for a plain socket."""

    family: int
    name: str | tuple[str, int]

    @classmethod
    def of(cls, address: str) -> Place:
        """Return the place of `ipc:///path` or `tcp://host:port`."""
        transport, _, rest = address.partition("://")
        if transport == "ipc":
            return cls(socket.AF_UNIX, rest)
        host, _, port = rest.rpartition(":")
        if transport != "tcp" or not port.isdecimal():
            raise ValueError(f"{address!r} is no address of a socket: write ipc://PATH or tcp://HOST:PORT")
        host = host.strip("[]")
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return cls(family, (host, int(port)))

    def listen(self) -> socket.socket:
        """Return a socket that listens there."""
        listener = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            if isinstance(self.name, str):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.name)  # noqa: PTH108 - it is a path as text
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self.name)
            listener.listen()
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener


class _Flow:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.data = bytearray()
        self.ended = False
        """The source has said its last."""
        self.over = False
        """The sink knows."""

    def receive(self) -> None:
        """Take what there is."""
        try:
            data = self.source.recv(CHUNK)
        except BlockingIOError:
            return
        self.data += data
        self.ended = not data

    def send(self) -> None:
        """Pass on what the sink takes, and the end after all of it."""
        if self.data:
            try:
                del self.data[: self.sink.send(self.data)]
            except BlockingIOError:
                return
        if self.ended and not self.data and not self.over:
            self.over = True
            self.sink.shutdown(socket.SHUT_WR)


class _Connection:
    """A client's connection and ours onward."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.sockets = (near, far)
        self.flows = (_Flow(near, far), _Flow(far, near))

    def interest(self) -> dict[int, int]:
        """Return what to wait for, by descriptor."""
        wanted = {sock.fileno(): 0 for sock in self.sockets}
        for flow in self.flows:
            if not flow.ended and len(flow.data) < BUFFER_MAX:
                wanted[flow.source.fileno()] |= select.POLLIN
            if flow.data:
                wanted[flow.sink.fileno()] |= select.POLLOUT
        return {fd: events for fd, events in wanted.items() if events}

    def move(self, ready: dict[int, int]) -> bool:
        """Move what can be moved; return whether the connection is still of use."""
        try:
            for flow in self.flows:
                if flow.source.fileno() in ready and not flow.ended and len(flow.data) < BUFFER_MAX:
                    flow.receive()
                flow.send()
        except OSError:  # one end is gone; the other is to hear it
            return False
        return not all(flow.over for flow in self.flows)

    def close(self) -> None:
        """Break it; what was on its way is lost."""
        for sock in self.sockets:
            sock.close()


class Proxy:
    """Forwards connections made to `address` to `target`; both are `ipc://PATH` or `tcp://HOST:PORT` (0: any port).

    Each method returns when it is done. All may be called in any state.
    """

    def __init__(self, address: str, target: str) -> None:
        self._target = Place.of(target)
        place = Place.of(address)
        self._listener: socket.socket | None = place.listen()
        if isinstance(place.name, tuple):
            place = Place(place.family, self._listener.getsockname()[:2])
        self._place = place
        self._connections: list[_Connection] = []
        self._frozen = False
        self._closed = False
        self._orders: list[tuple[Callable[[], None], threading.Event]] = []
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="enginery-proxy", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where to connect."""
        name = self._place.name
        if isinstance(name, str):
            return f"ipc://{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"tcp://{host}:{name[1]}"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def cut(self) -> None:
        """Break all connections, with what is on its way, and let nobody connect until `heal`."""
        self._order(self._cut)

    def freeze(self) -> None:
        """Let nothing pass, and nobody notice: connections stay, and bytes wait, until `heal`."""
        self._order(self._freeze)

    def heal(self) -> None:
        """Forward again. Does nothing if there is nothing wrong. OSError if the address is not free any more."""
        if not self._closed and self._listener is None:
            self._listener = self._place.listen()  # the thread does not look at it until it is woken
        self._order(self._thaw)

    def close(self) -> None:
        """Break all connections and end. Doing it twice is fine."""
        if self._closed:
            return
        self._order(self._cut)
        self._closed = True
        os.write(self._wake_write, b"x")
        self._thread.join(ANSWER_S)
        os.close(self._wake_read)
        os.close(self._wake_write)

    # ---------------------------------------------------------------------------------------------- the proxy's thread

    def _order(self, what: Callable[[], None]) -> None:
        """Have the thread do something; return when it has."""
        if self._closed:
            return
        done = threading.Event()
        self._orders.append((what, done))
        os.write(self._wake_write, b"x")
        done.wait(ANSWER_S)

    def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if isinstance(self._place.name, str):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._place.name)  # noqa: PTH108 - it is a path as text
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _freeze(self) -> None:
        self._frozen = True

    def _thaw(self) -> None:
        self._frozen = False

    def _run(self) -> None:
        while not self._closed:
            ready = self._wait()
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            while self._orders:
                what, done = self._orders.pop(0)
                what()
                done.set()
            if self._frozen:
                continue
            for connection in list(self._connections):
                if not connection.move(ready):
                    connection.close()
                    self._connections.remove(connection)
            if self._listener is not None and self._listener.fileno() in ready:
                self._accept(self._listener)

    def _wait(self) -> dict[int, int]:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if not self._frozen:
            if self._listener is not None:
                poller.register(self._listener.fileno(), select.POLLIN)
            for connection in self._connections:
                for fd, events in connection.interest().items():
                    poller.register(fd, events)
        return dict(poller.poll())

    def _accept(self, listener: socket.socket) -> None:
        try:
            near, _ = listener.accept()
        except OSError:  # who wanted to connect has thought better of it
            return
        far = socket.socket(self._target.family, socket.SOCK_STREAM)
        try:
            far.settimeout(CONNECT_S)
            far.connect(self._target.name)
        except OSError:  # no controller at the moment: the client hears that there is none, as it would without us
            near.close()
            far.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.append(_Connection(near, far))
