"""The functions that everybody is asked to run. Workers import this module, or get its functions by value."""

from __future__ import annotations

import builtins
import os
import time

SLOT = "_benchmark_value"


def inc(x):
    return x + 1


def nothing():
    return None


def pid_after(seconds):
    """Return the worker's pid, having kept it busy long enough for its colleagues to get the next call."""
    time.sleep(seconds)
    return os.getpid()


def announce_and_hang(path):
    """Append our pid to a file and sleep; whoever reads the file kills us. A second line is a second attempt."""
    with open(path, "a") as file:  # noqa: PTH123 - one import less on the worker
        file.write(f"{os.getpid()}\n")
    time.sleep(120)


def note(folder, number, seconds):
    """Append a number to this worker's file and be busy; return it. One that stands there twice was started twice."""
    with open(f"{folder}/{os.getpid()}", "a") as file:  # noqa: PTH123 - one import less on the worker
        file.write(f"{number}\n")
    time.sleep(seconds)
    return number


def note_long(folder, number, seconds):
    """The same under another name: schedulers learn how long a function takes."""
    return note(folder, number, seconds)


def note_and_wait(folder, number, gate):
    """Append a number as above, and keep the worker busy until that file exists."""
    note(folder, number, 0.0)
    while not os.path.exists(gate):  # noqa: PTH110 - as above
        time.sleep(0.005)


def look_at(array):
    """Return what shows that an array arrived whole, and whether it can be written to."""
    return int(array[0]) + int(array[-1]), array.nbytes, bool(array.flags.writeable)


def make_value(nbytes, seconds):
    """Keep an array for `value` in this process, so that making it is not part of what is measured; return the pid."""
    import numpy as np

    setattr(builtins, SLOT, np.full(nbytes, 7, np.uint8))
    time.sleep(seconds)
    return os.getpid()


def value():
    return getattr(builtins, SLOT)
