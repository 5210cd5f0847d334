"""The functions that this engine was given, by digest, unpickled when first called."""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any

from ..errors import SerializationError, UnmetDependency
from ..wire.parts import COROUTINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..wire import messages as m

SMOOTHING = 0.25
"""Weight of the latest run in the running estimate of a function's duration: one odd run does not upset it for long."""


class Function:
    """One function: how to get it, how long a call of it takes."""

    __slots__ = ("_runs", "awaits", "call", "estimate_s", "hide", "name", "pickled", "raw")

    def __init__(
        self,
        pickled: bytes,
        call: Callable[..., Any] | None = None,
        hide: tuple[str, ...] = (),
        *,
        awaits: bool = False,
    ) -> None:
        self.pickled = pickled
        self.call = call
        """The function itself, to be called plainly; None until `load`."""
        self.raw = call
        """The function as it is: it may return a coroutine."""
        self.awaits = awaits
        """It is a coroutine function: several calls of it run at once."""
        self.estimate_s = math.inf
        """Running estimate of the duration of one call (of one item); infinite while nobody knows."""
        self.hide = hide
        """Frames of files whose path begins so are not the user's and are left out of tracebacks."""
        self.name = "the function"
        self._runs = 0

    def learn(self, duration_s: float) -> None:
        """Take a call's duration into account. The first is soon forgotten: it includes imports and cold caches."""
        if self._runs < 2:
            self._runs += 1
            self.estimate_s = duration_s
        else:
            self.estimate_s += SMOOTHING * (duration_s - self.estimate_s)


class Functions:
    """All functions at hand. `adapt` is applied to each after unpickling (it makes coroutine functions callable).

    `entries` is for the runner, which looks up directly.
    """

    def __init__(self, adapt: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function) -> None:
        self.entries: dict[bytes, Function] = {}
        self._adapt = adapt
        self._doomed: set[bytes] = set()

    def build_in(self, digest: bytes, call: Callable[..., Any], hide: tuple[str, ...] = ()) -> None:
        """Have an operation of the engine's own under that digest."""
        self.entries[digest] = entry = Function(b"", call, hide)
        entry.name = digest[1:].decode()

    def add(self, functions: Iterable[m.Function]) -> None:
        """Receive functions. One that is here already, or was to be forgotten, stays."""
        for function in functions:
            self._doomed.discard(function.digest)
            if function.digest not in self.entries:
                self.entries[function.digest] = Function(function.pickled, awaits=function.digest[:1] == COROUTINE)

    def forget(self, digests: Iterable[bytes]) -> None:
        """These will not be named by calls that come from now on; `sweep` drops them."""
        self._doomed.update(digests)

    @property
    def has_doomed(self) -> bool:
        """Whether `sweep` has something to do."""
        return bool(self._doomed)

    def sweep(self, in_use: set[bytes]) -> None:
        """Drop the functions that were to be forgotten, except those that unstarted calls name still."""
        for digest in self._doomed - in_use:
            self.entries.pop(digest, None)
        self._doomed &= in_use

    def digests(self) -> list[bytes]:
        """Return which functions of users' are here to stay. Any thread."""
        return [digest for digest in list(self.entries) if digest not in self._doomed and digest[:1] != b"!"]

    def estimate(self, digest: bytes) -> float | None:
        """Return how long a call takes, None if nobody knows."""
        entry = self.entries.get(digest)
        return None if entry is None or entry.estimate_s == math.inf else entry.estimate_s

    def load(self, entry: Function) -> Callable[..., Any]:
        """Unpickle a function: user code runs (imports). A failure is not remembered: the module may appear."""
        try:
            function = pickle.loads(entry.pickled)
        except UnmetDependency:
            raise
        except Exception as error:
            raise SerializationError(
                f"the function could not be unpickled on the engine: {type(error).__name__}: {error}"
            ) from error
        entry.name = getattr(function, "__name__", None) or type(function).__name__
        entry.raw = function
        entry.call = call = self._adapt(function)
        return call
