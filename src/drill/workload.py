"""A client of the drill: `python -P -m enginery.drill.workload PLAN_JSON`.

It submits tasks in rounds, waits for every single one, judges how it ended, and reports to the drill: a line of JSON on
its standard output after each round, and a byte for each task in a file. It keeps a steady pace on the whole: after
something that held it up, the rounds are larger.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import time
from collections import deque
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..client.client import Client
from ..errors import ClusterError, ControllerLost, EngineDied, EngineryError, TaskLost, TaskTimeout
from . import calls
from .account import Report
from .tasks import RETRIES, Kind, Outcome, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.results.futures import AsyncResult
    from ..client.results.mapresult import AsyncMapResult
    from ..client.views.balancedview import LoadBalancedView

SHARES = {
    Kind.QUICK: 0.8850,
    Kind.SLEEP: 0.08,
    Kind.PRINT: 0.02,
    Kind.FAIL: 0.005,
    Kind.FLAKY: 0.005,
    Kind.OBJECT: 0.002,
    Kind.CANCEL: 0.001,
    Kind.LIMITED: 0.001,
    Kind.LONG: 0.0008,
    Kind.STUBBORN: 0.0002,
}
"""How frequent each kind is. The last ones hold an engine for seconds, so they must be few."""

ROUND_MIN = 200
ROUND_MAX = 1500
ROUNDS_MAX = 3
"""How many rounds may be under way: a long task in one does not hold up the next, and memory stays flat. Together they
must not be more than a single engine gets done in half of PATIENCE_S."""

MAP_CHANCE = 0.3
"""Of a round: that it has a map, too."""

PATIENCE_S = 90.0
"""How long after a round's submission all of it must have ended. A round takes seconds, the longest fault three."""

LIMITED_S = 0.5
"""How long a task takes that has a limit of a tenth of it."""

CONNECT_S = 60.0

ERRORS_MAX = 20
"""How many errors are reported in words."""


class Plan(NamedTuple):
    """What a client is told."""

    client: int
    connection: str
    """Path of the connection file."""
    marks: str
    """The folder of the marks."""
    outcomes: str
    """The file of the outcomes."""
    seed: int
    until: float
    """When to submit no more, by the host's monotonic clock."""
    rate: float
    """Tasks per second."""


class Entry(NamedTuple):
    """A task under way."""

    kind: Kind
    task: int
    future: AsyncResult


class Round(NamedTuple):
    """Tasks that were submitted together: numbers in a row, those of the map's items last."""

    deadline: float
    entries: list[Entry]
    items: range
    results: AsyncMapResult | None


