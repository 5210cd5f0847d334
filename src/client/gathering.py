"""Values of many results at once, and objects of many values: `Client.gather`, `Client.scatter`."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .results.refs import ObjectRef
from .views.partition import split

if TYPE_CHECKING:
    from collections.abc import Callable

_LEFT_OUT = object()


def gather(results: Any, errors: str) -> Any:
    """Return the same containers with values in place of results. See `Client.gather`."""
    if errors not in ("raise", "skip"):
        raise ValueError(f'errors is "raise" or "skip", not {errors!r}')
    value = _value(results, skip=errors == "skip")
    return None if value is _LEFT_OUT else value


def _value(given: Any, *, skip: bool) -> Any:
    if isinstance(given, Future | ObjectRef):
        try:
            return given.result() if isinstance(given, Future) else given.get()
        except Exception:
            if skip:
                return _LEFT_OUT
            raise
    if isinstance(given, dict):
        pairs = {key: _value(item, skip=skip) for key, item in given.items()}
        return {key: value for key, value in pairs.items() if value is not _LEFT_OUT}
    if type(given) in {list, tuple, set, frozenset}:
        values = [_value(item, skip=skip) for item in given]
        return type(given)(value for value in values if value is not _LEFT_OUT)
    return given


def scatter(put: Callable[[Any], ObjectRef], values: Any, n: int | None) -> Any:
    """Return an ObjectRef for each value, or each of `n` parts of a sequence. See `Client.scatter`."""
    if n is not None:
        parts: Any = n
        if not isinstance(parts, int) or parts < 1:
            raise ValueError(f"n is into how many parts to cut the sequence, at least 1, not {n!r}")
        values = split(values, parts, "b")
    elif isinstance(values, dict):
        return {key: put(value) for key, value in values.items()}
    if isinstance(values, str | bytes):
        raise TypeError(f"scatter takes a list or a dict of values, not {type(values).__name__}; put it in a list")
    return [put(value) for value in values]
