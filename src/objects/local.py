"""The store of this host, as an engine or a client uses it.

```
make:  Reserve ──► Reserved(path) ── write the file ── Sealed ──► (now others may be told)
use:   map folder/name; if it is not there: Want ──► There(path) ── map that
```

What is in memory is mapped without a word (but `Used`). The nanny is asked for room, and for what is not there. The
connection is made when it is first needed; when it ends, so has this process, as far as the store is concerned.

Each message is one packet: a thread that is interrupted between two steps loses an answer, and never half of one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import warnings
from typing import TYPE_CHECKING, Any

from ..errors import ObjectLost, ObjectStoreFull
from ..wire.codec import MalformedError, decode_from_store, encode
from ..wire.messages import VERSION, ObjectInfo
from ..wire.objects import (
    Abandoned,
    Reserve,
    Reserved,
    Sealed,
    StoreHello,
    StoreRefused,
    StoreWelcome,
    There,
    Used,
    Want,
    reference_to,
    show_object,
)
from . import layout
from .mapping import map_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

LEAST = 1 << 16
"""Values of fewer bytes are no objects, whatever a store says: it is not even asked."""

ANSWER_S = 30.0
"""A store that has not said for so long whether there is room is of no use."""

FRAMES_MAX = 256 << 20
"""So large a value may go through the controller where there is no room for an object; a larger one is an error."""

LONGEST = 1 << 16
"""No message between a store and its users is longer."""

KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM)
"""Packets that keep their order; where there are none (macOS) no nanny has a store."""

TRIES = 5
"""How often an object may be moved between the answer where it is and the look there."""


class StoreGoneError(Exception):
    """There is no store here (any more): values go in frames."""


class LocalStore:
    """The store of this host. Any thread may use it; one at a time talks to the nanny.

    `path` is that of the nanny's Unix socket, `peer` our routing id at the controller. Without a path there is none.
    """

    def __init__(self, path: str | None, peer: bytes) -> None:
        self._path = path
        self._peer = peer
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._pid = 0
        self._requests = 0
        self._welcome: StoreWelcome | None = None
        self._has_warned = False
        self.failure = "" if path else "this process has no nanny on its host"
        """Why there is no store, if there is none."""

    # ---------------------------------------------------------------------------------------------- making

    def connect(self) -> bool:
        """Have the store know of this process; return whether there is one. Also done when first needed."""
        with self._lock:
            return self._connected()

    def is_worth(self, nbytes: int) -> bool:
        """Return whether a value of so many bytes should be an object."""
        if nbytes < LEAST or self.failure:
            return False
        welcome = self._welcome
        if welcome is None or self._pid != os.getpid():
            if not self.connect():
                return False
            welcome = self._welcome
        return welcome is not None and nbytes >= welcome.least

    def make(self, payload: Any, buffers: Sequence[Any]) -> ObjectInfo:
        """Write a pickled value once, and return the object that it is now.

        Raises `ObjectStoreFull` if there is no room, and `StoreGoneError` if there is no store.
        """
        if buffers and not len(payload):
            payload, *buffers = buffers
        pieces, nbytes = layout.plan(payload, buffers)
        full = False
        while True:
            reserved = self._ask(Reserve, nbytes, full, wanted=Reserved)
            if reserved.error:
                raise ObjectStoreFull(reserved.error)
            try:
                fd = os.open(reserved.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    layout.write(fd, pieces)
                finally:
                    os.close(fd)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    os.unlink(reserved.path)  # noqa: PTH108 - as it was opened
                self._say(Abandoned(reserved.object))
                if not isinstance(error, OSError) or full:
                    if isinstance(error, OSError):
                        raise ObjectStoreFull(f"a value of {nbytes:,} bytes cannot be stored: {error}") from error
                    raise
                full = True
                continue
            self._say(Sealed(reserved.object))
            return ObjectInfo(reserved.object, nbytes)

    def pack(self, payload: bytes, buffers: Sequence[Any], *, keep: bool = False) -> tuple[bytes, ObjectInfo] | None:
        """Make an object of a pickled value if it is large enough, or is to be kept; return the reference to it, and
        what it is. None: it goes in frames, since it is small, or there is no room (with a warning, once).

        Raises `ObjectStoreFull` where there is no room and it is too large for frames, or is to be kept.
        """
        nbytes = len(payload) + sum(memoryview(buffer).nbytes for buffer in buffers)
        if not (keep or self.is_worth(nbytes)):
            return None
        try:
            info = self.make(payload, buffers)
        except StoreGoneError as error:
            if keep:
                raise ObjectStoreFull(f"a value cannot be kept here: {error}") from error
            return None
        except ObjectStoreFull as error:
            if keep or nbytes > FRAMES_MAX:
                raise
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(f"{error}; it goes through the controller, which is slow", ResourceWarning, stacklevel=2)
            return None
        return reference_to(info), info

    # ---------------------------------------------------------------------------------------------- using

    def open(self, info: ObjectInfo) -> tuple[memoryview, list[memoryview]]:
        """Return the pickle and the buffers of an object, mapped here, writable.

        Raises `ObjectLost` if nobody has it any more, and `StoreGoneError` if there is no store.
        """
        for _ in range(TRIES):
            file = self._find_mapped(info) or self._ask_for(info)
            if file is not None:
                try:
                    return layout.read(file)
                except ValueError as error:
                    raise ObjectLost(f"object {show_object(info.id)} is damaged: {error}") from error
        raise ObjectLost(f"object {show_object(info.id)} is moved about too fast to be read")

    def find(self, info: ObjectInfo) -> tuple[memoryview, list[memoryview]] | None:
        """Return the same of an object that is in memory here; None: it would have to be brought."""
        file = self._find_mapped(info)
        return None if file is None else layout.read(file)

    def _find_mapped(self, info: ObjectInfo) -> memoryview | None:
        with self._lock:
            if not self._connected() or self._welcome is None:
                raise StoreGoneError(self.failure)
            folder = self._welcome.folder
        try:
            file = map_private(os.path.join(folder, layout.file_name(info.id)))  # noqa: PTH118 - on the fast path
        except FileNotFoundError:
            return None
        if file.nbytes != info.nbytes:
            return None  # it is being written, or brought: the store knows when it is whole
        self._say(Used(info.id))
        return file

    def _ask_for(self, info: ObjectInfo) -> memoryview | None:
        there = self._ask(Want, info, wanted=There, patience_s=None)
        if there.error:
            raise ObjectLost(there.error)
        try:
            return map_private(there.path)
        except FileNotFoundError:
            return None

    # ---------------------------------------------------------------------------------------------- talking

    def _ask(self, kind: Any, *args: Any, wanted: Any, patience_s: float | None = ANSWER_S) -> Any:
        with self._lock:
            if not self._connected() or self._socket is None:
                raise StoreGoneError(self.failure)
            self._requests += 1
            number = self._requests
            try:
                self._socket.settimeout(patience_s)
                self._socket.sendall(encode(kind(number, *args)))
                while True:
                    answer = decode_from_store(_receive(self._socket))
                    if isinstance(answer, wanted) and answer.request == number:
                        return answer
                    if isinstance(answer, Reserved) and not answer.error:  # whoever asked was interrupted
                        self._socket.sendall(encode(Abandoned(answer.object)))
            except (OSError, EOFError, MalformedError) as error:
                self._lose(f"the store of this host has ended ({error})")
                raise StoreGoneError(self.failure) from error

    def _say(self, message: msgspec.Struct) -> None:
        with self._lock:
            if self._socket is None:
                return
            try:
                self._socket.settimeout(ANSWER_S)
                self._socket.sendall(encode(message))
            except OSError as error:
                self._lose(f"the store of this host has ended ({error})")

    def _connected(self) -> bool:
        """Return whether there is a connection, made anew in a forked copy. The lock is held."""
        if self._socket is not None and self._pid == os.getpid():
            return True
        if self._path is None or (self.failure and self._pid == os.getpid()):
            return False
        self._pid, self._socket, self.failure = os.getpid(), None, ""
        mine = socket.socket(socket.AF_UNIX, KIND)
        try:
            mine.settimeout(ANSWER_S)
            mine.connect(self._path)
            mine.sendall(encode(StoreHello(VERSION, self._peer, self._pid)))
            answer = decode_from_store(_receive(mine))
            if isinstance(answer, StoreWelcome):
                self._socket, self._welcome = mine, answer
                return True
            reason = answer.reason if isinstance(answer, StoreRefused) else "it does not say who it is"
        except (OSError, EOFError, MalformedError) as error:
            reason = str(error) or type(error).__name__
        mine.close()
        self.failure = f"the store of this host cannot be used: {reason}"
        return False

    def _lose(self, why: str) -> None:
        self.failure = why
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Leave the store. What was made is not touched; the controller decides on it."""
        with self._lock:
            if self._socket is not None and self._pid == os.getpid():
                self._lose("it was left")


def _receive(connection: socket.socket) -> bytes:
    """Return the next message; EOFError if there will be none."""
    data = connection.recv(LONGEST)
    if not data:
        raise EOFError("it has closed the connection")
    return data
