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
from peers.versions import ENGINERY, LIMITS, OTHERS, SOURCES
from report import END, START, Check, Row, conditions, curves, table

ROWS = {
    1: "throughput",
    2: "latency",
    3: "map",
    4: "startup",
    5: "memory",
    6: "data",
    7: "broadcast",
    9: "engine_death",
    11: "import_time",
}
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
        program = importlib.import_module(ROWS[number])
        print(f"row {number}: {ROWS[number]}", flush=True)
        t0 = time.monotonic()
        try:
            row = program.measure(bench)
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
        write(README, facts, rows)
        print(f"written into {README.relative_to(ROOT.parent)}")


def _options(argv):
    parser = argparse.ArgumentParser(description="Measure Enginery and its peers, each row of the budget in turn.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help="such as 1,2,7 (default: all)")
    parser.add_argument(
        "--peers", type=_peers, default=list(SOURCES), help=f"of {','.join(OTHERS)}, or none (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: rough figures in a few minutes")
    parser.add_argument("--repeat", type=int, help="rounds of each measurement (default: 3; quick: 1)")
    parser.add_argument("--curve", action="store_true", help="rows 1 and 7 over the numbers of engines and tasks too")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--output", type=Path, default=STATE / "results.json", help="(default: .bench/results.json)")
    options = parser.parse_args(argv if argv is None else [*argv, *sys.argv[1:]])
    if options.write and (options.rows != list(ROWS) or options.peers != list(SOURCES) or options.quick):
        parser.error("--write is for a whole run: all rows, all peers, not --quick")
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
    return [ENGINERY, LIMITS, *(name for name in OTHERS if name in names)]


def _save(path: Path, facts, rows: list[Row], options):
    path.parent.mkdir(parents=True, exist_ok=True)
    how = {"quick": options.quick, "repeat": options.repeat, "peers": list(options.peers)}
    path.write_text(json.dumps({"machine": facts, "how": how, "rows": [r.as_json() for r in rows]}, indent=1) + "\n")


def write(path: Path, facts, rows):
    """Put the table between the markers of a Markdown file."""
    text = path.read_text()
    head, _, rest = text.partition(START)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{path} has no markers {START} and {END}")
    parts = [conditions(facts), table(rows), curves(rows)]
    path.write_text(f"{head}{START}\n\n" + "\n\n".join(part for part in parts if part) + f"\n\n{END}{tail}")


if __name__ == "__main__":
    main()
