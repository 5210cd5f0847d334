"""The page for those who come from IPython Parallel tells of every name, and what it says is true."""

from __future__ import annotations

import inspect
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import enginery
import pytest
from click.testing import CliRunner
from enginery.cli import cluster

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "howto" / "from-ipyparallel.md"
THEIRS = {
    tuple(line.split(".", 1))
    for line in Path(__file__).with_name("ipyparallel-names.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}

NOT_YET: set[str] = set()
"""Names of ours that the page promises and that are still being built."""

OURS = {
    "enginery": enginery,
    "ipyparallel": enginery,
    "Client": enginery.Client,
    "DirectView": enginery.DirectView,
    "BroadcastView": enginery.DirectView,
    "LoadBalancedView": enginery.LoadBalancedView,
    "ViewExecutor": Executor,
    "AsyncResult": enginery.AsyncResult,
    "AsyncMapResult": enginery.AsyncMapResult,
    "Metadata": enginery.AsyncResult,
    "RemoteError": enginery.RemoteError,
    "CompositeError": enginery.CompositeError,
    "Cluster": enginery.Cluster,
}
"""Where each of their owners' names are to be found here."""


class Row(NamedTuple):
    owners: list[str]
    names: list[str]
    verdict: str
    here: str


def ours(owner: str, name: str) -> str:
    """Return what people call a name of ours."""
    home = OURS[owner]
    return f"{getattr(home, '__name__', owner)}.{name}"


def rows() -> list[Row]:
    found = []
    owners: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            owners = line[3:].removeprefix("Names of ").split(", ")
        elif line.startswith("| ") and not line.startswith("| name"):
            names, verdict, here = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(owners, re.findall(r"`([^`]+)`", names), verdict, here))
    return found


def has(owner: str, name: str) -> bool:
    """Say whether one of ours has the name: as attribute or flag, or as an argument that a cluster keeps."""
    if owner == "Magics":
        return f"`{name}" in (ROOT / "docs" / "magics.md").read_text(encoding="utf-8")
    home = OURS[owner]
    if hasattr(home, name) or name in getattr(home, "FLAGS", ()):
        return True
    return home is enginery.Cluster and name in inspect.signature(home).parameters


def test_every_name_has_a_verdict_once():
    told = [(owner, name) for row in rows() for owner in row.owners for name in row.names]
    assert not THEIRS - set(told)
    for owner, name in told:
        assert told.count((owner, name)) == 1, f"{owner}.{name} is told of twice"
    unknown = [name for row in rows() for name in row.names if not any((o, name) in THEIRS for o in row.owners)]
    assert not unknown, "these are no names of ipyparallel"


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.owners[0]}-{row.names[0]}")
def test_the_verdict_is_true(row):
    assert row.verdict in ("same", "fixed", "renamed", "not here")
    assert row.here or row.verdict != "fixed", "how it was fixed"
    promised: list[tuple[str, str]] = []
    if row.verdict in ("same", "fixed"):
        promised += [(owner, name) for owner in row.owners for name in row.names if (owner, name) in THEIRS]
    mentioned = [one for one in re.findall(r"`([A-Za-z]+)\.(\w+)`", row.here) if one[0] in OURS]
    missing = {ours(owner, name) for owner, name in promised + mentioned if not has(owner, name)}
    assert missing <= NOT_YET
    commands = re.findall(r"`cluster (\w+)([^`]*)`", row.here)
    assert mentioned or commands or row.verdict != "renamed", "to what"
    for command, arguments in commands:
        assert command in cluster.commands
        usage = CliRunner().invoke(cluster, [command, "--help"]).output
        assert all(option in usage for option in re.findall(r"--\w+", arguments))


def test_what_is_still_being_built_is_not_there():
    there = [name for name in NOT_YET if has(*name.split(".", 1))]
    assert not there, "these are there by now: take them out of NOT_YET"
