"""Hosts, as network namespaces of this machine: each has a cable to a switch, on which the head is. Root only.

The head's namespace is the machine's own. A test that needs several hosts is skipped where none can be made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers import assert_nothing_left, command, processes

if TYPE_CHECKING:
    from collections.abc import Iterator


def ip(*args: str) -> None:
    """Run the ip command."""
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True, timeout=10)


class Network:
    """A switch, and n hosts with a cable to it each."""

    def __init__(self, n: int) -> None:
        number = os.getpid() % 10_000
        self._switch = f"engs{number}"
        self._hosts = [f"engh{number}n{i}" for i in range(n)]
        self._cables = [f"engc{number}n{i}" for i in range(n)]
        self._net = f"198.18.{number % 250}"
        self.address = f"{self._net}.254"
        """Of the head."""

    def lay(self) -> None:
        """Make it."""
        ip("link", "add", self._switch, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self._switch)
        ip("link", "set", self._switch, "up")
        for i, (host, cable) in enumerate(zip(self._hosts, self._cables, strict=True)):
            ip("netns", "add", host)
            ip("link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", host)
            ip("link", "set", cable, "master", self._switch, "up")
            ip("-n", host, "addr", "add", f"{self._net}.{i + 1}/24", "dev", "cable")
            ip("-n", host, "link", "set", "cable", "up")
            ip("-n", host, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove it."""
        for args in (*(("netns", "del", host) for host in self._hosts), ("link", "del", self._switch)):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip(*args)

    @contextlib.contextmanager
    def cut(self, host: int) -> Iterator[None]:
        """Cut a host's cable for a while."""
        ip("link", "set", self._cables[host], "down")
        try:
            yield
        finally:
            ip("link", "set", self._cables[host], "up")

    @contextlib.contextmanager
    def slow(self, host: int, mbit: int) -> Iterator[None]:
        """Have no more than so much a second go to a host for a while."""
        shape = ["rate", f"{mbit}mbit", "burst", "256kb", "latency", "100ms"]
        self._shape("replace", host, "tbf", *shape)
        try:
            yield
        finally:
            self._shape("del", host)

    def _shape(self, what: str, host: int, *args: str) -> None:
        command = ["tc", "qdisc", what, "dev", self._cables[host], "root", *args]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no cable can be made slow here: {error}")

    def start(self, host: int, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process on a host."""
        return subprocess.Popen(["ip", "netns", "exec", self._hosts[host], *args], text=True, **options)


@contextlib.contextmanager
def network(n: int) -> Iterator[Network]:
    """A network for tests, which are skipped if there can be none."""
    made = Network(n)
    try:
        try:
            made.lay()
        except OSError as error:
            pytest.skip(f"there is no ip command here, so there are no hosts: {error}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace can be made here, so there are no hosts: {error.stderr.strip()}")
        yield made
    finally:
        made.remove()


class Nannies:
    """Nannies of other hosts, each with engines for a cluster whose head is here."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="enj-", dir="/tmp"))
        """Their runtime directory."""
        self.started: list[subprocess.Popen[str]] = []

    def join(self, start: Any, directory: Path, engines: int, **more: Any) -> subprocess.Popen[str]:
        """Have engines join the cluster of this directory; `start` starts a process on their host."""
        report, write = os.pipe()
        plan = {
            "directory": str(self.folder / f"guest{len(self.started)}"),
            "engines": engines,
            "fork": True,
            "preload": [],
            "listen": None,
            "reachable": None,
            "report": write,
            "owner": None,
            "timeout_s": 20.0,
            "journal": None,
            "keep_s": 0.0,
            "keep_bytes": 0,
            "object_min": 1_000_000,
            "join": str(directory / "engine.json"),
            **more,
        }
        program = [sys.executable, "-P", "-m", "enginery.nanny.app", json.dumps(plan)]
        environment = {**os.environ, "ENGINERY_RUNTIME_DIR": str(self.folder)}
        process: subprocess.Popen[str] = start(*program, pass_fds=[write], env=environment, start_new_session=True)
        self.started.append(process)
        os.close(write)
        with os.fdopen(report) as said:
            line = said.readline()
        assert line == "ready\n", line
        return process

    def stop(self) -> None:
        """Stop them; nothing of theirs may be left."""
        for process in self.started:
            process.terminate()
            process.wait(15)
        if any(process.returncode == -signal.SIGKILL for process in self.started):
            assert command("clean", ENGINERY_RUNTIME_DIR=str(self.folder)).returncode == 0
        assert_nothing_left(self.folder)

    def kill(self) -> None:
        """Remove whatever there is."""
        for pid in processes(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.started:
            process.wait(15)
        shutil.rmtree(self.folder, ignore_errors=True)
