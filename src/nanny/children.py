"""The nanny's end of the zygote: start engine processes, signal them, hear of their ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREPARE = "enginery.engine.app:prepare"
RUN = "enginery.engine.app:run"
"""The engines' entry points, by name: the nanny imports nothing of the engine."""

WINDOW = 32
"""How many starts may be under way unanswered. The socket holds many more messages, so neither side ever blocks."""

CLOSE_S = 0.2
"""How long the zygote may take to kill and reap everything under it."""

_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


class Key(NamedTuple):
    """Which process of which engine."""

    engine: int
    incarnation: int


class Ready(NamedTuple):
    """The template is prepared."""


class Failed(NamedTuple):
    """The template could not be prepared; the zygote ends."""

    reason: str


class Started(NamedTuple):
    """A process is there."""

    key: Key
    pid: int


class Unstarted(NamedTuple):
    """A process could not be made."""

    key: Key
    reason: str


class Exited(NamedTuple):
    """A process has ended, with its exit code (negative for a signal) and the most memory it had resident."""

    key: Key
    status: int
    peak_bytes: int = 0


class Lost(NamedTuple):
    """The zygote itself has ended, and with it all its children."""

    status: int


Event = Ready | Failed | Started | Unstarted | Exited | Lost


class Children:
    """A running zygote. `events()` is to be called when `fileno()` is readable. Owns the process and the socket."""

    def __init__(
        self,
        *,
        fork: bool,
        preload: Sequence[str],
        lifeline: int,
        environment: Mapping[str, str] | None = None,
        prepare: str = PREPARE,
        run: str = RUN,
    ) -> None:
        """Start it. It has our environment and this, and so have its children, unless their setup says otherwise."""
        self._starts: deque[tuple[bytes, int]] = deque()
        self._signals: deque[bytes] = deque()
        self._unanswered = 0
        self.is_blocked = False
        """Whether something waits for the socket to take it: watch for that too, then call `events()`."""
        self._is_ready = False
        self._lost = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        template = {
            "socket": theirs.fileno(),
            "lifeline": lifeline,
            "nanny": os.getpid(),
            "prepare": prepare,
            "run": run,
            "preload": list(preload),
            "fork": fork,
        }
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "enginery.nanny.zygote", json.dumps(template)],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                pass_fds=(theirs.fileno(), lifeline),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    def start(self, key: Key, setup: Mapping[str, Any], output: int) -> None:
        """Ask for a process whose descriptors 1 and 2 are `output`, which is ours to close. May be called any time.

        What `setup` has under `environment` is set in the environment of the process before anything else.
        """
        self._starts.append((_encode(start=_text(key), setup=setup), output))
        self._send_some()

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to a process that has started. Nothing happens if it has ended."""
        self._signals.append(_encode(signal=_text(key), number=number))
        self._send_some()

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        found: list[Event] = []
        while not self._lost:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._lost = True
                self._drop_queue()
                found.append(Lost(self.process.wait()))
                break
            event = self._event(json.loads(data))
            if event is not None:
                found.append(event)
        self._send_some()
        return found

    def close(self) -> None:
        """End the zygote and everything under it, and wait for its end, which takes milliseconds."""
        self._drop_queue()
        self._socket.close()
        try:
            self.process.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # it is still importing, or stopped
            self.process.wait()

    def _event(self, message: Mapping[str, Any]) -> Event | None:
        if "started" in message:
            self._unanswered -= 1
            return Started(_key(message["started"]), message["pid"])
        if "exited" in message:
            return Exited(_key(message["exited"]), message["status"], message["peak_bytes"])
        if "unstarted" in message:
            self._unanswered -= 1
            return Unstarted(_key(message["unstarted"]), message["reason"])
        if "failed" in message:
            return Failed(message["failed"])
        self._is_ready = True
        return Ready()

    def _send_some(self) -> None:
        self.is_blocked = False
        while self._signals and self._send(self._signals[0]):
            self._signals.popleft()
        while self._starts and self._is_ready and self._unanswered < WINDOW and not self.is_blocked:
            data, output = self._starts[0]
            if self._send(data, output):
                self._starts.popleft()
                self._unanswered += 1
                os.close(output)

    def _send(self, data: bytes, *fds: int) -> bool:
        try:
            socket.send_fds(self._socket, [data], fds)
        except BlockingIOError:
            self.is_blocked = True
            return False
        except OSError:
            pass  # the zygote is gone; `events()` is about to say so
        return True

    def _drop_queue(self) -> None:
        self._signals.clear()
        while self._starts:
            os.close(self._starts.popleft()[1])


def _encode(**message: Any) -> bytes:
    return json.dumps(message).encode()


def _text(key: Key) -> str:
    return f"{key.engine}.{key.incarnation}"


def _key(text: str) -> Key:
    engine, _, incarnation = text.partition(".")
    return Key(int(engine), int(incarnation))
