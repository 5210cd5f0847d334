"""Stores whose shared memory or disk is tiny: real file systems of a few MB."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from enginery import rendezvous
from enginery.errors import ClusterError, ObjectStoreFull
from enginery.nanny.store import files, start
from enginery.objects.local import LocalStore

MB = 1 << 20

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")  # noqa: PTH112


@contextlib.contextmanager
def mounted(folder, size):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Start stores in a folder for shared memory and one for the disk, and processes that use them."""
    with contextlib.ExitStack() as stack:

        def begin(memory, disk, **options):
            monkeypatch.setattr(rendezvous, "SHARED_MEMORY", memory)
            directory = tmp_path / "c"
            directory.mkdir()
            logged = []
            store = start.start(
                directory, **{"limit": 1 << 40, "least": MB, "spill": str(disk), "log": logged.append, **options}
            )
            if store is None:
                return None, logged
            stack.callback(store.close)
            user = LocalStore(store.path, b"e0.1")
            assert user.connect()
            return store, user

        yield begin


def made_by(user, nbytes):
    info = user.make(b"pickle", [os.urandom(nbytes)])
    user.claim()
    return info


def places(store):
    return [Path(folder) for folder in (store.memory, store.disk)]


def test_a_tiny_shared_memory_is_the_limit_and_the_rest_is_on_disk(tmp_path, begin):
    with mounted(tmp_path / "shm", "8m") as memory:
        store, user = begin(memory, tmp_path / "disk")
        made = [made_by(user, 3 * MB) for _ in range(5)]
        made.append(made_by(user, 12 * MB))
        for info in made:
            assert user.open(info)[1][0].nbytes in (3 * MB, 12 * MB)
        memory, disk = places(store)
        assert len(list(memory.iterdir())) + len(list(disk.iterdir())) == 6
        user.close()


def test_what_others_have_filled_is_noticed_and_the_disk_taken(tmp_path, begin):
    with mounted(tmp_path / "shm", "8m") as memory:
        store, user = begin(memory, tmp_path / "disk")
        (memory / "of others").write_bytes(bytes(7 * MB))
        info = made_by(user, 3 * MB)
        assert [path.name for path in places(store)[1].iterdir()] == [info.id.hex()]
        assert list(places(store)[0].iterdir()) == []
        user.close()


def test_when_the_disk_is_full_too_it_is_an_error_and_the_store_goes_on(tmp_path, begin):
    with mounted(tmp_path / "shm", "8m") as memory, mounted(tmp_path / "disk", "5m") as disk:
        store, user = begin(memory, disk)
        first, second, third = (made_by(user, 3 * MB) for _ in range(3))
        with pytest.raises(ObjectStoreFull, match=r"6\.\d MB of the 8\.4 MB .* has .* for them"):
            made_by(user, 6 * MB)
        with pytest.raises(ObjectStoreFull, match="let go of some"):
            made_by(user, 3 * MB)
        for info in (first, second, third):
            assert user.open(info)[1][0].nbytes == 3 * MB
        assert not [path for folder in places(store) for path in folder.iterdir() if path.suffix]
        user.close()


def test_a_disk_that_fills_meanwhile_is_told_to_who_waits(tmp_path, begin, monkeypatch):
    with mounted(tmp_path / "shm", "8m") as memory, mounted(tmp_path / "disk", "2m") as disk:
        monkeypatch.setattr(files.Files, "room", lambda _self: 1 << 30)
        store, user = begin(memory, disk)
        first, _ = (made_by(user, 3 * MB) for _ in range(2))
        with pytest.raises(ObjectStoreFull, match="cannot be written to: No space left on device"):
            made_by(user, 3 * MB)
        assert user.open(first)[1][0].nbytes == 3 * MB
        assert list(places(store)[1].iterdir()) == []
        user.close()


def test_a_folder_that_was_chosen_and_cannot_be_used_is_an_error(tmp_path, begin):
    (tmp_path / "shm").mkdir()
    (tmp_path / "no folder").write_text("")
    with pytest.raises(ClusterError, match=r"objects cannot be put to disk where --spill says: .*no folder"):
        begin(tmp_path / "shm", tmp_path / "no folder")


def test_without_shared_memory_there_is_no_store(tmp_path, begin):
    store, logged = begin(tmp_path / "missing", tmp_path / "disk")
    assert store is None
    assert "large values go through the controller" in logged[0]
