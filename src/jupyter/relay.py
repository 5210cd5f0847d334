"""Records of output that are not shown but acted on, by kind: who wants some puts a handler here.

A handler is called with the client and the record: in the thread that shows the output, and for what comes when that is
over (of a thread that runs on in the engine), in the client's I/O thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.results.futures import AsyncResult
    from ..wire.messages import Output

handlers: dict[str, Callable[[Any, Output], None]] = {}

KEPT = 100

_lock = threading.Lock()

_results: deque[AsyncResult] = deque(maxlen=KEPT)
"""Results that had such records: while they are kept, what comes late finds them."""


def relay(client: Any, record: Output) -> bool:
    """Hand a record to whoever wants its kind; return whether somebody did."""
    handler = handlers.get(record.kind)
    if handler is None:
        return False
    handler(client, record)
    return True


def relay_late(result: AsyncResult) -> None:
    """From now on, hand over what comes for this result as soon as it comes."""
    client = result._client
    result._late = lambda record: relay(client, record)


def hand_over(result: AsyncResult, upto: int) -> None:
    """Hand over the first records of a result's log, those that were not before: each once, whoever shows them."""
    with _lock:
        begin = result._handed_over
        result._handed_over = max(begin, upto)
    for record in result._log()[begin:upto]:
        if relay(result._client, record):
            keep(result)


def keep(result: AsyncResult) -> None:
    """Keep a result that had such records."""
    if not any(kept is result for kept in _results):
        _results.append(result)
