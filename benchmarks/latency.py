"""Row 2: submit one call and wait for it. The echo over two hops is what the machine's wake-ups cost at that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, LIMITS, OTHERS, POOL, UNWRITTEN
from report import Row, median_of, ratio, seconds, times

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 2


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "submit one call and wait for its result, median")
    rounds = 3 if bench.quick else 4 * bench.repeat

    def ask(session, _round=0):
        return session.ask("latency", samples=200, seconds=1.5)

    def alone(name):
        with bench.session(name) as session:
            return bench.repeated(lambda: ask(session))

    answers = bench.in_turn([LIMITS, ENGINERY, UNWRITTEN, POOL], ask, rounds=rounds)
    answers |= bench.each([name for name in OTHERS if name != POOL], alone)
    row.figures = {name: median_of(a, "median_ms", "p10_ms", "p95_ms") for name, a in answers.items()}
    row.show_all(lambda a: f"{seconds(a['median_ms'] / 1e3)} (95 %: {seconds(a['p95_ms'] / 1e3)})")
    row.show(LIMITS, lambda a: f"(raw pyzmq echo over two hops) {seconds(a['median_ms'] / 1e3)}")
    ours = row.value(ENGINERY, "median_ms")
    row.check("median", "<= 1.5x the raw echo", ratio(ours, row.value(LIMITS, "median_ms")), 1.5, times)
    row.check("stretch: median", "< 1x ProcessPoolExecutor", ratio(ours, row.value(POOL, "median_ms")), 1.0, times)
    return row


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
