"""The command line, as far as it goes without a cluster."""

import os

import pytest
from click.testing import CliRunner
from enginery import cli, rendezvous
from enginery.cluster import local

NOTHING = 'no cluster is running; start one with "cluster start -n 8" or Cluster(n=8)\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(path))
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(state))
    monkeypatch.delenv("ENGINERY_CLUSTER", raising=False)
    return path


def run(*args):
    return CliRunner().invoke(cli.cluster, args)


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for name in ("start", "status", "list", "stop", "scale", "restart", "logs", "clean", "drill", "version"):
        assert f"  {name} " in result.output
        assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize("args", [("status",), ("stop",), ("scale", "-n", "2"), ("restart",), ("logs",)])
def test_without_a_cluster(home, args):
    result = run(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", NOTHING)


def test_nothing_to_do(home):
    assert run("list").output == "no cluster is running\n"
    assert run("stop", "--all").output == "no cluster is running\n"
    assert run("clean").output == "there is nothing to clear\n"


@pytest.mark.parametrize("command", ["start", "scale"])
@pytest.mark.parametrize("n", ["0", "-1"])
def test_counts_below_one(home, command, n):
    result = run(command, "-n", n)
    assert (result.exit_code, result.stderr) == (1, f"an engine count must be at least 1, not {n}\n")


def test_counts_beyond_the_machine(home, monkeypatch):
    monkeypatch.setattr("enginery.cluster.limits.available_bytes", lambda: 1 << 30)
    result = run("start", "-n", "100000")
    assert result.exit_code == 1
    assert "which is room for 102; start fewer, or insist with --force" in result.stderr


def test_bad_names_and_places(home):
    assert "cannot be the name of a cluster" in run("start", "-n", "1", "--name", "a/b").stderr
    assert "write HOST or HOST:PORT" in run("start", "-n", "1", "--listen", ":x").stderr
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--resources", "gpu"], "a resource is written NAME=AMOUNT, like gpu=2, not 'gpu'"),
        (["--resources", "gpu=1", "--resources", "gpu=1"], "resource gpu is given twice"),
        (["--threads", "-1"], "Invalid value for '--threads'"),
    ],
)
def test_bad_resources_and_threads(home, words, complaint):
    result = run("start", "-n", "1", *words)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_what_is_offered_is_passed_on(home, monkeypatch):
    started = []

    def start(_name, options, **_how):
        started.append(options)
        raise OSError(28, "enough")

    monkeypatch.setattr(local, "start", start)
    run("start", "-n", "1", "--resources", "gpu=2", "--resources", "mem=0.5", "--threads", "3")
    run("start", "-n", "1")
    assert [(options.resources, options.threads) for options in started] == [
        ((("gpu", 2.0), ("mem", 0.5)), 3),
        ((), None),
    ]


def test_a_name_is_given_once(home):
    assert run("stop", "a", "--name", "b").exit_code == 2
    assert run("stop", "a", "--all").exit_code == 2


def test_errors_of_the_system_are_a_sentence(home, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr(local, "start", full)
    result = run("start", "-n", "1")
    assert (result.exit_code, result.stderr) == (1, "No space left on device: /some/file\n")


@pytest.mark.parametrize(
    ("texts", "ids"),
    [((), None), (("0", "2"), [0, 2]), (("0,2",), [0, 2]), (("4-6", "1"), [4, 5, 6, 1])],
)
def test_ids(texts, ids):
    assert cli._parse_ids(texts) == ids


@pytest.mark.parametrize("text", ["x", "-", "1-", ",", "1,", "1.5", "0-999999999"])
def test_ids_that_are_none(home, text):
    assert run("restart", "--", text).exit_code == 2


def test_drills_that_cannot_be(home):
    result = run("drill", "--faults", "flood")
    assert (result.exit_code, result.stderr.partition(";")[0]) == (1, "there is no fault 'flood'")
    assert run("drill", "-n", "0").stderr == "an engine count must be at least 1, not 0\n"
    assert run("drill", "--minutes", "0").exit_code == 2


def test_dead_clusters_are_listed_and_cleared(home):
    os.close(rendezvous.take_lock(home / "gone"))
    (home / "gone" / "logs").mkdir()
    (home / "gone" / "logs" / "nanny.log").write_text("last words\n")
    result = run("list")
    assert "dead" in result.stdout
    assert "cluster clean" in result.stderr
    assert run("logs", "--name", "gone").stdout == "[nanny] last words\n"
    assert run("clean").output == "cluster gone: cleared its files\n"
    assert not list(home.iterdir())


@pytest.mark.parametrize("options", [(), ("--journals",)], ids=["clean", "clean --journals"])
def test_clean_makes_no_folder_for_journals(home, tmp_path, monkeypatch, options):
    monkeypatch.setenv("ENGINERY_STATE_DIR", str(tmp_path / "none"))
    assert run("clean", *options).exit_code == 0
    assert not (tmp_path / "none").exists()


def test_what_stopped_clusters_keep_stays_unless_one_says_so(home, tmp_path):
    state = tmp_path / "state"
    for name in (
        "default.journal",
        "default.journal-wal",
        "other.one.journal",
        "other.one.journal.broken",
        "notes.txt",
    ):
        (state / name).write_bytes(bytes(250_000))
    lock = rendezvous.take_lock(home / "other.one")  # it runs
    result = run("clean")
    assert result.stdout == "there is nothing to clear\n"
    assert result.stderr == 'a stopped cluster keeps its results (0.5 MB); "cluster clean --journals" removes them\n'
    result = run("clean", "--journals")
    assert (result.stdout, result.stderr) == ("cluster default: removed its results (0.5 MB)\n", "")
    assert sorted(path.name for path in state.iterdir()) == [
        "notes.txt",
        "other.one.journal",
        "other.one.journal.broken",
    ]
    os.close(lock)
    assert "other.one" in run("clean", "--journals").stdout
    assert [path.name for path in state.iterdir()] == ["notes.txt"]
    assert not list(home.iterdir())


def test_version():
    assert run("version").output.startswith("enginery 0.")
