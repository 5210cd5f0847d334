"""What an `Output` widget of an engine shows: kept here, and told to the front end as the widget's state.

In a notebook of its own, such a widget names the message whose answers it takes, and the front end puts those into it,
as long as it has the message in hand. Here the engine answers when the front end has done with it. So the widget's name
for it stays here, and whatever comes until the engine is told to stop is put into the widget by us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .panes import STREAMS, display_id_of, encoded

if TYPE_CHECKING:
    from ..wire.messages import Output

SHOWN_CHARS = 200_000
"""Of each piece of text, the last so many characters are shown: it is sent whole at each change."""


class Shown:
    """The outputs in one widget, as a notebook file has them."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.changed = False
        """Since somebody has last set this to False."""
        self._names: list[str | None] = []
        """The display ids of the outputs."""
        self._clear_next = False

    def set(self, outputs: list[dict[str, Any]]) -> None:
        """The engine, or the front end, has set what it shows."""
        self.outputs = list(outputs)
        self._names = [None] * len(self.outputs)
        self._clear_next = False

    def take(self, record: Output) -> None:
        """Show a record of output."""
        kind, data = record.kind, record.data
        if kind == "clear_output":
            self._clear_next = bool(data.get("wait"))
            if not self._clear_next:
                self._clear()
        elif kind == "update_display":
            self._update(data)
        elif kind in STREAMS:
            self._print(kind, str(data))
        elif kind == "error":
            named = {name: str(data.get(name) or "") for name in ("ename", "evalue")}
            lines = list(map(str, data.get("traceback") or ()))
            self._add({"output_type": "error", **named, "traceback": lines})
        elif kind in {"display", "result"}:
            self._add({"output_type": "display_data", **_bundle(data)}, display_id_of(data))

    def _add(self, output: dict[str, Any], name: str | None = None) -> None:
        if self._clear_next:
            self._clear()
        self.outputs.append(output)
        self._names.append(name)
        self.changed = True

    def _print(self, stream: str, text: str) -> None:
        last = self.outputs[-1] if self.outputs and not self._clear_next else {}
        if last.get("output_type") != "stream" or last.get("name") != stream:
            self._add({"output_type": "stream", "name": stream, "text": text[-SHOWN_CHARS:]})
            return
        self.outputs[-1] = {**last, "text": (str(last["text"]) + text)[-SHOWN_CHARS:]}
        self.changed = True

    def _update(self, data: dict[str, Any]) -> None:
        wanted = display_id_of(data)
        for index, name in enumerate(self._names):
            if name is not None and name == wanted:
                self.outputs[index] = {"output_type": "display_data", **_bundle(data)}
                self.changed = True

    def _clear(self) -> None:
        self.outputs, self._names, self._clear_next, self.changed = [], [], False, True


def _bundle(data: dict[str, Any]) -> dict[str, Any]:
    return {"data": encoded(data.get("data") or {}), "metadata": data.get("metadata") or {}}
