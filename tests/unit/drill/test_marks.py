"""What each run leaves behind."""

import os

import pytest
from enginery.drill import calls, marks, tasks
from enginery.drill.tasks import Kind


def test_runs_are_counted_by_client_and_place(tmp_path):
    folder = str(tmp_path)
    for client, place in [(1, 0), (1, 2), (1, 2), (2, 5000)]:
        marks.leave(folder, tasks.number(client, place), Kind.QUICK)
    runs = marks.read(tmp_path)
    assert sorted(runs) == [1, 2]
    assert list(runs[1].counts) == [1, 0, 2]
    assert runs[1].kinds[2] == Kind.QUICK
    assert runs[2].counts[5000] == 1
    assert sum(runs[2].counts) == 1


def test_each_process_has_a_file_of_its_own(tmp_path):
    marks.leave(str(tmp_path), 1, Kind.QUICK)
    pid = os.fork()
    if pid == 0:
        marks.leave(str(tmp_path), 2, Kind.QUICK)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{os.getpid()}.marks", f"{pid}.marks"}
    assert sum(marks.read(tmp_path)[0].counts) == 2


def test_a_mark_that_is_not_whole_is_none(tmp_path):
    marks.leave(str(tmp_path), 3, Kind.LONG)
    with (tmp_path / f"{os.getpid()}.marks").open("ab") as file:
        file.write(b"\x03\0\0\0")
    assert sum(marks.read(tmp_path)[0].counts) == 1


def test_a_mark_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        marks.leave(str(tmp_path / "missing"), 1, Kind.QUICK)


def test_every_call_leaves_a_mark_and_returns_its_number(tmp_path, capsys):
    folder = str(tmp_path)
    assert calls.work(folder, 1, Kind.PRINT, 0.001, "line") == 1
    assert capsys.readouterr().out == "line\n"
    assert calls.fail(folder, 2, Kind.FLAKY, 0.0) == 2
    with pytest.raises(ValueError, match="task 3 fails, as it should"):
        calls.fail(folder, 3, Kind.FAIL)
    assert calls.resist(folder, 4, Kind.STUBBORN, 0.001) == 4
    assert calls.item(folder, 16) == 16
    runs = marks.read(tmp_path)[0]
    assert [place for place, count in enumerate(runs.counts) if count == 1] == [1, 2, 3, 4, 16]
    assert runs.kinds[16] == Kind.ITEM
