"""Rows, verdicts and the table."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

from peers.versions import ENGINERY, OURS, SOURCES

HEAD = (
    "| # | question | the others, in the same run | Enginery | budget | measured against it | verdict |",
    "|---|---|---|---|---|---|---|",
)
"""Of the table."""


@dataclass
class Check:
    """One figure against its budget; `ok` is None where it could not be measured."""

    what: str
    budget: str
    measured: str = "not measured"
    ok: bool | None = None

    @property
    def verdict(self):
        return {True: "pass", False: "**falls short**", None: "not measured"}[self.ok]


@dataclass
class Row:
    """One row of the budget, measured."""

    number: int
    question: str
    figures: dict = field(default_factory=dict)
    """What each answered, by name: figures, or {"why": the reason why not}."""
    shown: dict = field(default_factory=dict)
    """The same as text, by name."""
    checks: list = field(default_factory=list)
    curves: dict = field(default_factory=dict)
    """By name: a list of points, each a map of figures."""

    def show(self, name, text):
        """Say how the answer of one peer reads: `text(answer)`, unless it has none."""
        answer = self.figures.get(name)
        if answer is not None:
            self.shown[name] = f"not measured: {answer['why']}" if "why" in answer else text(answer)

    def show_all(self, text):
        for name in self.figures:
            self.show(name, text)

    def value(self, name, key):
        """Return a figure, or None."""
        return self.figures.get(name, {}).get(key)

    def check(self, what, budget, value, limit, text, *, at_least=False):
        """Hold a value against its limit; either may be None."""
        check = Check(what, budget)
        if value is not None:
            check.measured = text(value)
            if limit is not None:
                check.ok = value >= limit if at_least else value <= limit
        self.checks.append(check)

    def as_json(self):
        return asdict(self)


def ratio(a, b):
    """Return a / b, or None if one of them is missing."""
    return a / b if a is not None and b else None


def median_of(answers, *keys):
    """Return the medians of the figures of several answers, and how far the first of them swung."""
    if isinstance(answers, dict):
        return answers
    result = {key: statistics.median(answer[key] for answer in answers) for key in keys}
    values = [answer[keys[0]] for answer in answers]
    return {**result, "rounds": len(values), "least": min(values), "most": max(values)}


def count(value):
    """Return a number with as many digits as mean something.

    >>> count(1234567), count(4321), count(160.4)
    ('1.23 M', '4,300', '160')
    """
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value < 10:
        return f"{value:.1f}"
    power = len(str(int(value))) - 2
    return f"{round(value / 10**power) * 10**power:,.0f}"


def seconds(value):
    """Return a duration as people read it.

    >>> seconds(5.03), seconds(0.0421), seconds(0.00018)
    ('5.0 s', '42 ms', '0.18 ms')
    """
    if value >= 1:
        return f"{value:.1f} s"
    if value >= 0.01:
        return f"{value * 1e3:.0f} ms"
    return f"{value * 1e3:.2f} ms" if value < 0.001 else f"{value * 1e3:.1f} ms"


def megabytes(value):
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"


def times(value):
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def table(rows):
    """Return the measured table as Markdown."""
    lines = list(HEAD)
    for row in sorted(rows, key=lambda r: r.number):
        others = " · ".join(
            f"{'*' + SOURCES[name].title + '*' if name in OURS else SOURCES[name].title} {text}"
            for name, text in row.shown.items()
            if name != ENGINERY
        )
        ours = row.shown.get(ENGINERY, "not measured")
        for i, check in enumerate(row.checks):
            head = [str(row.number), row.question, others, ours] if i == 0 else ["", "", "", ""]
            cells = [*head, f"{check.what} {check.budget}", check.measured, check.verdict]
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def curves(rows):
    """Return the curves of the rows that have some, each as a small table."""
    parts = []
    for row in sorted(rows, key=lambda r: r.number):
        for name, points in row.curves.items():
            if not points:
                continue
            keys = max(map(list, points), key=len)
            lines = [f"Row {row.number}, {name}:", "", "| " + " | ".join(keys) + " |", "|" + "---:|" * len(keys)]
            lines += ["| " + " | ".join(str(point.get(key, "")) for key in keys) + " |" for point in points]
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def conditions(machine):
    """Return the sentence about where and when."""
    return (
        f"Measured {machine['date']} on {machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"Python {machine['python']}, Enginery {machine['enginery']}; "
        + ", ".join(version for versions in machine["peers"].values() for version in versions[:1])
        + f". Load average before the run: {machine['load_before']:.2f}."
    )
