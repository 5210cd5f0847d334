"""The standard library's own tests of executors, on `client.executor()`.

They are not in this repository: they come with Python, or with Debian's package `libpython3.x-testsuite` (which
`.ci/run` gets). Run are those that are written for any executor, and one of the process pool's. Many sleep for seconds,
so they run at the same time, each in a thread with an executor of its own.
"""

from __future__ import annotations

import importlib.util
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from enginery import Cluster

pytestmark = pytest.mark.filterwarnings("default")  # what the standard library's tests import is theirs

NAME = "test_concurrent_futures"
TOGETHER = 5
ENGINES = 2 * TOGETHER + 2
"""A test has up to two calls that sleep at a time, and some quick ones that must not wait for those."""

SKIPPED = {
    "test_max_workers_negative": "the executor is given engines, and has no max_workers",
    "test_interpreter_shutdown": "starts a pool by its name in concurrent.futures; tasks of ours outlive their program",
    "test_submit_after_interpreter_shutdown": "starts a pool by its name in concurrent.futures",
    "test_hang_gh83386": "starts a pool by its name in concurrent.futures",
    "test_hang_gh94440": "is about the threads of the process pool",
    "test_cancel_futures": "expects that one of its calls has started when it withdraws them all, within a millisecond",
}
"""Why a test is not run."""

ALONE = {"test_hang_issue12364"}
"""It fills all engines."""

PARTS = {
    "executor": "ExecutorTest",
    "test_wait": "WaitTests",
    "test_as_completed": "AsCompletedTests",
    "test_shutdown": "ExecutorShutdownTest",
    "test_process_pool": "ProcessPoolExecutorTest",
}
"""The classes, by the module that they are in where the tests are a package (from 3.12 on)."""


def load():
    """Return the modules of the tests, none if they are not installed."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if importlib.util.find_spec(f"test.{NAME}") is not None:
        whole = importlib.import_module(f"test.{NAME}")
    else:
        for root in (Path(sys.prefix) / "testsuite" / "usr", Path("/usr")):
            folder = root / "lib" / version / "test"
            for path, parts in ((folder / f"{NAME}.py", None), (folder / NAME / "__init__.py", [str(folder / NAME)])):
                if path.exists():
                    spec = importlib.util.spec_from_file_location(
                        f"borrowed_{NAME}", path, submodule_search_locations=parts
                    )
                    break
            else:
                continue
            break
        else:
            return []
        whole = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(whole)
    if hasattr(whole, "ExecutorTest"):
        return [whole]
    return [importlib.import_module(f"{whole.__name__}.{part}") for part in PARTS]


def collect():
    """Return the tests: name and function of each."""
    found = {}
    for module in load():
        for cls in PARTS.values():
            tests = vars(getattr(module, cls, object))
            if cls == "ProcessPoolExecutorTest":
                tests = {"test_map_chunksize": tests["test_map_chunksize"]} if "test_map_chunksize" in tests else {}
            found.update({name: test for name, test in tests.items() if name.startswith("test_")})
    return found


TESTS = collect()


class Case(unittest.TestCase):
    worker_count = 5
    executor_type = None


def run(client, name):
    """Run one of the tests; return what it raised."""
    case = type("Borrowed", (Case,), {name: TESTS[name]})(name)
    case.executor = client.executor()
    try:
        case.debug()
    except BaseException as error:
        return error
    finally:
        case.executor.shutdown()
    return None


@pytest.fixture(scope="module")
def outcomes():
    """What each test raised, None if nothing."""
    names = [name for name in TESTS if name not in SKIPPED]
    together = sorted(set(names) - ALONE, key=lambda name: not name.endswith("timeout"))  # the longest first
    with Cluster(n=ENGINES) as client, ThreadPoolExecutor(TOGETHER) as threads:
        found = {name: run(client, name) for name in names if name in ALONE}
        found.update(zip(together, threads.map(lambda name: run(client, name), together), strict=True))
    return found


@pytest.mark.skipif(bool(TESTS), reason="they are here")
def test_they_are_installed():
    pytest.skip(f"the standard library's test.{NAME} is not installed (Debian: libpython3.x-testsuite)")


@pytest.mark.parametrize("name", TESTS)
def test_as_the_standard_library_tests_it(outcomes, name):
    if name in SKIPPED:
        pytest.skip(SKIPPED[name])
    error = outcomes[name]
    if isinstance(error, unittest.SkipTest):
        pytest.skip(str(error))
    if error is not None:
        raise error


def test_it_was_more_than_a_few():
    if TESTS:
        assert len([name for name in TESTS if name not in SKIPPED]) > 20
