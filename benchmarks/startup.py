"""Row 4: from nothing (no interpreter yet) to the first answer of all 8 engines; then how long stopping takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, OTHERS
from report import Row, median_of, seconds

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 4
N = 8


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, f"from nothing to the first answer of all {N} engines")

    def once(name):
        with bench.session(name, N) as session:
            pass
        return {"start_s": session.started_s, "stop_s": session.stopped_s, "left_over": session.left_over}

    def ask(name):
        return bench.repeated(lambda: once(name), at_most_s=15)

    answers = bench.each([ENGINERY, *OTHERS], ask)
    row.figures = {name: median_of(a, "start_s", "stop_s", "left_over") for name, a in answers.items()}
    row.show_all(_text)
    row.check("start", "<= 1.0 s", row.value(ENGINERY, "start_s"), 1.0, seconds)
    row.check("stop", "<= 0.5 s", row.value(ENGINERY, "stop_s"), 0.5, seconds)
    return row


def _text(answer):
    left = f", {answer['left_over']:.0f} processes left over" if answer["left_over"] else ""
    return f"{seconds(answer['start_s'])} (stop {seconds(answer['stop_s'])}{left})"


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
