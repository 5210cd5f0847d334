"""Large arguments that many calls have in common (scikit-learn's data), put into shared memory once."""

from __future__ import annotations

import copy
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...errors import ObjectStoreFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..results.refs import ObjectRef


class Sharing:
    """The large arguments of the calls of one backend. Used from any thread.

    A large array or table is put into shared memory when it is first met, and a reference travels in its place, each
    time the *same object* comes. Like joblib's own memory maps, it is as it was then. It is held until the array is let
    go of here, or all calls have ended.
    """

    def __init__(self, put: Callable[[Any], ObjectRef]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._refs: dict[int, tuple[weakref.ref[Any], ObjectRef]] = {}
        self.large: int | None = None
        """From how many bytes on an argument is large; None: none is."""

    def share(self, batch: Any) -> Any:
        """Return a batch of joblib's with references in place of large arguments."""
        if self.large is None:
            return batch
        items = [
            (f, tuple(map(self._replace, args)), {name: self._replace(value) for name, value in kwargs.items()})
            for f, args, kwargs in batch.items
        ]
        shared = copy.copy(batch)
        shared.items = items
        return shared

    def _replace(self, value: Any) -> Any:
        if self.large is None or nbytes_of(value) < self.large:
            return value
        number = id(value)
        with self._lock:
            known = self._refs.get(number)
            if known is None or known[0]() is not value:
                try:
                    ref = self._put(value)
                except ObjectStoreFull:  # it may yet go another way
                    return value
                known = self._refs[number] = weakref.ref(value, lambda gone: self._forget(number, gone)), ref
        return known[1]

    def _forget(self, number: int, gone: weakref.ref[Any]) -> None:
        """An array was let go of: by any thread, within anything. So without the lock: it is held while one is put."""
        known = self._refs.pop(number, None)
        if known is not None and known[0] is not gone:  # another one has its place by now
            self._refs[number] = known

    def end(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._refs = {}


def nbytes_of(value: Any) -> int:
    """Return the size of an array or table in bytes; 0 for all else.

    >>> nbytes_of([1, 2])
    0
    """
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "numpy" and kind.__name__ == "ndarray":
        return 0 if value.dtype.hasobject else int(value.nbytes)
    if package == "pandas" and kind.__name__ in {"DataFrame", "Series"}:
        usage = value.memory_usage()
        return int(usage if kind.__name__ == "Series" else usage.sum())
    return 0
