"""Results as arguments of calls: what is sent, when, and again when it has to be."""

from __future__ import annotations

import itertools
import pickle

import pytest
from enginery.client.calls.arguments import pack, pack_items
from enginery.client.connection.core import Core, Entry
from enginery.client.records.fetches import FetchedResult
from enginery.client.results.execution import executed
from enginery.client.results.futures import AsyncResult
from enginery.client.results.groupresult import GroupResult
from enginery.client.results.mapresult import AsyncMapResult
from enginery.client.results.waits import Waits, known
from enginery.engine.values import Values
from enginery.errors import SerializationError
from enginery.objects.local import LocalStore
from enginery.serialize import dumps, failure_from
from enginery.wire import messages as m
from enginery.wire.given import find_given

F = m.Function(b"f function", b"pickle")
T, D = 100, 200


class Link:
    def check(self):
        pass

    def may_wait(self):
        return True

    def find_incarnation(self, _engine, _at):
        return 1


def future(id_=T):
    return AsyncResult(Link(), id_, 0.0)


def value(id_, obj, lo=0, hi=0):
    payload, frames = dumps(obj)
    return m.Result(id_, m.Status.OK, payload, len(frames), 1, lo=lo, hi=hi), frames


def failure(id_, error):
    payload, frames = dumps(failure_from(error))
    return m.Result(id_, m.Status.ERROR, payload, len(frames), 1), frames


def file(result, part):
    result._accept(*part, 0.0)
    return result


@pytest.fixture
def core():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [m.EngineInfo(0, 1, "ready")], 0, True), (), 0.0)
    return core


def submit(core, *args, options=None):
    """Have a call sent; return its task as it is in the message, and its frames."""
    payload, frames = pack("f", args, {})
    core.outbox.append(Entry(m.Task(D, F.digest, payload, len(frames)), F, options or m.Options(), frames))
    return sent(core)


def sent(core):
    ((message, frames),) = [pair for pair in core.take() if isinstance(pair[0], m.Submit)]
    (task,) = message.tasks
    assert task.frames == len(frames)
    return task, frames


load_arguments = Values(LocalStore(None, b"")).load


def arguments(task, frames, *more):
    """Return what an engine would call the function with, given this and what the controller adds."""
    given = find_given(task.payload)
    if given is None and not more:
        return load_arguments(task.payload, frames)[0]
    from enginery.wire.given import join

    own, results = (frames, []) if given is None else given.split(frames)
    payload = task.payload if given is None else given.payload
    return load_arguments(*join(payload, own, [*results, *more]))[0]


# ------------------------------------------------------------------------------------------------------- what is sent


def test_a_result_to_come_is_named(core):
    task, frames = submit(core, {"deep": [future()]}, 1)
    assert task.needs == (T,)
    assert find_given(task.payload) is None
    assert arguments(task, frames, value(T, 7)) == ({"deep": [7]}, 1)


def test_a_result_that_is_here_goes_along_as_it_came(core):
    task, frames = submit(core, file(future(), value(T, 7)))
    assert not task.needs
    assert arguments(task, frames) == (7,)


def test_a_result_that_was_read_is_pickled_again(core):
    result = file(future(), value(T, [1, 2]))
    result.get().append(3)
    task, frames = submit(core, result)
    assert not task.needs
    assert find_given(task.payload) is None
    assert arguments(task, frames) == ([1, 2, 3],)


def test_one_result_in_two_places_is_one_value(core):
    result = future()
    task, frames = submit(core, result, [result])
    assert task.needs == (T,)
    (first, (second,)) = arguments(task, frames, value(T, [1]))
    assert first is second


def test_arrays_stay_out_of_band(core):
    numpy = pytest.importorskip("numpy")
    part = value(T, numpy.arange(10_000))
    assert part[0].frames
    task, frames = submit(core, file(future(), part), numpy.ones(10_000))
    assert len(task.payload) < 4096
    there, ones = arguments(task, frames)
    assert there.sum() == 49_995_000
    assert ones.sum() == 10_000


def test_a_failed_result_goes_along_and_stays_named(core):
    task, _ = submit(core, file(future(), failure(T, KeyError("gone"))))
    assert task.needs == (T,)
    given = find_given(task.payload)
    assert [result.status for result in given.results] == [m.Status.ERROR]


def test_a_failed_result_that_was_read_goes_along_too(core):
    result = file(future(), failure(T, ValueError("x" * 100_000)))
    with pytest.raises(ValueError, match="x"):
        result.get()
    task, frames = submit(core, result)
    assert task.needs == (T,)
    assert len(frames) == find_given(task.payload).results[0].frames == 1


