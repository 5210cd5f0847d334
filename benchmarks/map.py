"""Row 3: `map` over a million items without a chunk size, against the pool with the best of several chunk sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, OTHERS, POOL
from report import Row, count, median_of, ratio, times

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 3
ITEMS = 1_000_000
CHUNKS = (500, 2_000, 8_000, 31_250, 125_000, 250_000)


def measure(bench: Bench) -> Row:
    items = ITEMS // 5 if bench.quick else ITEMS
    row = Row(NUMBER, f"`map(f, range({items:,}))`, list of results, no chunk size given")
    tried = {}

    def ask(session, round_):
        if session.name == ENGINERY:
            if round_ == 0:
                session.ask("map", items=items // 10)
            return session.ask("map", items=items)
        if round_ == 0:
            tried.update({c: session.ask("map", items=items, chunksize=c)["per_s"] for c in CHUNKS})
        best = max(tried, key=tried.get)
        return {**session.ask("map", items=items, chunksize=best), "chunksize": best}

    def untuned(name, **how):
        with bench.session(name) as session:
            return session.ask("map", seconds=0.7 if bench.quick else 2.0, **how)

    tuned = bench.in_turn([ENGINERY, POOL], ask, rounds=bench.repeat)
    if ENGINERY in tuned:
        row.figures[ENGINERY] = median_of(tuned[ENGINERY], "per_s")
        row.show(ENGINERY, lambda a: f"{count(a['per_s'])} items/s")
    for name, answer in bench.each(OTHERS, untuned).items():
        row.figures[name] = answer
        row.show(name, lambda a: f"{count(a['per_s'])} items/s")
    if POOL in tuned:
        best = row.figures[f"{POOL} tuned"] = median_of(tuned[POOL], "per_s", "chunksize")
        best["tried"] = tried
        text = (
            f"not measured: {best['why']}"
            if "why" in best
            else f"{count(best['per_s'])} items/s with the best chunksize ({best['chunksize']:,.0f})"
        )
        row.shown[POOL] = f"{text}, {row.shown[POOL]} with its default"
    rate = ratio(row.value(ENGINERY, "per_s"), row.value(f"{POOL} tuned", "per_s"))
    row.check("rate", ">= 1x the tuned pool", rate, 1.0, times, at_least=True)
    return row


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
