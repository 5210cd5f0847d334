"""What all stores have in common: which values become objects, and what is done with those that find no room."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..errors import ObjectStoreFull
from ..pieces import size_of
from ..wire.objects import reference_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.objects import ObjectInfo

LEAST = 1 << 16
"""Values of fewer bytes are no objects, whatever a store says: it is not even asked."""

FRAMES_MAX = 256 << 20
"""So large a value may go through the controller where there is no room for an object; a larger one is an error."""


class StoreGoneError(Exception):
    """There is no store here (any more): values go in frames."""


class Packing(ABC):
    """A store as those see it who make and use objects."""

    _has_warned = False

    @abstractmethod
    def is_worth(self, nbytes: int) -> bool:
        """Return whether a value of so many bytes should be an object."""

    @abstractmethod
    def make(self, payload: Any, buffers: Sequence[Any]) -> ObjectInfo:
        """Write a pickled value once, and return the object that it is now.

        Raises `ObjectStoreFull` if there is no room, and `StoreGoneError` if there is no store.
        """

    @abstractmethod
    def open(self, info: ObjectInfo) -> tuple[memoryview, list[memoryview]]:
        """Return the pickle and the buffers of an object, in this process's memory, writable.

        Raises `ObjectLost` if nobody has it any more, and `StoreGoneError` if there is no store.
        """

    def begin(self) -> None:
        """Have the store know of this process from now on, without waiting long for it."""
        self.connect()

    @abstractmethod
    def connect(self) -> bool:
        """Have the store know of this process; return whether there is one. Also done when first needed."""

    @abstractmethod
    def close(self) -> None:
        """Leave the store. What was made is not touched; the controller decides on it."""

    def find(self, info: ObjectInfo) -> tuple[memoryview, list[memoryview]] | None:  # noqa: ARG002 - for others
        """Return the same of an object that is in memory here; None: it would have to be brought."""
        return None

    def claim(self) -> None:  # noqa: B027 - most need not
        """What this thread has made is known to somebody: it is not to be abandoned any more."""

    def pack(
        self, payload: bytes, buffers: Sequence[Any], *, keep: bool = False, claim: bool = True
    ) -> tuple[bytes, ObjectInfo] | None:
        """Make an object of a pickled value if it is large enough, or is to be kept; return the reference to it, and
        what it is. None: it goes in frames, since it is small, or there is no room (with a warning, once).

        Raises `ObjectStoreFull` where there is no room and it is too large for frames, or is to be kept. With `claim`
        False the object is left unclaimed.
        """
        nbytes = len(payload) + sum(map(size_of, buffers))
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
                warnings.warn(f"{error}; it goes through the controller, which is slow", UserWarning, stacklevel=2)
            return None
        if claim:
            self.claim()
        return reference_to(info), info
