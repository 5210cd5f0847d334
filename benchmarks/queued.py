"""Row 8: tasks handed in one by one while no worker is free. How long until they are kept, and in how much memory?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.versions import ENGINERY, OTHERS
from report import Row, count, megabytes, seconds

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 8
TASKS = 1_000_000
FEWER = {"pool": 100_000, "loky": 100_000, "ray": 50_000, "dask": 20_000, "ipyparallel": 10_000}
"""So many of the others, who would not end within the minute."""


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, f"{TASKS:,} tasks handed in one by one while all 4 engines are busy (others: as many as named)")

    def ask(name):
        tasks = FEWER.get(name, TASKS)
        with bench.session(name) as session:
            return session.ask("queued", tasks=tasks // 10 if bench.quick else tasks)

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(
        lambda a: (
            f"{count(a['tasks'])} in {seconds(a['accepted_s'])}, {count(a['task_bytes'])} B each (client: "
            f"{count(max(0.0, a['client_task_bytes']))} B); then {megabytes(max(0.0, a['left_mb']))} left"
        )
    )
    accepted = row.value(ENGINERY, "accepted_s")
    if accepted is not None and bench.quick:
        accepted *= 10
    row.check(f"{count(TASKS)} accepted", "<= 25 s", accepted, 25.0, seconds)
    row.check("kept in", "<= 1,000 B a task", row.value(ENGINERY, "task_bytes"), 1000.0, lambda v: f"{count(v)} B")
    left, taken = row.value(ENGINERY, "left_mb"), row.value(ENGINERY, "task_bytes")
    if left is not None and taken:
        left /= taken * row.value(ENGINERY, "tasks") / 1e6
    row.check("left of that when all are done", "<= 10 %", left, 0.1, lambda v: f"{100 * v:.0f} %")
    return row


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
