"""Clearing up after the dead, and nobody else."""

import os

import pytest
from enginery import leftovers, rendezvous


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    folder = tmp_path / "run" / "mine"
    folder.mkdir(parents=True)
    return folder


def test_processes_are_known_by_pid_and_start_time(folder):
    leftovers.note_process(folder, "engine-0", os.getpid())
    assert leftovers.noted_processes(folder) == [("engine-0", os.getpid())]
    (folder / "processes").write_text(f"engine-0 {os.getpid()} 1\nengine-1 {2**22 + 1} 5\nrubbish\n")
    assert leftovers.noted_processes(folder) == []


def test_a_process_that_is_gone_has_no_start_time():
    assert leftovers.start_time(os.getpid()) == leftovers.start_time(os.getpid())
    assert leftovers.start_time(2**22 + 1) is None


def test_noting_never_fails(folder):
    leftovers.note_process(folder / "missing", "engine-0", os.getpid())
    leftovers.note_process(folder, "engine-0", 2**22 + 1)
    assert leftovers.noted_processes(folder) == []


def test_shared_memory_of_longer_names_is_left_alone(folder, tmp_path):
    for name in ("enginery-mine-1", "enginery-mine-too-1", "enginery-other-1", "unrelated"):
        (tmp_path / "shm" / name).write_text("")
    (folder.parent / "mine-too").mkdir()
    assert [path.name for path in leftovers.shared_memory("mine", ["mine-too"])] == ["enginery-mine-1"]
    assert leftovers.clear(folder) == ["1 shared memory file"]
    assert sorted(path.name for path in (tmp_path / "shm").iterdir()) == [
        "enginery-mine-too-1",
        "enginery-other-1",
        "unrelated",
    ]


def test_everything_but_the_lock_is_cleared_and_then_all(folder):
    (folder / "lock").write_text("")
    (folder / "client.json").write_text("")
    (folder / "logs").mkdir()
    (folder / "logs" / "nanny.log").write_text("")
    assert leftovers.clear(folder) == ["its files"]
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert leftovers.remove(folder) == []
    assert not folder.exists()


def test_a_socket_elsewhere_is_cleared_too(folder, tmp_path, monkeypatch):
    elsewhere = tmp_path / "short.sock"
    elsewhere.write_text("")
    monkeypatch.setattr(rendezvous, "socket_path", lambda directory: elsewhere)
    leftovers.clear(folder)
    assert not elsewhere.exists()


def test_a_folder_that_somebody_else_uses_already_stays(folder):
    (folder / "lock").write_text("")
    original = leftovers._remove

    def and_then_somebody_comes(path):
        original(path)
        if path.name == "lock":
            (folder / "lock").write_text("new")

    leftovers._remove = and_then_somebody_comes
    try:
        leftovers.remove(folder)
    finally:
        leftovers._remove = original
    assert (folder / "lock").read_text() == "new"
