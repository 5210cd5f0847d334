"""What a notebook shows while a cell runs on engines: from records of output to what is to be published.

One pane (a display handle) per engine holds its text; rich outputs are published below. A browser redraws the whole
output at each update, so updates are few: at most `PANE_S` apart for one pane and `AT_ONCE` per `TICK_S` in total, the
last state wins, and while the cell runs a pane shows its last rows only. Nothing is shown in the first `FIRST_S`: what
ends sooner is laid out once, with identical panes as one.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from ..ids import show_engines
from .screen import Screen, html_of, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..wire.messages import Output

TICK_S = 0.05
AT_ONCE = 5
PANE_S = 0.22
FIRST_S = 0.3

LIVE_ROWS = 100
IN_FULL = 8
"""So many engines have a pane of their own; of the others, one line each is shown, in one pane for all."""

STREAMS = ("stdout", "stderr")
PLAIN = "text/plain"

_QUIET = "color:#888"
_LOUD = "color:#c0392b"


class Op(NamedTuple):
    """Something to publish: a new output, or a new state of one that is there."""

    bundle: dict[str, Any]
    display_id: str | None = None
    update: bool = False
    metadata: dict[str, Any] | None = None


class Rich(NamedTuple):
    """A rich output that is not published yet."""

    header: str
    bundle: dict[str, Any]
    metadata: dict[str, Any]
    display_id: str | None


class Pane:
    """What one engine has printed, and what its cell evaluated to."""

    def __init__(self, engine: int) -> None:
        self.engine = engine
        self.screens: dict[str, Screen] = {}
        """By stream, in the order in which something came; `output` are texts displayed, `error` tracebacks."""
        self.value: tuple[int | None, str] | None = None
        """The number and text of `Out`."""
        self.rich: list[Rich] = []
        self.updates: dict[str, Rich] = {}
        """By display id: the newest state of outputs that were displayed before."""
        self.dirty = False
        self.shown = False
        self.shown_at = float("-inf")
        self.slots: list[str] = []
        """Display ids of the rich outputs that are there."""
        self.used = 0
        """How many of them are in use: the others were cleared."""
        self._clear_next = False
        self._errors: list[str] = []

    def take(self, record: Output) -> None:
        """Take a record of this engine's output."""
        kind, data = record.kind, record.data
        if self._clear_next and kind in (*STREAMS, "display", "result", "error"):
            self.clear()
        match kind:
            case "stdout" | "stderr":
                self._write(kind, str(data))
            case "display":
                self._display(data, None)
            case "result":
                self._result(data)
            case "update_display":
                self._update(data)
            case "error":
                self._show_errors()
                self._errors = ["\n".join(map(str, data.get("traceback") or ()))]
            case "clear_output" if data.get("wait"):
                self._clear_next = True
            case "clear_output":
                self.clear()

    def ended(self, *, failed: bool) -> None:
        """The engine's call is over. If it failed, the last traceback is told with the error that is raised."""
        if not failed:
            self._show_errors()
        self._errors.clear()
        self._clear_next = False

    def clear(self) -> None:
        """Forget what was shown."""
        self._clear_next = False
        self.screens.clear()
        self.value = None
        self.rich.clear()
        self.used = 0
        self.dirty = True

    def _show_errors(self) -> None:
        for text in self._errors:
            self._write("error", text + "\n")

    def _write(self, kind: str, text: str) -> None:
        screen = self.screens.get(kind)
        if screen is None:
            screen = self.screens[kind] = Screen()
        screen.write(text)
        self.dirty = True

    def _display(self, data: dict[str, Any], header: str | None) -> None:
        bundle = dict(data.get("data") or {})
        wanted = display_id_of(data)
        if header is None and wanted is None and set(bundle) <= {PLAIN}:
            self._write("output", str(bundle.get(PLAIN, "")) + "\n")
            return
        display_id = None if wanted is None else f"{self.engine}:{wanted}"
        self.rich.append(Rich(header or f"[output:{self.engine}]", bundle, data.get("metadata") or {}, display_id))

    def _result(self, data: dict[str, Any]) -> None:
        bundle = data.get("data") or {}
        count = data.get("execution_count")
        if set(bundle) <= {PLAIN}:
            self.value = count, str(bundle.get(PLAIN, ""))
            self.dirty = True
        else:
            self._display(data, out_label(str(self.engine), count))

    def _update(self, data: dict[str, Any]) -> None:
        wanted = display_id_of(data)
        if wanted is None:
            return
        display_id = f"{self.engine}:{wanted}"
        bundle, metadata = dict(data.get("data") or {}), data.get("metadata") or {}
        fresh = Rich(f"[output:{self.engine}]", bundle, metadata, display_id)
        for place, rich in enumerate(self.rich):
            if rich.display_id == display_id:
                self.rich[place] = rich._replace(bundle=bundle, metadata=metadata)
                return
        self.updates[display_id] = fresh

    # ---------------------------------------------------------------- what it looks like

    @property
    def has_text(self) -> bool:
        """Whether there is something for the pane itself."""
        return self.value is not None or any(screen.height for screen in self.screens.values())

    @property
    def is_cut(self) -> bool:
        """Whether it has more rows than are shown while the cell runs."""
        return any(screen.height > LIVE_ROWS for screen in self.screens.values())

    def key(self) -> Any:
        """Return what is equal for panes that look alike."""
        return [(kind, screen.dropped, screen.rows) for kind, screen in self.screens.items()], self.value

    def bundle(self, name: str, rows: int | None) -> dict[str, Any]:
        """Return the pane as plain text and HTML; `name` are the engines that it is of."""
        texts: list[str] = []
        htmls: list[str] = []
        for kind, screen in self.screens.items():
            if not screen.height:
                continue
            label = f"[{kind}:{name}]"
            above = screen.above(rows)
            note = _above(above, kind, self.engine, live=rows is not None)
            joint = "\n" if above or min(screen.height, rows or screen.height) > 1 else " "
            texts.append(f"{label}{joint}{note}{screen.text(rows)}")
            colour = _LOUD if kind in ("stderr", "error") else _QUIET
            htmls.append(f'<span style="{colour}">{label}</span>{joint}{note}{screen.html(rows)}')
        if self.value is not None:
            label, text = out_label(name, self.value[0]), self.value[1]
            joint = "\n" if "\n" in text else " "
            texts.append(f"{label}{joint}{plain(text)}")
            htmls.append(f'<span style="{_LOUD}">{label}</span>{joint}{html_of(text)}')
        return _bundle("\n".join(texts), "\n".join(htmls))

    def line(self) -> tuple[str, str]:
        """Return the pane in one line, as two: who, and what it last said."""
        for kind, screen in reversed(self.screens.items()):
            if self.value is None and screen.height:
                more = screen.dropped + screen.height - 1
                lines = f"  ({more + 1:,} lines)" if more else ""
                return kind, f"{screen.text(1)}{lines}"
        text = plain(self.value[1]) if self.value is not None else ""
        return "Out", text.partition("\n")[0]


