"""What a front end says to one comm of an engine: sent in order, a message at a time.

While one is under way, the values that the front end sets one after the other become one message. So a slider that is
dragged does not queue a task for each step behind what its engine does. Before a cell runs, all is sent: the cell sees
the slider where the user left it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Message(NamedTuple):
    """A message of the front end's to a comm."""

    kind: str
    """`comm_msg` or `comm_close`."""
    data: Any
    metadata: dict[str, Any]
    buffers: list[bytes]
    parent: dict[str, Any]
    """The Jupyter message that it came in: what is answered names it."""

    @property
    def is_update(self) -> bool:
        """Whether it sets some of a widget's values, and does no more."""
        data = self.data
        return (
            self.kind == "comm_msg" and not self.buffers and isinstance(data, dict) and data.get("method") == "update"
        )

    def after(self, earlier: Message) -> Message:
        """Return the one update that does what that earlier one and this one do."""
        return self._replace(data={**self.data, "state": {**earlier.data["state"], **self.data["state"]}})


class Mailbox:
    """The messages of one comm that wait. `send` sends one, without waiting; `sent` is to be called when it is done."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._under_way = 0

    def post(self, message: Message) -> None:
        """Have a message sent after those that wait. Never waits; for any thread."""
        with self._lock:
            if self._under_way:
                last = self._waiting[-1] if self._waiting else None
                if last is not None and last.is_update and message.is_update:
                    self._waiting[-1] = message.after(last)
                else:
                    self._waiting.append(message)
                return
            self._under_way = 1
        self._send(message)

    def sent(self) -> None:
        """A message has been acted on: send the next, unless another is under way."""
        with self._lock:
            self._under_way -= 1
            if self._under_way or not self._waiting:
                return
            self._under_way = 1
            message = self._waiting.popleft()
        self._send(message)

    def flush(self) -> None:
        """Send all that waits: what is submitted from now on is to come after it."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                self._under_way += 1
                message = self._waiting.popleft()
            self._send(message)
