"""Values of many results at once, and results of many values: `Client.gather`, `Client.scatter`."""

from __future__ import annotations

import operator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client

_LEFT_OUT = object()


def gather(results: Any, errors: str) -> Any:
    """Return the same containers with values in place of results. See `Client.gather`."""
    if errors not in ("raise", "skip"):
        raise ValueError(f'errors is "raise" or "skip", not {errors!r}')
    value = _value(results, skip=errors == "skip")
    return None if value is _LEFT_OUT else value


def _value(given: Any, *, skip: bool) -> Any:
    if isinstance(given, Future):
        try:
            return given.result()
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


def scatter(client: Client, values: Any) -> Any:
    """Return a result for each value. See `Client.scatter`."""
    if isinstance(values, dict):
        return {key: _put(client, value) for key, value in values.items()}
    if isinstance(values, str | bytes):
        raise TypeError(f"scatter takes a list or a dict of values, not {type(values).__name__}; put it in a list")
    return [_put(client, value) for value in values]


def _put(client: Client, value: Any) -> Any:
    return client.submit(operator.getitem, (value,), 0)  # of the functions that return what they are given, a known one
