"""Who may talk to a controller: keys, and the handler that checks them.

On one host the controller listens on a Unix socket in a private folder, and the folder's mode is the protection. On TCP
every connection is encrypted and authenticated (CURVE): one key pair for the controller, one for clients, one for
engines and nannies. The handler lets in those two keys and nothing else, and tells the controller which it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import zmq
from zmq.utils import z85

from .config import Connection, ControllerConfig
from .transport import ZAP_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

ZAP_ADDRESS = "inproc://zeromq.zap.01"

CLIENT_ROLE = b"client"
ENGINE_ROLE = b"engine"
"""Also the role of nannies."""


class KeyPair(NamedTuple):
    """A CURVE key pair, as text (Z85)."""

    public: str
    secret: str


class Keys(NamedTuple):
    """The key pairs of a cluster that listens on TCP."""

    server: KeyPair
    client: KeyPair
    engine: KeyPair


def new_key_pair() -> KeyPair:
    """Return a fresh key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def new_keys() -> Keys:
    """Return fresh keys for a cluster."""
    return Keys(new_key_pair(), new_key_pair(), new_key_pair())


def controller_config(cluster: str, address: str, keys: Keys | None) -> ControllerConfig:
    """Return what the controller is told: the secret of its own, and the public keys that it lets in."""
    if keys is None:
        return ControllerConfig(cluster=cluster, address=address)
    return ControllerConfig(
        cluster=cluster,
        address=address,
        server_public=keys.server.public,
        server_secret=keys.server.secret,
        client_public=keys.client.public,
        engine_public=keys.engine.public,
    )


def connections(cluster: str, address: str, keys: Keys | None, host: str) -> tuple[Connection, Connection]:
    """Return what clients are told, and what engines and nannies are told."""
    if keys is None:
        plain = Connection(cluster=cluster, address=address, host=host)
        return plain, plain

    def for_role(pair: KeyPair) -> Connection:
        return Connection(
            cluster=cluster,
            address=address,
            server_key=keys.server.public,
            public_key=pair.public,
            secret_key=pair.secret,
            host=host,
        )

    return for_role(keys.client), for_role(keys.engine)


def known_keys(config: ControllerConfig) -> dict[str, bytes]:
    """Return the public keys that a controller lets in, each with its role; empty on a Unix socket."""
    roles: dict[str, bytes] = {}
    if config.client_public is not None:
        roles[config.client_public] = CLIENT_ROLE
    if config.engine_public is not None:
        roles[config.engine_public] = ENGINE_ROLE
    return roles


class ZapHandler:
    """Answers libzmq's questions whether a peer may connect (ZeroMQ RFC 27), on the loop of the program that has it.

    Make it before the controller's socket is bound: libzmq lets everybody in while there is no handler. Then watch
    `socket` (or its `fd`, which like every ZeroMQ descriptor signals only changes) and call `drain()` when it is
    readable; connections wait until you do. An accepted peer's messages carry its role: `frame.get("User-Id")`.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], roles: Mapping[str, bytes]) -> None:
        self._roles = {z85.decode(key.encode()): role for key, role in roles.items()}
        self.refused = 0
        """How many connections it has turned away."""
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ADDRESS)

    @property
    def fd(self) -> int:
        """The descriptor to watch."""
        return int(self.socket.getsockopt(zmq.FD))

    def drain(self) -> None:
        """Answer every question there is."""
        while True:
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self.answer(request))

    def answer(self, request: list[bytes]) -> list[bytes]:
        """Return the reply to one question."""
        version, number = [*request, b"", b""][:2]
        role = self._role_of(request)
        if role is None:
            self.refused += 1
            return [version, number, b"400", b"unknown key", b"", b""]
        return [version, number, b"200", b"OK", role, b""]

    def _role_of(self, request: list[bytes]) -> bytes | None:
        if len(request) != 7:
            return None
        version, _number, domain, _address, _identity, mechanism, key = request
        if version != b"1.0" or domain != ZAP_DOMAIN or mechanism != b"CURVE":
            return None
        return self._roles.get(key)

    def close(self) -> None:
        """Close the socket; nobody can connect after that."""
        self.socket.close()
