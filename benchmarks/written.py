"""The measured table in a Markdown file: some rows renewed, the others kept with the words about when and where."""

from __future__ import annotations

import re
from itertools import dropwhile, pairwise

from report import HEAD, conditions, curves, table

START = "<!-- measured: begin -->"
END = "<!-- measured: end -->"

_ROW = re.compile(r"\| (\d+) \|")
_WHEN = re.compile(r"(?:Rows? ([\d, ]+): )?[Mm](easured \d{4}-.*)")
_CURVE = re.compile(r"Row (\d+), ")


def renewed(text, machine, rows):
    """Return the file's text with these rows in place of those of the same numbers between its marks."""
    head, _, rest = text.partition(START)
    old, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"the file has no marks {START} and {END}")
    numbers = {row.number for row in rows}
    parts = old.strip().split("\n\n")
    lines = {n: ls for n, ls in _rows(_after(parts, HEAD[0])[:1]).items() if n not in numbers}
    when = {n: sentence for n, sentence in _when(old, lines).items() if n in lines}
    lines |= _rows([table(rows)])
    when |= dict.fromkeys(numbers, conditions(machine))
    kept = [
        f"{title}\n\n{points}"
        for title, points in pairwise(_after(parts, HEAD[0]))
        if (curve := _CURVE.match(title)) and int(curve[1]) not in numbers
    ]
    whole = "\n".join([*HEAD, *(line for number in sorted(lines) for line in lines[number])])
    new = [_sentences(when), whole, *kept, curves(rows)]
    return f"{head}{START}\n\n" + "\n\n".join(part for part in new if part) + f"\n\n{END}{tail}"


def _after(parts, start):
    """Return the parts from the one that begins so."""
    return list(dropwhile(lambda part: not part.startswith(start), parts))


def _rows(texts):
    """Return the lines of each row by its number: the first says it, those below belong to it.

    >>> _rows(["| # | question |\\n|---|---|\\n| 1 | how fast |\\n|  | at what cost |\\n| 11 | how small |"])
    {1: ['| 1 | how fast |', '|  | at what cost |'], 11: ['| 11 | how small |']}
    """
    rows = {}
    for line in (line for text in texts for line in text.splitlines()):
        if first := _ROW.match(line):
            mine = rows[int(first[1])] = [line]
        elif line.startswith("|  |"):
            mine.append(line)
    return rows


def _when(text, rows):
    """Return what is said about when each row was measured; a sentence that names no rows is about all of them.

    >>> _when("Row 2: measured 2026-07-01 here.\\nRows 1, 3: measured 2026-06-01 there.", ())
    {2: 'Measured 2026-07-01 here.', 1: 'Measured 2026-06-01 there.', 3: 'Measured 2026-06-01 there.'}
    >>> _when("Measured 2026-07-01 here.", (1, 2))
    {1: 'Measured 2026-07-01 here.', 2: 'Measured 2026-07-01 here.'}
    """
    when = {}
    for line in text.splitlines():
        if said := _WHEN.fullmatch(line):
            when |= dict.fromkeys(map(int, said[1].split(",")) if said[1] else rows, f"M{said[2]}")
    return when


def _sentences(when):
    """Return the same in as few sentences as there are times.

    >>> print(_sentences({2: "Measured A.", 1: "Measured B.", 3: "Measured B."}))
    Rows 1, 3: measured B.
    <BLANKLINE>
    Row 2: measured A.
    >>> print(_sentences({2: "Measured A.", 1: "Measured A."}))
    Measured A.
    """
    rows_of = {}
    for number in sorted(when):
        rows_of.setdefault(when[number], []).append(number)
    if len(rows_of) == 1:
        return next(iter(rows_of))
    return "\n\n".join(
        f"Row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}: m{sentence[1:]}" for sentence, rows in rows_of.items()
    )
