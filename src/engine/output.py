"""What user code prints and displays, on its way to the client.

Writing appends a chunk to a queue, without a lock: it may happen in any thread, and in a `__del__` that the garbage
collector runs at any allocation. `collect` makes records of the chunks, joining neighbours of one task and stream, and
counts those of the current task; the count in its result tells the client when it has everything.

What a task writes without end takes no more and no more room: of each stream the head is sent as it comes, then only
the tail is kept, and sent when the task ends; of rich output there is a limit, and what updates something that is not
sent yet takes its place.

With no task running, text goes to the engine's log, which the nanny keeps.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ..publishing import NOT_HERE
from ..recorder import NO_TASK
from ..serialize import dumps_whole
from ..wire.messages import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .current import Current

HEAD_MAX = 1 << 20
"""How many characters of one task's output on one stream are sent as they come."""

TAIL_MAX = 64 << 10
"""How many of those that follow are kept, the last ones; the rest is counted and left out."""

RICH_MAX = 64 << 20
"""How many bytes, roughly, of one task's rich output are sent; the rest is counted and left out."""

LATE_TASKS = 256
"""Of so many tasks that have ended it is known how much their threads have written since."""

REPLACEABLE = frozenset({"update_display", "data"})
"""Kinds of which a newer record says all that an older one of the same display, or task, did."""

log_fds = {1: 1, 2: 2}
"""By descriptor of the process: where what belongs to no task goes instead, and the engine's own words."""


class Catching(Protocol):
    """What catches the output that does not come through Python (`descriptors`)."""

    reading: bool
    """Somebody is at it: what the poll does not show any more may not be in the buffer yet."""

    def ready(self, timeout_ms: int, /) -> Sequence[Any]:
        """Return something true if there is output to be read."""

    def read(self) -> None:
        """Put into the buffer what there is; afterwards nobody else is at it."""

    def flush(self) -> Any:
        """Have leave what C code keeps back."""

    def finish(self) -> None:
        """The task is over: what has come of a character is all of it."""


class Nothing:
    """Stands for what catches output where there is nothing to catch: outside of an engine process."""

    reading = False

    def ready(self, timeout_ms: int, /) -> Sequence[Any]:  # noqa: ARG002 - as `Catching` has it
        """There is none."""
        return ()

    def read(self) -> None:
        """There is none."""

    def flush(self) -> None:
        """There is none."""

    def finish(self) -> None:
        """There is none."""


class _Stream:
    """How much of one stream of a task there was, and its tail."""

    __slots__ = ("kept", "left_out", "lock", "tail")

    def __init__(self) -> None:
        self.kept = 0
        self.left_out = 0
        """Characters, those in the tail included."""
        self.tail: deque[str] = deque()
        self.lock = threading.RLock()  # a `__del__` may print while the tail is cut, in the same thread

    def add(self, text: str) -> None:
        """Keep the end of it."""
        with self.lock:
            self.left_out += len(text)
            if len(text) > TAIL_MAX:
                text = text[-TAIL_MAX:]
            self.tail.append(text)
            self.kept += len(text)  # from here on, what the tail holds
            while self.tail and self.kept - len(self.tail[0]) >= TAIL_MAX:
                self.kept -= len(self.tail.popleft())

    def end(self, name: str) -> str:
        """Return what there is to say at the end."""
        tail = "".join(self.tail)[-TAIL_MAX:]
        missing = self.left_out - len(tail)
        if not missing:
            return tail
        return f"\n[... {missing:,} characters of {name} left out ...]\n{tail}"


