"""Records of output that are not shown but acted on, by kind: who wants some puts a handler here.

A handler is called with the client and the record, in the thread that shows the cell's output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.messages import Output

handlers: dict[str, Callable[[Any, Output], None]] = {}


def relay(client: Any, record: Output) -> bool:
    """Hand a record to whoever wants its kind; return whether somebody did."""
    handler = handlers.get(record.kind)
    if handler is None:
        return False
    handler(client, record)
    return True
