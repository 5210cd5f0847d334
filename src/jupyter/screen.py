"""What a stream of text looks like on a terminal: carriage returns, colours and a cursor that moves up.

Each stream of each engine is a screen of its own, so progress bars of several engines do not disturb one another.
"""

from __future__ import annotations

import re
from html import escape

KEPT_ROWS = 1000
"""So many lines of a stream are kept for display; the result has all of it."""

WIDEST = 10_000
"""Characters of a row that are kept for display."""

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_=>]|[\r\n\b\x07]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?]*|\][^\x07\x1b]*)?\Z")

_COLOURS = ("#3e424d", "#c0392b", "#1e8449", "#a67c00", "#2471a3", "#8e44ad", "#148f94", "#909497")
_BRIGHT = ("#7f8c8d", "#e74c3c", "#27ae60", "#c99700", "#3498db", "#a569bd", "#17a5ab", "#b3b6b7")
"""Readable on light and on dark paper."""

Style = str
Run = tuple[Style, str]
Row = list[Run]


class Screen:
    """The rows that a text makes, and where its cursor is."""

    def __init__(self, kept: int = KEPT_ROWS) -> None:
        self.rows: list[Row] = [[]]
        self.dropped = 0
        """Rows that were on top, and are not kept."""
        self._kept = kept
        self._row = 0
        self._column = 0
        self._sgr: tuple[str, ...] = ()
        self._style: Style = ""
        self._rest = ""

    def write(self, text: str) -> None:
        """Take text; an escape sequence may be cut anywhere."""
        text, self._rest = self._rest + text, ""
        cut = _UNFINISHED.search(text)
        if cut is not None:
            text, self._rest = text[: cut.start()], text[cut.start() :][:100]
        at = 0
        for control in _CONTROL.finditer(text):
            self._put(text[at : control.start()])
            at = control.end()
            self._control(control)
        self._put(text[at:])
        self._trim()

    def _control(self, control: re.Match[str]) -> None:
        match control[0]:
            case "\n":
                self._row += 1
                self._column = 0
                if self._row == len(self.rows):
                    self.rows.append([])
                    if len(self.rows) > 2 * self._kept:
                        self._trim()
                return
            case "\r":
                self._column = 0
                return
            case "\b":
                self._column = max(0, self._column - 1)
                return
        number = int(control[1]) if control[1] and control[1].isdecimal() else 0
        match control[2]:
            case "m":
                self._colour(control[1])
            case "A":
                self._row = max(0, self._row - (number or 1))
            case "B":
                self._row = min(len(self.rows) - 1, self._row + (number or 1))
            case "C":
                self._column = min(1000, self._column + (number or 1))
            case "D":
                self._column = max(0, self._column - (number or 1))
            case "G":
                self._column = min(1000, max(0, (number or 1) - 1))
            case "K":
                cells = _cells(self.rows[self._row])
                left = [] if number == 2 else cells[: self._column]
                right = [("", " ")] * self._column + cells[self._column :] if number == 1 else []
                self.rows[self._row] = _runs(right or left)
            case "J" if number in (2, 3):
                self.rows, self._row, self._column = [[]], 0, 0

    def _put(self, text: str) -> None:
        if not text:
            return
        row = self.rows[self._row]
        length = sum(len(run) for _, run in row)
        text = text[: max(0, WIDEST - self._column)]
        if not self._column and len(text) >= length:  # how progress bars write
            self.rows[self._row] = [(self._style, text)]
        elif self._column == length:
            if row and row[-1][0] == self._style:
                row[-1] = (self._style, row[-1][1] + text)
            else:
                row.append((self._style, text))
        else:
            cells = _cells(row)
            cells += [("", " ")] * (self._column - length)
            cells[self._column : self._column + len(text)] = [(self._style, char) for char in text]
            self.rows[self._row] = _runs(cells)
        self._column += len(text)

    def _trim(self) -> None:
        surplus = self.height - self._kept
        if surplus > 0:
            del self.rows[:surplus]
            self.dropped += surplus
            self._row = max(0, self._row - surplus)

    def _colour(self, codes: str) -> None:
        numbers = [int(code) if code.isdecimal() else 0 for code in codes.split(";")] or [0]
        styles = dict(part.split(":", 1) for part in self._sgr)
        while numbers:
            number = numbers.pop(0)
            match number:
                case 0:
                    styles.clear()
                case 1:
                    styles["font-weight"] = "bold"
                case 3:
                    styles["font-style"] = "italic"
                case 4:
                    styles["text-decoration"] = "underline"
                case 22:
                    styles.pop("font-weight", None)
                case 23:
                    styles.pop("font-style", None)
                case 24:
                    styles.pop("text-decoration", None)
                case 38 | 48:
                    name = "color" if number == 38 else "background-color"
                    colour = _extended(numbers)
                    if colour:
                        styles[name] = colour
                case 39:
                    styles.pop("color", None)
                case 49:
                    styles.pop("background-color", None)
                case _ if 30 <= number <= 37:
                    styles["color"] = _COLOURS[number - 30]
                case _ if 90 <= number <= 97:
                    styles["color"] = _BRIGHT[number - 90]
                case _ if 40 <= number <= 47:
                    styles["background-color"] = _COLOURS[number - 40]
                case _ if 100 <= number <= 107:
                    styles["background-color"] = _BRIGHT[number - 100]
        self._sgr = tuple(f"{name}:{value}" for name, value in styles.items())
        self._style = ";".join(self._sgr)

    # ---------------------------------------------------------------- looking at it

    @property
    def height(self) -> int:
        """How many rows there are; an empty one after the last newline does not count."""
        return len(self.rows) - (not self.rows[-1])

    def text(self, rows: int | None = None) -> str:
        """Return the last rows as plain text, without a newline at the end."""
        return "\n".join("".join(run for _, run in row).rstrip("\r") for row in self._last(rows))

    def html(self, rows: int | None = None) -> str:
        """Return the last rows as HTML, for a `<pre>`."""
        return "\n".join(
            "".join(f'<span style="{style}">{escape(run)}</span>' if style else escape(run) for style, run in row)
            for row in self._last(rows)
        )

    def above(self, rows: int | None = None) -> int:
        """Return how many rows are above the last ones."""
        return self.dropped + (0 if rows is None else max(0, self.height - rows))

    def _last(self, rows: int | None) -> list[Row]:
        there = self.rows[: self.height]
        return there if rows is None else there[-rows:]


