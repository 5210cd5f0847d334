"""Jupyter front ends on engines: where to attach them, and a console that is opened here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ...errors import ClusterError
from ...wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..connection.link import Link


def attach(link: Link, engine: int) -> str:
    """Have an engine open its Jupyter channels; return the path of its connection file."""
    return connection_file(engine, link.request(m.AskEngine, engine, "attach").result())


def detach(link: Link, engine: int) -> None:
    """Have an engine close its Jupyter channels, if they are open."""
    link.request(m.AskEngine, engine, "detach").result()


def connection_file(engine: int, answer: Mapping[str, Any]) -> str:
    """Return the path in an engine's answer; ClusterError if it is a path of another host."""
    host, here = answer["host"], os.uname().nodename
    if host != here:
        raise ClusterError(
            f"engine {engine} runs on host {host}, and its Jupyter channels are files there: "
            f'attach to it there, with "cluster console {engine}"'
        )
    return str(answer["connection_file"])


def console_command(path: str) -> list[str]:
    """Return the command of a console on a connection file; ClusterError if there is no such program."""
    if importlib.util.find_spec("jupyter_console") is None:
        raise ClusterError(
            'a console needs the package jupyter-console ("pip install jupyter-console"); '
            f"other front ends attach with the connection file {path}"
        )
    return [sys.executable, "-m", "jupyter_console", "--existing", path]


def open_console(path: str) -> None:
    """Open a console in this terminal and return when it is closed; where there is no terminal, say the command."""
    command = console_command(path)
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        subprocess.run(command, check=False)
    else:
        print("in a terminal:", " ".join(command))  # noqa: T201 - what was asked for
