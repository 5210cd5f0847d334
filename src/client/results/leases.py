"""Leases: what a client holds of objects, one handle each, for as long as somebody here holds the lease.

A result whose value is an object has a `Lease` in the place of its frames (it has none). So whoever keeps the frames
of a result, to read it or to pass it on, keeps the object; when the last lets go, the handle is given back to the
controller: by whatever thread, at whatever moment, for that is when Python calls `__del__`. All that is done there is
to note the id and to wake the I/O thread, which says all that has been noted in one `Release`.

Order. What was submitted before a lease ended may need the object. So the ids are taken before what is to be sent, and
sent after it (`Core.take`).
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from ...errors import ObjectLost
from ...objects.packing import StoreGoneError
from ...wire.objects import show_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...objects.packing import Packing
    from ...wire.messages import ObjectInfo

    Opened = tuple[memoryview, list[memoryview]]
    """The pickle of an object, and its buffers."""

HELD_MAX = 10_000
"""So many objects are mapped at once when the client ends: the kernel has a limit on mappings."""


class Lease(tuple[Any, ...]):  # noqa: SLOT001 - Python allows of none here
    """No frames, and a handle of an object."""

    info: ObjectInfo
    _leases: Leases
    _number: int

    def open(self) -> Opened:
        """Return the pickle of the value and its buffers, mapped anew; ObjectLost if they are nowhere any more."""
        return self._leases.open(self.info, self._number)

    def __del__(self) -> None:
        leases = self.__dict__.get("_leases")  # there is none if it was not made to the end
        if leases is not None:
            leases.give_back(self.info, self._number)


class Leases:
    """The leases of a client. `new` and `give_back` are for any thread, `take` for the one that sends."""

    def __init__(self) -> None:
        self.store: Packing | None = None
        self.wake: Callable[[], None] = lambda: None
        """Is called when there is something to `take`."""
        self.is_over = False
        """The client has left, or the controller has: nothing is given back any more."""
        self._live: dict[int, ObjectInfo] = {}
        self._mapped: dict[int, Opened] = {}
        """What was held to be read after the end."""
        self._returned: deque[bytes] = deque()
        self._numbers = count()

    def new(self, info: ObjectInfo) -> Lease:
        """Return a lease of an object of which the controller counts a handle for us from now on."""
        lease = Lease()
        lease.info, lease._number = info, next(self._numbers)
        self._live[lease._number] = info
        lease._leases = self
        return lease

    def give_back(self, info: ObjectInfo, number: int) -> None:
        """A lease has ended. Called by `__del__`: by any thread, within anything."""
        self._live.pop(number, None)
        self._mapped.pop(number, None)
        if not self.is_over:
            self._returned.append(info.id)
            self.wake()

    def take(self) -> list[bytes]:
        """Return the objects of all leases that have ended since, each as often as that."""
        returned, ids = self._returned, []
        while returned:
            ids.append(returned.popleft())
        return ids

    @property
    def has_returned(self) -> bool:
        """Whether there is something to `take`."""
        return bool(self._returned)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, or to be given back."""
        return not self._live and not self._returned

    def open(self, info: ObjectInfo, number: int = -1) -> Opened:
        """Return the pickle and the buffers of an object; ObjectLost if they are nowhere any more."""
        mapped = self._mapped.get(number)
        if mapped is not None:
            return mapped
        if self.store is None:
            raise ObjectLost(f"object {show_object(info.id)} is in a store that this process cannot use")
        try:
            return self.store.open(info)
        except StoreGoneError as error:
            over = "it was let go of when this client was closed" if self.is_over else str(error)
            raise ObjectLost(f"object {show_object(info.id)} cannot be read any more: {over}") from error

    def end(self, *, hold: bool) -> None:
        """Nothing is given back any more: the controller forgets all that we hold. With `hold`, the values that are in
        memory here are mapped first, so that results that are here can be read after that.
        """
        if self.is_over:
            return
        self.is_over = True
        self._returned.clear()
        if not hold or self.store is None:
            return
        for number, info in list(self._live.copy().items())[:HELD_MAX]:
            try:
                mapped = self.store.find(info)
            except (OSError, StoreGoneError, ObjectLost):
                return
            if mapped is not None:
                self._mapped[number] = mapped
                if number not in self._live:  # it has ended meanwhile
                    self._mapped.pop(number, None)
