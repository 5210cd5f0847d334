"""What an engine says while it acts on a message of the front end's: shown where the widget is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from .lines import Lines
from .panes import display_id_of, encoded
from .relay import relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.messages import Output

AT_MOST_EVERY_S = 0.25
"""While a callback runs, an `Output` is told so often what it shows: all of it, each time."""


class Speaker(Protocol):
    """Who speaks to the front end."""

    def say(self, kind: str, content: dict[str, Any], /) -> None:
        """Put something into the output of the cell that made the widget."""

    def comm(self, client: Any, record: Output, /) -> None:
        """Pass on what a comm says."""

    def find_output(self, comm_id: str, /) -> Any:
        """Return who stands for an `Output`; None if it is closed."""


class Answer:
    """The answer to one message: in the output of the cell that made the widget, or in an `Output` that asks for it."""

    def __init__(self, client: Any, front: Speaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._front = front
        self._clock = clock
        self._lines = Lines()
        self._takers: list[Any] = []
        """The `Output`s that want what comes, the innermost last."""
        self._touched: list[Any] = []
        """Those that got something."""
        self._shown_at = clock()

    def take(self, record: Output) -> bool:
        """Show a record; return True: it need not be kept."""
        kind = record.kind
        if kind == "comm":
            self._comm(record)
        elif relay(self._client, record):
            pass
        elif self._takers:
            taker = self._takers[-1]
            taker.shown.take(record)
            if taker not in self._touched:
                self._touched.append(taker)
            if self._clock() - self._shown_at >= AT_MOST_EVERY_S:
                self._shown_at = self._clock()
                taker.show()
        elif kind in {"display", "update_display", "result"}:
            self._display(record)
        else:
            self._print(self._lines.take(record))
        return True

    def ended(self, engine: int, error: Any) -> None:
        """The engine has acted on it, with this error if a callback failed that nobody caught."""
        while self._takers:
            self._give_back(self._takers.pop())
        self._print(self._lines.ended(engine, failed=False))
        if error is not None:
            text = f"[error:{engine}] {error.traceback}".rstrip() + "\n"
            self._front.say("stream", {"name": "stderr", "text": text})

    def _comm(self, record: Output) -> None:
        data = record.data
        state = data["data"].get("state") if isinstance(data["data"], dict) else None
        if data["type"] == "comm_msg" and isinstance(state, dict) and "msg_id" in state:
            self._catch(self._front.find_output(data["comm_id"]), begins=bool(state["msg_id"]))
        self._front.comm(self._client, record)

    def _catch(self, taker: Any, *, begins: bool) -> None:
        if taker is None:
            return
        if begins:
            self._takers.append(taker)
        elif taker in self._takers:
            self._takers.remove(taker)
            self._give_back(taker)

    def _give_back(self, taker: Any) -> None:
        if taker.shown.changed:
            taker.show()
        if taker in self._touched:
            self._touched.remove(taker)
            taker.agree()

    def _print(self, lines: Any) -> None:
        for line in lines:
            self._front.say("stream", {"name": line.stream, "text": line.text + "\n"})

    def _display(self, record: Output) -> None:
        data = record.data
        display_id = display_id_of(data)
        self._front.say(
            "update_display_data" if record.kind == "update_display" else "display_data",
            {
                "data": encoded(data.get("data") or {}),
                "metadata": data.get("metadata") or {},
                "transient": {} if display_id is None else {"display_id": f"{record.engine}:{display_id}"},
            },
        )
