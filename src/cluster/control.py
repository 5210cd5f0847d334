"""A short connection to a cluster to ask it for something, without the weight of a client.

The command line and `Cluster` use it: it submits no tasks and imports little.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Self

import zmq

from .. import transport
from ..errors import ClusterError, NoClusterError
from ..wire import messages as m
from ..wire.codec import decode_to_client
from ..wire.stock import read_stock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ..config import Connection
    from ..wire.stock import Stock

LOOK_S = 0.25
"""How often a wait looks whether the cluster is still there."""


class Control:
    """A connection to a controller. Every wait ends: with the answer, at its time limit, or when the cluster ends.

    `alive` says whether the cluster is still there, where that can be known (on its own host).
    """

    def __init__(self, connection: Connection, timeout_s: float = 5.0, alive: Callable[[], bool] | None = None) -> None:
        self.connection = connection
        self._alive = alive or (lambda: True)
        self._request = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = transport.open_dealer(self._context, connection, b"c" + os.urandom(8))
        hello = m.ClientHello(version=m.VERSION, name="cluster", pid=os.getpid(), host=socket.gethostname())
        try:
            transport.send(self._socket, hello)
            welcome = self._receive(m.Welcome, time.monotonic() + timeout_s)
            assert isinstance(welcome, m.Welcome)
            self.engines = welcome.engines
        except BaseException:
            self.close()
            raise

    def ask(self, message: Callable[[int], m.ToController], timeout_s: float = 10.0) -> Any:
        """Send a request, made from its number, and return the value of the answer; ClusterError if it says why not."""
        self._request += 1
        transport.send(self._socket, message(self._request))
        deadline = time.monotonic() + timeout_s
        while True:
            reply = self._receive(m.Reply, deadline)
            assert isinstance(reply, m.Reply)
            if reply.request == self._request:
                break
        if reply.error is not None:
            raise ClusterError(reply.error)
        return reply.value

    def wait_engines(self, timeout_s: float) -> list[int]:
        """Wait for all engines that the cluster is to have; return their ids."""
        return [int(i) for i in self.ask(m.WaitEngines, timeout_s)]

    def scale(self, n: int, timeout_s: float) -> list[int]:
        """Have n engines; return their ids when they answer."""
        return [int(i) for i in self.ask(lambda number: m.Scale(number, n), timeout_s)]

    def restart(self, engines: list[int] | None, timeout_s: float) -> list[int]:
        """Replace engines by fresh ones; return their ids when these answer."""
        return [int(i) for i in self.ask(lambda number: m.Restart(number, engines), timeout_s)]

    def ask_engine(self, engine: int, question: str, timeout_s: float = 40.0) -> Any:
        """Ask an engine's control thread something (`wire.asking`), and return its answer."""
        return self.ask(lambda number: m.AskEngine(number, engine, question), timeout_s)

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Return how the cluster is."""
        return dict(self.ask(m.StatusQuery, timeout_s))

    def objects(self, timeout_s: float = 5.0) -> Stock:
        """Return what objects there are, where, and who holds them."""
        return read_stock(self.ask(m.ObjectsQuery, timeout_s))

    def close(self) -> None:
        """Say goodbye."""
        if not self._socket.closed:
            with contextlib.suppress(zmq.ZMQError):  # where there is no connection there is nobody to tell
                transport.send(self._socket, m.Goodbye())
            self._socket.close(linger=100)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, kind: type[m.Welcome | m.Reply], deadline: float) -> m.ToClient:
        """Return the next message of this kind."""
        name = self.connection.cluster
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoClusterError(f"cluster {name} did not answer in time ({self.connection.address})")
            if not self._socket.poll(int(min(left, LOOK_S) * 1000) + 1):
                if not self._alive():
                    raise NoClusterError(f"cluster {name} has ended")
                continue
            message = decode_to_client(self._socket.recv_multipart()[0])
            if isinstance(message, kind):
                return message
            if isinstance(message, m.Farewell):
                raise NoClusterError(f"cluster {name} has ended: {message.reason}")
            if isinstance(message, m.Refused):
                raise ClusterError(message.reason)
