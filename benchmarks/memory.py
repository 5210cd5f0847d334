"""Row 5: what an idle cluster of 4 holds (proportional set size, without the client), and what one more engine adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, OTHERS
from report import Row, megabytes

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 5


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "memory of an idle cluster of 4 (proportional set size), and unique to each further engine")

    def ask(name):
        answers = []
        for n in (4, 8):
            with bench.session(name, n) as session:
                answers.append(session.ask("memory"))
        small, large = answers
        return {**small, "uss_mb_each": (large["uss_mb"] - small["uss_mb"]) / 4}

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(
        lambda a: f"{megabytes(a['pss_mb'])} in {a['processes']} processes, {megabytes(a['uss_mb_each'])} each more"
    )
    row.check("idle cluster of 4", "<= 120 MB", row.value(ENGINERY, "pss_mb"), 120, megabytes)
    row.check("unique to each further engine", "<= 10 MB", row.value(ENGINERY, "uss_mb_each"), 10, megabytes)
    return row


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
