"""What people read."""

import sys
import time
from pathlib import Path

import pytest
from enginery.cluster import show
from enginery.rendezvous import ClusterInfo
from enginery.wire.stock import Hold, ObjectRecord, Place, Stock, StoreRecord


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600 * 2 + 61, "2 h 1 min"), (86400 * 3 + 7200, "3 d 2 h")],
)
def test_durations(seconds, text):
    assert show.duration(seconds) == text


def test_clusters():
    now = time.time()
    text = show.clusters(
        [
            ClusterInfo("a", Path("/r/a"), True, 12, now - 100, "ipc:///r/a"),
            ClusterInfo("b", Path("/r/b"), True, 13, now, ""),
            ClusterInfo("c", Path("/r/c"), False, 14, now, "ipc:///r/c"),
        ]
    )
    assert [line.split() for line in text.splitlines()] == [
        ["NAME", "STATE", "PID", "UP", "ADDRESS"],
        ["a", "running", "12", "1", "min", "ipc:///r/a"],
        ["b", "starting", "13", "0", "s"],
        ["c", "dead", "ipc:///r/c"],
    ]


STATE = {
    "cluster": "default",
    "controller_pid": 9,
    "uptime_s": 65.0,
    "engines": [
        {"id": 0, "state": "ready", "pid": 10, "host": "h", "tasks": 2, "reason": ""},
        {"id": 1, "state": "failed", "pid": 0, "host": "h", "tasks": 0, "reason": "exited with code 1"},
    ],
    "clients": [{"name": "cluster"}, {"name": ""}],
    "tasks": {"waiting": 3, "finished": 4},
}


def test_status():
    lines = show.status(STATE).splitlines()
    assert lines[0] == "cluster default: 1 of 2 engines ready, up 1 min, controller pid 9"
    assert lines[1] == "3 waiting, 4 finished tasks, 1 client"
    assert lines[3].split() == ["0", "ready", "10", "h", "2"]
    assert lines[4].split() == ["1", "failed", "h", "0", "exited", "with", "code", "1"]


def test_status_tells_of_objects():
    hosts = [{"host": "a", "count": 2, "nbytes": 5_000_000}, {"host": "b", "count": 0, "nbytes": 0}]
    objects = {"count": 3, "nbytes": 7_000_000, "lost": 1, "hosts": hosts}
    lines = show.status({**STATE, "objects": objects}).splitlines()
    assert lines[2] == "3 objects, 7.0 MB, 1 lost: a 2 (5.0 MB)"


def test_objects():
    record = ObjectRecord(bytes(15) + b"\7", 1500, "a", [Place("a", "memory", [0])], [Hold(3, "x", 8, 1)])
    stores = [StoreRecord("a", 1, 1500, True, 1500, 0, 10**9), StoreRecord("b", 2, 7, answered=False)]
    lines = show.stock(Stock([record], stores)).splitlines()
    assert lines[0] == "host a: 1 object, 1.5 kB of 1.0 GB of memory, 0 B on disk"
    assert lines[1] == "host b: 2 objects, 7 B (it has not answered)"
    assert lines[2].split() == ["OBJECT", "SIZE", "WHERE", "HELD", "BY"]
    assert lines[3].endswith("in memory on a  client 3 (x, pid 8) holds 1 handle; engine 0 has it mapped")
    assert show.stock(Stock([], [])) == "there are no objects"


def test_status_tells_of_set_up_that_failed():
    engines = [
        {"id": 0, "state": "away", "pid": 10, "tasks": 0, "reason": "", "setup": "failed: import x: ImportError"}
    ]
    lines = show.status({**STATE, "engines": engines}).splitlines()
    assert lines[0].startswith("cluster default: 0 of 1 engines ready")
    assert lines[3].split(maxsplit=4) == ["0", "away", "10", "0", "setup: failed: import x: ImportError"]


def test_status_tells_of_the_journal():
    assert show.status({**STATE, "journal": True}).splitlines()[1].endswith("1 client, with a journal")
    assert show.status({**STATE, "journal": False}).splitlines()[1].endswith("1 client, no journal")
    failure = "the journal cannot be written (disk full); the cluster goes on without one"
    lines = show.status({**STATE, "journal": False, "journal_failure": failure}).splitlines()
    assert lines[2] == f"{failure}: if the controller dies now, its tasks are lost"


def test_on_a_terminal_it_is_drawn(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "ready" in show.status(STATE)


def test_status_tells_of_threads_and_resources():
    engines = [{"id": 0, "state": "ready", "pid": 10, "host": "h", "tasks": 1, "threads": 4, "reason": ""}]
    hosts = [
        {"host": "h", "resources": {"mem": 64.0, "gpu": 2.0}, "in_use": {"gpu": 0.5}},
        {"host": "i", "resources": {}, "in_use": {}},
    ]
    lines = show.status({**STATE, "engines": engines, "hosts": hosts}).splitlines()
    assert lines[2] == "resources in use on h: gpu 0.5 of 2, mem 0 of 64"
    assert lines[3].split() == ["ENGINE", "STATE", "PID", "HOST", "THREADS", "TASKS"]
    assert lines[4].split() == ["0", "ready", "10", "h", "4", "1"]
