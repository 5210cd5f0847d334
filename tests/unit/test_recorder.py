from __future__ import annotations

from enginery.recorder import AFTER_LAST, COROUTINES, NO_TASK, OVER, FlightRecorder, count_reads, read


def test_nothing_has_begun(tmp_path):
    FlightRecorder(tmp_path / "r")
    assert read(tmp_path / "r") == (None, 0, 0.0, (), None)
    assert read(tmp_path / "none").task is None


def test_everything_has_a_place_of_its_own(tmp_path):
    recorder = FlightRecorder(tmp_path / "r")
    recorder.slots[0], recorder.slots[1], recorder.since[0], recorder.reads[0] = 5, AFTER_LAST, 1.5, 77
    recorder.step[0] = 9
    for slot in range(COROUTINES):
        recorder.coroutines[slot], recorder.begun[slot] = 100 + slot, 2.5 + slot
    recorder.begun[3] = OVER
    entry = read(tmp_path / "r")
    assert entry[:3] == (5, AFTER_LAST, 1.5)
    assert entry.step == 9
    assert entry.coroutines == tuple((100 + i, OVER if i == 3 else 2.5 + i) for i in range(COROUTINES))
    assert count_reads(tmp_path / "r") == 77
    recorder.coroutines[0] = NO_TASK
    assert len(read(tmp_path / "r").coroutines) == COROUTINES - 1
