"""Values that are pickled once and sent often: `PrePickled`."""

from __future__ import annotations

import pickle
from typing import Any

from .serialize import dumps, loads


class PrePickled:
    """A value, pickled as it is now: whoever is sent it gets the value, and it is not pickled again.

        table = enginery.PrePickled(large_dict)
        results = [client.submit(look_up, table, key) for key in keys]     # look_up(large_dict, key)

    It stands for the value anywhere in arguments. Each task gets a copy of its own. Raises SerializationError naming
    what cannot travel.

    >>> PrePickled([1, 2])
    PrePickled(list)
    """

    def __init__(self, value: Any) -> None:
        self._kind = type(value).__name__
        payload, buffers = dumps(value)
        self._payload = pickle.PickleBuffer(payload)
        self._buffers = [pickle.PickleBuffer(bytes(buffer)) for buffer in buffers]  # the value may change

    def __repr__(self) -> str:
        return f"PrePickled({self._kind})"

    def __reduce__(self) -> tuple[Any, ...]:
        return open_pickled, (self._payload, self._buffers)


def open_pickled(payload: Any, buffers: list[Any]) -> Any:
    """Return the value of a pickle that is inside another one."""
    return loads(payload, buffers)
