"""Whether the kernel killed it: records of the kernel as they are, and what is made of their counts."""

import pytest
from enginery.nanny import kills as k

UNIFIED = "0::/user.slice/user-1000.slice/job\n"
LEGACY = "9:name=systemd:/\n8:pids:/\n4:memory:/docker/abc\n3:cpuset:/\n0::/\n"
TOGETHER = "5:cpu,memory:/a\n"


def test_in_the_unified_hierarchy_the_nearest_cgroup_comes_first():
    assert k.counters(UNIFIED) == [
        "/sys/fs/cgroup/user.slice/user-1000.slice/job/memory.events",
        "/sys/fs/cgroup/user.slice/user-1000.slice/memory.events",
        "/sys/fs/cgroup/user.slice/memory.events",
        "/sys/fs/cgroup/memory.events",
        "/proc/vmstat",
    ]


def test_a_memory_controller_of_the_older_kind_is_the_one_that_counts():
    assert k.counters(LEGACY) == [
        "/sys/fs/cgroup/memory/docker/abc/memory.oom_control",
        "/sys/fs/cgroup/memory/docker/memory.oom_control",
        "/sys/fs/cgroup/memory/memory.oom_control",
        "/proc/vmstat",
    ]
    assert k.counters(TOGETHER)[0] == "/sys/fs/cgroup/memory/a/memory.oom_control"


@pytest.mark.parametrize("groups", ["", "0::/../other\n", "8:pids:/\n", "rubbish"])
def test_without_a_cgroup_to_be_seen_the_whole_host_counts(groups):
    assert k.counters(groups) == ["/proc/vmstat"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", 1),  # memory.events
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),  # memory.oom_control
        ("nr_free_pages 5980000\noom_kill 12\nnuma_hit 3\n", 12),  # vmstat
        ("oom_kill_disable 0\nunder_oom 0\n", None),  # before Linux 4.13
        ("oom_kill many", None),
        ("", None),
    ],
)
def test_counts(text, count):
    assert k.count_in(text) == count


@pytest.fixture
def kills():
    kills = k.Kills()
    kills.note("A", 5, now=100.0)
    return kills


def test_what_was_counted_before_explains_nothing(kills):
    assert not kills.take("A", now=100.1)
    assert not kills.take("unheard of", now=100.1)


def test_a_kill_explains_one_end(kills):
    kills.note("A", 7, now=101.0)
    assert [kills.take("A", now=101.0) for _ in range(3)] == [True, True, False]


def test_a_kill_that_was_counted_some_time_before_the_end_was_seen_explains_it(kills):
    kills.note("A", 6, now=101.0)
    kills.note("A", 6, now=103.0)
    assert kills.take("A", now=103.0)


def test_an_old_kill_explains_nothing(kills):
    kills.note("A", 6, now=101.0)
    assert not kills.take("A", now=101.1 + k.OPEN_S)
    kills.note("A", 7, now=200.0)
    kills.note("A", 7, now=200.1 + k.OPEN_S)
    assert not kills.take("A", now=200.1 + k.OPEN_S)


def test_counters_do_not_mix(kills):
    kills.note("B", 0, now=100.0)
    kills.note("B", 1, now=101.0)
    assert not kills.take("A", now=101.0)
    assert kills.take("B", now=101.0)


def test_a_counter_that_begins_anew_is_no_kill(kills):
    kills.note("A", 0, now=101.0)
    assert not kills.take("A", now=101.0)
    kills.note("A", 1, now=102.0)
    assert kills.take("A", now=102.0)


def test_what_is_kept_is_bounded(kills):
    kills.note("A", 10**9, now=101.0)
    assert sum(kills.take("A", now=101.0) for _ in range(2 * k.OPEN_MAX)) == k.OPEN_MAX
    for i in range(100):
        kills.note(f"job {i}", i, now=101.0)
    kills.keep({"A"})
    assert set(kills._counts) == set(kills._open) == {"A"}
