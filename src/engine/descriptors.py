"""Descriptors 1 and 2 of an engine: what C code and subprocesses write there is output of the running task.

Each is the write end of a pipe that the engine itself reads: its control thread when something comes, and its main
thread at the end of each task, so that nothing is left when the result goes (`ready` is one system call). What was read
also goes to the log, as it came: when the engine dies, the last of it is quoted.

The nanny holds the other ends too. It takes what a dead engine has left; and if a pipe is full and the engine does not
read, because what fills it holds the interpreter's lock, the nanny reads in its place (`nanny.relief`).
"""

from __future__ import annotations

import codecs
import ctypes
import fcntl
import functools
import os
import select
import sys
import threading
from typing import TYPE_CHECKING, Any

from .output import log_fds, write_raw

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence, Sequence

    from .output import OutputBuffer

PIPE_BYTES = 1 << 18
"""What a pipe shall hold (Linux). More would soon be all that one user may have in pipes, of many engines."""

READ_AT_ONCE = 1 << 16

READS = 16
"""What is written all the time is read in portions: at most so many, of which four are all that a full pipe holds."""

LOG_PATIENCE_MS = 200
"""How long the log may be full. It is read all the time, unless the nanny is stopped."""

HIGH = 100
"""The log's descriptors are above those that programs are used to."""

_LINE_BUFFERED = 1
"""`_IOLBF` of stdio, on Linux and macOS."""

STREAMS = {1: "stdout", 2: "stderr"}


def keep_logs() -> None:
    """Have the log reached by descriptors of its own; 1 and 2 are for something else from now on."""
    for fd in STREAMS:
        log_fds[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)


class Descriptors:
    """What catches descriptors 1 and 2. `pipes` are the paths of named pipes, or None for unnamed ones.

    `count[0]` is how often something was read. Make one per process, after `keep_logs`.
    """

    def __init__(
        self,
        output: OutputBuffer,
        pipes: Sequence[str] | None,
        count: MutableSequence[int] | memoryview[int],
    ) -> None:
        self.reading = False
        self._output = output
        self._count = count
        self._log_is_stuck = False
        self._lock = threading.RLock()  # a `__del__` may print while its thread reads
        self._streams: dict[int, tuple[int, Any]] = {}
        """By read end: the descriptor that is written to, and the decoder."""
        self.flush: Callable[[], Any]
        """Has C code's buffer leave, if it keeps part of a line back."""
        # For each task is asked whether something has come, and epoll answers soonest. It is shared with forked copies.
        poll = select.epoll() if sys.platform == "linux" else select.poll()
        self.ready: Callable[[int], Sequence[Any]] = poll.poll
        for fd, path in zip(STREAMS, pipes or (None, None), strict=True):
            read_end = self._connect(fd, path)
            self._streams[read_end] = fd, codecs.getincrementaldecoder("utf-8")("replace")
            poll.register(read_end, select.POLLIN)
        self.fds = frozenset(self._streams)
        self.flush = _buffer_lines()

    @staticmethod
    def _connect(fd: int, path: str | None) -> int:
        """Make the descriptor the write end of a pipe; return the read end."""
        if path is None:
            read_end, write_end = os.pipe()
            os.set_blocking(read_end, False)
        else:
            read_end = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            write_end = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            except OSError:
                pass  # the user has all that one may have
        os.dup2(write_end, fd)
        os.close(write_end)
        return read_end

    def read(self) -> None:
        """Put what has come into the buffer, and into the log. Any thread."""
        with self._lock:
            self.reading = True  # before what the poll shows is taken away, after which nobody else would see it
            try:
                for read_end, (fd, decoder) in self._streams.items():
                    self._read_one(read_end, fd, decoder)
            finally:
                self.reading = False

    def _read_one(self, read_end: int, fd: int, decoder: Any) -> None:
        for _ in range(READS):
            try:
                data = os.read(read_end, READ_AT_ONCE)
            except OSError:  # nothing is left
                return
            self._count[0] += 1
            text = decoder.decode(data)
            if text:
                self._output.add(STREAMS[fd], text)
            self._copy_to_log(log_fds[fd], data)
            if len(data) < READ_AT_ONCE:
                return

    def _copy_to_log(self, log: int, data: bytes) -> None:
        """Write where the nanny reads; if it is stopped, tasks are not to wait for it, and the log lacks something."""
        poll = select.poll()
        poll.register(log, select.POLLOUT)
        for at in range(0, len(data), select.PIPE_BUF):  # for so much there is room if the poll says so
            if not poll.poll(0 if self._log_is_stuck else LOG_PATIENCE_MS):
                self._log_is_stuck = True
                return
            self._log_is_stuck = False
            write_raw(log, data[at : at + select.PIPE_BUF])

    def finish(self) -> None:
        """The task is over: what has come of a character is all of it."""
        for fd, decoder in self._streams.values():
            if decoder.getstate()[0]:
                with self._lock:
                    self._output.add(STREAMS[fd], decoder.decode(b"", final=True))

    def forget(self) -> None:
        """This process is a copy: the engine reads what is written here, we do not."""
        self._lock = threading.RLock()
        self.reading = False
        streams, self._streams = self._streams, {}
        for read_end in streams:
            os.close(read_end)


def _buffer_lines() -> Callable[[], Any]:
    """Have what is buffered on its way to descriptor 1 leave line by line, as far as that can be arranged.

    Return what has the rest of a line leave.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    try:
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
        libc.setvbuf(stdout, None, _LINE_BUFFERED, ctypes.c_size_t(0))
        return functools.partial(libc.fflush, stdout)
    except (AttributeError, OSError, ValueError):
        return lambda: None
