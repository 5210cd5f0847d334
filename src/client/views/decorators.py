"""Functions whose calls happen on engines: `@view.remote()`, `@view.parallel()`."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .partition import check_dist, length_of, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from .view import View

PARTS_PER_ENGINE = 4
"""A parallel function of a load-balanced view makes so many calls for each engine, so that they end together."""


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
    """Decorate a function: calls of it happen on the engines of a view.

        @enginery.remote(view)
        def norm(x):
            return abs(x)

        norm(-1).get()               # on any engine; of a direct view: on each, a list

    With `block`, a call waits and returns the value, else it returns an AsyncResult (None: as the view's flag says).
    Further flags of the view hold for these calls only. Raises TypeError for a flag that the view does not have.
    """
    given = _checked(view, block, flags)
    return lambda function: RemoteFunction(view, function, given)


def parallel(
    view: View, dist: str = "b", block: bool | None = None, ordered: bool = True, **flags: Any
) -> Callable[[Callable[..., Any]], ParallelFunction]:
    """Decorate a function of sequences (or arrays) that works item by item: each engine is given its part of them.

        @enginery.parallel(client[:], block=True)
        def product(a, b):
            return a * b

        product(x, y)                # with arrays: one call for each engine; the parts are put together again
        product.map(xs, ys)          # a call for each item

    The sequences are of equal length, and are cut as by `scatter`: `dist` is "b" for consecutive blocks, "r" for every
    n-th item. What the calls return is put together as by `gather`. A direct view makes one call for each engine, a
    load-balanced view several. `ordered` says in which order parts come out when one iterates over the result.
    `block` and further flags are as in `remote`.
    """
    check_dist(dist)
    given = _checked(view, block, flags)
    return lambda function: ParallelFunction(view, function, given, dist, ordered=ordered)


def _checked(view: View, block: Any, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags for calls; raise for what is wrong with them now, not at the first call."""
    if block is not None and not isinstance(block, bool):
        hint = "; the decorator is written with parentheses: @view.remote()" if callable(block) else ""
        raise TypeError(f"block is True, False or None, not {type(block).__name__}{hint}")
    given = flags if block is None else {**flags, "block": block}
    if given:
        with view.temp_flags(**given):
            pass
    return given


class _Decorated:
    """A function and where its calls happen. Has the function's name and documentation; `__wrapped__` is itself."""

    def __init__(self, view: View, function: Callable[..., Any], flags: dict[str, Any]) -> None:
        if not callable(function):
            raise TypeError(f"this decorates a function, not {type(function).__name__}")
        self._view = view
        self._function = function
        self._flags = flags
        functools.update_wrapper(self, function, updated=())  # type: ignore[arg-type] # no function, but called as one

    def _flagged(self) -> AbstractContextManager[Any]:
        """Return the context in which the view has the flags for calls."""
        return self._view.temp_flags(**self._flags) if self._flags else nullcontext(self._view)

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        return f"<{type(self).__name__} {name} of {self._view!r}>"

    def __reduce__(self) -> Any:
        return functools.partial, (self._function,)  # the view is the client's: a task that calls it calls it there


class RemoteFunction(_Decorated):
    """A function whose calls happen on engines: what `remote` makes. Called within a task, it is called there."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it on the engines of the view; return the result to come, or the value, as `block` says."""
        with self._flagged() as view:
            return view.apply(self._function, *args, **kwargs)


class ParallelFunction(_Decorated):
    """A function of sequences of which each engine is given a part: what `parallel` makes."""

    def __init__(
        self, view: View, function: Callable[..., Any], flags: dict[str, Any], dist: str, *, ordered: bool
    ) -> None:
        super().__init__(view, function, flags)
        self._dist = dist
        self._ordered = ordered

    def __call__(self, /, *sequences: Iterable[Any]) -> Any:
        """Call it with parts of these sequences on all engines; the value is their values as one.

        Raises ValueError if the sequences are of unequal length, TypeError without any.
        """
        name = getattr(self._function, "__name__", "the function")
        if not sequences:
            raise TypeError(f"{name} is called with at least one sequence")
        given: list[Any] = [sequence if hasattr(sequence, "__len__") else list(sequence) for sequence in sequences]
        lengths = [length_of(sequence) for sequence in given]
        if len(set(lengths)) > 1:
            raise ValueError(f"the sequences for {name} are of unequal length: {', '.join(map(str, lengths))}")
        with self._flagged() as view:
            parts = min(lengths[0], view._width())
            columns = [split(sequence, parts, self._dist) for sequence in given] if parts else [[] for _ in given]
            result = view._map_parts(self._function, columns, dist=self._dist, ordered=self._ordered)
            return view._maybe_wait(result, None)

    def map(self, /, *sequences: Iterable[Any]) -> Any:
        """Call it with each item (of several sequences: each row), as the view's `map`."""
        with self._flagged() as view:
            return view.map(self._function, *sequences, ordered=self._ordered)
