"""Clients of other hosts, as this host's store sees them: each is a process like any other here, by proxy.

What a client asks for is handed to the store, and the answers go back. Only files it cannot write itself: it sends
their bytes, and they are written here. A client has several connections. One of them says whose it is; when it ends,
and the other side has closed it, the client has ended. A cable that is cut closes nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ...objects.progress import Progress
from ...wire.chunks import Uploaded
from ...wire.messages import VERSION
from ...wire.objects import (
    Abandoned,
    Reserve,
    Reserved,
    Sealed,
    StoreHello,
    StoreRefused,
    StoreWelcome,
    There,
    Want,
    show_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from ...wire.chunks import Upload
    from ...wire.objects import FromStore, ToStore

AWAY_S = 60.0
"""A connection that is broken for so long has ended, as far as the store is concerned."""

SLEEP_S = 24 * 3600.0
"""So long for the one that says whose it is: a laptop may sleep over night."""

ENDED_S = 3.0
"""So long for one that the other side has closed: else it would have been made again long since."""

RECENT = 16
"""So many objects that a client has sent are remembered for each of its connections, which sends one at a time."""

ESTABLISHED = 1
"""What the kernel calls a TCP connection that neither side has closed."""


class Desk(Protocol):
    """The store, as somebody sees it who speaks for others."""

    def attach(self, answer: Callable[[FromStore], None]) -> int:
        """Return the number of a process elsewhere; `answer` is called with what to send it, in the store's thread."""

    def tell(self, guest: int, message: ToStore) -> None:
        """Hand in a message of such a process."""

    def detach(self, guest: int) -> None:
        """Such a process has gone."""


class _Upload:
    """An object that is being written here for a client."""

    def __init__(self, reserved: Reserved, nbytes: int) -> None:
        self.path = reserved.path
        self.progress = Progress(nbytes)
        self.fd = -1

    def write(self, offset: int, data: Any) -> None:
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        write_at(self.fd, data, offset)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Guest:
    """A client's connection."""

    def __init__(self, peer: bytes, *, is_named: bool) -> None:
        self.peer = peer
        self.is_named = is_named
        """It is the one that says whose it is."""
        self.number = 0
        """What the store calls it."""
        self.welcome: StoreWelcome | None = None
        self.connection = -1
        """Its descriptor, which is ZeroMQ's."""
        self._copy = -1
        """Our own, to see how it ends."""
        self.leaves: float | None = None
        """When it is taken to have ended, if it is not back."""
        self.reserving: dict[int, int] = {}
        """How many bytes each request for room is about."""
        self.reserved: dict[int, Reserved] = {}
        """What they were answered."""
        self.uploads: dict[bytes, _Upload] = {}
        self.whole: deque[bytes] = deque(maxlen=RECENT)
        """Objects that are whole: their last bytes may come again, when the answer was lost."""

    def on_connected(self, connection: int) -> None:
        """It is there, or again."""
        self.leaves = None
        if connection != self.connection:
            self.close()
            self.connection = connection
            with contextlib.suppress(OSError):
                self._copy = os.dup(connection)

    def on_disconnected(self, now: float) -> None:
        """It has broken."""
        patience_s = SLEEP_S if self.is_named else AWAY_S
        self.leaves = now + (ENDED_S if self._is_over() else patience_s)
        self.close()

    def _is_over(self) -> bool:
        """Return whether the other side has closed it."""
        if self._copy < 0:
            return False
        with socket.socket(fileno=os.dup(self._copy)) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return True
            state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return bool(state[0] != ESTABLISHED)

    def close(self) -> None:
        if self._copy >= 0:
            os.close(self._copy)
        self._copy = self.connection = -1