def test_a_group_is_the_list_of_its_values(core):
    group = GroupResult(Link(), T, 0.0, None, (0, 1, 2))
    file(group, value(T + 1, "b"))
    task, frames = submit(core, group)
    assert task.needs == (T, T + 2)
    assert arguments(task, frames, value(T, "a"), value(T + 2, "c")) == (["a", "b", "c"],)


def test_a_map_is_the_list_of_its_items(core):
    result = AsyncMapResult(Link(), T, 0.0, None)
    result._add_task(T, 4)
    result._add_task(T + 1, 2)
    result._seal()
    file(result, value(T, [2, 3], 2, 4))
    file(result, value(T + 1, [4, 5], 0, 2))
    assert result[4] == 4  # read, and its pickle let go of
    task, frames = submit(core, result)
    assert task.needs == (T,)
    assert arguments(task, frames, value(T, [0, 1], 0, 2)) == ([0, 1, 2, 3, 4, 5],)


def test_what_is_converted_here_is_converted_there(core):
    result = future()
    result._convert = take_first
    task, frames = submit(core, result)
    assert arguments(task, frames, value(T, ["only"])) == ("only",)
    group = GroupResult(Link(), T, 0.0, None, (0, 1))
    group._convert, group._assemble = take_first, sum
    task, frames = submit(core, group)
    assert arguments(task, frames, value(T, [1]), value(T + 1, [2])) == (3,)


def take_first(values, _part):
    return values[0]


def test_items_of_a_map_may_be_results(core):
    payload, frames = pack_items([future(), 2, [future(T + 1)]], 0)
    assert type(frames) is Waits
    core.outbox.append(Entry(m.Task(D, F.digest, payload, 0, items=3), F, m.Options(), frames))
    task, frames = sent(core)
    assert task.needs == (T, T + 1)


def test_what_was_asked_for_by_id_is_named_so_until_all_of_it_is_here(core):
    """What was told of it before has gone to another result, and been confirmed."""
    infos = [m.TaskInfo(T, 4, None, 0.0, F.digest), m.TaskInfo(T + 1, 0, None, 0.0, F.digest)]
    fetched = file(FetchedResult(Link(), infos, None), value(T, [2, 3], 2, 4))
    one = future(T + 2)
    one._fetched = True
    task, _ = submit(core, fetched, one, future(T + 3))
    assert task.needs == (T, T + 1, T + 2, T + 3)
    assert find_given(task.payload).by_id == (T, T + 1, T + 2)
    file(fetched, value(T, [0, 1], 0, 2))
    file(fetched, value(T + 1, "call"))
    task, frames = submit(core, fetched)
    assert not task.needs
    assert not find_given(task.payload).by_id
    assert arguments(task, frames) == ([0, 1, 2, 3, "call"],)


# ------------------------------------------------------------------------------------------------------- what cannot be


def test_what_cannot_be_an_argument_is_named(core):
    cell = future()
    cell._convert = executed
    with pytest.raises(SerializationError, match=r"argument 1 of f is an .*AsyncResult.*wait"):
        pack("f", (cell,), {})
    reading = AsyncMapResult(Link(), T, 0.0, None)
    with pytest.raises(SerializationError, match="input is still being read"):
        pack("f", (reading,), {})


def test_other_culprits_are_still_found(core):
    import threading

    with pytest.raises(SerializationError, match=r"argument 2 of f is a _thread\.lock"):
        pack("f", (future(), threading.Lock()), {})


# ------------------------------------------------------------------------------------------------------- the race


def test_what_has_come_before_the_message_leaves_goes_along(core):
    """The controller may have let go of it: its confirmation leaves before the call does."""
    result = future()
    core.sinks[T] = result
    payload, frames = pack("f", (result,), {})
    core.receive(m.Results([value(T, 7)[0]], seq=1), (), 1.0, 1.0)
    core.outbox.append(m.Ack(1))
    core.outbox.append(Entry(m.Task(D, F.digest, payload, 0), F, m.Options(), frames))
    task, frames = sent(core)
    assert not task.needs
    assert arguments(task, frames) == (7,)


def test_what_comes_while_the_message_is_composed_is_to_come(core):
    result = AsyncMapResult(Link(), T, 0.0, None)
    result._add_task(T, 2)
    result._seal()
    file(result, value(T, [0], 0, 1))
    payload, frames = pack("f", (result,), {})
    seen = {}
    known(result, seen)
    file(result, value(T, [1], 1, 2))
    task = m.Task(D, F.digest, payload, 0)
    frames = frames.resolve(task, seen)
    assert task.needs == (T,)
    assert arguments(task, frames, value(T, [1], 1, 2)) == ([0, 1],)


