"""Large arguments that many calls have in common (scikit-learn's data), sent to each engine once."""

from __future__ import annotations

import copy
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...errors import EngineryError
from ...kept import Kept, forget, keep

if TYPE_CHECKING:
    from ..views.balancedview import LoadBalancedView
    from ..views.directview import DirectView


class Sharing:
    """The large arguments of the calls of one backend. Used from any thread.

    The first call with a large array or table brings it along; when the *same object* comes again it is sent to all
    engines of the view, and from then on its key travels in its place. So what is used once costs nothing more. Like
    joblib's own memory maps, it is as it was when it was first sent.
    """

    def __init__(self, view: LoadBalancedView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._keys: dict[int, str] = {}
        self._sent: list[str] = []
        self.large: int | None = None
        """From how many bytes on an argument is large; None: none is."""

    def share(self, batch: Any) -> Any:
        """Return a batch of joblib's with keys in place of large arguments that were met before."""
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
        nbytes = nbytes_of(value)
        if self.large is None or nbytes < self.large:
            return value
        number = id(value)
        with self._lock:
            known = self._seen.get(number)
            if known is None or known() is not value:
                self._seen[number] = weakref.ref(value)
                self._keys.pop(number, None)
                return value
            key = self._keys.get(number)
            if key is None:
                key = secrets.token_hex(8)
                self._engines().apply_async(keep, key, value)
                self._keys[number] = key
                self._sent.append(key)
        return Kept(key)

    def end(self) -> None:
        """Have the engines forget what they keep for us."""
        with self._lock:
            sent = self._sent
            self._seen, self._keys, self._sent = {}, {}, []
        if sent:
            try:
                self._engines().apply_async(forget, sent)
            except EngineryError:  # there are no engines any more, or the client is closed
                return

    def _engines(self) -> DirectView:
        targets = self._view.targets
        return self._view.client.direct_view("all" if targets is None else targets)


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
