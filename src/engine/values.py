"""Values as they come to an engine and leave it: in messages, or as objects in the store of its host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ObjectLost
from ..objects.local import LocalStore, StoreGoneError
from ..pieces import joined
from ..placeholders import filling, opening
from ..serialize import dumps, loads, loads_mapped
from ..wire.given import find_given
from ..wire.objects import ObjectInfo, find_reference, show_object
from .given import GivenValues

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_PICKLE = b"\xc1"
"""Begins payloads that are references, or have values given with them: no pickle begins so, nor MessagePack."""


class Packed(NamedTuple):
    """A value, as a result has it."""

    payload: bytes
    frames: Sequence[Any]
    objects: tuple[ObjectInfo, ...] = ()


class Values:
    """Arguments and results. All methods are for the main thread."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self._opened: dict[bytes, Any] = {}
        """The objects among the arguments that are being unpickled: each is one value, however often it is among
        them."""
        opening(self._open_once)

    # ------------------------------------------------------------------------------------------------- arguments

    def load(self, payload: bytes, frames: Sequence[Any]) -> Any:
        """Return what a function is to be called with; what goes wrong is told apart from errors of the function."""
        try:
            return loads(payload, frames)
        except Exception as error:
            if payload[:1] != _NO_PICKLE:
                _note(error)
                raise
        finally:
            if self._opened:
                self._opened.clear()
        return self._load_marked(payload, frames)  # tried second, since it is seldom, and costs others nothing

    def _load_marked(self, payload: bytes, frames: Sequence[Any]) -> Any:
        try:
            given = find_given(payload)
            if given is None:
                return self._load_any(payload, frames)
            own, results = given.split(frames)
            with filling(GivenValues(results, self._load_any)):
                return self._load_any(given.payload, own)
        except Exception as error:
            _note(error)
            raise
        finally:
            self._opened.clear()

    def _load_any(self, payload: bytes, frames: Sequence[Any]) -> Any:
        info = find_reference(payload)
        return loads(payload, frames) if info is None else self._open(info)

    def _open_once(self, object_id: bytes, nbytes: int) -> Any:
        if object_id not in self._opened:
            self._opened[object_id] = self._open(ObjectInfo(object_id, nbytes))
        return self._opened[object_id]

    def _open(self, info: ObjectInfo) -> Any:
        try:
            payload, buffers = self.store.open(info)
        except StoreGoneError as error:
            raise ObjectLost(f"object {show_object(info.id)} cannot be read here: {error}") from error
        return loads_mapped(payload, buffers)

    # --------------------------------------------------------------------------------------------------- results

    def dump(self, value: Any, *, keep: bool = False) -> Packed:
        """Return a value as it is to be sent. It may be an object, which is made now: see `claim`, `abandon`.

        Raises `SerializationError` or `ObjectStoreFull`.
        """
        return self.pack(*dumps(value, pieces=True), keep=keep)

    def pack(self, payload: bytes, buffers: Sequence[Any], *, keep: bool) -> Packed:
        """Return a pickled value as it is to be sent, in the same way."""
        packed = self.store.pack(payload, buffers, keep=keep, claim=False)
        if packed is None:
            return Packed(payload, joined(buffers))
        reference, info = packed
        return Packed(reference, (), (info,))

    def claim(self) -> None:
        """The result is in the outbox."""
        if self.store.unclaimed:
            self.store.claim()

    def abandon(self) -> None:
        """There is an error to report in its place."""
        if self.store.unclaimed:
            self.store.abandon()


def _note(error: Exception) -> None:
    if not (isinstance(error, ObjectLost) or hasattr(error, "__notes__")):  # it is told already where it was
        error.add_note("(raised while the arguments were unpickled on the engine)")
