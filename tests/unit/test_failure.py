from __future__ import annotations

import pickle
import sys
import threading
import traceback

import pytest
from enginery.errors import CompositeError, NoSuchEngine, ObjectStoreFull, RemoteError
from enginery.failure import Failure, failure_from, to_exception
from enginery.serialize import dumps, loads


class Plain(Exception):
    pass


class Demanding(Exception):
    """Its constructor does not pass its arguments on: the default pickle of it cannot be unpickled."""

    def __init__(self, code, *, detail):
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail
        self.engine = "mine"


class Holding(Exception):
    def __init__(self):
        super().__init__("holding")
        self.lock = threading.Lock()
        self.fine = 1


class MyOSError(OSError):
    pass


class Group(ExceptionGroup):
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
    "error",
    [
        ZeroDivisionError("division by zero"),
        KeyError("q"),
        OSError(2, "No such file", "/nope"),
        FileNotFoundError(2, "No such file", "/nope"),
        MyOSError(13, "denied"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SyntaxError("bad", ("file", 3, 1, "text", 3, 2)),
        ImportError("no", name="mod", path="p"),
        Plain(1, 2),
        Demanding(4, detail="d"),
        NoSuchEngine("there is no engine 7"),
        ExceptionGroup("several", [ValueError(1), KeyError(2)]),
        Group("several", [Plain("a")]),
        CompositeError("2 failed", [ValueError(1)]),
        ValueError(),
    ],
)
def test_an_exception_arrives_as_its_own_type_and_as_a_remote_error(error):
    back = travel(error)
    assert isinstance(back, type(error))
    assert isinstance(back, RemoteError)
    assert type(back).__name__ == type(error).__name__
    assert str(back) == str(error)
    assert back.__dict__["_remote"]["engine"] == 3
    assert back.ename == type(error).__name__
    if not isinstance(error, ExceptionGroup):
        assert back.args == error.args
    again = pickle.loads(pickle.dumps(back))
    assert type(again) is type(back)
    assert str(again) == str(back)
    assert again.ename == back.ename


def test_data_of_the_users_exception_wins_over_ours():
    back = travel(Demanding(4, detail="d"))
    assert (back.code, back.detail, back.engine) == (4, "d", "mine")
    assert "Demanding: code 4" in back.traceback
    os_error = travel(FileNotFoundError(2, "No such file", "/nope"))
    assert (os_error.errno, os_error.filename, os_error.engine) == (2, "/nope", 3)


def test_an_attribute_that_cannot_travel_is_left_behind():
    back = travel(Holding())
    assert isinstance(back, Holding)
    assert back.fine == 1
    assert not hasattr(back, "lock")


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), StopAsyncIteration(), GeneratorExit()]
)
def test_what_steers_an_interpreter_comes_as_plain_remote_error(error):
    back = travel(error)
    assert type(back) is RemoteError
    assert back.ename == type(error).__name__


def test_what_cannot_be_rebuilt_comes_as_plain_remote_error_naming_it():
    failure = failure_from(raised(Plain("x")))
    failure.exception = b"rubbish"
    back = to_exception(failure, 1)
    assert type(back) is RemoteError
    assert str(back) == "Plain: x"
    assert pickle.loads(pickle.dumps(back)).ename == "Plain"
    unpicklable = failure_from(raised(Plain(threading.Lock())))
    assert unpicklable.exception is None
    assert to_exception(unpicklable).ename == "Plain"


def test_the_traceback_shows_the_users_frames_with_source():
    def inner():
        raise Plain("deep")

    def outer():
        inner()

    try:
        outer()
    except Plain as error:
        failure = failure_from(error, skip=("/nowhere",))
    names = [frame[2] for frame in failure.frames]
    assert names == ["test_the_traceback_shows_the_users_frames_with_source", "outer", "inner"]
    assert failure.frames[-1][3] == 'raise Plain("deep")'
    text = to_exception(failure, 2).traceback
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("Plain: deep\n")
    assert failure_from(error := raised(Plain()), skip=(__file__,)).frames == []
    assert error is not None


def test_long_stacks_are_cut_in_the_middle():
    def dive(n):
        return dive(n + 1)

    try:
        dive(0)
    except RecursionError as error:
        failure = failure_from(error)
    assert len(failure.frames) == 101
    assert "more calls" in to_exception(failure).traceback


def test_causes_and_notes_are_shown():
    try:
        try:
            {}["missing"]
        except KeyError as error:
            problem = Plain("outer")
            problem.add_note("look here")
            raise problem from error
    except Plain as error:
        back = travel(error)
    assert "KeyError: 'missing'" in back.traceback
    assert "direct cause" in back.traceback
    assert back.__notes__ == ["look here"]
    assert "look here" in back.traceback
    plain = to_exception(Failure("X", "y", notes=["n"]))
    assert plain.__notes__ == ["n"]


def test_an_uncaught_one_shows_the_remote_traceback():
    back = travel(Plain("x"))
    text = "".join(traceback.format_exception(back))
    assert "on engine 3:" in text
    assert "in raised" in text


def test_a_message_that_cannot_be_made_is_no_obstacle():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert "cannot be shown" in failure_from(raised(Mute())).evalue


def test_ipython_and_print_show_the_remote_frames(capsys):
    back = travel(Plain("x"))
    assert "[engine 3]" in back._render_traceback_()[0]
    back.print_traceback()
    assert capsys.readouterr().err == back.traceback


def test_an_exception_of_several_built_in_types_arrives_as_itself():
    back = travel(ObjectStoreFull("no room"))
    assert isinstance(back, ObjectStoreFull)
    assert isinstance(back, MemoryError)
    assert str(back) == "no room"


def test_an_exception_class_that_python_will_not_combine_is_plain():
    class Odd(Exception):
        def __init_subclass__(cls):
            raise TypeError("no subclasses")

    assert type(travel(Odd("x"))) is RemoteError
    assert sys.exc_info() == (None, None, None)


def test_a_remote_error_that_is_raised_on_an_engine_stays_what_it_was():
    back = travel(RemoteError("Odd", "value", engine=9))
    assert (back.ename, back.evalue, back.engine) == ("Odd", "value", 9)
    relayed = travel(travel(Demanding(4, detail="d")), engine=5)
    assert isinstance(relayed, Demanding)
    assert relayed.ename == "Demanding"
    assert relayed.code == 4
