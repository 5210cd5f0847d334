"""How many threads the numerical libraries of engines have."""

import os

import pytest
from enginery.nanny import cores
from enginery.nanny.threads import VARIABLES, Threads, quota, quota_files


@pytest.mark.parametrize(
    ("count", "engines", "share"), [(8, 1, "8"), (8, 3, "2"), (8, 8, "1"), (2, 16, "1"), (4, 0, "4")]
)
def test_each_engine_has_its_share(count, engines, share):
    assert Threads(count).environment(engines) == dict.fromkeys(VARIABLES, share)


def test_what_the_user_has_set_is_left_alone():
    environment = Threads(8, taken=frozenset({"OMP_NUM_THREADS", "HOME"})).environment(4)
    assert "OMP_NUM_THREADS" not in environment
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment.keys() | {"OMP_NUM_THREADS"} == set(VARIABLES)


def test_a_number_that_is_wanted_goes_for_all():
    assert Threads(8, 3, frozenset({"OMP_NUM_THREADS"})).environment(4) == dict.fromkeys(VARIABLES, "3")


def test_none_leaves_it_to_the_libraries():
    assert Threads(8, 0).environment(4) == {}


def test_where_quotas_are():
    assert quota_files("0::/a/b\n") == [(f"/sys/fs/cgroup{path}/cpu.max",) for path in ("/a/b", "/a", "")]
    assert quota_files("3:cpu,cpuacct:/a\n2:memory:/b\n") == [
        (f"/sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_quota_us", f"/sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_period_us")
        for path in ("/a", "")
    ]
    assert quota_files("0::/../outside\n") == []
    assert quota_files("") == []


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("200000 100000\n", 2.0),
        ("50000 100000", 0.5),
        ("max 100000", None),
        ("-1\n 100000", None),
        ("", None),
        ("0 0", None),
    ],
)
def test_what_quotas_say(text, allowed):
    assert quota(text) == allowed


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="there is no affinity here")
def test_affinity_and_quota_count(monkeypatch):
    files = {
        "/proc/self/cgroup": "0::/job",
        "/sys/fs/cgroup/job/cpu.max": "250000 100000",
        "/sys/fs/cgroup/cpu.max": "max 1",
    }
    monkeypatch.setattr(cores, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)))
    assert cores.usable() == 2
    files["/sys/fs/cgroup/job/cpu.max"] = "1000 100000"
    assert cores.usable() == 1
    files["/sys/fs/cgroup/job/cpu.max"] = "max 100000"
    assert cores.usable() == 6


def test_here_there_is_at_least_one():
    assert 1 <= cores.usable() <= (os.cpu_count() or 1)
