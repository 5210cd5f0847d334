"""The store of the head's host, as a client of another host uses it: what it makes is sent there, and what it uses is
fetched from there, in chunks.

Any thread may use it: each transfer has a connection of its own for as long as it takes, and connections are used
again. When one breaks, what was under way on it is asked for, or sent, again as soon as it is back. One more has a
thread that does nothing but keep it: by its end the store knows that this process has ended.
"""

from __future__ import annotations

import bisect
import math
import mmap
import os
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import zmq

from ..errors import ObjectLost, ObjectStoreFull
from ..transport import WAKE, Monitor, open_puller, open_wake_up, send
from ..wire.chunks import Chunk, NoPiece, Piece, Upload, Uploaded
from ..wire.codec import MalformedError, decode_from_serving
from ..wire.messages import VERSION
from ..wire.objects import (
    Abandoned,
    ObjectInfo,
    Reserve,
    Reserved,
    StoreHello,
    StoreRefused,
    StoreWelcome,
    There,
    Want,
    show_object,
)
from . import layout
from .packing import LEAST, Packing, StoreGoneError
from .progress import WINDOW, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import msgspec

    from ..config import Connection
    from ..wire.objects import Source

CONNECT_S = 5.0
"""A store that has not answered for so long cannot be reached from here."""

BROKEN_S = 60.0
"""A connection that has not come back for so long will not."""

SPARE = 2
"""Connections that are kept for the next transfer."""

TRIES = 3
"""How often an object may be moved, in the store, between the answer that it is there and the look."""

A = TypeVar("A", bound="msgspec.Struct")


class FarStore(Packing):
    """The store of another host. `connection` has the keys of this client, `peer` is its routing id at the controller.

    Without a `source` there is none.
    """

    def __init__(self, source: Source | None, connection: Connection, peer: bytes) -> None:
        self._source = source
        self._connection = connection
        self._peer = peer
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._spare: list[_Line] = []
        self._used = 0
        self._is_closed = False
        self._welcome: StoreWelcome | None = None
        self._anchor: _Anchor | None = None
        self.failure = ""
        """Why there is no store, if there is none."""
        if source is None or not source.address:
            self.failure = "the cluster's store of objects cannot be reached from this host"

    def begin(self) -> None:
        """Have the store know of this process."""
        with self._lock:
            if self._anchor is None and not self.failure and self._source is not None:
                self._context = zmq.Context()
                self._anchor = _Anchor(self._context, self._source, self._connection, self._peer)

    def connect(self) -> bool:
        """Wait until the store knows of this process; return whether there is one."""
        self.begin()
        anchor = self._anchor
        if self._welcome is None and not self.failure and anchor is not None:
            anchor.is_ready.wait()
            self._welcome, self.failure = anchor.welcome, anchor.failure
        return not self.failure

    def is_worth(self, nbytes: int) -> bool:
        """Return whether a value of so many bytes should be an object."""
        if nbytes < LEAST or not self.connect():
            return False
        return self._welcome is not None and nbytes >= self._welcome.least

    def make(self, payload: Any, buffers: Sequence[Any]) -> ObjectInfo:
        """Send a pickled value to the store, and return the object that it is now.

        Raises `ObjectStoreFull` if there is no room, and `StoreGoneError` if there is no store.
        """
        pieces = _Pieces(layout.plan(payload, buffers))
        line = self._take()
        try:
            try:
                made = line.upload(pieces, full=False)
            except _FullError:
                made = line.upload(pieces, full=True)
        except _FullError as error:
            self._give_back(line)
            raise ObjectStoreFull(f"a value of {pieces.nbytes:,} bytes cannot be stored: {error}") from None
        except ObjectStoreFull:
            self._give_back(line)
            raise
        except BaseException:
            self._let_go(line)
            raise
        self._give_back(line)
        return ObjectInfo(made, pieces.nbytes)

    def open(self, info: ObjectInfo) -> tuple[memoryview, list[memoryview]]:
        """Return the pickle and the buffers of an object, fetched into memory of this process.

        Raises `ObjectLost` if nobody has it any more, and `StoreGoneError` if there is no store.
        """
        line = self._take()
        try:
            file = line.fetch(info)
        except BaseException:
            self._let_go(line)
            raise
        self._give_back(line)
        try:
            return layout.read(file)
        except ValueError as error:
            raise ObjectLost(f"object {show_object(info.id)} is damaged: {error}") from error

    def close(self) -> None:
        """Leave the store. What was made is not touched; the controller decides on it."""
        if self._pid != os.getpid():
            return
        with self._lock:
            anchor, self._anchor = self._anchor, None
            self._is_closed, self.failure = True, "this process has left the store of the cluster"
            spare, self._spare = self._spare, []
        for line in spare:
            line.close()
        if anchor is not None:
            anchor.close()
        with self._lock:
            self._end()

    # ----------------------------------------------------------------------------------------------------- connections

    def _take(self) -> _Line:
        """Return a connection for one transfer."""
        if self._pid != os.getpid():  # a forked copy has nothing of what its parent had open, and does not speak for it
            self._pid, self._context, self._anchor = os.getpid(), zmq.Context(), None
            self._lock, self._spare, self._used = threading.Lock(), [], 0
        elif not self.connect():
            raise StoreGoneError(self.failure)
        with self._lock:
            if self.failure or self._source is None:
                raise StoreGoneError(self.failure)
            self._used += 1
            if self._spare:
                return self._spare.pop()
            context = self._context
        assert context is not None
        line = None
        try:
            line = _Line(context, self._source, self._connection, self._peer)
            line.greet(b"")
        except BaseException:
            self._let_go(line)
            raise
        return line

    def _give_back(self, line: _Line) -> None:
        with self._lock:
            if self._is_closed or len(self._spare) >= SPARE or self._pid != os.getpid():
                line.close()
            else:
                self._spare.append(line)
            self._used -= 1
            self._end()

    def _let_go(self, line: _Line | None) -> None:
        """A transfer has failed: there may be answers on their way that nobody waits for."""
        with self._lock:
            if line is not None:
                line.close()
            self._used -= 1
            self._end()

    def _end(self) -> None:
        if self._is_closed and not self._used and self._context is not None:
            self._context.term()
            self._context = None


