"""Clearing up after the dead, and nobody else."""

import os

import pytest
from enginery import leftovers, rendezvous


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path / "shm")
    monkeypatch.setenv("ENGINERY_SPILL_DIR", str(tmp_path / "spilled"))
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


def test_objects_of_this_folder_are_cleared_and_no_others(folder, tmp_path):
    other = tmp_path / "elsewhere" / "mine"
    other.mkdir(parents=True)
    chosen = rendezvous.spill_dir(folder, str(tmp_path / "chosen"))
    mine = [rendezvous.objects_dir(folder), rendezvous.spill_dir(folder), chosen]
    others = [rendezvous.objects_dir(other), rendezvous.spill_dir(other), chosen.with_name("another")]
    for place in mine + others:
        place.mkdir(parents=True, exist_ok=True)
        (place / "object").write_text("")
    (folder / rendezvous.SPILL).symlink_to(chosen)
    assert sorted(leftovers.objects(folder)) == sorted(mine)
    assert leftovers.clear(folder) == ["3 objects", "its files"]
    assert not any(place.exists() for place in mine)
    assert all(place.exists() for place in others)


def test_objects_of_dead_clusters_beside_this_one_are_cleared(folder):
    other, running = folder.parent / "other", folder.parent / "running"
    places = {}
    for cluster in (folder, other, running):
        cluster.mkdir(exist_ok=True)
        places[cluster] = [rendezvous.objects_dir(cluster), rendezvous.spill_dir(cluster)]
        for place in places[cluster]:
            place.mkdir(parents=True)
    lock = rendezvous.take_lock(running)
    assert sorted(leftovers.clear_objects_of_others(folder)) == sorted(places[other])
    assert all(place.exists() for place in places[folder] + places[running])
    os.close(lock)
    assert sorted(leftovers.clear_objects_of_others(folder)) == sorted(places[running])


def test_objects_without_a_cluster_are_cleared_when_they_are_old_and_nobody_holds_them(folder, tmp_path):
    held, old, new, strange = (
        tmp_path / "shm" / f"enginery-{name}" for name in ("a-00000001", "b-0000000a", "c-00000002", "d")
    )
    for place in (held, old, new, strange):
        place.mkdir()
        if place != new:
            os.utime(place, (1.0, 1.0))
    lock = leftovers.hold(held)
    assert lock is not None
    assert leftovers.hold(held) is None
    assert leftovers.clear_ownerless() == [old]
    os.close(lock)
    assert leftovers.clear_ownerless() == [held]
    assert new.exists()
    assert strange.exists()


def test_a_link_to_what_is_not_ours_is_not_followed(folder, tmp_path):
    (tmp_path / "precious").mkdir()
    (folder / rendezvous.SPILL).symlink_to(tmp_path / "precious")
    assert leftovers.objects(folder) == []
    assert leftovers.clear(folder) == ["its files"]
    assert (tmp_path / "precious").exists()


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
