"""What tasks come after, as a user says it and as it is sent."""

from __future__ import annotations

import pytest
from enginery import Dependency
from enginery.client.calls.dependencies import Bound, bind, resolve
from enginery.client.connection.core import Core, Entry
from enginery.client.records.fetches import FetchedResult
from enginery.client.results.futures import AsyncResult
from enginery.client.results.groupresult import GroupResult
from enginery.client.results.mapresult import AsyncMapResult
from enginery.ids import TaskId, show_task
from enginery.wire import codec
from enginery.wire import messages as m

T = (3 << 40) + 7


def future(id_=T, status=None, engine=2):
    result = AsyncResult(None, id_, 0.0)
    if status is not None:
        result._accept(m.Result(id_, status, b"sentence", 0, engine), (), 0.0)
    return result


def sent(value, *, follow=False):
    """Return what is said of a flag's value in a message that leaves now."""
    options = m.Options(follow=bind(value, {})) if follow else m.Options(after=bind(value, {}))
    resolved = resolve(options, {})
    return resolved.follow if follow else resolved.after


def test_what_can_be_named():
    a, b = future(), future(T + 1)
    group = GroupResult(None, T + 2, 0.0, None, (0, 1))
    assert Dependency(a).tasks == ["3-7"]
    assert Dependency([a, "3-9", [b]]).tasks == ["3-7", "3-9", "3-8"]
    assert Dependency(group).tasks == ["3-9", "3-10"]
    assert Dependency(Dependency([a, b], all=False)).tasks == ["3-7", "3-8"]
    assert len(Dependency([a, a, "3-7"])) == 1
    mapped = AsyncMapResult(None, T, 0.0, None)
    mapped._add_task(T, 3)
    mapped._add_task(T + 1, 3)
    assert Dependency(mapped).tasks == ["3-7", "3-8"]
    assert repr(Dependency([a, b], all=False)) == "Dependency([3-7, 3-8], all=False, success=True, failure=False)"
    assert bool(Dependency([]))


def test_what_cannot():
    with pytest.raises(ValueError, match="could never be met"):
        Dependency(future(), success=False)
    with pytest.raises(ValueError, match="3-17"):
        Dependency("first")
    with pytest.raises(TypeError, match="results or ids of tasks, not int"):
        Dependency(7)
    with pytest.raises(TypeError, match="not NoneType"):
        Dependency([None])


def test_nothing_is_no_dependency():
    assert bind(None, {}) is None
    assert bind([], {}) is None
    assert bind(Dependency(()), {}) is None


def test_ids_of_results_that_are_to_come_here_are_known():
    result = future()
    bound = bind(show_task(TaskId(T)), {T: result})
    assert isinstance(bound, Bound)
    assert bound.origin == {T: result}


def test_it_is_sent_as_any_dependency():
    bound = bind([future(), "4-1"], {})
    header = codec.encode(m.Submit([], [m.Options(after=bound)], []))
    assert codec.decode_to_controller(header).options[0].after == m.Dependency((T, (4 << 40) + 1))


def test_what_is_met_is_left_out():
    done, failed, open_ = future(T, m.Status.OK), future(T + 1, m.Status.ERROR), future(T + 2)
    assert sent(done) is None
    assert sent([done, open_]) == m.Dependency((T + 2,))
    assert sent(Dependency([done, open_], all=False)) is None
    assert sent(Dependency([failed, open_], success=False, failure=True)) == m.Dependency(
        (T + 2,), success=False, failure=True
    )
    assert sent(Dependency([done, failed], failure=True)) is None


def test_what_is_not_met_is_said_with_the_reason():
    failed = future(T, m.Status.CANCELLED)
    outcome = m.Outcome(T, ok=False, engines=(2,), why="was cancelled")
    assert sent([failed, future(T + 1)]) == m.Dependency((T, T + 1), known=(outcome,))
    assert sent(Dependency([failed, "4-1"], all=False)).known == (outcome,)


def test_who_follows_says_where_others_ran():
    done = future(T, m.Status.OK)
    assert sent(done, follow=True) == m.Dependency((T,), known=(m.Outcome(T, ok=True, engines=(2,)),))


def test_items_that_have_failed_are_said_at_once():
    mapped = AsyncMapResult(None, T, 0.0, None)
    mapped._add_task(T, 3)
    mapped._seal()
    assert sent(mapped) == m.Dependency((T,))
    mapped._accept(m.Result(T, m.Status.ERROR, b"", 0, 1, lo=1, hi=2), (), 0.0)
    assert sent(mapped).known == (m.Outcome(T, ok=False, engines=(1,), why="failed", over=False),)


def test_of_what_is_known_by_its_id_the_controller_is_to_ask():
    """Unless all of it has come."""
    assert sent("4-1") == m.Dependency(((4 << 40) + 1,), by_id=((4 << 40) + 1,))
    fetched = FetchedResult(None, [m.TaskInfo(T, 3, None, 0.0, b"f"), m.TaskInfo(T + 1, 0, None, 0.0, b"f")], None)
    piece, _ = fetched.split()
    assert sent([future(T + 2), fetched]) == m.Dependency((T + 2, T, T + 1), by_id=(T, T + 1))
    assert sent(AsyncResult.join(fetched, future(T + 2))) == m.Dependency((T, T + 1, T + 2), by_id=(T, T + 1))
    assert sent(piece) == m.Dependency((T,), by_id=(T,))
    fetched._accept(m.Result(T, m.Status.ERROR, b"", 0, 1, lo=1, hi=2), (), 0.0)
    assert sent(piece).by_id == (T,)
    fetched._accept(m.Result(T, m.Status.OK, b"", 0, 1, lo=2, hi=3), (), 0.0)
    fetched._accept(m.Result(T, m.Status.OK, b"", 0, 1, lo=0, hi=1), (), 0.0)
    failed = m.Outcome(T, ok=False, engines=(1,), why="failed")
    assert sent(fetched) == m.Dependency((T, T + 1), known=(failed,), by_id=(T + 1,))


def test_a_lone_task_says_it_too():
    """A task that is sent by the submitting thread itself, past the outbox."""
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [], 0, True), (), 0.0)
    result = future()
    entry = Entry(m.Task(T + 1, b"f", b"p"), m.Function(b"f", b"x"), m.Options(after=bind(result, {})), ())
    message = core.take_single(entry)
    assert message.options[0].after == m.Dependency((T,))
    result._accept(m.Result(T, m.Status.OK, b"", 0, 2), (), 0.0)
    core.receive(m.Resume(), (), 1.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [], 0, True), (), 2.0)
    ((again, _),) = core.take()
    assert again.seq == 1
    assert again.options[0].after is None
