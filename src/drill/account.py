"""The account: whatever was submitted is done, failed, cancelled, timed out, or lost with a reason. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .tasks import Outcome, most_runs, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .marks import Runs

NAMED_MAX = 5
"""How many culprits of a sort are named."""


class Tally(msgspec.Struct):
    """How many there were, and how they ended: of tasks, or of items of maps."""

    submitted: int = 0
    outcomes: dict[Outcome, int] = {}

    def count(self, outcome: Outcome, times: int = 1) -> None:
        """Count an outcome."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + times


class Report(msgspec.Struct):
    """What a client says of itself, after each round; the latest counts. Sent as a line of JSON."""

    client: int
    tasks: Tally = msgspec.field(default_factory=Tally)
    items: Tally = msgspec.field(default_factory=Tally)
    errors: list[str] = []
    """What was wrong, in sentences; the first few."""
    over: bool = False
    """It has waited for everything, and has nothing more to say."""


class Evidence(NamedTuple):
    """What the account is made from."""

    reports: Sequence[Report]
    """Of the clients that lived to the end."""
    outcomes: Mapping[int, bytes]
    """The outcome of each of their tasks and items, by client: a byte each, by place."""
    runs: Mapping[int, Runs]
    """The marks of all clients' tasks, of those that were killed too."""
    faults: Mapping[str, int]
    """How many of each kind were carried out."""
    unfinished: int = 0
    """What the controller had still on its books when everybody had been waited for."""
    leavings: Sequence[str] = ()
    """What was left of the cluster after its end."""
    errors: Sequence[str] = ()
    """What else was wrong, in sentences."""


class Account(NamedTuple):
    """The result of a drill."""

    table: str
    complaints: list[str]
    """What was not as promised, in sentences; empty if nothing is lost."""

    @property
    def is_good(self) -> bool:
        """Whether all is accounted for."""
        return not self.complaints


_SAID = {
    Outcome.DONE: "done",
    Outcome.FAILED: "failed, as they should",
    Outcome.CANCELLED: "cancelled",
    Outcome.TIMED_OUT: "timed out",
    Outcome.DIED: "lost with their engine, as was said",
    Outcome.LOST: "lost otherwise, with a reason",
    Outcome.UNEXPLAINED: "lost without a reason",
    Outcome.WRONG: "wrong",
}


def close(evidence: Evidence) -> Account:
    """Add up, compare, and say what is wrong."""
    tasks = _sum([report.tasks for report in evidence.reports])
    items = _sum([report.items for report in evidence.reports])
    submitted = {report.client: report.tasks.submitted + report.items.submitted for report in evidence.reports}
    doubled = [task for client, runs in sorted(evidence.runs.items()) for task in _doubled(client, runs)]
    phantoms = [
        task
        for client, outcomes in sorted(evidence.outcomes.items())
        for task in _phantoms(client, outcomes, evidence.runs.get(client))
    ]
    strays = sum(_beyond(evidence.runs[client], n) for client, n in submitted.items() if client in evidence.runs)
    others = [runs for client, runs in evidence.runs.items() if client not in submitted]
    complaints = [
        *_bad_ends(tasks, "task"),
        *_bad_ends(items, "item"),
        *_named("ran more often than allowed", doubled),
        *_named("had a result but never ran", phantoms),
        *([f"{strays} runs are of tasks that nobody submitted"] if strays else []),
        *([f"{evidence.unfinished} tasks are still on the controller's books"] if evidence.unfinished else []),
        *(f"left over: {what}" for what in evidence.leavings),
        *evidence.errors,
        *(f"client {report.client}: {error}" for report in evidence.reports for error in report.errors),
    ]
    rows = [
        ("submitted", tasks.submitted, items.submitted),
        *((said, tasks.outcomes.get(end, 0), items.outcomes.get(end, 0)) for end, said in _SAID.items()),
        ("hung", _hung(tasks), _hung(items)),
    ]
    ran = sum(len(runs.counts) - runs.counts.count(0) for runs in others)
    lines = [
        *_columns(
            [("", "tasks", "items"), *((said, f"{of_tasks:,}", f"{of_items:,}") for said, of_tasks, of_items in rows)]
        ),
        f"ran more often than allowed: {len(doubled)}",
        f"left over: {len(evidence.leavings)}",
        *([f"tasks of killed clients that ran: {ran:,}"] if others else []),
        "faults: " + (", ".join(f"{count} {kind}" for kind, count in evidence.faults.items()) or "none"),
    ]
    return Account("\n".join(lines), complaints)


def _sum(tallies: Sequence[Tally]) -> Tally:
    total: Counter[Outcome] = Counter()
    for tally in tallies:
        total.update(tally.outcomes)
    return Tally(sum(tally.submitted for tally in tallies), dict(total))


def _hung(tally: Tally) -> int:
    """Return how many have no outcome: not in time, or their client did not get as far as to say."""
    ended = sum(count for outcome, count in tally.outcomes.items() if outcome != Outcome.HUNG)
    return tally.submitted - ended


def _bad_ends(tally: Tally, what: str) -> list[str]:
    ends = [
        (tally.outcomes.get(Outcome.UNEXPLAINED, 0), "lost without a reason"),
        (tally.outcomes.get(Outcome.LOST, 0), "lost though the engine lived"),
        (_hung(tally), "hung"),
        (tally.outcomes.get(Outcome.WRONG, 0), "ended wrongly"),
    ]
    return [f"{count:,} {what}{'s' if count != 1 else ''} {said}" for count, said in ends if count]


def _doubled(client: int, runs: Runs) -> list[int]:
    """Return the tasks that ran more often than they may."""
    return [
        number(client, place)
        for place, count in enumerate(runs.counts)
        if count > 1 and count > most_runs(runs.kinds[place])
    ]


def _phantoms(client: int, outcomes: bytes, runs: Runs | None) -> list[int]:
    """Return the tasks that have the outcome of a run, and no run."""
    counts = b"" if runs is None else runs.counts
    ends = (Outcome.DONE, Outcome.FAILED)
    return [
        number(client, place)
        for place, outcome in enumerate(outcomes)
        if outcome in ends and (place >= len(counts) or not counts[place])
    ]


def _beyond(runs: Runs, submitted: int) -> int:
    """Return how many tasks ran that come after the last that was submitted."""
    return sum(count > 0 for count in runs.counts[submitted:])


def _named(said: str, tasks: list[int]) -> list[str]:
    if not tasks:
        return []
    more = ", ..." if len(tasks) > NAMED_MAX else ""
    return [f"{len(tasks):,} {said}: {', '.join(map(str, tasks[:NAMED_MAX]))}{more}"]


def _columns(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
