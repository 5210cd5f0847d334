"""Death certificates in words."""

import time

import pytest
from enginery import certificate as c
from enginery.wire.messages import DeathCertificate

MB = 1 << 20


def told(**facts):
    account = DeathCertificate(2, 1, 77, -9, "killed by signal 9 (SIGKILL)", **facts)
    return c.in_words(account, "while it ran item 5").splitlines()


def test_the_first_line_stands_alone():
    assert told() == ["engine 2 (pid 77) killed by signal 9 (SIGKILL) while it ran item 5"]
    account = DeathCertificate(2, 1, 0)
    assert c.in_words(account, "") == "engine 2 died"


def test_since_when_it_had_run():
    begun = time.strftime("%H:%M:%S", time.localtime(1000.0))
    assert told(since=1000.0, ended=1012.34)[1:] == [f"  the call had run since {begun}, for 12 s"]
    assert told(since=1000.0)[1:] == [f"  the call had run since {begun}"]
    assert told(since=1000.0, ended=999.0)[1:] == [f"  the call had run since {begun}"], "a clock was set back"
    assert told(ended=1012.34)[1:] == []


def test_memory_that_grew_is_told_in_a_few_points():
    curve = [(20.0 - i, (100 + i * 40) * MB) for i in range(20)]
    (line,) = told(memory_bytes=860 * MB, peak_bytes=2000 * MB, memory_curve=curve)[1:]
    assert line.startswith(
        "  memory: 860 MB 1.0 s before the end, 2.0 GB at most; earlier: 100 MB (20 s), 260 MB (16 s),"
    )
    assert line.count("(") == c.EARLIER


def test_memory_that_was_steady_is_told_in_one_figure():
    curve = [(10.0, 100 * MB), (5.0, 101 * MB), (2.0, 100 * MB)]
    assert told(memory_curve=curve)[1:] == ["  memory: 100 MB 2.0 s before the end; steady for 8.0 s"]


def test_memory_of_which_little_is_known():
    assert told(memory_bytes=5 * MB)[1:] == ["  memory: 5 MB when last measured"]
    assert told(peak_bytes=5 * MB)[1:] == ["  memory: 5 MB at most"]
    assert told(memory_curve=[(0.5, 5 * MB)])[1:] == ["  memory: 5 MB 0.5 s before the end"]


@pytest.mark.parametrize(
    ("history", "line"),
    [
        (["engine 2 (a)"], "engine 2 (a)"),
        (["engine 2 (a)", "engine 0 (b)"], "engine 2 (a) and engine 0 (b)"),
        (["engine 2 (a)", "engine 0 (b)", "engine 1 (c)"], "engine 2 (a), engine 0 (b) and engine 1 (c)"),
    ],
)
def test_what_the_task_had_killed_before(history, line):
    assert told(history=history)[1:] == [f"  it had also killed {line}"]


def test_the_last_output_comes_last_and_indented():
    assert told(last_output="one\n\n  two", history=["x"])[2:] == ["  last output:", "    one", "", "      two"]


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 MB"), (3 * MB, "3 MB"), (999 * MB, "999 MB"), (1000 * MB, "1.0 GB")]
)
def test_sizes(nbytes, text):
    assert c.size(nbytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0.0, "0 ms"), (0.25, "0.2 s"), (12.3, "12 s"), (60, "1 min"), (3599, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_durations(duration_s, text):
    assert c.seconds(duration_s) == text
