"""Adding up, and finding what is wrong."""

import msgspec
import pytest
from enginery.drill import account, tasks
from enginery.drill.account import Evidence, Report, Tally
from enginery.drill.marks import Runs
from enginery.drill.tasks import Kind, Outcome


def runs(*counts, kind=Kind.QUICK):
    return Runs(bytearray(counts), bytearray(int(kind) if count else 0 for count in counts))


def report(client, submitted, *, items=0, **outcomes):
    ends = {Outcome[name.upper()]: count for name, count in outcomes.items()}
    return Report(client, Tally(submitted, ends), Tally(items, {Outcome.DONE: items}), over=True)


DONE, DIED = bytes([Outcome.DONE]), bytes([Outcome.DIED])


def good():
    """Two clients: the first has two tasks, one of which died with its engine, the second one task and two items."""
    return Evidence(
        [report(1, 2, done=1, died=1), report(2, 1, done=1, items=2)],
        {1: DONE + DIED, 2: DONE * 3},
        {1: runs(1, 1), 2: runs(1, 1, 1)},
        {"engine-kill": 3, "cut": 0},
    )


def test_all_is_accounted_for():
    result = account.close(good())
    assert result.is_good
    lines = [line.split() for line in result.table.splitlines()]
    assert lines[0] == ["tasks", "items"]
    assert lines[1] == ["submitted", "3", "2"]
    assert lines[2] == ["done", "2", "2"]
    assert ["hung", "0", "0"] in lines
    assert result.table.endswith("faults: 3 engine-kill, 0 cut")


@pytest.mark.parametrize(
    ("name", "said"),
    [("hung", "1 task hung"), ("wrong", "1 task ended wrongly"), ("unexplained", "1 task lost without a reason")],
)
def test_bad_ends(name, said):
    evidence = good()._replace(reports=[report(1, 2, **{"done": 1, name: 1})])
    assert account.close(evidence).complaints == [said]


def test_what_a_client_did_not_get_to_say_hangs():
    evidence = good()._replace(reports=[report(1, 2, done=1), report(2, 1, done=1, items=2)], outcomes={1: DONE})
    result = account.close(evidence)
    assert result.complaints == ["1 task hung"]
    assert not result.is_good


def test_what_ran_twice_is_named():
    evidence = good()._replace(runs={1: runs(1, 2), 2: runs(1, 1, 1)})
    assert account.close(evidence).complaints == [f"1 ran more often than allowed: {tasks.number(1, 1)}"]


def test_many_culprits_are_named_in_part():
    twice = runs(*[2] * 10)
    (complaint,) = account.close(Evidence([], {}, {9: twice}, {})).complaints
    assert complaint.startswith(f"10 ran more often than allowed: {tasks.number(9, 0)}, ")
    assert complaint.endswith(", ...")


def test_what_has_retries_may_run_again():
    evidence = good()._replace(runs={1: runs(3, 1, kind=Kind.FLAKY), 2: runs(1, 1, 1)})
    assert account.close(evidence).is_good
    evidence = good()._replace(runs={1: runs(4, 1, kind=Kind.FLAKY), 2: runs(1, 1, 1)})
    assert not account.close(evidence).is_good


def test_a_result_of_what_never_ran_is_found_out():
    evidence = good()._replace(runs={1: runs(0, 1), 2: runs(1, 1)})
    culprits = f"{tasks.number(1, 0)}, {tasks.number(2, 2)}"
    assert account.close(evidence).complaints == [f"2 had a result but never ran: {culprits}"]


def test_what_died_need_not_have_run():
    assert account.close(good()._replace(runs={1: runs(1), 2: runs(1, 1, 1)})).is_good


def test_runs_of_what_nobody_submitted_are_found_out():
    evidence = good()._replace(runs={1: runs(1, 1, 0, 1), 2: runs(1, 1, 1)})
    assert account.close(evidence).complaints == ["1 runs are of tasks that nobody submitted"]


def test_tasks_of_killed_clients_are_known_by_their_marks():
    result = account.close(good()._replace(runs={**good().runs, 3: runs(1, 0, 1)}))
    assert result.is_good
    assert "tasks of killed clients that ran: 2" in result.table
    assert not account.close(good()._replace(runs={**good().runs, 3: runs(1, 0, 2)})).is_good


def test_leavings_and_errors_are_complaints():
    first, second = good().reports
    first.errors.append("it said so")
    evidence = good()._replace(reports=[first, second], unfinished=4, leavings=["file x"], errors=["it broke"])
    assert account.close(evidence).complaints == [
        "4 tasks are still on the controller's books",
        "left over: file x",
        "it broke",
        "client 1: it said so",
    ]


def test_reports_travel_as_json():
    sent = report(1, 2, done=1, died=1)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=Report) == sent


def test_numbers_of_tasks():
    assert tasks.place_of(tasks.number(3, 17)) == (3, 17)