def out_label(name: str, count: int | None) -> str:
    """Return `Out[3:17]:`, the label of a value."""
    return f"Out[{name}]:" if count is None else f"Out[{name}:{count}]:"


def _above(count: int, kind: str, engine: int, *, live: bool) -> str:
    if not count:
        return ""
    where = f", see .{kind} of engine {engine}'s result" if kind in STREAMS and not live else ""
    return f"... {count:,} earlier lines{where}\n"


def _bundle(text: str, html: str) -> dict[str, Any]:
    if not text:
        return {PLAIN: "", "text/html": ""}
    return {PLAIN: text, "text/html": f'<pre style="margin:0;white-space:pre-wrap">{html}</pre>'}


def display_id_of(data: dict[str, Any]) -> str | None:
    """Return the name that what is displayed has on its engine, if it is to be found again."""
    return (data.get("transient") or {}).get("display_id")


def encoded(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return a bundle as front ends want it: images as base64."""
    return {
        kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in bundle.items()
    }


class Board:
    """The panes of one cell. `name` is part of the ids of its displays, and its own."""

    def __init__(self, engines: Iterable[int], name: str, now: float) -> None:
        self._panes = {engine: Pane(engine) for engine in engines}
        self._name = name
        self._began = now
        self._first = list(self._panes.values())[:IN_FULL]
        self._others = list(self._panes.values())[IN_FULL:]
        self._others_shown = False
        self._others_at = float("-inf")
        self._last_header = ""

    def take(self, record: Output) -> None:
        """Take a record of output of any engine."""
        pane = self._panes.get(record.engine)
        if pane is None:
            pane = self._panes[record.engine] = Pane(record.engine)
            (self._first if len(self._first) < IN_FULL else self._others).append(pane)
        pane.take(record)

    def ended(self, engine: int, *, failed: bool) -> None:
        """The call of one engine is over."""
        pane = self._panes.get(engine)
        if pane is not None:
            pane.ended(failed=failed)

    def flush(self, now: float, *, final: bool = False) -> list[Op]:
        """Return what is to be published now; with `final`, everything, as it shall stay."""
        if final:
            return self._finish()
        if now - self._began < FIRST_S:
            return []
        ops: list[Op] = []
        due = [p for p in self._first if (p.dirty or p.rich or p.updates) and now - p.shown_at >= PANE_S]
        for pane in sorted(due, key=lambda pane: pane.shown_at)[:AT_ONCE]:
            pane.shown_at = now
            self._show(pane, LIVE_ROWS, ops)
        if now - self._others_at >= PANE_S and any(p.dirty or p.rich or p.updates for p in self._others):
            self._others_at = now
            self._show_others(ops)
        return ops

    def _show(self, pane: Pane, rows: int | None, ops: list[Op]) -> None:
        if pane.dirty and (pane.shown or pane.has_text):
            self._publish(ops, pane.bundle(str(pane.engine), rows), self._id(pane.engine), update=pane.shown)
            pane.shown = True
        pane.dirty = False
        self._show_rich(pane, ops)

    def _show_rich(self, pane: Pane, ops: list[Op]) -> None:
        for rich in pane.rich:
            place = pane.used
            free = pane.slots[place] if place < len(pane.slots) else None
            if free is not None and rich.display_id in (None, free):
                ops.append(Op(encoded(rich.bundle), free, update=True, metadata=rich.metadata))
            else:
                if rich.header != self._last_header:
                    self._publish(ops, {PLAIN: rich.header})
                    self._last_header = rich.header
                display_id = rich.display_id or f"{self._id(pane.engine)}-{len(pane.slots)}"
                ops.append(Op(encoded(rich.bundle), display_id, metadata=rich.metadata))
                pane.slots.insert(place, display_id)
            pane.used += 1
        if not pane.rich and not pane.updates and pane.used < len(pane.slots):
            ops += [Op({PLAIN: ""}, slot, update=True) for slot in pane.slots[pane.used :]]
            del pane.slots[pane.used :]
        pane.rich.clear()
        ops += [Op(encoded(rich.bundle), at, update=True, metadata=rich.metadata) for at, rich in pane.updates.items()]
        pane.updates.clear()

    def _show_others(self, ops: list[Op]) -> None:
        if any(pane.dirty for pane in self._others):
            lines: dict[tuple[str, str], list[int]] = {}
            for pane in self._others:
                pane.dirty = False
                if pane.has_text:
                    lines.setdefault(pane.line(), []).append(pane.engine)
            text = [_labelled(kind, engines, line) for (kind, line), engines in lines.items()]
            if text or self._others_shown:
                bundle = _bundle("\n".join(text), escape("\n".join(text)))
                self._publish(ops, bundle, f"{self._name}-others", update=self._others_shown)
                self._others_shown = True
        for pane in self._others:
            self._show_rich(pane, ops)

    def _finish(self) -> list[Op]:
        ops: list[Op] = []
        panes = list(self._panes.values())
        alike = len(panes) > 1 and panes[0].has_text and all(pane.key() == panes[0].key() for pane in panes[1:])
        if alike:
            self._show_as_one(panes, ops)
        for pane in self._first:
            pane.dirty = not alike and (pane.dirty or (pane.shown and pane.is_cut))
            self._show(pane, None, ops)
        for pane in self._others:
            pane.dirty = not alike and pane.dirty
        self._show_others(ops)
        return ops

    def _show_as_one(self, panes: Sequence[Pane], ops: list[Op]) -> None:
        there = next((pane for pane in panes if pane.shown), None)
        target = self._id(panes[0].engine if there is None else there.engine)
        name = show_engines(pane.engine for pane in panes)
        self._publish(ops, panes[0].bundle(name, None), target, update=there is not None)
        empty = {PLAIN: "", "text/html": ""}
        ops += [Op(empty, self._id(pane.engine), update=True) for pane in panes if pane.shown and pane is not there]
        if self._others_shown:
            ops.append(Op(empty, f"{self._name}-others", update=True))

    def _publish(
        self, ops: list[Op], bundle: dict[str, Any], display_id: str | None = None, *, update: bool = False
    ) -> None:
        ops.append(Op(bundle, display_id, update))
        if not update:
            self._last_header = ""

    def _id(self, engine: int) -> str:
        return f"{self._name}-{engine}"


def _labelled(kind: str, engines: list[int], line: str) -> str:
    name = show_engines(engines)
    return f"{out_label(name, None)} {line}" if kind == "Out" else f"[{kind}:{name}] {line}"
