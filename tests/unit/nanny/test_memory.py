"""How much memory a host has for us."""

from enginery.nanny import kills, memory

MB = 1 << 20


def test_the_smallest_of_host_and_cgroups_counts(monkeypatch):
    files = {
        "/proc/meminfo": f"MemTotal:       {100 * 1024} kB\nMemFree:   5 kB\n",
        "/proc/self/cgroup": "0::/job",
        "/sys/fs/cgroup/memory.max": "max\n",
    }
    monkeypatch.setattr(memory, "_read", lambda path: files.get(path, ""))
    assert memory.usable() == 100 * MB
    files["/sys/fs/cgroup/job/memory.max"] = f"{40 * MB}\n"
    assert memory.usable() == 40 * MB
    assert memory.limit(None) == 20 * MB
    assert memory.limit(7) == 7


def test_old_hierarchies_are_looked_at_too():
    groups = "9:memory:/a\n1:name=systemd:/b\n0::/b\n"
    assert kills.limits(groups) == [
        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    assert kills.limits("") == []


def test_here_there_is_some():
    assert memory.usable() > MB
