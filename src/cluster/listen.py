"""Where a cluster listens on TCP, as users write it and as sockets need it."""

from __future__ import annotations

import socket
from typing import NamedTuple

from ..errors import ClusterError

EVERYWHERE = ("0.0.0.0", "::", "*")  # noqa: S104 - compared with, never bound unasked


class Listen(NamedTuple):
    """A place to listen at."""

    bind: str
    """Numeric address and port, for ZeroMQ; port 0 for any free one."""
    reachable: str
    """The host by which others reach it."""


def parse(text: str) -> Listen:
    """Return the place that `HOST[:PORT]` names (`[::1]:8000` for IPv6), or raise ClusterError."""
    host, port = _split(text.strip())
    if host in EVERYWHERE:
        everywhere = "::" if host == "::" else "0.0.0.0"  # noqa: S104 - asked for
        return Listen(f"{_bracketed(everywhere)}:{port}", _own_address())
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ClusterError(f"cannot listen on {text!r}: {host!r} is not a host of this network ({error})") from None
    address = _bracketed(str(found[0][4][0]))
    return Listen(f"{address}:{port}", address)


def _split(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        good = bool(closed) and (not rest or rest.startswith(":"))
        port = rest[1:]
    elif text.count(":") > 1:
        host, port, good = text, "", True
    else:
        host, colon, port = text.partition(":")
        good = bool(port) or not colon
    if not good or not host or (port and not (port.isdecimal() and int(port) < 1 << 16)):
        raise ClusterError(f"cannot listen on {text!r}: write HOST or HOST:PORT, like 127.0.0.1 or 0.0.0.0:8786")
    return host, int(port or 0)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _own_address() -> str:
    """Return the address of this host that others most likely reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only makes the kernel choose an interface
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
