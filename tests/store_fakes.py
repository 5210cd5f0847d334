"""A store that is a thread and a folder: what users of a store hear from it, and what it hears from them."""

from __future__ import annotations

import contextlib
import socket
import threading

from enginery.wire import objects as o
from enginery.wire.codec import decode_to_store, encode

STORE = b"s" * o.STORE_BYTES


class FakeStore:
    """Has one listener, and answers at once; `holding` kinds of messages are kept, to be answered by `let_go`."""

    def __init__(self, folder, least=1 << 20):
        self.folder = folder / "objects"
        self.folder.mkdir()
        self.path = str(folder / "store.sock")
        self.least = least
        self.heard = []
        self.refusal = ""
        self.error = ""
        self.there = {}
        """By object: the path, or an error."""
        self.place = self.folder
        self.places = []
        """Where the next objects are to be made."""
        self.holding = ()
        self.held = []
        self.connections = []
        self._number = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for connection in [self._listener, *self.connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def kinds(self):
        return [type(message).__name__ for message in self.heard]

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def let_go(self):
        """Answer what was held, the last first."""
        while self.held:
            self._answer(*self.held.pop())

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                message = decode_to_store(data)
                self.heard.append(message)
                if type(message).__name__ in self.holding:
                    self.held.append((connection, message))
                else:
                    self._answer(connection, message)

    def _answer(self, connection, message):
        answer = None
        if isinstance(message, o.StoreHello):
            answer = o.StoreWelcome(STORE, str(self.folder), self.least)
            if self.refusal:
                answer = o.StoreRefused(self.refusal)
        elif isinstance(message, o.Reserve):
            answer = o.Reserved(message.request, error=self.error)
            if not self.error:
                self._number += 1
                object_id = STORE + self._number.to_bytes(8, "big")
                place = self.places.pop(0) if self.places else self.folder
                answer = o.Reserved(message.request, object_id, f"{place}/{o.file_name(object_id)}")
        elif isinstance(message, o.Want):
            path, error = self.there.get(message.object.id, ("", "nobody has it"))
            answer = o.There(message.request, path, error)
        if answer is not None:
            connection.send(encode(answer))
