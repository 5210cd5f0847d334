"""The connections to other hosts' stores, as sockets: several to each, since one is encrypted by one thread only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from ...transport import open_puller, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

    from ...config import Connection
    from ...wire.objects import Source

LANES = 2
"""Connections to one store, and threads that encrypt and decrypt. With one, encryption on a single core would be what
an object's speed is bound by.
"""


class Lanes:
    """Several connections to one store, each a socket of its own. They are up when all of them are.

    Each has a thread of the context's to itself. The other end chooses by how many connections its threads have: so
    they are made one after the other, else it counts none of them yet when it chooses.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], source: Source, connection: Connection) -> None:
        self.store = source.store
        self.sockets = [open_puller(context, source.address, source.key, connection) for _ in range(LANES)]
        self.monitors: list[zmq.Socket[bytes]] = [
            socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED) for socket in self.sockets
        ]
        for i, socket in enumerate(self.sockets):
            socket.setsockopt(zmq.AFFINITY, 1 << i)
        self._up: set[int] = set()
        self._sent = 0
        self._address = source.address
        self._connecting = 0
        self._connect_next()

    def _connect_next(self) -> None:
        if self._connecting < LANES:
            self.sockets[self._connecting].connect(self._address)
            self._connecting += 1

    def changes(self) -> Iterator[bool]:
        """Yield what has happened since the last call: True: they are up; False: they are down."""
        for i, monitor in enumerate(self.monitors):
            for event in self._events(monitor):
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._up.add(i)
                    if i == self._connecting - 1:
                        self._connect_next()
                    if len(self._up) == LANES:
                        yield True
                elif i in self._up:
                    if len(self._up) == LANES:
                        yield False
                    self._up.discard(i)

    @staticmethod
    def _events(monitor: zmq.Socket[bytes]) -> Iterator[int]:
        while True:
            try:
                head, _address = monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield int.from_bytes(head[:2], "little")

    def send(self, message: msgspec.Struct) -> None:
        """Send a message to the store, by each of the connections in turn."""
        self._sent += 1
        send(self.sockets[self._sent % LANES], message)

    def close(self) -> None:
        """End the connections."""
        for socket, monitor in zip(self.sockets, self.monitors, strict=True):
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)
