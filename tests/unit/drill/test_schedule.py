"""Which fault comes when."""

from collections import Counter

import pytest
from enginery.drill import schedule
from enginery.errors import EngineryError


def test_the_same_seed_gives_the_same_schedule():
    assert schedule.plan(7, 300.0) == schedule.plan(7, 300.0)
    assert schedule.plan(7, 300.0) != schedule.plan(8, 300.0)


@pytest.mark.parametrize("seconds", [5.0, 20.0, 300.0, 1800.0])
def test_every_kind_comes_equally_often_within_the_time(seconds):
    faults = schedule.plan(1, seconds)
    assert set(Counter(fault.kind for fault in faults).values()) == {max(1, round(seconds / 36))}
    assert {fault.kind for fault in faults} == set(schedule.NAMES)
    assert faults == sorted(faults)
    assert 0 <= faults[0].at_s < faults[-1].at_s < seconds


def test_in_each_round_every_kind_comes_once_in_changing_order():
    kinds = ("engine-kill", "cut", "zygote-kill")
    order = [fault.kind for fault in schedule.plan(3, 900.0, kinds)]
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == 100
    assert all(sorted(round_) == sorted(kinds) for round_ in rounds)
    assert len(set(rounds)) == 6


def test_what_is_stopped_or_cut_lasts_and_what_is_killed_does_not():
    shortest, longest = schedule.LASTS_S
    for fault in schedule.plan(1, 600.0):
        if "kill" in fault.kind or fault.kind in ("engine-segv", "engine-term"):
            assert fault.lasts_s == 0
        else:
            assert shortest <= fault.lasts_s <= longest


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("all", schedule.NAMES),
        ("cut, engine-kill", ("cut", "engine-kill")),
        ("engine", ("engine-kill", "engine-segv", "engine-term", "engine-stop")),
        ("engine-stop,engine,freeze", ("engine-stop", "engine-kill", "engine-segv", "engine-term", "freeze")),
    ],
)
def test_kinds_by_name(text, kinds):
    assert schedule.parse(text) == kinds


@pytest.mark.parametrize("text", ["", " , ", "engin", "stop", "all,flood"])
def test_names_of_no_kind_are_refused_with_a_list_of_all(text):
    with pytest.raises(EngineryError, match="there are: engine-kill, engine-segv"):
        schedule.parse(text)
