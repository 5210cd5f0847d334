"""Row 9: an engine is killed (SIGKILL) while it runs a load-balanced task; how long until its future tells?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, OTHERS
from report import Row, median_of, seconds

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 9


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "an engine is killed: time to the error, or to the second attempt")

    def once(name):
        with bench.session(name) as session:  # a pool is broken afterwards
            return session.ask("death")

    def ask(name):
        answers = bench.repeated(lambda: once(name), at_most_s=20)
        return {**median_of(answers, "seconds"), "outcome": answers[0]["outcome"]}

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(lambda a: f"{seconds(a['seconds'])} ({a['outcome']})")
    row.check("time", "<= 0.1 s", row.value(ENGINERY, "seconds"), 0.1, seconds)
    return row


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