def plain(text: str) -> str:
    """Return text as it looks when it has been written, without colours."""
    if not _CONTROL.search(text):
        return text
    screen = Screen()
    screen.write(text)
    return screen.text()


def without_colours(text: str) -> str:
    """Return text without its escape sequences, in all its rows."""
    return re.sub(r"\x1b\[[0-9;?]*[@-~]", "", text)


def html_of(text: str) -> str:
    """Return text as HTML, its colours as styles."""
    screen = Screen()
    screen.write(text)
    return screen.html()


def _cells(row: Row) -> list[tuple[Style, str]]:
    return [(style, char) for style, run in row for char in run]


def _runs(cells: list[tuple[Style, str]]) -> Row:
    row: Row = []
    for style, char in cells:
        if row and row[-1][0] == style:
            row[-1] = (style, row[-1][1] + char)
        else:
            row.append((style, char))
    return row


def _extended(numbers: list[int]) -> str:
    """Take a colour of 256, or of all, off the list."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = (min(255, numbers.pop(0)) for _ in range(3))
        return f"rgb({red},{green},{blue})"
    if kind == 5 and numbers:
        number = numbers.pop(0)
        if number < 16:
            return (_COLOURS + _BRIGHT)[number]
        if number < 232:
            levels = (0, 95, 135, 175, 215, 255)
            number -= 16
            return f"rgb({levels[number // 36 % 6]},{levels[number // 6 % 6]},{levels[number % 6]})"
        grey = min(255, 8 + 10 * (number - 232))
        return f"rgb({grey},{grey},{grey})"
    return ""
