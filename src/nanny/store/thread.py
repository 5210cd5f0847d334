"""The store at work: a thread of the nanny, with a Unix socket for the processes of this host.

```
processes of this host ── packets ──► books ──► answers, files moved and removed
controller's messages ──── queue ────►      └─► messages to the controller: `take()` by the nanny's loop
pulls, clients elsewhere ─ queue ────►      └─► what is to be brought: `puller`
```

Everything happens in this thread, one event after the other. Others hand in what they have by `post`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import selectors
import socket
import struct
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ...objects.local import KIND, LONGEST
from ...wire import objects as o
from ...wire.codec import MalformedError, decode_to_store, encode
from ...wire.messages import VERSION
from . import files, mapped
from .books import Books
from .records import Answer, Fetch, Look, Move, Place, Remove, See, Stage, Tell, Unfetch
from .seen import seen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...wire.objects import ObjectInfo, Source
    from .records import Action, ToTell

BACKLOG = 4096
"""So many processes may begin at the same moment."""

BURST = 64
"""Messages of one process taken in one go."""

LOOK_SHARE = 10
"""Looks at what is mapped take no more than one part in so many of the time."""

FULL_S = 0.01
"""Who connects while this process can have no more descriptors waits; we look for them again so often."""

CLOSE_S = 2.0
"""How long the thread may take to end."""

_CREDENTIALS = struct.Struct("3i")


class Puller(Protocol):
    """Brings objects from other stores. Called in the store's thread, and does not keep it."""

    def pull(self, info: ObjectInfo, sources: Sequence[Source], path: str) -> None:
        """Write the object to this file, then call `on_pulled`, or `on_unpulled`; said again with other sources."""

    def drop(self, object_id: bytes) -> None:
        """Stop bringing it, and let go of its file if it is served."""

    def close(self) -> None:
        """End."""


