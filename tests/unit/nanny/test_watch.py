"""A controller that hangs is told from one that is slow, far away, under a debugger, or not looked at."""

import pytest
from enginery.nanny.watch import HUNG_S, STEP_S, Watch

EVERY_S = 2.0


def looks(watch, seconds, *, begin=0.0, steps=7):
    """Look so often for so long; return when it was said to hang."""
    count = int(seconds / EVERY_S)
    return [at for i in range(count + 1) if watch.look(at := begin + i * EVERY_S, steps)]


def test_one_that_neither_says_nor_does_anything_hangs():
    watch = Watch()
    assert looks(watch, HUNG_S - EVERY_S) == []
    assert watch.look(HUNG_S, 7)


def test_it_is_said_once():
    assert looks(Watch(), HUNG_S * 1.9) == [HUNG_S]


def test_one_that_is_heard_does_not_hang():
    watch = Watch()
    for i in range(100):
        watch.on_heard()
        assert looks(watch, 4.0, begin=i * 4.0) == []


def test_one_that_is_heard_again_in_time_has_all_its_time_again():
    watch = Watch()
    assert looks(watch, HUNG_S - EVERY_S) == []
    watch.on_heard()
    assert looks(watch, HUNG_S - EVERY_S * 2, begin=HUNG_S) == []


def test_one_that_is_not_heard_but_goes_on_does_not_hang():
    """The network, or the disk that its words wait for, is not its fault."""
    watch = Watch()
    for i in range(100):
        assert looks(watch, 4.0, begin=i * 4.0, steps=i) == []


@pytest.mark.parametrize("end", ["before", "after"])
def test_one_under_a_debugger_does_not_hang(end):
    watch = Watch()
    assert looks(watch, HUNG_S * 3, steps=None) == []
    if end == "after":  # then its time begins
        assert looks(watch, HUNG_S, begin=HUNG_S * 3) == [HUNG_S * 4]


def test_who_was_stopped_itself_has_heard_nothing_for_that_reason():
    watch = Watch()
    assert not watch.look(0.0, 7)
    assert not watch.look(3600.0, 7)
    assert looks(watch, HUNG_S - STEP_S - EVERY_S, begin=3600.0) == []
    assert watch.look(3600.0 + HUNG_S, 7)
