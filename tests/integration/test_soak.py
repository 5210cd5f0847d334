"""Minutes of work under random kills, cancels and time limits, and an account of every task at the end.

`make soak` runs it for ten minutes; `ENGINERY_SOAK_S` and `ENGINERY_SOAK_SEED` say otherwise.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import CancelledError

import pytest
from enginery import Cluster, EngineDied, TaskTimeout

SECONDS = float(os.environ.get("ENGINERY_SOAK_S", "600"))
SEED = int(os.environ.get("ENGINERY_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
ROUND_S = 2.0


def mark(folder, i, seconds):
    """Leave one byte for each time that this task ran."""
    fd = os.open(f"{folder}/{i}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"x")
    os.close(fd)
    if seconds:
        time.sleep(seconds)
    return i


def account(future, number, counts):
    """Say how a task ended; it must have ended, and rightly."""
    try:
        assert future.result(60) == number
        counts["done"] += 1
    except EngineDied:
        counts["lost"] += 1
    except CancelledError:
        counts["cancelled"] += 1
    except TaskTimeout:
        counts["timeout"] += 1


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
def test_every_task_ends_once_under_fire(tmp_path):
    rng = random.Random(SEED)
    counts = Counter()
    number = 0
    deadline = time.monotonic() + SECONDS
    with Cluster(n=4) as client:
        limited = client.load_balanced_view().set_flags(timeout=0.05)
        while time.monotonic() < deadline:
            folder = tmp_path / str(number)
            folder.mkdir()
            futures = {}
            for _ in range(rng.choice([50, 500, 3000])):
                seconds = rng.choice([0, 0, 0, 0, 0.001, 0.02]) if rng.random() < 0.98 else 0.3
                view = limited if rng.random() < 0.01 else client
                submit = view.apply_async if view is limited else view.submit
                futures[number] = submit(mark, str(folder), number, seconds)
                number += 1
            items = client.map(lambda i: (time.sleep(0.001), i)[1], range(200), return_exceptions=True)
            for _ in range(rng.choice([0, 1, 3])):
                time.sleep(rng.uniform(0, ROUND_S / 10))
                engine = rng.choice(client.status()["engines"])
                with contextlib.suppress(ProcessLookupError):  # it was killed a moment ago
                    if engine["state"] == "ready":
                        os.kill(engine["pid"], rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
            for key in rng.sample(sorted(futures), 20):
                futures[key].cancel(grace_s=rng.choice([None, 0.5]))
            for key, future in futures.items():
                account(future, key, counts)
            for i, value in enumerate(items.get(60)):
                assert value == i or isinstance(value, EngineDied)
            doubled = [path.name for path in folder.iterdir() if path.stat().st_size > 1]
            assert not doubled, f"seed {SEED}: ran twice: {doubled}"
            client.wait_for_engines(4, timeout=30)
        tasks = client.status()["tasks"]
        assert (tasks["waiting"], tasks["assigned"]) == (0, 0)
    assert counts.total() == number
    print(f"seed {SEED}: {number} tasks: {dict(counts)}")
