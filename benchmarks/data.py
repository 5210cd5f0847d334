"""Row 6: push 100 MB to all engines, pass it to one task, return it from one; the limit is one copy in memory."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from environments import NotMeasuredError
from peers.versions import ENGINERY, LIMITS, OTHERS
from report import Row, ratio, seconds, times

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 6
NBYTES = 100_000_000
WAYS = ("push", "pass", "return")
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9, 4 * 10**9)
"""Bytes, for the curve."""

COMPARED = ("ray", "dask")
"""Of the others, those that the curve has, up to `COMPARED_MAX`."""
COMPARED_MAX = 10**9


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "push 100 MB to all 4 engines / pass it to one task / return it")

    def copy(name):
        with bench.session(name) as session:
            return session.ask("copy", nbytes=NBYTES)

    def ask(name):
        answer = {}
        with bench.session(name) as session:
            for way in WAYS:
                try:
                    rounds = bench.repeated(lambda way=way: session.ask(way, nbytes=NBYTES), at_most_s=10)
                except NotMeasuredError as error:
                    answer[f"{way}_why"] = str(error)
                    continue
                answer[way] = statistics.median(r["seconds"] for r in rounds)
                answer[f"{way}_writable"] = all(r["writable"] for r in rounds)
        return answer

    row.figures = bench.each([LIMITS], copy)
    row.figures |= bench.each([ENGINERY, *OTHERS], ask)
    for name in row.figures:
        row.show(name, _copy_text if name == LIMITS else _text)
    limit = row.value(LIMITS, "seconds")
    for way in WAYS:
        row.check(way, "<= 2x one copy", ratio(row.value(ENGINERY, way), limit), 2.0, times)
    writable = [row.value(ENGINERY, f"{way}_writable") for way in WAYS]
    known = None if None in writable else float(all(writable))
    row.check("arrays arrive writable", "", known, 1.0, lambda v: "yes" if v else "no", at_least=True)
    if bench.curve and ENGINERY in bench.peers:
        row.curves["bytes"] = _curve(bench)
    return row


def _curve(bench):
    """Return how long each way takes for each size, and one copy; of the others, how long as often as that."""
    points = {nbytes: {"bytes": _size(nbytes)} for nbytes in SIZES}
    with bench.session(LIMITS) as session:
        copies = {nbytes: min(_seconds(bench, session, "copy", nbytes)) for nbytes in SIZES}
    for nbytes, copy in copies.items():
        points[nbytes]["one copy"] = seconds(copy)
    for name in (ENGINERY, *(name for name in COMPARED if name in bench.peers)):
        bench.note(f"curve: {name}")
        sizes = [nbytes for nbytes in SIZES if name == ENGINERY or nbytes <= COMPARED_MAX]
        for way in WAYS:
            with bench.session(name) as session:
                for nbytes in sizes:
                    points[nbytes][f"{name}: {way}"] = _cell(bench, session, way, nbytes, copies[nbytes])
    columns = list(points[SIZES[0]])
    return [{column: point.get(column, "") for column in columns} for point in points.values()]


def _cell(bench, session, way, nbytes, copy):
    try:
        took = statistics.median(_seconds(bench, session, way, nbytes))
    except NotMeasuredError as error:
        return f"not measured: {error}"
    return f"{seconds(took)} ({took / copy:.1f}x)" if nbytes >= 10**6 else seconds(took)


def _seconds(bench, session, question, nbytes):
    return [r["seconds"] for r in bench.repeated(lambda: session.ask(question, nbytes=nbytes), at_most_s=4)]


def _size(nbytes):
    power, unit = next((p, u) for p, u in ((9, "GB"), (6, "MB"), (3, "kB")) if nbytes >= 10**p)
    return f"{nbytes // 10**power} {unit}"


def _copy_text(answer):
    return f"(one copy into fresh shared pages) {seconds(answer['seconds'])}"


def _text(answer):
    parts = [seconds(answer[way]) if way in answer else f"not measured: {answer[f'{way}_why']}" for way in WAYS]
    read_only = [way for way in WAYS if answer.get(f"{way}_writable") is False]
    return " / ".join(parts) + (" (read-only)" if read_only else "")


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
