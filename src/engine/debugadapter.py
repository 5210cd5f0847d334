"""debugpy's adapter, for this user only.

The adapter stands between a front end's debugger and the engine, and listens on ports of the loopback interface. As it
comes, whoever can log in on the host can connect there, and have code run in the engine. Here it asks the kernel whose
the other end of a connection is. Where that cannot be told, nobody is let in.

A program of its own: debugpy starts it in place of its own one (`frontkernel`).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ESTABLISHED = "01"
"""How the kernel's table writes the state of a connection whose both ends are open."""


def is_ours(connection: socket.socket) -> bool:
    """Return whether the other end of a connection over the loopback interface belongs to a process of this user.

    One that was closed already has no owner any more, and is not let in either.
    """
    try:
        theirs, ours = _as_in_table(connection.getpeername()), _as_in_table(connection.getsockname())
        table = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    except (OSError, ValueError, struct.error):
        return False
    for line in table:
        fields = line.split()
        if fields[1:4] == [theirs, ours, ESTABLISHED]:
            return int(fields[7]) == os.getuid()
    return False


def _as_in_table(address: tuple[str, int]) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))  # the table has it in the host's byte order
    return f"{number:08X}:{address[1]:04X}"


def guarded(serve: Callable[..., Any]) -> Callable[..., Any]:
    """Return debugpy's function that accepts connections, with a look at whose they are."""

    def serve_ours(name: str, handle: Callable[[socket.socket], Any], *args: Any, **kwargs: Any) -> Any:
        def accepted(connection: socket.socket) -> None:
            if is_ours(connection):
                handle(connection)
            else:
                connection.close()

        return serve(name, accepted, *args, **kwargs)

    return serve_ours


def main() -> None:
    """Be the adapter."""
    if sys.path[0] == str(Path(__file__).parent):  # it has modules with names of others
        del sys.path[0]
    import debugpy.adapter.__main__  # noqa: PLC0415 - after that
    from debugpy.common import sockets  # noqa: PLC0415

    sockets.serve = guarded(sockets.serve)
    adapter: Any = debugpy.adapter.__main__
    adapter.main()


if __name__ == "__main__":
    main()
