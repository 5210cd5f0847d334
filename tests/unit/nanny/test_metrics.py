"""What processes weigh."""

import os
import sys
import time

import pytest
from enginery.nanny.metrics import resident_bytes, steps


def test_this_process_weighs_something_and_nobody_nothing():
    assert resident_bytes(os.getpid()) > 1 << 20
    assert resident_bytes(2**22 + 1) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_thread_that_waits_has_made_a_step_and_nobody_none():
    before = steps(os.getpid())
    time.sleep(0.001)
    assert steps(os.getpid()) > before
    assert steps(2**22 + 1) is None
