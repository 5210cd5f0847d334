"""Have a host's store bring objects from others, and serve them its own.

On one host, where the controller listens on a Unix socket, there are no others. On TCP the store listens where this
host can be reached: the head's at the interface of the controller, another host's at the one by which it reaches that.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import zmq

from ... import security
from ...config import Connection
from ...wire.objects import Source
from .mover import Mover

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...security import Keys
    from .thread import Store


def as_head(store: Store, listen: str, reachable: str | None, keys: Keys, log: Callable[[str], None]) -> None:
    """The controller listens at `listen` (`10.0.0.1:8786`), which others know as the host `reachable`."""
    host = listen.rpartition(":")[0]
    roles = {keys.engine.public: security.ENGINE_ROLE, keys.client.public: security.CLIENT_ROLE}
    ours = Connection(cluster="", address="", public_key=keys.engine.public, secret_key=keys.engine.secret)
    _open(store, Mover(store, ours, log), host, reachable or host, roles, log=log)


def as_guest(store: Store, connection: Connection, log: Callable[[str], None]) -> None:
    """The controller is elsewhere, and reached by this connection."""
    if not connection.address.startswith("tcp:") or connection.public_key is None:
        return  # (without keys it would serve everybody)
    try:
        host = own_host(connection.address)
    except OSError as error:
        log(f"this host cannot serve its objects to others: {error}")
        return
    roles = {connection.public_key: security.ENGINE_ROLE}
    _open(store, Mover(store, connection, log), host, host, roles, log=log)


def own_host(address: str) -> str:
    """Return the address of this host on the interface by which it reaches `tcp://host:port`.

    >>> own_host("tcp://127.0.0.1:80")
    '127.0.0.1'
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)  # nothing is sent
        own = str(probe.getsockname()[0]).partition("%")[0]
    return f"[{own}]" if family == socket.AF_INET6 else own


def _open(
    store: Store, mover: Mover, bind: str, host: str, roles: Mapping[str, bytes], *, log: Callable[[str], None]
) -> None:
    try:
        address, key = mover.start(f"tcp://{bind}:*", host, roles)
    except zmq.ZMQError as error:  # then the controller cannot listen there either, and says so
        log(f"this host cannot serve its objects to others: {error}")
        mover.close()
        return
    store.source = Source(store.source.store, address, key)
    store.puller = mover
