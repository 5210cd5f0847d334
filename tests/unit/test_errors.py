"""Errors carry data, say it in a sentence, and pickle."""

import pickle

from enginery.errors import EngineDied

FACTS = {
    "task": "3-17",
    "item": 5,
    "running": True,
    "pid": 77,
    "exit_code": -11,
    "memory_bytes": 1 << 20,
    "last_output": "Fatal Python error: Segmentation fault",
    "since": 1000.0,
    "ended": 1012.0,
    "peak_bytes": 2 << 20,
    "memory_curve": [(1.5, 1 << 20)],
    "history": ["engine 2 (killed by signal 11 (SIGSEGV))"],
}


def test_the_death_of_an_engine_pickles_with_all_that_is_known():
    error = EngineDied(3, "killed by signal 11 (SIGSEGV)", **FACTS)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is EngineDied
    assert {name: getattr(again, name) for name in FACTS} == FACTS
    assert (again.engine, again.reason, again.__notes__) == (3, error.reason, ["a note"])
    assert str(again) == str(error)


def test_the_death_of_an_engine_is_told_in_one_line_with_details():
    first, *details = str(EngineDied(3, "killed by signal 11 (SIGSEGV)", **FACTS)).splitlines()
    assert first == "engine 3 (pid 77) killed by signal 11 (SIGSEGV) while it ran item 5"
    assert "  it had also killed engine 2 (killed by signal 11 (SIGSEGV))" in details
    assert details[-1].strip() == FACTS["last_output"]
    assert str(EngineDied(3)) == "engine 3 died while it ran the task"
