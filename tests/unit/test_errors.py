"""Errors carry data, say it in a sentence, and pickle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import subprocess
import sys

import pytest
from enginery.errors import (
    ClusterError,
    ClusterExists,
    CompositeError,
    ControllerLost,
    EngineDied,
    EngineryError,
    ImpossibleDependency,
    InvalidDependency,
    NoClusterError,
    NoEngines,
    NoSuchEngine,
    NoSuchTask,
    ObjectLost,
    ObjectStoreFull,
    RemoteError,
    SerializationError,
    TaskAborted,
    TaskLost,
    TaskRefused,
    TaskTimeout,
    UnmetDependency,
)
from enginery.failure import failure_from, to_exception

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


def test_errors_pickle_where_dask_has_seen_to_it_that_pickles_bring_causes_along():
    code = """
import pickle, tblib.pickling_support
tblib.pickling_support.install()
from enginery.failure import failure_from, to_exception
try:
    {}["here"]
except KeyError as error:
    told = failure_from(error)
back = pickle.loads(pickle.dumps(to_exception(told, 3)))
assert isinstance(back, KeyError) and back.engine == 3, back
assert "on engine 3" in str(back.__cause__)
assert "KeyError: 'here'" in str(back.__cause__)
from enginery import errors
tblib.pickling_support.install()
others = {errors.RemoteError, errors.EngineDied, errors.CompositeError}  # which are not made of a sentence
for kind in list(vars(errors).values()):
    if isinstance(kind, type) and issubclass(kind, errors.EngineryError) and kind not in others:
        again = pickle.loads(pickle.dumps(kind("what happened")))
        assert type(again) is kind and str(again) == "what happened", kind
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert not done.stderr


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


def remote(kind, engine):
    return to_exception(failure_from(kind), engine)


def composite(count=3):
    return CompositeError(f"{count} of 4 calls failed", [remote(ValueError(f"bad {n}"), n) for n in range(count)])


@pytest.mark.parametrize(
    "error",
    [
        EngineryError("x"),
        RemoteError("E", "v", [("f", 1, "g", "s")], 3, "cause", engine_info={"host": "h"}),
        TaskAborted("cancelled before it started"),
        TaskLost("lost"),
        ControllerLost("gone"),
        TaskTimeout("stopped"),
        TaskRefused("no"),
        NoSuchEngine("there is no engine 7"),
        UnmetDependency("no gpu"),
        ImpossibleDependency("never"),
        InvalidDependency("unknown"),
        NoSuchTask("no task 3-1"),
        ObjectLost("object 01234567-1"),
        ObjectStoreFull("no room"),
        SerializationError("argument"),
        NoEngines("none"),
        ClusterError("c"),
        NoClusterError("n"),
        ClusterExists("e"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_all_errors_pickle(error):
    error.add_note("a note")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert (str(again), again.__notes__) == (str(error), ["a note"])
        assert again.__dict__.get("_remote") == error.__dict__.get("_remote")
    assert isinstance(error, EngineryError)


def test_every_error_is_in_the_list_above_or_has_a_test_of_its_own():
    from enginery import errors

    kinds = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)}
    public = {name for name in kinds if not name.startswith("_")} - {"Any", "NoReturn", "CancelledError"}
    mark = next(mark for mark in test_all_errors_pickle.pytestmark if mark.name == "parametrize")
    tested = {type(error).__name__ for error in mark.args[1]} | {"EngineDied", "CompositeError", "RemoteTraceback"}
    assert public == tested


def test_a_cancelled_task_is_caught_under_both_names():
    with pytest.raises(concurrent.futures.CancelledError):
        raise TaskAborted("x")
    assert not issubclass(TaskAborted, asyncio.CancelledError), "it is no reason to end the coroutine that gets it"
    assert TaskAborted("cancelled")._render_traceback_() == ["TaskAborted: cancelled"]


def test_older_names():
    import enginery

    assert enginery.NoEnginesRegistered is NoEngines
    assert enginery.TaskAborted is TaskAborted


def test_several_errors_pickle_with_their_engines():
    error = composite()
    error.add_note("n")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CompositeError
    assert str(again) == str(error) == "3 of 4 calls failed (3 sub-exceptions)"
    assert [(type(one).__name__, str(one), one.engine) for one in again.elist] == [
        ("ValueError", f"bad {n}", n) for n in range(3)
    ]
    assert again.__notes__ == ["n"]
    assert again.elist == again.exceptions


def test_several_errors_can_be_sorted_by_type():
    error = CompositeError("3 failed", [remote(ValueError("v"), 0), remote(KeyError("k"), 1), TaskAborted("a")])
    seen = []
    try:
        raise error
    except* KeyError as group:
        seen.append((type(group), len(group.exceptions)))
    except* RemoteError as group:
        seen.append((type(group), len(group.exceptions)))
    except* TaskAborted as group:
        seen.append((type(group), len(group.exceptions)))
    assert seen == [(CompositeError, 1)] * 3


def test_one_of_several_can_be_raised_and_shown(capsys):
    error = composite()
    with pytest.raises(ValueError, match="bad 2"):
        error.raise_exception(2)
    with pytest.raises(ValueError, match="bad 0"):
        error.raise_exception()
    for wrong in (3, -4):
        for call in (error.raise_exception, error.print_traceback):
            with pytest.raises(IndexError, match=f"there is no error {wrong}: the CompositeError has 3"):
                call(wrong)
    error.print_traceback(1)
    assert capsys.readouterr().err == "ValueError: bad 1\n"
    error.print_traceback()
    assert capsys.readouterr().err == "ValueError: bad 0\nValueError: bad 1\nValueError: bad 2\n"
    CompositeError("1 failed", [TaskLost("lost")]).print_traceback(-1)
    assert capsys.readouterr().err == "enginery.errors.TaskLost: lost\n"


def test_so_many_are_shown_and_no_more(capsys):
    error = composite(25)
    (shown,) = error._render_traceback_()
    assert shown.count("[engine ") == 10
    assert "... and 15 other errors" in shown
    error.tb_limit = 2
    (shown,) = error._render_traceback_()
    assert shown.count("[engine ") == 2
    error.print_traceback()
    assert capsys.readouterr().err == "ValueError: bad 0\nValueError: bad 1\n... and 23 more\n"
    error.print_traceback(24)
    assert "bad 24" in capsys.readouterr().err
    assert CompositeError.tb_limit == 10
