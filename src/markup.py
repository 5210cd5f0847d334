"""Small pieces of HTML for notebooks: plain tags and inline styles that survive sanitizers, dark themes and exports.

Nothing here has a state of its own or needs a script. Texts are escaped here; `Markup` is what has been.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CARD = "border-left:3px solid #6a8caf;padding:2px 0 2px 10px;margin:2px 0;line-height:1.45"
_FAINT = "opacity:.65"
_CELL = "text-align:left;padding:1px 14px 1px 0"


class Markup(str):
    """HTML that is safe to show as it is."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as HTML: escaped, unless it is `Markup`."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Return values one after another."""
    return Markup(separator.join(text(part) for part in parts))


def faint(value: object) -> Markup:
    """Return something of less weight."""
    return Markup(f'<span style="{_FAINT}">{text(value)}</span>')


def card(kind: str, name: object, *facts: object, body: object = "") -> Markup:
    """Return a thing of ours: what it is, what it is called, some facts in a line, and what belongs under them."""
    line = join((fact for fact in facts if fact), " &middot; ")
    head = f"<strong>{text(kind)}</strong> {text(name)}"
    return Markup(f'<div style="{_CARD}"><div>{head}</div>{line and f"<div>{line}</div>"}{text(body)}</div>')


def table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Return rows under headers."""
    head = join(Markup(f'<th style="{_CELL};{_FAINT};font-weight:normal">{text(header)}</th>') for header in headers)
    lines = [join(Markup(f'<td style="{_CELL}">{text(cell)}</td>') for cell in row) for row in rows]
    body = join(Markup(f"<tr>{line}</tr>") for line in lines)
    return Markup(f'<table style="margin:2px 0;border:none"><tr>{head}</tr>{body}</table>')


def folded(summary: object, body: object) -> Markup:
    """Return something that is shown when its summary is clicked; it closes when what it is in is displayed anew."""
    return Markup(f'<details><summary style="cursor:pointer">{text(summary)}</summary>{text(body)}</details>')


def progress(done: int, total: int) -> Markup:
    """Return a bar, and the numbers beside it for wherever bars are not drawn."""
    bar = f'<progress value="{done}" max="{max(1, total)}" style="vertical-align:middle"></progress>'
    return Markup(f"{bar} {done:,} of {total:,}")
