"""What a terminal or a script's output shows while a cell runs on engines: whole lines, each with its engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .panes import PLAIN, STREAMS, display_id_of, out_label
from .screen import plain

if TYPE_CHECKING:
    from ..wire.messages import Output


class Line(NamedTuple):
    """A line to print, without its newline, to `stdout` or `stderr`."""

    stream: str
    text: str


class Lines:
    """Makes lines of records. A carriage return takes a line back, so a progress bar is one line, as it ended."""

    def __init__(self, *, colours: bool = False) -> None:
        self._colours = colours
        self._partial: dict[tuple[int, str], str] = {}
        self._errors: dict[int, list[str]] = {}
        self._updates: dict[tuple[int, str], Output] = {}
        """By engine and display id: the newest state of what was displayed."""

    def take(self, record: Output) -> list[Line]:
        """Return the lines that a record completes."""
        engine, kind, data = record.engine, record.kind, record.data
        if kind in STREAMS:
            return self._stream(engine, kind, str(data))
        match kind:
            case "display":
                return [*self._rest(engine), *self._displayed(record)]
            case "update_display":  # progress, as a rule: what counts is how it ends
                self._updates[engine, str(display_id_of(data))] = record
            case "result":
                label = out_label(str(engine), data.get("execution_count"))
                text = str((data.get("data") or {}).get(PLAIN, ""))
                if self._colours:
                    label = f"\x1b[31m{label}\x1b[0m"
                return [*self._rest(engine), *self._block(label, text)]
            case "error":
                earlier = self._show_errors(engine)
                self._errors[engine] = ["\n".join(map(str, data.get("traceback") or ()))]
                return earlier
        return []

    def ended(self, engine: int, *, failed: bool) -> list[Line]:
        """Return what is left when an engine's call is over."""
        lines = self._rest(engine)
        for key in [key for key in self._updates if key[0] == engine]:
            lines += self._displayed(self._updates.pop(key))
        if not failed:
            lines += self._show_errors(engine)
        self._errors.pop(engine, None)
        return lines

    def _stream(self, engine: int, kind: str, text: str) -> list[Line]:
        partial = self._partial.pop((engine, kind), "") + text
        *whole, rest = partial.split("\n")
        if rest:
            last = rest.rfind("\r", 0, len(rest) - 1)
            self._partial[engine, kind] = rest[last + 1 :]  # what was taken back need not be kept
        return [self._line(engine, kind, line) for line in whole]

    def _line(self, engine: int, kind: str, text: str) -> Line:
        text = text.rstrip("\r")
        text = text.rpartition("\r")[2] if self._colours else plain(text)
        reset = "\x1b[0m" if "\x1b[" in text else ""
        return Line(kind, f"[{kind}:{engine}] {text}{reset}")

    def _rest(self, engine: int) -> list[Line]:
        lines = []
        for kind in STREAMS:
            text = self._partial.pop((engine, kind), "")
            if text:
                lines.append(self._line(engine, kind, text))
        return lines

    def _block(self, label: str, text: str) -> list[Line]:
        text = text if self._colours else plain(text)
        return [Line("stdout", f"{label}\n{text}" if "\n" in text else f"{label} {text}")]

    def _displayed(self, record: Output) -> list[Line]:
        text = (record.data.get("data") or {}).get(PLAIN)
        return [] if text is None else self._block(f"[output:{record.engine}]", str(text))

    def _show_errors(self, engine: int) -> list[Line]:
        return [Line("stderr", text if self._colours else plain(text)) for text in self._errors.pop(engine, ())]


def grouped(logs: dict[int, list[Any]], groupby: str, order: list[Any]) -> list[list[Any]]:
    """Return records sorted for display after the end: by `type`, by `engine` or in `order` of arrival.

    `logs` are the records by engine, `order` all of them as they came. Each list is shown as one.
    """
    if groupby == "order":
        return [[record] for record in order]
    if groupby == "engine":
        return list(logs.values())
    passes: tuple[tuple[str, ...], ...] = (
        ("stdout",),
        ("stderr",),
        ("display", "update_display", "clear_output"),
        ("error",),
        ("result",),
    )
    return [[record for log in logs.values() for record in log if record.kind in kinds] for kinds in passes]


GROUPINGS = ("type", "engine", "order")
