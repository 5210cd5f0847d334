"""Clients of other hosts, as this host's store sees them: each is a process like any other here, by proxy.

What a client asks for is handed to the store, and the answers go back. Only files it cannot write itself: it sends
their bytes, and they are written here.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Protocol

from ...objects.progress import Progress
from ...wire.chunks import Uploaded
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
"""A client whose connection is gone for so long has ended, as far as the store is concerned."""


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
    """A client."""

    def __init__(self, peer: bytes, connection: int) -> None:
        self.peer = peer
        self.connection = connection
        self.number = 0
        """What the store calls it."""
        self.away_since: float | None = None
        self.reserving: dict[int, int] = {}
        """How many bytes each request for room is about."""
        self.reserved: dict[int, Reserved] = {}
        """What they were answered."""
        self.uploads: dict[bytes, _Upload] = {}
        self.whole: set[bytes] = set()


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
        return not any(guest.away_since is not None for guest in self._guests.values())

    # ------------------------------------------------------------------------------------------------------- messages

    def on_hello(self, peer: bytes, connection: int, hello: StoreHello) -> None:
        """A client introduces itself, or does so again."""
        self.leave(peer)
        guest = self._guests[peer] = _Guest(peer, connection)
        guest.number = self._desk.attach(lambda answer: self._later(peer, answer))
        self._say(guest, StoreHello(hello.version, b"far." + peer))

    def on_message(self, peer: bytes, connection: int, message: Reserve | Want | Abandoned) -> None:
        """A client asks for something."""
        guest = self._find(peer, connection)
        if guest is None:
            return
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
        if guest is None:
            return
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
                    guest.whole.add(object_id)
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
            answer = StoreWelcome(answer.store, "", answer.least)
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
            if guest.connection == connection and guest.away_since is None:
                guest.away_since = now

    def tick(self, now: float) -> None:
        """Let time pass."""
        for peer, guest in list(self._guests.items()):
            if guest.away_since is not None and now - guest.away_since >= AWAY_S:
                self.leave(peer)

    def leave(self, peer: bytes) -> None:
        """A client has ended."""
        guest = self._guests.pop(peer, None)
        if guest is not None:
            for upload in guest.uploads.values():
                upload.close()
            self._desk.detach(guest.number)

    def close(self) -> None:
        """End with all of them."""
        for peer in list(self._guests):
            self.leave(peer)

    def _find(self, peer: bytes, connection: int) -> _Guest | None:
        guest = self._guests.get(peer)
        if guest is None:
            self._send(peer, StoreRefused("it was away for too long, or never said who it is"), None)
            return None
        guest.connection, guest.away_since = connection, None
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
