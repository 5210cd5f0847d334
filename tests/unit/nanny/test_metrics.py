"""What processes weigh."""

import os

from enginery.nanny.metrics import resident_bytes


def test_this_process_weighs_something_and_nobody_nothing():
    assert resident_bytes(os.getpid()) > 1 << 20
    assert resident_bytes(2**22 + 1) == 0
