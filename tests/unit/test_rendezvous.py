"""Finding clusters: folders, locks, names."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from enginery import config, rendezvous
from enginery.errors import ClusterError, NoClusterError

NOTHING = 'no cluster is running; start one with "cluster start -n 8" or Cluster(n=8)'


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty runtime directory."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(path))
    monkeypatch.delenv("ENGINERY_CLUSTER", raising=False)
    return path


@pytest.fixture
def running(home):
    """Make folders of clusters that run: their locks are held until the test ends."""
    locks = []

    def make(name, *, connection=True):
        folder = home / name
        locks.append(rendezvous.take_lock(folder))
        rendezvous.sign_lock(locks[-1])
        if connection:
            config.save(folder / "client.json", config.Connection(cluster=name, address=f"ipc:///{name}"))
        return folder

    yield make
    for lock in locks:
        os.close(lock)


def dead(home, name):
    folder = home / name
    os.close(rendezvous.take_lock(folder))
    config.save(folder / "client.json", config.Connection(cluster=name, address=f"ipc:///{name}"))
    return folder


# ------------------------------------------------------------------------------------------------------- directories


def test_the_runtime_dir_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(tmp_path / "a" / "b"))
    assert rendezvous.runtime_dir() == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_the_session_folder_is_used_if_it_is_ours(tmp_path, monkeypatch):
    monkeypatch.delenv("ENGINERY_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert rendezvous.runtime_dir() == tmp_path / "enginery"


@pytest.mark.parametrize("session", ["/nowhere/at/all", ""])
def test_without_a_session_folder_there_is_one_in_tmp(session, monkeypatch):
    made = []
    monkeypatch.delenv("ENGINERY_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", session)
    monkeypatch.setattr(rendezvous, "private_dir", lambda path, variable="": made.append(path) or path)
    assert rendezvous.runtime_dir() == Path(f"/tmp/enginery-{os.getuid()}")
    assert made == [Path(f"/tmp/enginery-{os.getuid()}")]


def test_a_folder_that_others_can_enter_is_refused(home):
    home.chmod(0o755)
    with pytest.raises(ClusterError, match=r"other users can enter .*0755.*chmod 700"):
        rendezvous.runtime_dir()


def test_a_folder_of_another_user_is_refused(home, monkeypatch):
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(ClusterError, match=r"belongs to another user; set ENGINERY_RUNTIME_DIR"):
        rendezvous.runtime_dir()


def test_a_file_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(ClusterError, match="is not a folder"):
        rendezvous.runtime_dir()
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(ClusterError, match=r"cannot use the folder .*Not a directory"):
        rendezvous.runtime_dir()


def test_a_link_in_a_shared_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ClusterError, match="is not a folder"):
        rendezvous.private_dir(tmp_path / "link")
    assert rendezvous.private_dir(tmp_path / "link", "ENGINERY_RUNTIME_DIR")


@pytest.mark.parametrize("name", ["default", "a", "A-b_c.1", "x" * 64])
def test_good_names(name, home):
    assert rendezvous.cluster_dir(name) == home / name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-n", ".hidden", "a b", "x" * 65, "ü", "a\n"])
def test_bad_names(name, home):
    with pytest.raises(ClusterError, match="cannot be the name of a cluster"):
        rendezvous.cluster_dir(name)


@pytest.mark.parametrize("name", ["short", "l" * 64])
def test_the_store_is_found_beside_the_socket_where_the_connection_file_is_a_copy(running, tmp_path, name):
    folder = running(name)
    deep = folder / ("d" * 90) if name != "short" else folder  # its sockets are in a short folder
    deep.mkdir(exist_ok=True)
    address = f"ipc://{rendezvous.socket_path(deep)}"
    store = rendezvous.store_path(deep)
    copy = tmp_path / "copy.json"
    config.save(copy, config.Connection(cluster=name, address=address))
    assert rendezvous.find_store(copy, address) is None
    store.touch()
    try:
        assert rendezvous.find_store(copy, address) == store
        assert rendezvous.find_store(copy, "tcp://host:1") is None
    finally:
        store.unlink()


def test_a_socket_path_that_is_too_long_is_replaced_by_a_short_one(tmp_path, monkeypatch):
    assert rendezvous.socket_path(Path("/tmp/x")) == Path("/tmp/x/controller.sock")
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(rendezvous, "_short_dir", lambda: short)
    try:
        long = tmp_path / ("d" * 100)
        path = rendezvous.socket_path(long)
        assert path.parent == short
        assert len(os.fsencode(path)) <= 107
        assert rendezvous.socket_path(long) == path
        assert rendezvous.socket_path(tmp_path / ("e" * 100)) != path
    finally:
        shutil.rmtree(short)


# -------------------------------------------------------------------------------------------------------------- lock


def test_the_lock_tells_who_runs(home):
    folder = home / "c"
    assert not rendezvous.is_running(folder)
    lock = rendezvous.take_lock(folder)
    rendezvous.sign_lock(lock)
    assert rendezvous.is_running(folder)
    assert rendezvous.info(folder).pid == os.getpid()
    os.close(lock)
    assert not rendezvous.is_running(folder)
    assert (folder / "lock").exists()


def test_the_lock_is_had_by_one(home):
    lock = rendezvous.take_lock(home / "c")
    assert rendezvous.take_lock(home / "c") is None
    os.close(lock)
    again = rendezvous.take_lock(home / "c")
    assert again is not None
    os.close(again)


def test_looking_does_not_keep_anybody_from_the_lock(home, monkeypatch):
    folder = home / "c"
    os.close(rendezvous.take_lock(folder))
    looker = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(looker, fcntl.LOCK_SH)
    monkeypatch.setattr(rendezvous.time, "sleep", lambda _: os.close(looker))  # it looks away after our first try
    lock = rendezvous.take_lock(folder)
    assert lock is not None
    os.close(lock)


# ----------------------------------------------------------------------------------------------------------- finding


def test_nothing_runs(home):
    with pytest.raises(NoClusterError) as caught:
        rendezvous.find()
    assert str(caught.value) == NOTHING


def test_a_dead_cluster_does_not_run(home):
    dead(home, "default")
    with pytest.raises(NoClusterError) as caught:
        rendezvous.find()
    assert str(caught.value) == NOTHING
    with pytest.raises(NoClusterError, match="cluster default is not running any more"):
        rendezvous.find("default")
    with pytest.raises(NoClusterError, match="cluster default is not running any more"):
        rendezvous.find(home / "default" / "client.json")
    assert [(info.name, info.running) for info in rendezvous.list_clusters()] == [("default", False)]


def test_the_only_one_that_runs(home, running):
    dead(home, "default")
    running("b")
    assert rendezvous.find().cluster == "b"
    assert rendezvous.find_dir() == home / "b"


def test_the_default_one_of_several(running):
    running("b")
    running("default")
    assert rendezvous.find().cluster == "default"


def test_several_and_none_is_the_default(running):
    running("b")
    running("a")
    with pytest.raises(NoClusterError, match=r"2 clusters are running \(a, b\)"):
        rendezvous.find()


def test_by_name_by_environment_by_path(home, running, monkeypatch, tmp_path):
    running("a")
    running("b")
    assert rendezvous.find("b").cluster == "b"
    monkeypatch.setenv("ENGINERY_CLUSTER", "a")
    assert rendezvous.find().cluster == "a"
    assert rendezvous.find("b").cluster == "b"
    monkeypatch.setenv("ENGINERY_CLUSTER", str(home / "b" / "client.json"))
    assert rendezvous.find().cluster == "b"
    assert rendezvous.find(home / "a").cluster == "a"
    copy = tmp_path / "copy.json"
    shutil.copy(home / "b" / "client.json", copy)
    assert rendezvous.find(copy).cluster == "b"
    assert rendezvous.find(str(copy)).cluster == "b"


def test_a_name_that_does_not_run(running):
    running("a")
    with pytest.raises(NoClusterError, match=r'no cluster b is running \(running: a\); start it with "cluster start'):
        rendezvous.find("b")
    with pytest.raises(NoClusterError, match="no cluster b is running"):
        rendezvous.find_dir("b")


def test_one_that_is_starting(running):
    running("a", connection=False)
    with pytest.raises(NoClusterError, match="cluster a is still starting"):
        rendezvous.find("a")
    (info,) = rendezvous.list_clusters()
    assert (info.running, info.address) == (True, "")


def test_files_that_are_not_what_they_should_be(home, tmp_path):
    with pytest.raises(NoClusterError, match="there is no file"):
        rendezvous.find(tmp_path / "nothing.json")
    (tmp_path / "client.json").write_text("{}")
    with pytest.raises(ClusterError, match="is not the connection file of a cluster"):
        rendezvous.find(tmp_path / "client.json")


def test_the_list_leaves_out_what_is_no_cluster(home):
    (home / "file").write_text("")
    (home / ".hidden").mkdir()
    assert rendezvous.list_clusters() == []


# ------------------------------------------------------------------------------------------------------ ends


def test_a_cluster_of_this_host_can_be_watched(home):
    lock = rendezvous.take_lock(home / "one")
    config.save(home / "one" / "client.json", config.Connection(cluster="one", address="ipc:///one"))
    ending = rendezvous.watch("one")
    assert ending() is None
    os.close(lock)
    assert ending() == "its nanny was killed", "it has not cleared up"
    (home / "one" / "end").write_text("the controller has ended (exited with code 1): no disk\n")
    assert ending() == "the controller has ended (exited with code 1): no disk"
    shutil.rmtree(home / "one")
    assert ending() == "", "it was stopped"


def test_a_cluster_of_another_host_cannot(home, tmp_path):
    path = tmp_path / "client.json"
    config.save(path, config.Connection(cluster="far", address="tcp://192.0.2.1:5"))
    assert rendezvous.watch(path) is None