class Workload:
    """A client at work."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self.report = Report(plan.client)
        self._plan = plan
        self._client = client
        self._rng = random.Random(f"client {plan.seed} {plan.client}")
        self._place = 0
        self._rounds: deque[Round] = deque()
        view = client.load_balanced_view
        self._views: dict[Kind, LoadBalancedView] = {kind: view() for kind in SHARES}
        self._views[Kind.FLAKY].set_flags(retries=RETRIES)
        self._views[Kind.LIMITED].set_flags(timeout=LIMITED_S / 10)

    def run(self) -> None:
        """Submit until it is time, wait for everything, and report."""
        plan = self._plan
        began = time.monotonic()
        with open(plan.outcomes, "ab") as file:  # noqa: PTH123 - it is a path as text
            while (now := time.monotonic()) < plan.until or self._rounds:
                due = int(plan.rate * (now - began)) - self.report.tasks.submitted if now < plan.until else 0
                if self._rounds and (due < ROUND_MIN or len(self._rounds) >= ROUNDS_MAX):
                    file.write(self._judge_round(self._rounds.popleft()))
                    file.flush()
                elif due < ROUND_MIN:
                    time.sleep(max(0.0, min((ROUND_MIN - due) / plan.rate, plan.until - now)))
                else:
                    self._submit_round(min(due, ROUND_MAX))
                self.tell()
        self.report.over = True
        self.tell()

    def tell(self) -> None:
        """Send the report to the drill."""
        os.write(1, msgspec.json.encode(self.report) + b"\n")

    # ------------------------------------------------------------------------------------------------------ submitting

    def _submit_round(self, count: int) -> None:
        rng = self._rng
        kinds = rng.choices(list(SHARES), list(SHARES.values()), k=count)
        deadline = time.monotonic() + PATIENCE_S
        entries = [self._submit(kind) for kind in kinds]
        self.report.tasks.submitted += count
        items, results = range(0), None
        if rng.random() < MAP_CHANCE:
            first = number(self._plan.client, self._place)
            items = range(first, first + rng.randrange(200, 600))
            self._place += len(items)
            self.report.items.submitted += len(items)
            results = self._client.map(calls.item, [self._plan.marks] * len(items), items, return_exceptions=True)
        self._rounds.append(Round(deadline, entries, items, results))
        self.tell()
        for entry in entries:
            if entry.kind in (Kind.CANCEL, Kind.STUBBORN):
                self._cancel(entry)

    def _submit(self, kind: Kind) -> Entry:
        rng, view = self._rng, self._views[kind]
        task = number(self._plan.client, self._place)
        self._place += 1
        folder = self._plan.marks
        match kind:
            case Kind.QUICK:
                future = view.apply_async(calls.work, folder, task, int(kind))
            case Kind.SLEEP:
                future = view.apply_async(calls.work, folder, task, int(kind), rng.uniform(0.001, 0.02))
            case Kind.PRINT:
                future = view.apply_async(calls.work, folder, task, int(kind), 0.0, _line(task))
            case Kind.LONG:
                future = view.apply_async(calls.work, folder, task, int(kind), rng.uniform(1.0, 5.0))
            case Kind.FAIL:
                future = view.apply_async(calls.fail, folder, task, int(kind))
            case Kind.FLAKY:
                future = view.apply_async(calls.fail, folder, task, int(kind), 0.5)
            case Kind.STUBBORN:
                future = view.apply_async(calls.resist, folder, task, int(kind), 3.0)
            case Kind.OBJECT:
                given: Any = calls.megabytes(task)
                if rng.random() < 0.5:
                    given = self._client.put(given)  # (the task holds it when we let go of it)
                future = view.apply_async(calls.change, folder, task, int(kind), given)
            case Kind.CANCEL:
                future = view.apply_async(calls.work, folder, task, int(kind), rng.choice([0.0, 0.005, 0.5]))
            case _:
                future = view.apply_async(calls.work, folder, task, int(kind), LIMITED_S)
        return Entry(kind, task, future)

    def _cancel(self, entry: Entry) -> None:
        """Cancel a task, soon: some wait still then, some run."""
        time.sleep(self._rng.uniform(0.0, 0.1))
        grace_s = 0.2 if entry.kind == Kind.STUBBORN else self._rng.choice([None, 0.5])
        try:
            if entry.future.cancel(grace_s=grace_s) and not entry.future.cancelled():
                self._complain(entry.task, "cancel() returned True, but it was not cancelled")
        except ClusterError as error:
            self._complain(entry.task, f"cancel() failed: {error}")

    # -------------------------------------------------------------------------------------------------------- judging

    def _judge_round(self, round_: Round) -> bytes:
        """Wait for all of a round; return the outcomes as bytes."""
        outcomes = bytearray()
        for entry in round_.entries:
            outcome = self._judge(entry, round_.deadline)
            self.report.tasks.count(outcome)
            outcomes.append(outcome)
        if round_.results is not None:
            for outcome in self._judge_items(round_.results, round_.items, round_.deadline):
                self.report.items.count(outcome)
                outcomes.append(outcome)
        return bytes(outcomes)

    def _judge(self, entry: Entry, deadline: float) -> Outcome:
        kind, task, future = entry
        return self._judge_value(
            kind, task, lambda: future.result(max(0.0, deadline - time.monotonic())), lambda: str(future.stdout)
        )

    def _judge_items(self, results: AsyncMapResult, items: range, deadline: float) -> list[Outcome]:
        if not results.wait(max(0.0, deadline - time.monotonic())):
            self._complain(items[0], f"{len(items) - results.progress} of {len(items)} items from it on hang")
            return [Outcome.HUNG] * len(items)
        return [self._judge_value(Kind.ITEM, task, partial(_item, results, i), str) for i, task in enumerate(items)]

    def _judge_value(self, kind: Kind, task: int, get: Callable[[], Any], output: Callable[[], str]) -> Outcome:
        """Return how a task ended. `get` returns its value or raises its error; `output` what it printed."""
        try:
            value = get()
        except ControllerLost:
            raise
        except Exception as error:
            outcome = outcome_of(kind, task, error)
            if outcome in (Outcome.WRONG, Outcome.HUNG, Outcome.UNEXPLAINED):
                self._complain(task, f"a {kind.name} task ended with {type(error).__name__}: {error}")
            return outcome
        printed = output()
        expected = f"{_line(task)}\n" if kind == Kind.PRINT else ""
        due = calls.megabytes(task, returned=True) if kind == Kind.OBJECT else task
        if value == due and printed == expected and kind != Kind.FAIL:
            return Outcome.DONE
        self._complain(task, f"a {kind.name} task returned {value!r:.100} and printed {printed!r}, not {expected!r}")
        return Outcome.WRONG

    def _complain(self, task: int, what: str) -> None:
        if len(self.report.errors) < ERRORS_MAX:
            self.report.errors.append(f"task {task}: {what:.300}")


def outcome_of(kind: Kind, task: int, error: Exception) -> Outcome:
    """Return what an error means for a task of this kind."""
    match error:
        case EngineDied():
            return Outcome.DIED if error.reason else Outcome.UNEXPLAINED
        case TaskLost():
            return Outcome.LOST if str(error) else Outcome.UNEXPLAINED
        case TaskTimeout():
            return Outcome.TIMED_OUT if kind == Kind.LIMITED else Outcome.WRONG
        case CancelledError():
            return Outcome.CANCELLED if kind in (Kind.CANCEL, Kind.STUBBORN) else Outcome.WRONG
        case TimeoutError() if not isinstance(error, EngineryError):
            return Outcome.HUNG  # it is our own wait that ended
        case ValueError() if kind in (Kind.FAIL, Kind.FLAKY) and calls.complaint(task) in str(error):
            return Outcome.FAILED
        case _:
            return Outcome.WRONG


def _item(results: AsyncMapResult, index: int) -> Any:
    """Return an item's value, or raise its error."""
    value = results[index]
    if isinstance(value, Exception):
        raise value
    return value


def _line(task: int) -> str:
    return f"task {task} prints this"


def main() -> None:
    """Work, and say so if it was for nothing."""
    plan = Plan(**json.loads(sys.argv[1]))
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the drill asks a client that hangs where it does
    report = Report(plan.client)
    try:
        with Client(plan.connection, timeout=CONNECT_S) as client:
            workload = Workload(client, plan)
            report = workload.report
            workload.tell()
            workload.run()
    except EngineryError as error:
        report.errors.append(f"{type(error).__name__}: {error}")
        os.write(1, msgspec.json.encode(report) + b"\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