class _Process:
    """A process of this host, as its connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.pid, _uid, _gid = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        self.is_known = False
        """It has said who it is."""


class _Guest:
    """A client that is elsewhere: somebody else has its connection."""

    def __init__(self, answer: Callable[[o.FromStore], None]) -> None:
        self.answer = answer
        self.is_known = False


class Store:
    """The store of this host. Its files are in the folders `memory` and, when that is full, `disk` (empty: nowhere).

    `limit` is how many bytes of shared memory it may take, `least` the size of a value that is worth an object.
    """

    def __init__(
        self, path: str, memory: str, disk: str, *, limit: int, least: int, log: Callable[[str], None]
    ) -> None:
        self.source = o.Source(os.urandom(o.STORE_BYTES), "")
        """How others reach it."""
        self.path = path
        """Of its socket."""
        self.memory = memory
        self.disk = disk
        self.puller: Puller | None = None
        """Brings objects from elsewhere; to be set before the start. None: that cannot be done."""
        self._least = least
        self._log = log
        self._books = Books(self.source.store, memory, disk, limit, files.Files(disk))
        self._lock = threading.RLock()
        """Held for an event in the books, and not while processes are looked at."""
        self._copier = files.Copier(lambda *moved: self.post(lambda: self._moved(*moved)))
        self._users: dict[int, _Process | _Guest] = {}
        self._last_user = 0
        self._pids: dict[int, bytes] = {}
        """Processes that may have something mapped, and who they said they are."""
        self._looked = (0.0, 0.0, frozenset[bytes](), frozenset[bytes]())
        """The last look: when, how long it took, what was mapped, and what of that was removed."""
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[ToTell] = queue.SimpleQueue()
        self._wake_read, self._wake_write = _pipe()
        self._out_read, self._out_write = _pipe()
        self._stopping = False
        self._listener = socket.socket(socket.AF_UNIX, KIND)
        self._listener.bind(path)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    # ------------------------------------------------------------------------------------------- for the nanny's loop

    def start(self) -> None:
        """Begin."""
        self._copier.start()
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to `take`."""
        return self._out_read

    def take(self) -> list[ToTell]:
        """Return what the controller is to be told."""
        _drain(self._out_read)
        return [self._outbox.get_nowait() for _ in range(self._outbox.qsize())]

    def deliver(self, message: o.Drop | o.Pull | o.Lacking | o.StoreQuery) -> None:
        """Hand in a message of the controller."""
        match message:
            case o.Drop():
                self.post(lambda: self._books.on_drop(message.objects))
            case o.Pull():
                self.post(lambda: self._books.on_pull(message))
            case o.Lacking():
                self.post(lambda: self._books.on_lacking(message))
            case o.StoreQuery():
                self.post(lambda: self._books.on_query(message))

    def holdings(self) -> tuple[list[ObjectInfo], list[bytes]]:
        """Return what is here, whole, and what of it has lost its maker. A controller that asks for it is told all."""
        with self._lock:
            found = self._books.holdings()
        self.post(self._books.on_resumed)
        return found

    def close(self) -> None:
        """End. The files are removed by whoever removes the folders."""
        self._stopping = True
        self._copier.close()
        if self.puller is not None:
            self.puller.close()
        if self._thread.is_alive():
            self._wake()
            self._thread.join(CLOSE_S)
            self._copier.join(CLOSE_S)

    # ---------------------------------------------------------------------------------------------- for other threads

    def post(self, event: Callable[[], None]) -> None:
        """Have something done in the store's thread, after all that was handed in before."""
        self._inbox.put(event)
        self._wake()

    def on_pulled(self, object_id: bytes) -> None:
        """Take note that an object is in the file that it was to be brought to, whole."""
        self.post(lambda: self._books.on_pulled(object_id))

    def on_unpulled(self, object_id: bytes, why: str, *, full: bool = False) -> None:
        """Take note that none of the sources has it, or (`full`) that it cannot be written."""
        self.post(lambda: self._books.on_unpulled(object_id, why, is_full=full))

    def on_used(self, object_id: bytes) -> None:
        """Take note that an object was served."""
        self.post(lambda: self._books.on_used(object_id))

    def find(self, object_id: bytes) -> tuple[str, int] | None:
        """Return path and size of an object that is here, whole; it may be moved any time: then look again."""
        with self._lock:
            return self._books.find(object_id)

    def attach(self, answer: Callable[[o.FromStore], None]) -> int:
        """Return the number of a process elsewhere; `answer` is called with what to send it, in the store's thread."""
        with self._lock:
            self._last_user += 1
            self._users[self._last_user] = _Guest(answer)
            return self._last_user

    def tell(self, guest: int, message: o.ToStore) -> None:
        """Hand in a message of such a process."""
        self.post(lambda: self._on_message(guest, message))

    def detach(self, guest: int) -> None:
        """Such a process has gone."""
        self.post(lambda: self._leave(guest))

    # ------------------------------------------------------------------------------------------------------- the turn

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it is about to wake anyway
            os.write(self._wake_write, b"\0")

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data is not None:
                        self._read(key.data)
                _drain(self._wake_read)
                self._read_inbox()
        except Exception:
            self._log(f"the store of objects has failed; values go through the controller:\n{traceback.format_exc()}")
        finally:
            self._selector.close()
            self._listener.close()
            for process in self._users.values():
                if isinstance(process, _Process):
                    process.socket.close()

    def _read_inbox(self) -> None:
        for _ in range(self._inbox.qsize()):
            self._do(self._inbox.get_nowait())

    def _do(self, event: Callable[[], None]) -> None:
        """See an event through, with all that comes of it."""
        try:
            with self._lock:
                event()
                actions = self._books.take()
            while actions:
                for action in actions:
                    self._act(action)
                with self._lock:
                    actions = self._books.take()
        except Exception:  # it is one event's, and everybody else's store goes on
            self._log(f"something is wrong in the store of objects:\n{traceback.format_exc()}")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:  # there is no other, or it has gone
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    time.sleep(FULL_S)
                return
            connection.setblocking(False)
            with self._lock:
                self._last_user += 1
                user = self._last_user
                self._users[user] = _Process(connection)
            self._selector.register(connection, selectors.EVENT_READ, user)

    def _read(self, user: int) -> None:
        process = self._users.get(user)
        if not isinstance(process, _Process):
            return
        for _ in range(BURST):
            try:
                data = process.socket.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._do(lambda: self._leave(user))
                return
            try:
                message = decode_to_store(data)
            except MalformedError as error:
                self._log(f"process {process.pid} has said to the store what is none of our messages: {error}")
                self._do(lambda: self._leave(user))
                return
            self._do(partial(self._on_message, user, message))
            if user not in self._users:
                return

    # --------------------------------------------------------------------------------------------------------- events

    def _on_message(self, user: int, message: o.ToStore) -> None:
        process = self._users.get(user)
        if process is None:
            return
        if isinstance(message, o.StoreHello):
            self._welcome(user, process, message)
            return
        if not process.is_known:
            self._answer(user, o.StoreRefused("say hello first"))
            self._leave(user)
            return
        match message:
            case o.Reserve():
                self._books.on_reserve(user, message)
            case o.Sealed():
                self._books.on_sealed(user, message)
            case o.Abandoned():
                self._books.on_abandoned(user, message)
            case o.Want():
                self._books.on_want(user, message)
            case o.Used():
                self._books.on_used(message.object)

    def _welcome(self, user: int, process: _Process | _Guest, hello: o.StoreHello) -> None:
        if hello.version != VERSION:
            reason = f"it speaks version {hello.version} of the protocol and the store speaks {VERSION}"
            self._answer(user, o.StoreRefused(reason))
            self._leave(user)
            return
        if process.is_known:
            return
        process.is_known = True
        if isinstance(process, _Process):
            self._pids[process.pid] = hello.peer
        self._books.on_user(user, hello.peer)
        self._answer(user, o.StoreWelcome(self.source.store, self.memory, self._least))

    def _leave(self, user: int) -> None:
        process = self._users.pop(user, None)
        if isinstance(process, _Process):
            self._selector.unregister(process.socket)
            process.socket.close()
        self._books.on_left(user)

    def _moved(self, object_id: bytes, to_disk: bool, error: str) -> None:
        if error and not to_disk:
            self._log(f"an object cannot be brought back from {self.disk}: {error}")
        self._books.on_moved(object_id, to_disk=to_disk, error=error)

    # -------------------------------------------------------------------------------------------------------- actions

    def _act(self, action: Action) -> None:
        books = self._books
        match action:
            case Answer(user, message):
                self._answer(user, message)
            case Tell(message):
                self._tell(message)
            case Look():
                self._look_again()
            case See(request):
                self._see(request)
            case Move(object_id, to_disk):
                source, target = books.path(object_id, on_disk=not to_disk), books.path(object_id, on_disk=to_disk)
                self._copier.copy(object_id, source, target, to_disk=to_disk)
            case Remove(object_id, on_disk):
                self._copier.cancel(object_id)
                files.remove(books.path(object_id, on_disk=on_disk))
                known = books.objects.get(object_id)
                if self.puller is not None and (known is None or known.stage is not Stage.COMING):  # else: once more
                    self.puller.drop(object_id)  # it may have it mapped, to serve it
            case Fetch(info, sources, on_disk):
                if self.puller is None:
                    with self._lock:
                        books.on_unpulled(info.id, "this host cannot bring objects from others")
                else:
                    self.puller.pull(info, sources, books.path(info.id, on_disk=on_disk) + files.PART)
            case Unfetch(object_id, on_disk):
                if self.puller is not None:
                    self.puller.drop(object_id)
                path = books.path(object_id, on_disk=on_disk)
                files.remove(path + files.PART)
                files.remove(path)
            case Place(object_id, on_disk):
                path = books.path(object_id, on_disk=on_disk)
                os.rename(path + files.PART, path)  # noqa: PTH104 - as strings

    def _answer(self, user: int, message: o.FromStore) -> None:
        process = self._users.get(user)
        if isinstance(process, _Guest):
            process.answer(message)
        elif process is not None:
            with contextlib.suppress(OSError):  # it has ended, which we are about to hear, or never reads
                process.socket.send(encode(message))

    def _tell(self, message: ToTell) -> None:
        self._outbox.put(message)
        with contextlib.suppress(BlockingIOError):
            os.write(self._out_write, b"\0")

    def _look_again(self) -> None:
        """Say what is mapped, by a look of now if looks do not take too much of the time."""
        began, took, present, gone = self._looked
        if time.monotonic() - began > took * LOOK_SHARE:
            present, gone = _sum(self._look())
        else:
            gone |= present  # it may have been removed since
        with self._lock:
            self._books.on_looked(present, gone)

    def _see(self, request: int) -> None:
        found = self._look()
        with self._lock:
            self._books.on_looked(*_sum(found))
            self._tell(seen(self._books, request, found, self._pids))

    def _look(self) -> dict[int, mapped.Mapped]:
        """Return what is mapped, by process."""
        began = time.monotonic()
        connected = {process.pid for process in self._users.values() if isinstance(process, _Process)}
        found = {}
        for pid in list(self._pids):
            one = mapped.look(pid, self.memory, self.disk)
            if one is not None and any(one):
                found[pid] = one
            elif pid not in connected:
                del self._pids[pid]
        self._looked = (began, time.monotonic() - began, *_sum(found))
        return found


def _sum(found: dict[int, mapped.Mapped]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return what anybody has mapped of what is in memory, and of what was removed from there."""
    return (
        frozenset().union(*(one.memory for one in found.values())),
        frozenset().union(*(one.gone for one in found.values())),
    )


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _drain(read: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while len(os.read(read, 4096)) == 4096:
            pass
