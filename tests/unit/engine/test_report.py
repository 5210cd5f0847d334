from __future__ import annotations

import pytest
from enginery.engine.report import SENTENCE_MAX, failed, pickled_failure
from enginery.errors import ImpossibleDependency, UnmetDependency
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


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UnmetDependency("no GPU here"), b"no GPU here"),
        (UnmetDependency(), b"it raised UnmetDependency"),
        (UnmetDependency("x" * 10 * SENTENCE_MAX), b"x" * SENTENCE_MAX),
        (UnmetDependency("\ud800"), b"?"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(error, sentence):
    assert failed(error) == (Status.UNMET, sentence, ())


def test_even_if_that_cannot_be_shown():
    class Hostile(UnmetDependency):
        def __str__(self):
            raise RuntimeError("no")

    assert failed(Hostile()) == (Status.UNMET, b"it raised Hostile", ())


def test_what_is_nowhere_is_an_error_like_any():
    """A task that is a client itself and hears that no engine can run something: another engine would not, either."""
    status, payload, _ = failed(ImpossibleDependency("no engine has it"))
    assert status == Status.ERROR
    assert isinstance(value(Result(1, status, payload)), ImpossibleDependency)
