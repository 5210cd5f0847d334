"""What user code prints and displays, on its way to the client.

Writing appends a chunk to a queue, without a lock: it may happen in any thread, and in a `__del__` that the garbage
collector runs at any allocation. `collect` makes records of the chunks, joining neighbours of one task and stream, and
counts those of the current task; the count in its result tells the client when it has everything.

With no task running, text goes to the process's own descriptor, which the nanny keeps in a log.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..recorder import NO_TASK
from ..wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .current import Current

STREAM_MAX = 4 << 20
"""How many characters of one task's output on one stream are kept; the rest is counted and left out."""


class OutputBuffer:
    """The output of all tasks that is not sent yet. `nudge` is called when something comes, from any thread."""

    def __init__(self, current: Current, position: Sequence[int], nudge: Callable[[], None] = lambda: None) -> None:
        self._current = current
        self.position = position
        """`position[1]` is the item that the running call is in, if it has items (the flight recorder's slots)."""
        self.engine = -1
        self.nudge = nudge
        self.used = False
        """The running task has written something: call `finish` when it ends. For the runner."""
        self.detached = False
        """No controller will hear us (a process that user code forked): everything goes to the descriptors."""
        self._chunks: deque[tuple[int, str, int, Any]] = deque()
        self._records: list[Output] = []
        self._kept: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._lock = threading.Lock()  # for collecting only: a `__del__` may print meanwhile in the same thread

    @property
    def attached(self) -> bool:
        """Whether there is a task for output to belong to."""
        return not self.detached and self._current.owner() != NO_TASK

    def write(self, stream: str, text: str) -> None:
        """Keep text for the running task, up to the limit."""
        kept = self._kept.get(stream, 0)
        room = STREAM_MAX - kept
        if len(text) > room:
            self._left_out[stream] = self._left_out.get(stream, 0) + len(text) - room
            text = text[:room]
        if text:
            self._kept[stream] = kept + len(text)
            self.publish(stream, text)

    def publish(self, kind: str, data: Any) -> None:
        """Keep text, or a MessagePack value, for the running task."""
        owner = self._current.owner()
        self._chunks.append((owner, kind, self.position[1] if owner == self._current.task else 0, data))
        self.used = True
        self.nudge()

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self._chunks or self._records)

    def collect(self) -> None:
        """Make records of the chunks; from now on they count as output of the task."""
        chunks, records, current = self._chunks, self._records, self._current
        with self._lock:
            parts: list[str] = []
            last: tuple[int, str, int] | None = None

            def close() -> None:
                if last is None:
                    return
                records.append(Output(last[0], last[1], clean_text("".join(parts)), self.engine, last[2]))
                parts.clear()
                current.count(last[0])

            for _ in range(len(chunks)):
                task, kind, item, data = chunks.popleft()
                if isinstance(data, str):
                    if last != (task, kind, item):
                        close()
                        last = (task, kind, item)
                    parts.append(data)
                    continue
                close()
                last = None
                records.append(Output(task, kind, data, self.engine, item))
                current.count(task)
            close()

    def finish(self) -> None:
        """The running task is over: say what was left out, and count its last output."""
        for stream, count in self._left_out.items():
            self._chunks.append(
                (self._current.task, stream, self.position[1], f"\n[{count} characters more on {stream} left out]\n")
            )
        self._left_out.clear()
        self._kept.clear()
        self.used = False
        self.collect()

    def finish_coroutine(self, _task: int) -> None:
        """A coroutine task is over: count its last output."""
        self.collect()

    def take(self) -> list[Output]:
        """Return all records, and empty the buffer. Takers exclude one another (they hold the link's lock)."""
        if self._chunks:
            self.collect()
        if not self._records:
            return []
        with self._lock:
            records = self._records[:]
            self._records.clear()
        return records


def clean_text(text: str) -> str:
    """Return the text with what cannot be encoded (lone surrogates) written as escapes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


_DEPTH = 32


def clean_value(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value that MessagePack can carry, as near to the given one as possible; foreign objects become text."""
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is bytes:
        return value
    if kind is str:
        return clean_text(value)
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else str(int(value))
    if isinstance(value, str):
        return clean_text(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if depth:
        if isinstance(value, dict):
            return {clean_text(str(key)): clean_value(item, depth - 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean_value(item, depth - 1) for item in value]
    if isinstance(value, float):
        return float(value)
    return clean_text(repr(value))


class TaskStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of an engine: text goes to the client of the running task."""

    def __init__(self, output: OutputBuffer, name: str, fd: int) -> None:
        self._output = output
        self._name = name
        self._fd = fd
        self.buffer = _ByteStream(self)
        """For programs that write bytes: decoded as UTF-8, bad ones as replacement characters."""

    @property
    def name(self) -> str:
        """The name that a stream of the interpreter has."""
        return f"<{self._name}>"

    @property
    def encoding(self) -> str:  # type: ignore[override] # an attribute there, and never anything else here
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override] # as above
        """What cannot be encoded is written as an escape."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Return the process's own descriptor, for subprocesses; what they write ends in the nanny's log."""
        return self._fd

    def write(self, text: str, /) -> int:
        """Take text; never blocks on the network."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._output.attached:
            self._output.write(self._name, text)
        else:
            write_raw(self._fd, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override] # text here
        """Take several pieces of text."""
        self.write("".join(lines))

    def reconfigure(self, **_kwargs: Any) -> None:
        """Accepted and without effect: there is nothing to configure."""


class _ByteStream(io.BufferedIOBase):
    def __init__(self, text: TaskStream) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "replace"))
        return len(raw)


def write_raw(fd: int, text: str) -> None:
    """Write to a descriptor, whole; a reader that is gone is no reason to fail."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass
