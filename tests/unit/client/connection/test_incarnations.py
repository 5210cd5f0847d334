from __future__ import annotations

from enginery.client.connection.incarnations import Incarnations
from enginery.wire.parts import EngineInfo


def info(incarnation, engine=3, state="ready"):
    return EngineInfo(engine, incarnation, state)


def test_a_result_is_of_the_process_that_was_there():
    known = Incarnations()
    known.learn([info(4)], 10.0)
    known.learn([info(4, state="dead"), info(1, engine=5)], 15.0)
    known.learn([info(5, state="starting")], 20.0)
    known.learn([info(5)], 21.0)
    assert [known.find(3, at) for at in (12.0, 15.0, 20.0, 20.5, 30.0)] == [4, 4, 4, 5, 5]
    assert known.find(3, 9.0) is None, "nobody told"
    assert known.find(5, 9.0) == 1, "there was none before the first"
    assert known.find(7, 9.0) is None