class Guests:
    """All of them. `send` sends to one; what the store answers is taken in by `on_store`, which `later` has called with
    these arguments, in our own thread.
    """

    def __init__(
        self,
        desk: Desk,
        send: Callable[[bytes, msgspec.Struct, Any], None],
        later: Callable[[bytes, FromStore], None],
    ) -> None:
        self._desk = desk
        self._send = send
        self._later = later
        self._guests: dict[bytes, _Guest] = {}

    @property
    def is_idle(self) -> bool:
        """Whether time makes no difference."""
        return not any(guest.leaves is not None for guest in self._guests.values())

    # ------------------------------------------------------------------------------------------------------- messages

    def on_hello(self, peer: bytes, connection: int, hello: StoreHello) -> None:
        """A client introduces itself, or does so again."""
        guest = self._guests.get(peer)
        if guest is not None:
            guest.on_connected(connection)
            if guest.welcome is not None:
                self._send(peer, guest.welcome, None)
            return
        self._arrive(peer, connection, hello)

    def _arrive(self, peer: bytes, connection: int, hello: StoreHello) -> _Guest:
        guest = self._guests[peer] = _Guest(peer, is_named=bool(hello.peer))
        guest.on_connected(connection)
        guest.number = self._desk.attach(lambda answer: self._later(peer, answer))
        self._say(guest, StoreHello(hello.version, hello.peer))
        return guest

    def on_message(self, peer: bytes, connection: int, message: Reserve | Want | Abandoned) -> None:
        """A client asks for something."""
        guest = self._find(peer, connection)
        match message:
            case Reserve():
                if (answer := guest.reserved.get(message.request)) is not None:
                    self._send(peer, answer, None)  # it has not heard it
                    return
                if message.request in guest.reserving:
                    return
                guest.reserving[message.request] = message.nbytes
            case Abandoned():
                self._abandon(guest, message.object)
                return
            case Want():
                pass
        self._say(guest, message)

    def on_upload(self, peer: bytes, connection: int, message: Upload, data: Any) -> None:
        """Bytes of a client's object have come."""
        guest = self._find(peer, connection)
        object_id, error = message.object, ""
        upload = guest.uploads.get(object_id)
        if upload is not None:
            try:
                span = upload.progress.expect(message.offset)
                if span != data.nbytes:
                    raise OSError(None, "it is not the size that was said")
                upload.write(message.offset, data)
            except OSError as failure:
                error = f"object {show_object(object_id)} cannot be written: {failure.strerror or failure}"
                self._abandon(guest, object_id)
            else:
                upload.progress.on_here(message.offset)
                if upload.progress.is_whole:
                    upload.close()
                    del guest.uploads[object_id]
                    guest.whole.append(object_id)
                    self._say(guest, Sealed(object_id))
        elif object_id not in guest.whole:
            error = f"no room was reserved for object {show_object(object_id)}"
        self._send(peer, Uploaded(object_id, message.offset, error), None)

    def on_store(self, peer: bytes, answer: FromStore) -> None:
        """The store has answered a client."""
        guest = self._guests.get(peer)
        if guest is None:
            if isinstance(answer, Reserved):
                return  # it has been told that this one has gone, and takes the room back
        elif isinstance(answer, Reserved):
            answer = self._on_reserved(guest, answer)
        elif isinstance(answer, There):
            answer = There(answer.request, "", answer.error)
        elif isinstance(answer, StoreWelcome):
            answer = guest.welcome = StoreWelcome(answer.store, "", answer.least)
        elif isinstance(answer, StoreRefused):
            self.leave(peer)
        self._send(peer, answer, None)

    def _on_reserved(self, guest: _Guest, answer: Reserved) -> Reserved:
        nbytes = guest.reserving.pop(answer.request, 0)
        if not answer.error:
            guest.uploads[answer.object] = _Upload(answer, nbytes)
        told = Reserved(answer.request, answer.object, "", answer.error)
        guest.reserved[answer.request] = told
        for old in [number for number in guest.reserved if number < answer.request]:
            del guest.reserved[old]  # who asks for more has heard it
        return told

    # ---------------------------------------------------------------------------------------------------- who is there

    def on_disconnected(self, connection: int, now: float) -> None:
        """A connection of others has ended."""
        for guest in self._guests.values():
            if guest.connection == connection:
                guest.on_disconnected(now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for peer, guest in list(self._guests.items()):
            if guest.leaves is not None and now >= guest.leaves:
                self.leave(peer)

    def leave(self, peer: bytes) -> None:
        """A connection has ended."""
        guest = self._guests.pop(peer, None)
        if guest is not None:
            for upload in guest.uploads.values():
                upload.close()
            guest.close()
            self._desk.detach(guest.number)

    def close(self) -> None:
        """End with all of them."""
        for peer in list(self._guests):
            self.leave(peer)

    def _find(self, peer: bytes, connection: int) -> _Guest:
        guest = self._guests.get(peer)
        if guest is None:  # it was away for long, and had been welcomed
            return self._arrive(peer, connection, StoreHello(VERSION, b""))
        guest.on_connected(connection)
        return guest

    def _abandon(self, guest: _Guest, object_id: bytes) -> None:
        upload = guest.uploads.pop(object_id, None)
        if upload is not None:
            upload.close()
            with contextlib.suppress(OSError):
                os.unlink(upload.path)  # noqa: PTH108 - as it was opened
            self._say(guest, Abandoned(object_id))

    def _say(self, guest: _Guest, message: ToStore) -> None:
        self._desk.tell(guest.number, message)


def write_at(fd: int, data: Any, offset: int) -> None:
    """Write all of it there; OSError if it does not fit."""
    view = memoryview(data).cast("B")
    while view.nbytes:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
