"""Row 1: individually submitted no-op tasks, one future each, one client. How many a second, at what cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from environments import NotMeasuredError
from peers.versions import ENGINERY, OTHERS, POOL, UNWRITTEN
from report import Row, count, median_of, ratio, times

if TYPE_CHECKING:
    from asking import Bench

NUMBER = 1
ENGINES = (1, 2, 4, 8, 16, 32, 64)
TASKS = (1_000, 10_000, 100_000, 1_000_000)


def measure(bench: Bench) -> Row:
    row = Row(NUMBER, "individually submitted no-op tasks, one future each, one client, 4 engines")
    seconds = 0.7 if bench.quick else 2.0
    number = {}

    def ask(session, _round=0):
        answer = session.ask("throughput", seconds=seconds, tasks=number.get(session.name))
        number[session.name] = answer["tasks"]  # counted out once, the same in every round
        return answer

    def alone(name):
        with bench.session(name) as session:
            return bench.repeated(lambda: ask(session), at_most_s=12)

    answers = bench.in_turn([ENGINERY, UNWRITTEN, POOL], ask, rounds=bench.repeat)
    answers |= bench.each([name for name in OTHERS if name != POOL], alone)
    row.figures = {name: median_of(a, "per_s", "cpu_us", "submit_us", "tasks") for name, a in answers.items()}
    row.show_all(lambda a: f"{count(a['per_s'])}/s at {count(a['cpu_us'])} µs of CPU")
    rate = ratio(row.value(ENGINERY, "per_s"), row.value(POOL, "per_s"))
    row.check("rate", ">= 10x ProcessPoolExecutor", rate, 10.0, times, at_least=True)
    cpu = row.value(ENGINERY, "cpu_us")
    row.check("CPU of all processes", "<= 30 µs a task", cpu, 30.0, lambda v: f"{v:.0f} µs")
    journal = ratio(row.value(ENGINERY, "per_s"), row.value(UNWRITTEN, "per_s"))
    row.check("rate with the journal", ">= 0.75x without", journal, 0.75, times, at_least=True)
    if bench.curve and ENGINERY in bench.peers:
        row.curves["engines"] = _curve(bench, [(n, 50_000) for n in ENGINES])
        row.curves["tasks"] = _curve(bench, [(4, tasks) for tasks in TASKS])
    return row


def _curve(bench, points):
    """Measure Enginery at each (engines, tasks)."""
    curve = []
    for n, tasks in points:
        bench.note(f"curve: {n} engines, {tasks} tasks")
        point = {"engines": n, "tasks": f"{tasks:,}"}
        try:
            with bench.session(ENGINERY, n) as session:
                session.ask("throughput", tasks=min(tasks, 10_000))
                rounds = [session.ask("throughput", tasks=tasks) for _ in range(1 if tasks >= 1_000_000 else 3)]
        except NotMeasuredError as error:
            curve.append({**point, "tasks/s": f"not measured: {error}", "CPU µs/task": ""})
            continue
        middle = median_of(rounds, "per_s", "cpu_us")
        cpu = f"{middle['cpu_us']:.0f}" if tasks >= 10_000 else ""  # the system counts it in hundredths of a second
        curve.append({**point, "tasks/s": count(middle["per_s"]), "CPU µs/task": cpu})
    return curve


if __name__ == "__main__":
    from run import main

    main(["--rows", str(NUMBER)])
