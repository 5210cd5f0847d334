"""The pages for those who come from elsewhere: before and after print the same."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOWTO = Path(__file__).parents[2] / "docs" / "howto"

NOT_YET = {
    "Futures as arguments",
}
"""Sections that use what is still being built."""


def sections(page):
    """Return the code of a page: by section, before and after."""
    found = []
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"^```python\n# ([\w.]+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if blocks and section.splitlines()[0] not in NOT_YET:
            found.append(blocks)
    return found


def run(script, folder, name):
    (folder / name).write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", name],
        cwd=folder,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("page", "package"),
    [
        ("from-concurrent-futures.md", "concurrent.futures"),
        ("from-multiprocessing.md", "multiprocessing"),
        ("from-dask.md", "dask"),
        ("from-ipyparallel.md", "ipyparallel"),
    ],
)
def test_before_and_after_print_the_same(page, package, cluster, tmp_path):
    parts = sections(HOWTO / page)
    assert len(parts) >= 2
    assert all([name for name, _ in blocks] == [package, "enginery"] for blocks in parts)
    after = run("".join(blocks[1][1] for blocks in parts), tmp_path, "after.py")
    assert len(after.splitlines()) >= len(parts)
    if importlib.util.find_spec(package) is not None:
        assert run("".join(blocks[0][1] for blocks in parts), tmp_path, "before.py") == after
