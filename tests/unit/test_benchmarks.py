"""The measured table of the benchmarks: a run of some rows renews those and keeps the others."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

MACHINE = {
    "cores": 2,
    "processor": "a processor",
    "system": "a system",
    "python": "3.11",
    "enginery": "1 (abc)",
    "peers": {"pool": ["pool==1"]},
    "load_before": 0.1,
}


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_the_examples_in_the_text(benchmarks):
    for name in ("written", "report"):
        assert doctest.testmod(benchmarks(name)).failed == 0


def test_every_row_has_its_program(benchmarks):
    run = benchmarks("run")
    for place in run.ROWS.values():
        name, _, function = place.partition(":")
        assert callable(getattr(benchmarks(name), function or run.MEASURE))


def test_some_rows_are_renewed_and_the_others_kept(benchmarks):
    written, report = benchmarks("written"), benchmarks("report")

    def row(number, question, curve=()):
        row = report.Row(number, question)
        row.check("rate", ">= 1", 2.0, 1.0, str, at_least=True)
        row.check("cost", "<= 1", 2.0, 1.0, str)
        row.curves["tasks"] = list(curve)
        return row

    def machine(date):
        return {**MACHINE, "date": f"{date}T00:00:00"}

    # Given a file with nothing between its marks
    text = f"before\n{written.START}\n{written.END}\nafter"
    # When all rows are written
    text = written.renewed(
        text, machine("2026-07-01"), [row(1, "how fast", [{"n": 1}]), row(2, "how slow"), row(11, "?")]
    )
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert text.count("\nMeasured 2026-07-01") == 1
    # And some again, with a new one
    text = written.renewed(text, machine("2026-07-02"), [row(10, "how long", [{"n": 2}]), row(2, "how slow now")])
    # Then each is there once, in order, with its lines and the words about its time
    lines = text.splitlines()
    assert [line[:20].rstrip() for line in lines if line.startswith(("| 1", "| 2 |"))] == [
        "| 1 | how fast |  |",
        "| 2 | how slow now |",
        "| 10 | how long |  |",
        "| 11 | ? |  | not me",
        "| 1 |",
        "| 2 |",
    ]
    assert sum(line.startswith("|  |") for line in lines) == 4
    assert "Rows 1, 11: measured 2026-07-01" in text
    assert "Rows 2, 10: measured 2026-07-02" in text
    assert "Row 1, tasks:\n\n| n |\n|---:|\n| 1 |" in text
    # And nothing changes when the same is written again
    assert written.renewed(text, machine("2026-07-02"), [row(10, "how long", [{"n": 2}])]) == text
    # And when all are of one time again, it is said once
    every = [row(number, "?") for number in (1, 2, 10, 11)]
    text = written.renewed(text, machine("2026-07-03"), every)
    assert text.count("easured 2026") == text.count("\nMeasured 2026-07-03") == 1
    assert "Row 1, tasks" not in text
