from __future__ import annotations

from enginery.engine.report import pickled_failure
from enginery.serialize import loads
from enginery.wire.messages import Result, Status

from engine_fakes import value


def test_an_exception_that_cannot_even_be_described():
    class Hostile(Exception):
        @property
        def __notes__(self):
            raise RuntimeError("no")

    payload, _ = pickled_failure(Hostile())
    error = value(Result(1, Status.ERROR, payload))
    assert error.ename == "Hostile"


def test_frames_of_hidden_files_are_left_out():
    try:
        compile("1/0", "/hidden/x.py", "exec")
        exec(compile("1/0", "/hidden/x.py", "exec"))
    except ZeroDivisionError as error:
        payload, _ = pickled_failure(error, ("/hidden/",))
    frames = loads(payload).frames
    assert [frame[2] for frame in frames] == ["test_frames_of_hidden_files_are_left_out"]
