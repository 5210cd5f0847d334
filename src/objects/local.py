"""The store of this host, as an engine or a client uses it.

```
make:  Reserve ──► Reserved(path) ── write the file ── Sealed ──► (now others may be told)
use:   map folder/name; if it is not there: Want ──► There(path) ── map that
```

What is in memory is mapped without a word (but `Used`). The nanny is asked for room, and for what is not there. The
connection is made when it is first needed; when it ends, so has this process, as far as the store is concerned. A
forked copy of the process is not this process: it can map what is in memory, and no more.

Several threads may wait for answers at once. Each looks at the next packet, and takes it if it is its own; what others
wait for is left to them for a moment, and what nobody waits for is dropped.

**Interrupts** may come between any two steps, in a thread that waits or writes. So an answer is noted before it is
taken, and what a thread has made is *unclaimed* until it says that somebody knows of it (`claim`). What is unclaimed
can be abandoned, and is when the thread makes the next.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import select
import socket
import threading
import time
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
    file_name,
    show_object,
)
from . import layout
from .mapping import map_private
from .packing import FRAMES_MAX, LEAST, Packing, StoreGoneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import msgspec

__all__ = ["FRAMES_MAX", "LEAST", "LocalStore", "StoreGoneError"]

ANSWER_S = 30.0
"""A store that has not listened for so long is of no use."""

ROOM_S = 120.0
"""How long it may take a store to make room: it may have to bring much to a slow disk first."""

LONGEST = 1 << 16
"""No message between a store and its users is longer."""

KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM)
"""Packets that keep their order; where there are none (macOS) no nanny has a store."""

TRIES = 5
"""How often an object may be moved between the answer where it is and the look there."""

TURN_S = 1e-3
"""How long whoever an answer is for has time to take it before others look again at what is next."""

ASIDE_S = 0.05
"""After so long they read it, and put it aside for that one."""


_COPY = "this process is a copy of the one that uses the store of this host"


class LocalStore(Packing):
    """The store of this host. Any thread may use it.

    `path` is that of the nanny's Unix socket, `peer` our routing id at the controller. Without a path there is none.
    """

    def __init__(self, path: str | None, peer: bytes) -> None:
        self._path = path
        self._peer = peer
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """Held for single steps, never while something is waited for (the first connection excepted)."""
        self._socket: socket.socket | None = None
        self._requests = itertools.count(1)
        self._awaited: dict[int, int] = {}
        """Requests whose answers somebody waits for: by thread. One that was interrupted may be left there until the
        thread asks again."""
        self._aside: dict[int, Any] = {}
        """Answers that somebody else has read."""
        self._welcome: StoreWelcome | None = None
        self.unclaimed: dict[int, list[Reserved]] = {}
        """What was made, or was about to be, and nobody knows of yet: by thread."""
        self.failure = "" if path else "this process has no nanny on its host"
        """Why there is no store, if there is none."""

    # ---------------------------------------------------------------------------------------------- making

    def connect(self) -> bool:
        """Have the store know of this process; return whether there is one. Also done when first needed."""
        if self._is_copy():
            return False
        with self._lock:
            return self._connected()

    def is_worth(self, nbytes: int) -> bool:
        """Return whether a value of so many bytes should be an object."""
        if nbytes < LEAST or self.failure:
            return False
        if self._welcome is None and not self.connect():
            return False
        welcome = self._welcome
        return welcome is not None and nbytes >= welcome.least

    def make(self, payload: Any, buffers: Sequence[Any]) -> ObjectInfo:
        """Write a pickled value once, and return the object that it is now. It is unclaimed.

        Raises `ObjectStoreFull` if there is no room, and `StoreGoneError` if there is no store.
        """
        self.abandon()  # what this thread was interrupted in
        pieces, nbytes = layout.plan(payload, buffers)
        try:
            reserved, failure = self._write(pieces, nbytes, full=False)
            if failure is not None:
                reserved, failure = self._write(pieces, nbytes, full=True)
            if failure is not None:
                raise ObjectStoreFull(f"a value of {nbytes:,} bytes cannot be stored: {failure}") from failure
            self._say(Sealed(reserved.object))
        except BaseException:
            self.abandon()
            raise
        return ObjectInfo(reserved.object, nbytes)

    def _write(self, pieces: Sequence[Any], nbytes: int, *, full: bool) -> tuple[Reserved, OSError | None]:
        reserved = self._ask(Reserve, nbytes, full, wanted=Reserved, patience_s=ROOM_S)
        if reserved.error:
            raise ObjectStoreFull(reserved.error)
        try:
            with io.FileIO(reserved.path, "x") as file:  # the folder is ours alone
                layout.write(file.fileno(), pieces)
        except OSError as error:
            self.abandon()
            return reserved, error
        return reserved, None

    def claim(self) -> None:
        """What this thread has made is known to somebody: it is not to be abandoned any more."""
        self.unclaimed.pop(threading.get_ident(), None)

    def abandon(self) -> None:
        """Remove what this thread has made, or begun to, and not claimed."""
        made = self.unclaimed.get(threading.get_ident())
        while made:
            reserved = made[-1]
            with contextlib.suppress(OSError):
                os.unlink(reserved.path)  # noqa: PTH108 - as it was opened
            self._say(Abandoned(reserved.object))
            made.pop()  # now: whoever is interrupted before does it again
        if made is not None:
            self.claim()

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
        welcome = self._welcome
        if welcome is None:
            if not self.connect() or self._welcome is None:
                raise StoreGoneError(self.failure or _COPY)
            welcome = self._welcome
        try:
            file = map_private(os.path.join(welcome.folder, file_name(info.id)))  # noqa: PTH118 - on the fast path
        except FileNotFoundError:
            return None
        if file.nbytes != info.nbytes:
            return None  # it is being written, or brought: the store knows when it is whole
        self._say(Used(info.id), must=False)
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

    def _ask(self, kind: Any, *args: Any, wanted: Any, patience_s: float | None = None) -> Any:
        number, me = next(self._requests), threading.get_ident()
        until = None if patience_s is None else time.monotonic() + patience_s
        others_since = None
        """Since when what is next is for somebody else."""
        try:
            self._awaited[me] = number
            if not self.connect():
                raise StoreGoneError(self.failure or _COPY)
            self._send(encode(kind(number, *args)))
            while True:
                now = time.monotonic()
                answer, is_others = self._look(
                    number, put_aside=others_since is not None and now > others_since + ASIDE_S
                )
                if isinstance(answer, wanted):
                    return answer
                left = None if until is None else until - now
                if left is not None and left <= 0:
                    raise ObjectStoreFull(f"the store of this host has found no room for a value in {patience_s:.0f} s")
                if is_others:
                    others_since = others_since or now
                    time.sleep(TURN_S)
                else:
                    others_since = None
                    self._wait(select.POLLIN, left)
        finally:
            self._awaited.pop(me, None)

    def _look(self, number: int, *, put_aside: bool) -> tuple[Any, bool]:
        """Return the answer to a request, if it has come; and whether the next packet is for somebody else, who is to
        take it: unless that one is slow to do so (`put_aside`).
        """
        with self._lock:
            for asked, answer in list(self._aside.items()):
                if asked == number or asked not in self._awaited.values():
                    self._settle(answer, is_ours=asked == number)
                    del self._aside[asked]
                    if asked == number:
                        return answer, False
            while True:
                if self._socket is None:
                    raise StoreGoneError(self.failure)
                try:
                    data = self._socket.recv(LONGEST, socket.MSG_PEEK)
                    if not data:
                        raise EOFError("it has closed the connection")
                    answer = decode_from_store(data)
                except BlockingIOError:
                    return None, False
                except (OSError, EOFError, MalformedError) as error:
                    self._lose(f"the store of this host has ended ({error})")
                    continue
                asked = answer.request if isinstance(answer, Reserved | There) else 0
                if asked != number and asked in self._awaited.values():
                    if not put_aside:
                        return None, True
                    self._aside[asked] = answer
                else:
                    self._settle(answer, is_ours=asked == number)
                with contextlib.suppress(OSError):
                    self._socket.recv(1)  # the rest of a packet goes with it
                if asked == number:
                    return answer, False

    def _settle(self, answer: Any, *, is_ours: bool) -> None:
        """Note what was reserved for us; give back what was for somebody who was interrupted, or would not wait. The
        lock is held.
        """
        if not isinstance(answer, Reserved) or answer.error:
            return
        if is_ours:
            self.unclaimed.setdefault(threading.get_ident(), []).append(answer)
        elif self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(encode(Abandoned(answer.object)))

    def _send(self, packet: bytes) -> None:
        """Send a packet; StoreGoneError if that cannot be done."""
        until = time.monotonic() + ANSWER_S
        while True:
            with self._lock:
                if self._socket is None:
                    raise StoreGoneError(self.failure)
                try:
                    self._socket.send(packet)
                except BlockingIOError:  # it has much to do
                    pass
                except OSError as error:
                    self._lose(f"the store of this host has ended ({error})")
                    raise StoreGoneError(self.failure) from error
                else:
                    return
            left = until - time.monotonic()
            if left <= 0:
                raise StoreGoneError(f"the store of this host has not listened for {ANSWER_S:.0f} s")
            self._wait(select.POLLOUT, left)

    def _say(self, message: msgspec.Struct, *, must: bool = True) -> None:
        """Say something that has no answer; without `must` it may be lost."""
        if self._is_copy():
            return
        if must:
            with contextlib.suppress(StoreGoneError):
                self._send(encode(message))
            return
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.send(encode(message))

    def _wait(self, what: int, timeout_s: float | None) -> None:
        poll = select.poll()
        with self._lock:
            if self._socket is None:
                return
            poll.register(self._socket, what)
        poll.poll(1000 if timeout_s is None else min(timeout_s, 1.0) * 1000)  # another thread may lose the connection

    def _is_copy(self) -> bool:
        return self._pid != os.getpid()

    def _connected(self) -> bool:
        """Return whether there is a connection, which is made now. The lock is held."""
        if self._socket is not None:
            return True
        if self._path is None or self.failure:
            return False
        mine = socket.socket(socket.AF_UNIX, KIND)
        try:
            mine.settimeout(ANSWER_S)
            mine.connect(self._path)
            mine.sendall(encode(StoreHello(VERSION, self._peer, self._pid)))
            data = mine.recv(LONGEST)
            if not data:
                raise EOFError("it has closed the connection")
            answer = decode_from_store(data)
            if isinstance(answer, StoreWelcome):
                mine.settimeout(0)
                self._welcome, self._socket = answer, mine
                return True
            reason = answer.reason if isinstance(answer, StoreRefused) else "it does not say who it is"
        except (OSError, EOFError, MalformedError) as error:
            reason = str(error) or type(error).__name__
        mine.close()
        self.failure = f"the store of this host cannot be used: {reason}"
        return False

    def _lose(self, why: str) -> None:
        """The lock is held."""
        self.failure = why
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes those who wait
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Leave the store. What was made is not touched; the controller decides on it."""
        if self._is_copy():
            return
        with self._lock:
            self._lose("this process has left the store of its host")
