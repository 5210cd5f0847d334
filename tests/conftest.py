"""Fixtures that any test may use: directories of the session's own, and running clusters."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import helpers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def session_runtime() -> Iterator[Path]:
    """No test ever meets a cluster of the user's, and none leaves a process or a file behind."""
    runtime = Path(tempfile.mkdtemp(prefix="ent-", dir="/tmp"))  # short: socket paths have a limit
    state = tempfile.mkdtemp(prefix="ens-")
    spill = tempfile.mkdtemp(prefix="enp-")
    names = ("ENGINERY_RUNTIME_DIR", "ENGINERY_STATE_DIR", "ENGINERY_SPILL_DIR", "ENGINERY_CLUSTER")
    before = {name: os.environ.get(name) for name in names}
    os.environ["ENGINERY_RUNTIME_DIR"] = str(runtime)
    os.environ["ENGINERY_STATE_DIR"] = state
    os.environ["ENGINERY_SPILL_DIR"] = spill
    os.environ.pop("ENGINERY_CLUSTER", None)
    try:
        yield runtime
        helpers.assert_nothing_left(runtime)
        helpers.assert_nothing_left(spill)
    finally:
        helpers.clear_up(runtime)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for path in (state, spill, runtime):
            shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory for one test, which must leave nothing in it; and one for journals, which may stay."""
    path = Path(tempfile.mkdtemp(prefix="ent-", dir="/tmp"))
    state = tempfile.mkdtemp(prefix="ens-")
    monkeypatch.setenv("ENGINERY_RUNTIME_DIR", str(path))
    monkeypatch.setenv("ENGINERY_STATE_DIR", state)
    try:
        yield path
        helpers.assert_nothing_left(path)
    finally:
        helpers.clear_up(path)
        shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(session_runtime):
    """A running cluster of 3 engines, shared by the tests of a module."""
    from enginery.cluster.cluster import Cluster

    running = Cluster(n=3)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(cluster):
    """A client of the module's cluster."""
    return cluster.connect()
