"""Reading logs as they grow."""

import pytest
from enginery.cluster import logs
from enginery.errors import ClusterError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path


def write(folder, name, text):
    with (folder / "logs" / name).open("a") as file:
        file.write(text)


def test_all_logs_in_order_with_where_they_are_from(folder):
    write(folder, "engine-10.log", "ten\n")
    write(folder, "engine-2.log", "two\nunfinished")
    write(folder, "nanny.log", "hello\n")
    write(folder, "engine-2.old", "no\n")
    assert list(logs.read(folder, None)) == [
        "[nanny] hello",
        "[engine 2] two",
        "[engine 10] ten",
        "[engine 2] unfinished",
    ]
    assert list(logs.read(folder, 2)) == ["two", "unfinished"]
    assert list(logs.read(folder / "missing", None)) == []


def test_following(folder, monkeypatch):
    write(folder, "nanny.log", "one\nhalf")
    steps = iter(
        [
            lambda: write(folder, "nanny.log", " line\n"),
            lambda: write(folder, "engine-0.log", "new\n"),
            lambda: (folder / "logs" / "engine-0.log").rename(folder / "logs" / "engine-0.old"),
            lambda: write(folder, "engine-0.log", "begun anew\nend"),
        ]
    )
    alive = iter([True, True, True, True, False])
    monkeypatch.setattr(logs.time, "sleep", lambda _: next(steps)())
    assert list(logs.follow(folder, None, lambda: next(alive))) == [
        "[nanny] one",
        "[nanny] half line",
        "[engine 0] new",
        "[engine 0] begun anew",
        "[engine 0] end",
    ]


def test_an_engine_that_has_written_nothing(folder):
    with pytest.raises(ClusterError, match=r"engine 5 of cluster .* has written nothing"):
        logs.check_engine(folder, 5)
