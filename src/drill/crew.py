"""The drill's clients, seen from the drill: started, listened to, killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from .account import Report
from .workload import PATIENCE_S, Plan

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "enginery.drill.workload"

EXTRA_RATE = 50.0
"""Tasks per second of the client that is there to be killed. They come on top."""

STACKS_S = 1.0
"""How long a client that hangs may take to say where."""

FINISH_S = PATIENCE_S + 10.0
"""How long the clients may take to wait for everything, once they submit no more."""


class Member:
    """One client's process."""

    def __init__(self, plan: Plan, log: Path, *, expendable: bool) -> None:
        self.number = plan.client
        self.expendable = expendable
        self.report = Report(plan.client)
        self.outcomes = plan.outcomes
        self.log = log
        self._said = b""
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM, json.dumps(plan._asdict())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,  # Ctrl-C is for the drill alone
            )
        assert self.process.stdout is not None
        self.fd: int | None = self.process.stdout.fileno()
        os.set_blocking(self.fd, False)

    def read(self) -> None:
        """Take in what it has said."""
        while self.fd is not None:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.fd = None
                return
            *lines, self._said = (self._said + data).split(b"\n")
            if lines:
                self.report = msgspec.json.decode(lines[-1], type=Report)

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once, also if it is stopped."""
        self.process.kill()
        self.process.wait()
        self.read()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.fd = None

    def last_words(self) -> str:
        """Return the last line of what it wrote for people."""
        lines = self.log.read_text("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class Crew:
    """All clients of a drill: some that live to its end, and perhaps one that is killed now and then."""

    def __init__(self, folder: Path, connections: list[Path], *, seed: int, until: float, rate: float) -> None:
        """Start a client for each connection file; together they submit `rate` tasks per second."""
        self._folder = folder
        self._connections = connections
        self._seed = seed
        self._until = until
        self._numbers = count(1)
        self.members: list[Member] = []
        self.extra: Member | None = None
        self.errors: list[str] = []
        for connection in connections:
            self.members.append(self._start(connection, rate / len(connections)))

    def _start(self, connection: Path, rate: float, *, expendable: bool = False) -> Member:
        number = next(self._numbers)
        marks = self._folder / "marks"
        outcomes = self._folder / f"client-{number}.outcomes"
        plan = Plan(number, str(connection), str(marks), str(outcomes), self._seed, self._until, rate)
        return Member(plan, self._folder / f"client-{number}.log", expendable=expendable)

    def add_extra(self) -> None:
        """Have a client that can be killed."""
        self.extra = self._start(self._connections[-1], EXTRA_RATE, expendable=True)

    def kill_extra(self) -> bool:
        """Kill the client that can be killed, and have another; return whether it had got to work."""
        extra = self.extra
        if extra is None or (extra.is_alive() and not extra.report.tasks.submitted):
            return False
        was_alive = self._end(extra)
        self.add_extra()
        return was_alive

    def _end(self, extra: Member) -> bool:
        """Kill it; return whether it lived until then. What it had to complain of stays."""
        was_alive = extra.is_alive()
        extra.kill()
        self.errors += [f"client {extra.number}: {error}" for error in extra.report.errors]
        if not was_alive and not extra.report.over and not extra.report.errors:
            self.errors.append(f"client {extra.number} failed: {extra.last_words()}")
        return was_alive

    def everybody(self) -> list[Member]:
        """Return all clients that there are now."""
        return [*self.members, *([self.extra] if self.extra is not None else [])]

    def listen(self, timeout_s: float) -> None:
        """Take in what the clients say, for so long at most."""
        open_ = {member.fd: member for member in self.everybody() if member.fd is not None}
        if not open_:
            time.sleep(timeout_s)
            return
        for fd in select.select(list(open_), [], [], timeout_s)[0]:
            open_[fd].read()

    @property
    def is_working(self) -> bool:
        """Whether all clients have connected."""
        return all(member.report.tasks.submitted for member in self.members)

    def gone(self) -> list[Member]:
        """Return those that were to live to the end, and have said their last word, or are dead."""
        return [member for member in self.members if member.fd is None]

    def finish(self) -> None:
        """Wait until all have waited for everything; say of those that do not end where they hang."""
        if self.extra is not None:
            self._end(self.extra)
            self.extra = None
        deadline = time.monotonic() + FINISH_S
        while len(self.gone()) < len(self.members) and (left := deadline - time.monotonic()) > 0:
            self.listen(min(left, 0.1))
        late = [member for member in self.members if member.fd is not None]
        for member in late:
            member.process.send_signal(signal.SIGUSR1)
        if late:
            time.sleep(STACKS_S)
        for member in self.members:
            if member in late:
                self.errors.append(f"client {member.number} does not end; {member.log} says where it hangs")
                member.kill()
            elif member.process.wait() and not member.report.errors:
                self.errors.append(f"client {member.number} failed: {member.last_words()}")
            if member.process.stdout is not None:
                member.process.stdout.close()

    def kill(self) -> None:
        """End all at once."""
        for member in self.everybody():
            with contextlib.suppress(OSError):
                member.kill()
