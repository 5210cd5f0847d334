"""The kernel's own records, on the machine that we are on."""

import os
import sys
from pathlib import Path

import pytest
from enginery.nanny import oom

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts its kills")


def test_this_process_is_counted_somewhere():
    if "oom_kill " not in Path("/proc/vmstat").read_text():
        pytest.skip("this kernel does not count its kills (Linux before 4.13)")
    counter = oom.find_counter(os.getpid())
    assert counter is not None
    assert oom.count(counter) >= 0


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    assert oom.count(str(tmp_path / "memory.events")) is None
    (tmp_path / "memory.events").write_bytes(b"oom_kill 4\n")
    assert oom.count(str(tmp_path / "memory.events")) == 4


def test_the_nearest_file_that_can_be_read_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("enginery.nanny.kills.CGROUPS", str(tmp_path))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "memory.events").write_text("oom_kill 0\n")
    (tmp_path / "memory.events").write_text("oom_kill 0\n")
    assert oom._readable("0::/a/b\n") == str(tmp_path / "a" / "memory.events")
