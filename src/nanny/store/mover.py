"""What moves objects between hosts: a thread of the nanny, beside the one that keeps the store's books.

```
                   pull, drop                      chunks
store's thread ──────────────────►  mover  ◄────────────────────► other stores
               ◄──────────────────         ◄── chunks, uploads ──► clients elsewhere
                on_pulled, on_unpulled
```

Neither the store nor the nanny's loop waits for it. It writes what it brings to the file that it is told, and what
becomes of the file is the store's business.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import zmq

from ...security import KeyPair, ZapHandler, new_key_pair
from ...transport import WAKE, open_serving, open_wake_up, send_to
from ...wire.chunks import Chunk, NoPiece, Piece, Upload
from ...wire.codec import MalformedError, decode_from_serving, decode_to_serving
from ...wire.objects import StoreHello
from . import pulls as p
from .guests import Desk, Guests, write_at
from .heap import HELD, Heap
from .lanes import LANES, Lanes
from .serving import Coming, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec

    from ...config import Connection
    from ...wire.objects import FromStore, ObjectInfo, Source

BURST = 64
"""Messages of one connection taken in one turn."""

TICK_S = 0.5
"""How often time is looked at while something waits for it."""

DONE_S = 30.0
"""So long it is remembered where an object was written that is whole, until the store has it in its books."""

CLOSE_S = 5.0
"""How long the thread may take to end."""

MOVED_S = 2.0
"""So long after the last chunk, the memory of those that have come and gone is kept for the next."""


class Store(Desk, Protocol):
    """The store, as the mover sees it. Nothing of it waits."""

    def find(self, object_id: bytes) -> tuple[str, int] | None:
        """Return path and size of an object that is here, whole; it may be moved any time: then look again."""

    def on_pulled(self, object_id: bytes) -> None:
        """Take note that an object is in the file that it was to be brought to, whole."""

    def on_unpulled(self, object_id: bytes, why: str, *, full: bool = False) -> None:
        """Take note that none of the sources has it, or (`full`) that it cannot be written."""

    def on_used(self, object_id: bytes) -> None:
        """Take note that an object was served."""


class _File:
    """Where an object is written that is brought."""

    def __init__(self, info: ObjectInfo, path: str) -> None:
        self.info = info
        self.path = path
        self.fd = -1

    def write(self, offset: int, data: Any) -> None:
        self.open()
        write_at(self.fd, data, offset)

    def open(self) -> None:
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(self.fd, self.info.nbytes)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Mover:
    """The thread, and what it owns. All methods but `start` may be called by any thread at any time."""

    def __init__(self, store: Store, connection: Connection, log: Callable[[str], None]) -> None:
        """`connection` has the keys by which other stores know this nanny."""
        self._store = store
        self._connection = connection
        self._log = log
        self._commands: deque[Callable[[float], None]] = deque()
        self._wake_read, self._wake_write = open_wake_up()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(LANES)
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read, zmq.POLLIN)
        self._router: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._zap: ZapHandler | None = None
        self._lanes: dict[bytes, Lanes] = {}
        self._pulls = p.Pulls()
        self._files: dict[bytes, _File] = {}
        self._done: dict[bytes, tuple[str, float]] = {}
        self._serving = Serving(self._find, Coming(self._path_of, self._has), self._send)
        self._guests = Guests(store, self._send, self._on_store)
        self._heap = Heap()
        self._moved = 0.0
        """When a chunk has last come or gone."""
        self._ticked = 0.0

    def start(self, bind: str | None, host: str, roles: Mapping[str, bytes]) -> tuple[str, str]:
        """Begin, and return the address and the public key that others need.

        `bind` is where to listen (`tcp://10.0.0.1:*`), `host` what others call that; those whose public keys are among
        the `roles` are let in. Without `bind` nobody is served.
        """
        address = key = ""
        if bind is not None:
            pair = new_key_pair() if roles else KeyPair("", "")
            if roles:
                self._zap = ZapHandler(self._context, roles)
                self._poller.register(self._zap.socket, zmq.POLLIN)
            self._router, port = open_serving(self._context, bind, pair.public, pair.secret)
            self._monitor = self._router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._poller.register(self._router, zmq.POLLIN)
            self._poller.register(self._monitor, zmq.POLLIN)
            address = f"tcp://{host}:{port}" if bind.startswith("tcp:") else bind
            key = pair.public
        self._thread = threading.Thread(target=self._run, name="enginery-mover", daemon=True)
        self._thread.start()
        return address, key

    def pull(self, info: ObjectInfo, sources: Sequence[Source], path: str) -> None:
        """Bring an object, and write it to a file at this path, which is made. If it is being brought, it is from these
        sources from now on, and the path does not matter.
        """
        self._call(lambda now: self._pull(info, sources, path, now))

    def drop(self, object_id: bytes) -> None:
        """Stop bringing it, and let go of its file if it is served."""
        self._call(lambda now: self._drop(object_id, now))

    def _on_store(self, peer: bytes, answer: FromStore) -> None:
        self._call(lambda _now: self._guests.on_store(peer, answer))

    def close(self) -> None:
        """End the thread, and all connections."""
        self._closing = True
        self._wake()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        else:
            self._close()

    def _call(self, command: Callable[[float], None]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, WAKE)

    # ------------------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._turn()
                except Exception:
                    self._log(f"moving objects has failed: {traceback.format_exc()}")
                    time.sleep(TICK_S)  # not to fill the log, should it go on
        finally:
            self._close()

    def _turn(self) -> None:
        waits = self._pulls.deadline_s() is not None or not self._serving.is_idle or not self._guests.is_idle
        waits = waits or bool(self._done) or self._heap.is_kept
        ready = dict(self._poller.poll(round(1000 * TICK_S) if waits else None))
        now = time.monotonic()
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        while self._commands:
            self._commands.popleft()(now)
        if self._zap is not None:
            self._zap.drain()
        for lanes in list(self._lanes.values()):
            if any(monitor in ready for monitor in lanes.monitors):
                for is_up in lanes.changes():
                    (self._pulls.on_up if is_up else self._pulls.on_down)(lanes.store, now)
            for socket in lanes.sockets:
                if socket in ready:
                    self._read_source(socket, now)
        if self._router is not None and self._router in ready:
            self._read_router(self._router, now)
        self._read_monitor(now)
        if now - self._ticked >= TICK_S:
            self._tick(now)
        self._do(now)

    def _tick(self, now: float) -> None:
        self._ticked = now
        self._pulls.tick(now)
        self._serving.tick(now)
        self._guests.tick(now)
        for object_id, (_path, since) in list(self._done.items()):
            if now - since >= DONE_S:
                del self._done[object_id]
        if self._heap.is_kept and now - self._moved >= MOVED_S:
            self._heap.give_back()

    def _on_moving(self, now: float) -> None:
        """A chunk comes or goes."""
        self._moved = now
        if not self._heap.is_kept:
            self._heap.keep()

    def _close(self) -> None:
        if self._heap.is_kept:
            self._heap.give_back()
        self._serving.close()
        self._guests.close()
        for file in self._files.values():
            file.close()
        for lanes in self._lanes.values():
            lanes.close()
        if self._router is not None and self._monitor is not None:
            self._router.disable_monitor()
            self._monitor.close(linger=0)
            self._router.close(linger=0)
        if self._zap is not None:
            self._zap.close()
        self._context.term()
        for fd in {self._wake_read, self._wake_write}:
            os.close(fd)

    # --------------------------------------------------------------------------------------------------------- pulling

    def _pull(self, info: ObjectInfo, sources: Sequence[Source], path: str, now: float) -> None:
        self._on_moving(now)
        if not self._pulls.knows(info.id):
            self._files[info.id] = _File(info, path)
        self._done.pop(info.id, None)
        self._pulls.bring(info, sources, now)
        self._serving.on_news(info.id, now)

    def _drop(self, object_id: bytes, now: float) -> None:
        self._pulls.stop(object_id, now)
        self._done.pop(object_id, None)
        self._close_file(object_id)
        self._serving.on_dropped(object_id, now)

    def _close_file(self, object_id: bytes) -> None:
        file = self._files.pop(object_id, None)
        if file is not None:
            file.close()

    def _read_source(self, socket: zmq.Socket[bytes], now: float) -> None:
        for _ in range(BURST):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                answer = decode_from_serving(frames[0].buffer)
            except MalformedError as error:
                self._log(f"ignored a message of another store that is not one of ours: {error}")
                continue
            if isinstance(answer, Piece) and len(frames) == 2:
                self._on_piece(answer.request, frames[1].buffer, now)
                if self._pulls.asked < HELD:
                    self._heap.hold(frames[1])
            elif isinstance(answer, NoPiece):
                self._pulls.on_no_piece(answer.request, answer.why, now)
            self._do(now)

    def _on_piece(self, request: int, data: memoryview, now: float) -> None:
        place = self._pulls.expect(request)
        if place is None:
            return
        if data.nbytes != place.nbytes:
            self._pulls.on_no_piece(request, "a host has sent other bytes than it was asked for", now)
            return
        try:
            self._files[place.object].write(place.offset, data)
        except OSError as error:
            self._on_unwritable(place.object, error, now)
            return
        self._on_moving(now)
        self._pulls.on_written(request, now)
        self._serving.on_news(place.object, now)

    def _on_unwritable(self, object_id: bytes, error: OSError, now: float) -> None:
        self._drop(object_id, now)
        self._store.on_unpulled(object_id, f"it cannot be written here: {error.strerror or error}", full=True)

    def _do(self, now: float) -> None:
        """Do what the pulls want to have done."""
        while actions := self._pulls.take():
            for action in actions:
                match action:
                    case p.Ask(store, message):
                        self._lanes[store].send(message)
                    case p.Whole(object_id):
                        self._on_whole(object_id, now)
                    case p.Failed(object_id, why):
                        self._close_file(object_id)
                        self._store.on_unpulled(object_id, why)
                        self._serving.on_news(object_id, now)
                    case p.Connect(source):
                        lanes = self._lanes[source.store] = Lanes(self._context, source, self._connection)
                        for socket in (*lanes.sockets, *lanes.monitors):
                            self._poller.register(socket, zmq.POLLIN)
                    case p.Disconnect(store):
                        lanes = self._lanes.pop(store)
                        for socket in (*lanes.sockets, *lanes.monitors):
                            self._poller.unregister(socket)
                        lanes.close()

    def _on_whole(self, object_id: bytes, now: float) -> None:
        file = self._files[object_id]
        try:
            file.open()  # an empty one had nothing to write
        except OSError as error:
            self._on_unwritable(object_id, error, now)
            return
        self._done[object_id] = (file.path, now)
        self._close_file(object_id)
        self._store.on_pulled(object_id)
        self._serving.on_news(object_id, now)

    # --------------------------------------------------------------------------------------------------------- serving

    def _find(self, object_id: bytes) -> str | None:
        """Return where an object is that is whole in the store's books."""
        found = self._store.find(object_id)
        if found is None:
            return None
        self._store.on_used(object_id)
        return found[0]

    def _path_of(self, object_id: bytes) -> str | None:
        """Return where an object is that is not in the store's books yet."""
        file = self._files.get(object_id)
        if file is not None:
            return file.path
        done = self._done.get(object_id)
        if done is None:
            return None
        if self._store.find(object_id) is not None:
            del self._done[object_id]
            return None
        return done[0]

    def _has(self, object_id: bytes, offset: int, nbytes: int) -> bool:
        return object_id in self._done or self._pulls.has(object_id, offset, nbytes)

    def _read_router(self, router: zmq.Socket[bytes], now: float) -> None:
        for _ in range(BURST):
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message = decode_to_serving(frames[1].buffer if len(frames) > 1 else b"")
            except MalformedError as error:
                self._log(f"ignored a message to the store that is not one of ours: {error}")
                continue
            peer = frames[0].bytes
            if isinstance(message, Chunk):
                self._on_moving(now)
                self._serving.on_chunk(peer, message, now)
                continue
            connection = int(frames[1].get(zmq.SRCFD))
            match message:
                case StoreHello():
                    self._read_monitor(now)  # of a connection that had the same descriptor
                    self._guests.on_hello(peer, connection, message)
                case Upload():
                    if len(frames) == 3:
                        self._on_moving(now)
                        self._guests.on_upload(peer, connection, message, frames[2].buffer)
                case _:
                    self._guests.on_message(peer, connection, message)

    def _read_monitor(self, now: float) -> None:
        while self._monitor is not None:
            try:
                head, _address = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._guests.on_disconnected(int.from_bytes(head[2:6], "little"), now)

    def _send(self, peer: bytes, message: msgspec.Struct, data: Any) -> None:
        if self._router is not None:
            send_to(self._router, peer, message, () if data is None else (data,))
