"""What the programs of a cluster are told when they start, as files in the cluster's private directory.

Keys live only in these files (0600), never on a command line, in an environment variable or in a log.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

C = TypeVar("C", bound=msgspec.Struct)


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a controller, for one role: clients have one such file, engines and nannies another."""

    cluster: str
    address: str
    """`ipc:///path` on one host, `tcp://host:port` else."""
    server_key: str | None = None
    """The controller's public CURVE key (Z85); None on Unix sockets, which the directory's mode protects."""
    public_key: str | None = None
    secret_key: str | None = None
    """This role's CURVE key pair (Z85)."""
    host: str = ""
    """Host name of the controller, for messages."""


class ControllerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller is told. CURVE keys are all set (TCP) or all None (Unix socket)."""

    cluster: str
    address: str
    """Where to bind; port 0 (`tcp://host:0`) for any free one."""
    life: str = ""
    """Names this run of the cluster: a controller goes on from a journal of the same life only."""
    journal: str | None = None
    """Path of the journal's file; None for none."""
    keep_s: float = 0.0
    """How long results are kept in it."""
    keep_bytes: int = 0
    """How many bytes of results and ended submissions are kept in it."""
    memory_limit: int = 4 << 30
    """How many bytes of memory what it holds may take; submitters wait beyond that."""
    server_public: str | None = None
    server_secret: str | None = None
    client_public: str | None = None
    engine_public: str | None = None


def save(path: Path, value: msgspec.Struct) -> None:
    """Write a configuration file, readable by its owner only, whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value)))
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def load(path: Path, kind: type[C]) -> C:
    """Read a configuration file; raises OSError, or ValueError (msgspec's) naming what is wrong with its content."""
    return msgspec.json.decode(path.read_bytes(), type=kind)
