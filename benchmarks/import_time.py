"""Row 11: what `import enginery` adds to an empty interpreter, and that it loads nothing of the engine."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from environments import STATE, NotMeasuredError, environment_of, python_of
from peers.versions import ENGINERY, OTHERS, SOURCES
from report import Row, seconds

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 11
USED = "from enginery import Client, Cluster"
ENGINE_ONLY = ("IPython", "ipykernel", "jupyter_client", "enginery.engine")


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "`import enginery`, over an empty interpreter, least of several")

    def ask(name):
        return _import(bench, name, SOURCES[name].imports)

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    if ENGINERY in bench.peers:
        row.figures["with names"] = bench.each([ENGINERY], lambda name: _import(bench, name, USED))[ENGINERY]
    row.show_all(lambda a: seconds(a["seconds"]))
    used = row.value("with names", "seconds")
    if used is not None:
        row.shown[ENGINERY] += f" (`{USED}`: {seconds(used)})"
    row.shown.pop("with names", None)
    row.check("import", "<= 60 ms", row.value(ENGINERY, "seconds"), 0.06, seconds)
    loaded = row.value("with names", "engine_only")
    number = None if loaded is None else len(loaded)
    row.check("nothing of the engine loaded", "", number, 0, lambda v: ", ".join(loaded) if v else "nothing")
    return row


def _import(bench, name, statement):
    python, environment = python_of(name), environment_of(name)
    rounds = 5 if bench.quick else 5 * bench.repeat
    empty, full = [], []
    for _ in range(rounds):
        empty.append(_time(python, environment, "pass"))
        full.append(_time(python, environment, statement))
    modules = _run(python, environment, f"{statement}\nimport sys; print(*sys.modules)").split()
    engine_only = [top for top in ENGINE_ONLY if any(m == top or m.startswith(top + ".") for m in modules)]
    return {
        "seconds": max(0.0, min(full) - min(empty)),
        "empty_s": min(empty),
        "modules": len(modules),
        "engine_only": engine_only,
    }


def _time(python, environment, code):
    t0 = time.perf_counter()
    _run(python, environment, code)
    return time.perf_counter() - t0


def _run(python, environment, code):
    done = subprocess.run([python, "-c", code], cwd=STATE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasuredError((done.stderr.strip().splitlines() or ["it failed"])[-1][:200])
    return done.stdout


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