class Rich:
    """Rich output that is not sent yet, so that it may be replaced."""

    __slots__ = ("nbytes", "sent", "value")

    def __init__(self, value: Any, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes
        self.sent = False


class _Budget:
    """How much one task has written."""

    __slots__ = ("last", "left_out", "newest", "rich", "streams")

    def __init__(self) -> None:
        self.streams: dict[str, _Stream] = {}
        self.rich = 0
        self.left_out = 0
        """Records of rich output."""
        self.newest: dict[tuple[str, str], Rich] = {}
        """By kind and display: what came last and may be replaced while it is not sent."""
        self.last: dict[tuple[str, str], Any] = {}
        """By the same: what came last of what was too much. It is sent at the end."""


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
        self.descriptors: Catching = Nothing()
        """What is written there comes before what Python writes after it."""
        self.stray: Callable[[str, str], None] | None = None
        """Is given the stream and the text that was written while no task ran: Python's goes there and not to the log,
        that of others, which may tell of the end of this process, to both."""
        self._chunks: deque[tuple[int, str, int, Any]] = deque()
        self._records: list[Output] = []
        self._budgets: dict[int, _Budget] = {}
        self._lock = threading.RLock()  # for collecting and replacing: never for text, which a `__del__` may print

    @property
    def attached(self) -> bool:
        """Whether there is a task for output to belong to."""
        return not self.detached and self._current.owner() != NO_TASK

    def write(self, stream: str, text: str) -> None:
        """Keep text that Python wrote, for the task it belongs to, after what was written to the descriptors before."""
        if self._current.is_main_thread():
            self.catch_up()
        else:  # one thread at a time may poll, and that is the main thread
            self.descriptors.read()
        self.add(stream, text)

    def add(self, stream: str, text: str) -> None:
        """Keep text for the task it belongs to, up to the limit."""
        owner = self._current.owner()
        if owner == NO_TASK:
            if self.stray is not None:
                self.stray(stream, text)
            return
        budget = self._budgets.get(owner) or self._budget(owner)
        counted = budget.streams.get(stream)
        if counted is None:
            counted = budget.streams.setdefault(stream, _Stream())
        if counted.left_out:
            counted.add(text)
            self.used = True
            return
        room = HEAD_MAX - counted.kept
        if len(text) > room:
            head, rest = text[:room], text[room:]
            counted.kept = 0
            counted.add(rest)
            self.used = True
            text = head
        else:
            counted.kept += len(text)
        if text:
            self._put(owner, stream, text)

    def owner(self) -> int:
        """Return the task that what is written now belongs to; NO_TASK if there is none."""
        return NO_TASK if self.detached else self._current.owner()

    def publish(self, kind: str, data: Any, owner: int | None = None) -> None:
        """Keep text, or a MessagePack value, for the task it belongs to, or for that one; too much is left out."""
        if owner is None:
            owner = self._current.owner()
        if isinstance(data, str):
            self._put(owner, kind, data)
        else:
            self.put_rich(kind, data, owner)

    def put_rich(self, kind: str, data: Any, owner: int) -> Rich | None:
        """Keep a MessagePack value for that task; return it as it is kept, None if it replaced one or is left out."""
        nbytes = weigh(data)
        with self._lock:
            budget = self._budgets.get(owner) or self._budget(owner)
            self.used = True
            key = kind, _display_id(data)
            old = budget.newest.get(key) if kind in REPLACEABLE else None
            if old is not None and not old.sent:
                budget.rich += nbytes - old.nbytes
                old.value, old.nbytes = data, nbytes
                return None
            if budget.rich + nbytes > RICH_MAX:
                if kind == "data" or key in budget.newest:
                    budget.last[key] = data
                else:
                    budget.left_out += 1
                return None
            budget.rich += nbytes
            rich = Rich(data, nbytes)
            if kind in REPLACEABLE:
                budget.newest[key] = rich
            self._put(owner, kind, rich)
            return rich

    def amend(self, rich: Rich, change: Callable[[Any], None]) -> bool:
        """Change a value that is kept, if it is not sent; return whether that was so."""
        with self._lock:
            if rich.sent:
                return False
            change(rich.value)
            return True

    def publish_data(self, value: Any) -> None:
        """Keep a value of the user's, pickled in one piece, in place of one that is not sent."""
        if not self.attached:
            raise RuntimeError(NOT_HERE)
        self.publish("data", dumps_whole(value))

    def _put(self, owner: int, kind: str, data: Any) -> None:
        current = self._current
        self._chunks.append((owner, kind, self.position[1] if owner == current.task else 0, data))
        self.used = True
        self.nudge()

    def _budget(self, owner: int) -> _Budget:
        budget = self._budgets.setdefault(owner, _Budget())
        if len(self._budgets) > LATE_TASKS:  # those of threads that outlived their tasks
            for late in list(self._budgets)[: LATE_TASKS // 2]:
                if late not in (owner, self._current.task) and late not in self._current.awaited:
                    self._budgets.pop(late, None)
        return budget

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
                data.sent = True
                records.append(Output(task, kind, data.value, self.engine, item))
                current.count(task)
            close()

    def finish(self, coroutine: int | None = None) -> None:
        """The running task, or a coroutine task, is over: say what was left out, and count its last output."""
        self.descriptors.finish()
        task = self._current.task if coroutine is None else coroutine
        budget = self._budgets.pop(task, None)
        if budget is not None:
            for name, stream in budget.streams.items():
                if stream.left_out:
                    self._put(task, name, stream.end(name))
            for (kind, _), data in budget.last.items():
                self._put(task, kind, Rich(data, 0))
            if budget.left_out:
                noun = "record" if budget.left_out == 1 else "records"
                text = f"\n[{budget.left_out:,} {noun} of rich output left out: more than {RICH_MAX >> 20} MB]\n"
                self._put(task, "stderr", text)
        if coroutine is None:
            self.used = False
        self.collect()

    def catch_up(self) -> None:
        """Take in what was written to the descriptors, for the task it belongs to (main thread)."""
        descriptors = self.descriptors
        if descriptors.ready(0) or descriptors.reading:
            descriptors.read()

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


def weigh(value: Any) -> int:
    """Return roughly how many bytes a MessagePack value takes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return 16 + sum(len(key) + weigh(item) for key, item in value.items())
    if isinstance(value, list):
        return 16 + sum(map(weigh, value))
    return 16


def _display_id(data: Any) -> str:
    transient = data.get("transient") if isinstance(data, dict) else None
    return str(transient.get("display_id", "")) if isinstance(transient, dict) else ""


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
        """Return the process's own descriptor, for subprocesses; what they write is output of the task too."""
        return self._fd

    def write(self, text: str, /) -> int:
        """Take text; never blocks on the network."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        output = self._output
        if output.attached:
            output.write(self._name, text)
        elif output.detached:
            write_raw(self._fd, text)
        elif (stray := output.stray) is not None:
            stray(self._name, text)
        else:
            write_raw(log_fds.get(self._fd, self._fd), text)
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


def write_raw(fd: int, text: str | bytes) -> None:
    """Write to a descriptor, whole; a reader that is gone is no reason to fail."""
    data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass
