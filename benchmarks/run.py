"""Every row of the budget, one after the other, as a table: `make bench`, or `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path

from asking import Bench
from environments import ROOT, STATE, NotMeasuredError, machine, python_of
from peers.versions import OTHERS, OURS, SOURCES
from report import Check, Row, conditions, curves, table
from written import renewed

MEASURE = "measure"
ROWS = {
    1: "throughput",
    2: "latency",
    3: "map",
    4: "startup",
    5: "memory",
    6: "data",
    7: "broadcast",
    8: "queued",
    9: "recovery:engine_killed",
    10: "recovery:controller_killed",
    11: "import_time",
}
"""By number: the program, and its function if that is not `measure`."""
README = ROOT / "README.md"


def main(argv=None):
    options = _options(argv)
    bench = Bench(options.peers, quick=options.quick, repeat=options.repeat, curve=options.curve)
    facts = machine()
    print("environments", flush=True)
    for name in bench.peers:
        try:
            python_of(name)
        except NotMeasuredError as error:
            print(f"  {error}", flush=True)
    rows = []
    for number in options.rows:
        name, _, function = ROWS[number].partition(":")
        program = importlib.import_module(name)
        print(f"row {number}: {name}", flush=True)
        t0 = time.monotonic()
        try:
            row = getattr(program, function or MEASURE)(bench)
        except Exception as error:  # the other rows are worth having; this one says what went wrong
            traceback.print_exc()
            row = Row(number, program.__doc__.split(": ", 1)[1].splitlines()[0])
            row.checks.append(Check("the program failed:", f"{type(error).__name__}: {error}"))
        rows.append(row)
        print(f"  {time.monotonic() - t0:.0f} s", flush=True)
        _save(options.output, facts, rows, options)
    print(f"\n{conditions(facts)}\n\n{table(rows)}")
    if curves(rows):
        print(f"\n{curves(rows)}")
    print(f"\nall figures: {options.output}")
    if options.write:
        README.write_text(renewed(README.read_text(), facts, rows))
        print(f"written into {README.relative_to(ROOT.parent)}")


def _options(argv):
    parser = argparse.ArgumentParser(description="Measure Enginery and its peers, each row of the budget in turn.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help="such as 1,2,7 (default: all)")
    parser.add_argument(
        "--peers", type=_peers, default=list(SOURCES), help=f"of {','.join(OTHERS)}, or none (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: rough figures in a few minutes")
    parser.add_argument("--repeat", type=int, help="rounds of each measurement (default: 3; quick: 1)")
    parser.add_argument("--curve", action="store_true", help="rows 1, 6, 7, 10 over engines, tasks, bytes")
    parser.add_argument("--write", action="store_true", help="put these rows into the table of benchmarks/README.md")
    parser.add_argument("--output", type=Path, default=STATE / "results.json", help="(default: .bench/results.json)")
    options = parser.parse_args(argv if argv is None else [*argv, *sys.argv[1:]])
    if options.write and (options.peers != list(SOURCES) or options.quick):
        parser.error("--write is for rows measured in full: all peers, not --quick")
    return options


def _rows(text):
    rows = [int(part) for part in text.split(",")]
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no program measures row {unknown[0]}; there are {', '.join(map(str, ROWS))}")
    return rows


def _peers(text):
    names = [] if text == "none" else text.split(",")
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such peer: {unknown[0]}; there are {', '.join(OTHERS)}")
    return [*OURS, *(name for name in OTHERS if name in names)]


def _save(path: Path, facts, rows: list[Row], options):
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {"quick": options.quick, "repeat": options.repeat, "peers": list(options.peers)}
    path.write_text(json.dumps({"machine": facts, "how": how, "rows": [r.as_json() for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
