"""Exceptions that are made, pickled or named in unusual ways come as themselves, wherever they go."""

from __future__ import annotations

import pickle
import traceback

import numpy as np
import pandas as pd
import pytest
from enginery import failure
from enginery.errors import RemoteError
from enginery.failure import Failure, failure_from, to_exception
from enginery.serialize import dumps, loads


class Plain(Exception):
    pass


class KeywordsOnly(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code


class OwnReduce(Exception):
    """Its own pickle works, by a constructor that takes something else than `args`."""

    def __init__(self, path, code):
        super().__init__(f"{path}: {code}")
        self.path, self.code = path, code

    def __reduce__(self):
        return OwnReduce, (self.path, self.code)


class BrokenReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("not me")


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


class OwnNew(Exception):
    def __new__(cls, code, detail):
        return super().__new__(cls, code)

    def __init__(self, code, detail):
        self.detail = detail


class OwnState(Exception):
    def __init__(self):
        super().__init__("state")
        self.x = 1

    def __getstate__(self):
        raise RuntimeError("no state")

    def __setstate__(self, state):
        raise RuntimeError("no state")


class OwnNames(Exception):
    """It uses names of ours for its own data."""

    def __init__(self):
        super().__init__("names")
        self.traceback, self.ename, self.engine_info, self.frames = "mine", "mine", "mine", "mine"


class Proud(Exception):
    def __str__(self):
        return "proud"

    def __repr__(self):
        return "Proud!"


class Typed(Exception):
    code: int = 7

    @property
    def doubled(self):
        return 2 * self.code


class Cyclic(Exception):
    def __init__(self):
        super().__init__("cyclic")
        self.me = self


class Meta(type):
    pass


class OfMeta(Exception, metaclass=Meta):
    pass


class Both(KeyError, AttributeError):
    pass


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def travel(error, engine=3):
    payload, buffers = dumps(failure_from(raised(error)))
    return to_exception(loads(payload, buffers), engine)


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (KeywordsOnly(code=3), {"code": 3}),
        (OwnReduce("p", 4), {"path": "p", "code": 4}),
        (BrokenReduce("x"), {"args": ("x",)}),
        (Slotted(5), {"code": 5}),
        (OwnNew(1, detail="d"), {"detail": "d"}),
        (OwnState(), {"x": 1}),
        (OwnNames(), {"traceback": "mine", "ename": "mine", "engine_info": "mine", "frames": "mine"}),
        (Proud(), {}),
        (Typed(), {"code": 7, "doubled": 14}),
        (OfMeta("x"), {}),
        (Both("k"), {"args": ("k",)}),
        (NameError("name 'x' is not defined", name="x"), {"name": "x"}),
        (AttributeError("no", name="x", obj=None), {}),
        (UnicodeEncodeError("ascii", "\xe4", 0, 1, "bad"), {"object": "\xe4", "reason": "bad"}),
        (FileNotFoundError(2, "No such file", "/a", None, "/b"), {"filename": "/a", "filename2": "/b"}),
        (BlockingIOError(11, "again"), {"errno": 11}),
        (TimeoutError(), {}),
        (EOFError("end"), {}),
        (AssertionError(), {}),
        (UserWarning("careful"), {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_odd_exceptions_come_as_themselves(error, facts):
    error.add_note("a note")
    for back in (once := travel(error), travel(once, engine=9), pickle.loads(pickle.dumps(once))):
        assert isinstance(back, type(error))
        assert isinstance(back, RemoteError)
        assert (str(back), repr(back)) == (str(error), repr(error))
        assert {name: getattr(back, name) for name in facts} == facts
        assert back.__notes__ == ["a note"]
        text = "".join(RemoteError.render_traceback(back))
        assert type(error).__name__ in text
        assert text.endswith("a note\n")
        assert "in raised" in "".join(traceback.format_exception(back))


def test_one_that_holds_itself_is_there_all_the_same():
    back = travel(Cyclic())
    assert isinstance(back, RemoteError)
    assert "cyclic" in str(back)


def test_errors_of_numpy_and_pandas_come_as_themselves():
    def fail(function):
        try:
            function()
        except Exception as error:
            return error
        raise AssertionError

    for function in (
        lambda: np.zeros(2) + np.zeros(3),
        lambda: np.linalg.inv(np.zeros((2, 2))),
        lambda: np.zeros(3)[7],
        lambda: np.zeros(3).sum(axis=4),
        lambda: pd.DataFrame({"a": [1]})["b"],
        lambda: pd.to_datetime("nonsense"),
        lambda: pd.DataFrame({"a": [1]}).merge(pd.DataFrame({"b": [1]})),
        lambda: pd.Series([1]).loc["x"],
    ):
        error = fail(function)
        for back in (once := travel(error), pickle.loads(pickle.dumps(once))):
            assert isinstance(back, type(error))
            assert isinstance(back, RemoteError)
            assert str(back) == str(error)


def test_a_group_comes_with_its_members_and_can_be_split():
    error = ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError("k"), OSError(2, "no")])])
    error.add_note("n")
    back = travel(error)
    assert isinstance(back, ExceptionGroup)
    assert back.exceptions[1].exceptions[1].errno == 2
    seen = []
    try:
        raise back
    except* KeyError as group:
        seen.append(group.exceptions[0].exceptions[0].args)
    except* (ValueError, OSError) as group:
        seen.append(len(group.exceptions))
    assert seen == [("k",), 2]
    assert type(travel(BaseExceptionGroup("b", [KeyboardInterrupt()]))) is RemoteError


def test_where_it_happened_is_told_with_it():
    failure.set_place(engine_uuid="3.1", host="here", pid=77)
    try:
        told = failure_from(raised(Plain("x")))
        payload, buffers = dumps(told)
    finally:
        failure.set_place()
    back = to_exception(loads(payload, buffers), 3, {"msg_id": "4-5"})
    where = {"engine_id": 3, "engine_uuid": "3.1", "host": "here", "pid": 77, "msg_id": "4-5"}
    assert back.engine_info == where
    assert pickle.loads(pickle.dumps(back)).engine_info == where
    relayed = travel(back, engine=9)
    assert relayed.engine_info == {"engine_id": 9}, "of the task that was a client itself"
    assert RemoteError("X").engine_info == {"engine_id": None}
    assert to_exception(Failure("X", "y"), 2).engine_info == {"engine_id": 2}


def test_a_plain_remote_error_shows_its_frames_after_a_journey_too():
    told = failure_from(raised(SystemExit(3)))
    back = pickle.loads(pickle.dumps(to_exception(told, 2)))
    assert "on engine 2:" in "".join(traceback.format_exception(back))
    assert "in raised" in "".join(traceback.format_exception(back))
    assert (back.ename, back.evalue, back.engine) == ("SystemExit", "3", 2)


def test_a_chain_that_bites_its_tail_ends():
    first, second = Plain("first"), Plain("second")
    first.__cause__, second.__cause__ = second, first
    text = travel(first).traceback
    assert text.count("Plain: first") == 1
    assert text.count("Plain: second") == 1
    quiet = Plain("quiet")
    quiet.__context__, quiet.__suppress_context__ = Plain("hidden"), True
    assert "hidden" not in travel(quiet).traceback
