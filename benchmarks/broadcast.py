"""Row 7: a no-op on every engine, and wait for all answers; with 4 real engines and 1,000 simulated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from environments import NotMeasuredError
from peers.versions import ENGINERY, OTHERS
from report import Row, median_of, seconds

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 7
MANY = 1_000
REAL = (1, 2, 4, 8, 16, 32, 64)
SIMULATED = (4, 16, 64, 250, 1_000)


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, f"`view.apply_sync` of a no-op on all engines, median: 4 engines; {MANY:,} simulated ones")

    def ask(name):
        return median_of(_rounds(bench, name, 4), "median_ms", "p95_ms")

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(lambda a: f"{seconds(a['median_ms'] / 1e3)} (95 %: {seconds(a['p95_ms'] / 1e3)})")
    if ENGINERY in bench.peers:
        bench.note(f"{ENGINERY}, {MANY} simulated engines")
        many = row.figures["simulated"] = _simulated(bench, MANY)
        if "why" in many:
            row.shown[ENGINERY] += f"; {MANY:,}: not measured: {many['why']}"
        else:
            row.shown[ENGINERY] += f"; {MANY:,}: {seconds(many['median_ms'] / 1e3)}"
    for what, budget, name, limit in (
        ("4 engines", "<= 1.5 ms", ENGINERY, 1.5),
        (f"{MANY:,} simulated engines", "<= 60 ms", "simulated", 60.0),
    ):
        row.check(what, budget, row.value(name, "median_ms"), limit, lambda v: seconds(v / 1e3))
    if bench.curve and ENGINERY in bench.peers:
        row.curves["real engines"] = [_point(bench, n, _real(bench, n)) for n in REAL]
        row.curves["simulated engines"] = [_point(bench, n, _simulated(bench, n)) for n in SIMULATED]
    return row


def _rounds(bench, name, n, module=None):
    with bench.session(name, n, module=module) as session:
        return bench.repeated(lambda: session.ask("broadcast"))


def _real(bench, n):
    try:
        return median_of(_rounds(bench, ENGINERY, n), "median_ms", "p95_ms")
    except NotMeasuredError as error:
        return {"why": str(error)}


def _simulated(bench, n):
    try:
        return median_of(_rounds(bench, ENGINERY, n, "peers.simulated"), "median_ms", "p95_ms")
    except NotMeasuredError as error:
        return {"why": str(error)}


def _point(bench, n, answer):
    bench.note(f"curve: {n} engines")
    if "why" in answer:
        return {"engines": n, "median ms": f"not measured: {answer['why']}", "95 % ms": "", "µs/engine": ""}
    middle = answer["median_ms"]
    return {
        "engines": n,
        "median ms": f"{middle:.2f}",
        "95 % ms": f"{answer['p95_ms']:.2f}",
        "µs/engine": f"{middle * 1e3 / n:.0f}",
    }


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