def test_what_is_read_before_the_message_leaves_is_kept_for_it(core):
    result = future()
    payload, frames = pack("f", (result,), {})
    file(result, value(T, 7))
    assert result.get() == 7
    core.outbox.append(Entry(m.Task(D, F.digest, payload, 0), F, m.Options(), frames))
    task, frames = sent(core)
    assert arguments(task, frames) == (7,)


def test_a_message_that_is_sent_again_says_what_has_come_since(core):
    """The hello that comes before it confirms that, and the controller lets go of it."""
    result = future()
    core.sinks[T] = result
    task, _ = submit(core, result)
    assert task.needs == (T,)
    core.receive(m.Results([value(T, 7)[0]], seq=1), (), 1.0, 1.0)
    core.broken(2.0)
    core.connected(3.0)
    ((hello, _),) = core.take()
    assert hello.have == 1
    core.receive(m.Welcome(3, "c", 9, [], 0, True), (), 4.0)
    ((message, frames),) = core.take()
    assert message.seq == 1
    assert message.functions == [F]
    (task,) = message.tasks
    assert not task.needs
    assert arguments(task, frames) == (7,)


def test_a_message_that_has_come_is_forgotten(core):
    submit(core, future())
    assert core._dependent
    core.receive(m.Ack(1), (), 1.0)
    assert not core._dependent


def test_plain_calls_have_nothing_to_do_with_it(core):
    payload, frames = pack("f", (1, [2], {"three": object}), {})
    assert type(frames) is not Waits
    core.outbox.append(Entry(m.Task(D, F.digest, payload, 0), F, m.Options(), frames))
    task, _ = sent(core)
    assert not task.needs
    assert not core._dependent


# ------------------------------------------------------------------------------------------- other kinds of results


def group_of(*values):
    group = GroupResult(Link(), T, 0.0, None, tuple(range(len(values))))
    for index, obj in enumerate(values):
        if obj is not None:
            file(group, value(T + index, obj))
    return group


def test_joined_results_are_one_list(core):
    mapped = AsyncMapResult(Link(), T + 10, 0.0, None)
    mapped._add_task(T + 10, 2)
    mapped._seal()
    read = file(future(T + 20), value(T + 20, "read"))
    assert read.get() == "read"
    joined = AsyncResult.join(group_of("a", None), future(T + 5), mapped, read)
    task, frames = submit(core, joined)
    assert task.needs == (T + 1, T + 5, T + 10)
    more = [value(T + 1, "b"), value(T + 5, "c"), value(T + 10, [1, 2], 0, 2)]
    assert arguments(task, frames, *more) == (["a", "b", "c", 1, 2, "read"],)


def test_pieces_of_a_group(core):
    group = group_of("a", None)
    group._convert = take_first
    first, second = group.split()
    task, frames = submit(core, second, first)
    assert task.needs == (T + 1,)
    assert arguments(task, frames, value(T + 1, ["b"])) == ("b", "a")


def test_pieces_of_a_map(core):
    mapped = AsyncMapResult(Link(), T, 0.0, None)
    mapped._add_task(T, 2)
    mapped._add_task(T + 1, 3)
    mapped._seal()
    file(mapped, value(T + 1, [2, 3], 0, 2))
    assert mapped[2] == 2
    task, frames = submit(core, mapped.split()[1])
    assert task.needs == (T + 1,)
    assert arguments(task, frames, value(T + 1, [4], 2, 3)) == ([2, 3, 4],)


def test_results_that_were_stored_are_their_values(core):
    stored = pickle.loads(pickle.dumps([file(future(), value(T, 7)), group_of("a", "b")]))
    task, frames = submit(core, *stored)
    assert not task.needs
    assert arguments(task, frames) == (7, ["a", "b"])
    failed = pickle.loads(pickle.dumps(file(future(), failure(T, KeyError("gone")))))
    task, _ = submit(core, failed)
    assert task.needs == (T,)
    assert find_given(task.payload).results[0].status == m.Status.ERROR


def test_a_thread_may_submit_while_what_has_come_is_forgotten(core):
    submit(core, future())
    later = itertools.count(100)

    class Have(int):
        """A number that another thread submits in the midst of comparing."""

        def __ge__(self, other):
            core._dependent[next(later)] = []
            return int(self) >= other

        def __lt__(self, other):
            core._dependent[next(later)] = []
            return int(self) < other

    core._on_acked(Have(1))
    assert core._dependent
    assert min(core._dependent) >= 100
