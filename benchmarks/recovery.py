"""Rows 9 and 10: an engine or the controller is killed (SIGKILL) at work; when does it go on, and what is lost?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from environments import NotMeasuredError
from peers.versions import ENGINERY, OTHERS
from report import Row, count, median_of, seconds

if TYPE_CHECKING:
    from asking import Bench

ENGINE, CONTROLLER = 9, 10

OWN_HEAD = {"dask": "peers.dask_processes"}
"""Adapters that start the process to be killed as one of its own, where the usual one has it within the client."""

LATER = {"ray": 65.0}
"""Who goes on without its head, and how many seconds it takes to find that it is gone."""

BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
"""Tasks in the journal when the controller is killed, for the curve."""


# ---------------------------------------------------------------------------------------------------- row 9: an engine


def engine_killed(bench: Bench) -> Row:
    row = Row(ENGINE, "an engine is killed: time to the error; to the second attempt, where the task is to have one")

    def once(name, **how):
        with bench.session(name) as session:  # a pool is broken afterwards
            return session.ask("engine killed", **how)

    def several(name, **how):
        answers = bench.repeated(lambda: once(name, **how), at_most_s=20)
        return {**median_of(answers, "seconds"), "outcome": answers[0]["outcome"]}

    def ask(name):
        answer = several(name)
        try:
            return {**answer, "again": several(name, again=True)}
        except NotMeasuredError as error:
            return {**answer, "again": {"why": str(error)}}

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(_engine_text)
    row.check("time to the error", "<= 0.1 s", row.value(ENGINERY, "seconds"), 0.1, seconds)
    again = (row.value(ENGINERY, "again") or {}).get("seconds")
    row.check("time to the second attempt", "<= 0.1 s", again, 0.1, seconds)
    return row


def _engine_text(answer):
    again = answer["again"]
    second = f"{seconds(again['seconds'])} ({again['outcome']})" if "seconds" in again else again["why"]
    return f"{seconds(answer['seconds'])} ({answer['outcome']}); {second}"


# ----------------------------------------------------------------------------------------------- row 10: the controller


def controller_killed(bench: Bench) -> Row:
    row = Row(CONTROLLER, "the controller is killed: time until work goes on, tasks lost or doubled")

    def once(name):
        with bench.session(name, module=OWN_HEAD.get(name)) as session:
            answer = session.ask("head killed")
            if name in LATER:
                answer["later"] = _later(session, LATER[name])
            elif answer["lost"]:
                session.abandon()  # nobody is left who could stop in order
            else:
                answer["new"] = session.ask("head killed", tasks=0, long_s=2.0)
            return answer

    def ask(name):
        if name != ENGINERY:
            return _account([once(name)])
        return _account([once(name) for _ in range(2 if bench.quick else 2 * bench.repeat)])

    row.figures = bench.each([ENGINERY, *OTHERS], ask)
    row.show_all(_controller_text)
    row.check("next result, worst", "<= 2 s", row.value(ENGINERY, "next_worst_s"), 2.0, seconds)
    row.check("answer to new work, worst", "<= 2 s", row.value(ENGINERY, "new_worst_s"), 2.0, seconds)
    for what in ("lost", "doubled"):
        row.check(f"tasks {what}", "0", row.value(ENGINERY, what), 0, str)
    row.check("tasks that ran at the kill and were lost or doubled", "0", row.value(ENGINERY, "long_harmed"), 0, str)
    if bench.curve and ENGINERY in bench.peers:
        row.curves["tasks in the journal"] = _curve(bench)
    return row


def _later(session, after_s):
    """Return what becomes of a call so much later."""
    try:
        session.ask("call later", after_s=after_s)
    except NotMeasuredError as error:
        session.abandon()
        return f"{after_s:.0f} s later: {error}"
    return f"a call {after_s:.0f} s later is answered"


def _account(kills):
    """Return the sums and the worst of several kills, each with work waiting and, if all went well, without."""
    rounds = [*kills, *(kill["new"] for kill in kills if "new" in kill)]
    account = {
        "later": kills[0].get("later"),
        "kills": len(rounds),
        "tasks": sum(r["tasks"] for r in rounds),
        "long": sum(r["long"] for r in rounds),
    }
    account |= {key: sum(r[key] for r in rounds) for key in ("lost", "failed", "doubled", "long_lost", "long_doubled")}
    account["long_harmed"] = account["long_lost"] + account["long_doubled"]
    for key in ("next", "new"):
        times = [r[f"{key}_s"] for r in rounds if r.get(f"{key}_s") is not None]
        if times:
            account |= {f"{key}_s": statistics.median(times), f"{key}_worst_s": max(times)}
    return account


def _controller_text(answer):
    parts = []
    for key, what in (("next", "next result"), ("new", "new work")):
        if f"{key}_s" in answer:
            worst = f" (worst {seconds(answer[f'{key}_worst_s'])})" if answer["kills"] > 2 else ""
            parts.append(f"{what} {seconds(answer[f'{key}_s'])}{worst}")
    parts.append(f"lost {answer['lost']:,} of {answer['tasks']:,}, doubled {answer['doubled']:,}")
    if answer["later"]:
        parts.append(answer["later"])
    return "; ".join(parts)


def _curve(bench):
    """Measure Enginery with more and more that waits."""
    curve = []
    for tasks in BACKLOGS:
        bench.note(f"curve: {tasks} tasks")
        try:
            with bench.session(ENGINERY) as session:
                answer = session.ask("backlog", tasks=tasks)
        except NotMeasuredError as error:
            curve.append({"tasks": f"{tasks:,}", "first result": f"not measured: {error}"})
            continue
        rate = count(tasks / answer["all_s"])
        point = {"tasks": f"{tasks:,}", "first result": seconds(answer["first_s"]), "all": seconds(answer["all_s"])}
        curve.append({**point, "tasks/s": rate})
    return curve


if __name__ == "__main__":
    from run import main

    main(["--rows", f"{ENGINE},{CONTROLLER}"])
