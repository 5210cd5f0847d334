from __future__ import annotations

from enginery.engine.outbox import Outbox
from enginery.wire.messages import Result


def test_results_and_their_frames_leave_in_order():
    box = Outbox()
    box.add(Result(1, 0, b"a"))
    box.add(Result(2, 0, b"b", 2), ["x", "y"])
    box.results.append(Result(3, 0, b"c"))
    box.add(Result(4, 0, b"d", 1), ["z"])
    results, frames = box.take()
    assert [result.id for result in results] == [1, 2, 3, 4]
    assert frames == ["x", "y", "z"]
    assert box.take() == ([], [])


def test_frames_whose_result_is_still_to_be_added_stay():
    box = Outbox()
    box._frames.append("early")  # the main thread is between its two steps
    box.results.append(Result(1, 0, b"a"))
    assert box.take() == ([Result(1, 0, b"a")], [])
    box.results.append(Result(2, 0, b"b", 1))
    assert box.take() == ([Result(2, 0, b"b", 1)], ["early"])