class _Anchor:
    """The connection by which the store knows of this process, and the thread that keeps it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], source: Source, connection: Connection, peer: bytes
    ) -> None:
        self.welcome: StoreWelcome | None = None
        self.failure = ""
        self.is_ready = threading.Event()
        """There is a welcome, or a failure."""
        self._wake_read, self._wake_write = open_wake_up()
        args = (context, source, connection, peer)
        self._thread = threading.Thread(target=self._run, args=args, name="enginery-far", daemon=True)
        self._thread.start()

    def _run(
        self, context: zmq.Context[zmq.Socket[bytes]], source: Source, connection: Connection, peer: bytes
    ) -> None:
        line = _Line(context, source, connection, peer, self._wake_read)
        try:
            self.welcome = line.greet(peer)
            self.is_ready.set()
            line.stay(peer)
        except StoreGoneError as error:
            self.failure = str(error)
        finally:
            self.is_ready.set()
            line.close()

    def close(self) -> None:
        """End the connection."""
        os.write(self._wake_write, WAKE)
        self._thread.join()
        for fd in {self._wake_read, self._wake_write}:
            os.close(fd)


class _FullError(Exception):
    """The place that the store had for an object has turned out to be full."""


class _Line:
    """A connection to the store, for one transfer at a time. One thread uses it, until `wake` is readable."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        source: Source,
        connection: Connection,
        peer: bytes,
        wake: int | None = None,
    ) -> None:
        self._address = source.address
        self._socket = open_puller(context, source.address, source.key, connection, peer[:200] + os.urandom(4))
        self._monitor = Monitor(self._socket)
        self._numbers = 0
        self._broken_since: float | None = time.monotonic()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor.socket, zmq.POLLIN)
        self._wake = wake
        if wake is not None:
            self._poller.register(wake, zmq.POLLIN)
        self._socket.connect(source.address)

    def greet(self, peer: bytes) -> StoreWelcome:
        """Introduce this process; without its name what it makes is not known to be its own."""
        deadline = time.monotonic() + CONNECT_S
        return self._request(StoreHello(VERSION, peer), StoreWelcome, None, deadline)

    def stay(self, peer: bytes) -> None:
        """Keep the connection: introduce the process again when it was broken."""
        while True:
            for answer, _frame in self._hear(patient=True):
                if answer is None:
                    send(self._socket, StoreHello(VERSION, peer))

    def fetch(self, info: ObjectInfo) -> memoryview:
        """Return the content of an object."""
        if not info.nbytes:
            return memoryview(bytearray())
        memory = memoryview(mmap.mmap(-1, info.nbytes))
        progress = Progress(info.nbytes)
        why = ""
        for _ in range(TRIES):
            self._numbers += 1
            there = self._request(Want(self._numbers, info), There, self._numbers)
            if there.error:
                raise ObjectLost(there.error)
            why = self._fetch(info, memory, progress)
            if not why:
                return memory
            progress.forget_asked()
        raise ObjectLost(why)

    def _fetch(self, info: ObjectInfo, memory: memoryview, progress: Progress) -> str:
        """Fetch what is missing; return why that is not possible, if it is not."""
        requests: dict[int, tuple[int, int]] = {}
        while not progress.is_whole:
            while len(requests) < WINDOW and (span := progress.ask()) is not None:
                self._numbers += 1
                requests[self._numbers] = span
                send(self._socket, Chunk(self._numbers, info.id, *span))
            for answer, frame in self._hear():
                match answer:
                    case None:
                        progress.forget_asked()
                        requests.clear()
                    case Piece(number) if frame is not None and number in requests:
                        offset, nbytes = requests.pop(number)
                        data = frame.buffer
                        if data.nbytes != nbytes:
                            return (
                                f"the store has sent other bytes of object {show_object(info.id)} than were asked for"
                            )
                        memory[offset : offset + nbytes] = data
                        progress.on_here(offset)
                    case NoPiece(number, why) if number in requests:
                        return why
        return ""

    def upload(self, pieces: _Pieces, *, full: bool) -> bytes:
        """Send an object, and return its id: it is sealed."""
        self._numbers += 1
        reserved = self._request(Reserve(self._numbers, pieces.nbytes, full), Reserved, self._numbers)
        if reserved.error:
            raise ObjectStoreFull(reserved.error)
        made = reserved.object
        progress = Progress(pieces.nbytes)
        try:
            while not progress.is_whole:
                while len(progress.asked) < WINDOW and (span := progress.ask()) is not None:
                    send(self._socket, Upload(made, span[0]), (pieces.find(*span),))
                for answer, _frame in self._hear():
                    if answer is None:
                        progress.forget_asked()
                    elif isinstance(answer, Uploaded) and answer.object == made:
                        if answer.error:
                            raise _FullError(answer.error)
                        progress.on_here(answer.offset)
        except _FullError:
            raise
        except BaseException:
            send(self._socket, Abandoned(made))
            raise
        return made

    # --------------------------------------------------------------------------------------------------------- talking

    def _request(self, message: msgspec.Struct, wanted: type[A], number: int | None, until: float | None = None) -> A:
        """Return the answer to a message, which is said again when the connection was broken meanwhile."""
        send(self._socket, message)
        while True:
            for answer, _frame in self._hear(until):
                if answer is None:
                    send(self._socket, message)
                elif isinstance(answer, wanted) and (number is None or getattr(answer, "request", None) == number):
                    return answer

    def _hear(self, until: float | None = None, *, patient: bool = False) -> Iterator[tuple[Any, zmq.Frame | None]]:
        """Wait, then yield what has come, with its frame; None when the connection was broken and is back.

        Raises `StoreGoneError` when it does not come back, or nothing has come until then.
        """
        now = time.monotonic()
        broken = None if self._broken_since is None else self._broken_since + BROKEN_S
        ends = [] if patient else [end for end in (until, broken) if end is not None]
        if ends and now >= min(ends):
            raise StoreGoneError(f"the cluster's store of objects at {self._address} does not answer")
        ready = dict(self._poller.poll(math.ceil(1000 * (min(ends) - now)) if ends else None))
        if self._wake is not None and self._wake in ready:
            raise StoreGoneError("this process has left the store of the cluster")
        if self._monitor.socket in ready:
            yield from self._changes()
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                answer = decode_from_serving(frames[0].buffer)
            except MalformedError as error:
                raise StoreGoneError(f"the cluster's store of objects is not to be understood: {error}") from error
            if isinstance(answer, StoreRefused):
                raise StoreGoneError(f"the cluster's store of objects cannot be used: {answer.reason}")
            yield answer, frames[1] if len(frames) > 1 else None

    def _changes(self) -> Iterator[tuple[None, None]]:
        """Yield when the connection is back."""
        was_there = self._was_there
        for event in self._monitor.events():
            if event == Monitor.CONNECTED:
                self._broken_since = None
                if was_there:
                    yield None, None
                was_there = self._was_there = True
            elif self._broken_since is None:
                self._broken_since = time.monotonic()

    _was_there = False
    """It has been there before: what was sent may have been lost."""

    def close(self) -> None:
        """End it."""
        self._monitor.close()
        self._socket.close(linger=0)


class _Pieces:
    """What an object's file consists of, by offset."""

    def __init__(self, plan: layout.Plan) -> None:
        self.nbytes = plan.nbytes
        self._views = [view for piece in plan.pieces if (view := memoryview(piece).cast("B")).nbytes]
        self._starts: list[int] = []
        at = 0
        for view in self._views:
            self._starts.append(at)
            at += view.nbytes

    def find(self, offset: int, nbytes: int) -> Any:
        """Return these bytes: as they are in memory, if they are together there."""
        i = bisect.bisect_right(self._starts, offset) - 1
        found: list[memoryview] = []
        while nbytes:
            begin = offset - self._starts[i]
            part = self._views[i][begin : begin + nbytes]
            found.append(part)
            offset, nbytes, i = offset + part.nbytes, nbytes - part.nbytes, i + 1
        return found[0] if len(found) == 1 else b"".join(found)
