"""Objects in arguments and results: what is sent, what is held, and when it is given back."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from enginery.client.calls.arguments import all_to_objects, pack, to_object
from enginery.client.connection.core import Core, Entry
from enginery.client.connection.requests import RequestFuture
from enginery.client.records.purges import release
from enginery.client.results.futures import AsyncResult
from enginery.client.results.groupresult import GroupResult
from enginery.client.results.leases import Lease
from enginery.client.results.mapresult import AsyncMapResult
from enginery.client.results.refs import ObjectRef
from enginery.errors import NoSuchTask, ObjectLost, ObjectStoreFull, SerializationError
from enginery.pieces import joined, size_of
from enginery.serialize import dumps, failure_from
from enginery.serialize import loads as load_pickled
from enginery.wire import messages as m
from enginery.wire.given import find_given
from enginery.wire.objects import reference_to, show_object

F = m.Function(b"f function", b"pickle")
T, D = 100, 200


class Store:
    """A store in a dict, for values of 1000 bytes and more; `room` says how many more there may be."""

    def __init__(self):
        self.has = {}
        self.room = 1000
        self.made = 0

    def add(self, value):
        payload, buffers = dumps(value)
        return self._add(payload, buffers)

    def _add(self, payload, buffers):
        if not len(payload):
            payload, *buffers = joined(buffers)
        self.made += 1
        nbytes = len(payload) + sum(map(size_of, buffers))
        info = m.ObjectInfo(self.made.to_bytes(16, "big"), nbytes)
        self.has[info.id] = bytes(payload), [bytes(buffer) for buffer in buffers]
        return info

    def pack(self, payload, buffers, *, keep=False):
        if not keep and len(payload) + sum(map(size_of, buffers)) < 1000:
            return None
        if self.made >= self.room:
            raise ObjectStoreFull("no room")
        info = self._add(payload, buffers)
        return reference_to(info), info

    def open(self, info):
        payload, buffers = self.has[info.id]
        return memoryview(bytearray(payload)), [memoryview(bytearray(buffer)) for buffer in buffers]


class Link:
    def __init__(self, core):
        self.core = core
        self.store = core.leases.store

    def check(self):
        pass

    def may_wait(self):
        return True

    def disown(self, objects):
        self.disowned = objects


@pytest.fixture
def core():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.leases.store = Store()
    core.take()
    core.receive(m.Welcome(3, "c", 9, [m.EngineInfo(0, 1, "ready")], 0, True), (), 0.0)
    return core


def put(core, value):
    return ObjectRef(Link(core), core.leases.new(core.leases.store.add(value)))


def come(core, result, info, *, lo=0, hi=0, task=T):
    """Have a result arrive that is an object."""
    if result is not None:
        core.sinks[task] = result
    message = m.Results([m.Result(task, m.Status.OK, reference_to(info), 0, 1, lo=lo, hi=hi, objects=(info,))])
    core.receive(message, (), 0.0)
    return result


def future(core, id_=T):
    return AsyncResult(Link(core), id_, 0.0)


def submit(core, *args):
    """Have a call sent; return its task as it is in the message, and its frames."""
    payload, frames = pack("f", args, {})
    objects = ()
    if frames:
        payload, frames, objects = to_object(core.leases.store, payload, frames)
    core.outbox.append(Entry(m.Task(D, F.digest, payload, len(frames), objects=objects), F, m.Options(), frames))
    ((message, frames),) = [pair for pair in core.take() if isinstance(pair[0], m.Submit)]
    return message.tasks[0], frames


def released(core):
    return [id_ for message, _ in core.take() for id_ in message.objects if isinstance(message, m.Release)]


# ---------------------------------------------------------------------------------------------------------- arguments


def test_large_arguments_are_an_object(core):
    array = np.arange(10_000)
    task, frames = submit(core, array)
    (info,) = task.objects
    assert task.payload == reference_to(info)
    assert not frames
    payload, buffers = core.leases.store.has[info.id]
    assert (pickle.loads(payload, buffers=buffers)[0][0] == array).all()
    small, frames = submit(core, [1])
    assert not small.objects
    assert not frames


def test_large_bytes_are_in_one_piece_where_they_are_no_object(core):
    core.leases.store.room = 0
    core.leases.store.pack = lambda *_: None
    text = b"x" * 1_000_000
    task, frames = submit(core, text)
    assert load_pickled(task.payload, frames) == ((text,), {})
    task, frames = submit(core, text, future(core))
    assert task.needs == (T,)
    assert len(frames) == 1
    assert len(bytes(frames[0])) > 1_000_000


def test_where_there_is_no_room_for_one_there_is_none_of_any(core):
    core.leases.store.room = 2
    link = Link(core)
    packed = [pack("f", (np.full(10_000, number),), {}) for number in range(3)]
    with pytest.raises(ObjectStoreFull):
        all_to_objects(link, [*packed, pack("f", (1,), {})])
    assert [info.id for info in link.disowned] == [number.to_bytes(16, "big") for number in (1, 2)]
    made = all_to_objects(link, [pack("f", (1,), {})])
    assert not made[0][2]


def test_a_reference_at_any_depth_is_named(core):
    ref = put(core, np.arange(10))
    task, _ = submit(core, {"deep": [ref, ref]}, 1)
    assert [info.id for info in task.objects] == [ref._lease.info.id]
    assert not task.needs
    assert find_given(task.payload) is None


def test_it_is_given_back_after_what_needs_it_was_sent(core):
    ref = put(core, np.arange(10))
    payload, frames = pack("f", (ref,), {})
    core.outbox.append(Entry(m.Task(D, F.digest, payload, len(frames)), F, m.Options(), frames))
    id_ = ref._lease.info.id
    del ref, frames
    ((first, _),) = core.take()
    assert first.tasks[0].objects[0].id == id_
    assert not core.has_to_send  # it may have to be sent again, with what has come since
    core.receive(m.Ack(first.seq), (), 0.0)
    ((second, _),) = core.take()
    assert second == m.Release([id_], seq=first.seq + 1)


def test_what_was_given_back_before_is_said_after(core):
    ref = put(core, 1)
    core.outbox.append(m.Put([ref._lease.info]))
    id_ = ref._lease.info.id
    ref.release()
    assert core.take() == [(m.Put([m.ObjectInfo(id_, ref_size(core, id_))], seq=1), ()), (m.Release([id_], seq=2), ())]
    assert not core.has_to_send
    core.receive(m.Resume(), (), 0.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [], have=1), (), 0.0)
    assert [message for message, _ in core.take()] == [m.Release([id_], seq=2)]


def ref_size(core, id_):
    payload, buffers = core.leases.store.has[id_]
    return len(payload) + sum(map(len, buffers))


def test_large_arguments_with_results_among_them(core):
    pending, there = future(core), future(core, T + 1)
    info = core.leases.store.add(np.zeros(500))
    come(core, there, info, task=T + 1)
    ref = put(core, b"x")
    task, frames = submit(core, np.arange(10_000), pending, there, ref)
    assert not frames
    own = core.leases.store.made.to_bytes(16, "big")
    assert {one.id for one in task.objects} == {own, info.id, ref._lease.info.id}
    assert task.needs == (T,)
    given = find_given(task.payload)
    assert given.payload == reference_to(next(one for one in task.objects if one.id == own))
    assert [result.payload for result in given.results] == [reference_to(info)]


def test_what_goes_along_again_is_named_once(core):
    there = come(core, future(core), core.leases.store.add(np.zeros(500)))
    ref = ObjectRef(Link(core), future=there)
    task, _ = submit(core, there, ref, [there])
    assert len(task.objects) == 1


# ---------------------------------------------------------------------------------------------------------- results


def test_a_result_holds_its_object_after_it_was_read(core):
    info = core.leases.store.add(np.arange(1000))
    result = come(core, future(core), info)
    value = result.get()
    assert (value == np.arange(1000)).all()
    assert value.flags.writeable
    assert result.get() is value
    task, _ = submit(core, result)
    assert task.objects == (info,)
    core.receive(m.Ack(1), (), 0.0)
    del result
    assert released(core) == [info.id]
    assert value.sum() == 499500


def test_one_that_nobody_waits_for_is_given_back_at_once(core):
    info = core.leases.store.add(1)
    come(core, None, info)
    assert released(core) == [info.id]
    core.receive(m.Fetched(9, [m.Result(1, 0, reference_to(info), objects=(info,))], [], []), (), 0.0)
    assert released(core) == [info.id]


def test_fetched_results_come_with_their_frames_or_leases(core):
    request = core.requests[1] = RequestFuture()
    info = core.leases.store.add(1)
    results = [m.Result(1, 0, b"x", 1), m.Result(2, 0, reference_to(info), objects=(info,)), m.Result(3, 0, b"y")]
    core.receive(m.Fetched(1, results, [], []), [b"frame"], 0.0)
    _, (first, second, third) = request.result(0)
    assert [*first] == [b"frame"]
    assert type(second) is Lease
    assert not third


def test_groups_and_maps_hold_theirs(core):
    group = GroupResult(Link(core), T, 0.0, None, (0, 1))
    infos = [core.leases.store.add(np.full(1000, number)) for number in range(2)]
    for number, info in enumerate(infos):
        come(core, group, info, task=T + number)
    assert [value[0] for value in group.get()] == [0, 1]
    assert {info.id for info in submit(core, group)[0].objects} == {info.id for info in infos}

    mapped = AsyncMapResult(Link(core), T, 0.0, None)
    mapped._add_task(T, 4)
    mapped._seal()
    parts = [core.leases.store.add([1, 2]), core.leases.store.add([3, 4])]
    come(core, mapped, parts[0], lo=0, hi=2)
    come(core, mapped, parts[1], lo=2, hi=4)
    come(core, mapped, parts[1], lo=2, hi=4)  # as it should not
    assert mapped.get() == [1, 2, 3, 4]
    assert submit(core, mapped)[0].objects == tuple(parts)
    core.receive(m.Ack(9), (), 0.0)
    core.take()
    release([group, mapped])
    assert sorted(released(core)) == sorted(info.id for info in [*infos, *parts])
    with pytest.raises(NoSuchTask):
        group.get()


def test_an_object_that_is_lost_is_an_error_of_its_own(core):
    class Gone(Store):
        def open(self, info):
            raise ObjectLost(f"object {show_object(info.id)} is gone")

    result = come(core, future(core), core.leases.store.add(1))
    core.leases.store = Gone()
    with pytest.raises(ObjectLost, match="00000000-1 is gone"):
        result.get()


# ---------------------------------------------------------------------------------------------------------- references


def test_a_reference_reads_anew_each_time(core):
    ref = put(core, np.arange(1000))
    first, second = ref.get(), ref.get()
    first[:] = 0
    assert second.sum() == ref.get().sum() == 499500
    assert ref.done()
    assert ref.wait()
    assert ref.id == "00000000-1"
    assert ref.nbytes > 8000
    assert repr(ref) == f"<ObjectRef 00000000-1: {ref.nbytes:,} bytes>"
    id_ = ref._lease.info.id
    with ref:
        pass
    assert released(core) == [id_]
    ref.release()
    assert repr(ref) == "<ObjectRef: released>"
    for use in (ref.get, lambda: pack("f", (ref,), {})):
        with pytest.raises((ObjectLost, SerializationError), match="released"):
            use()


def test_elsewhere_than_in_arguments_it_cannot_be_pickled(core):
    ref = put(core, 1)
    for use in (lambda: pickle.dumps(ref), lambda: copy.deepcopy([ref]), lambda: dumps({"x": ref})):
        with pytest.raises((TypeError, SerializationError), match="among the arguments"):
            use()


def test_one_of_a_task_is_a_future_until_it_is_made(core):
    making = core.sinks[T] = future(core)
    ref = ObjectRef(Link(core), future=making)
    assert not ref.done()
    assert not ref.wait(0)
    assert ref.id is ref.nbytes is None
    assert repr(ref) == f"<ObjectRef of {making!r}>"
    assert ref.future is making
    with pytest.raises(TimeoutError):
        ref.get(0)
    with pytest.raises(TypeError):
        pickle.dumps(ref)
    task, _ = submit(core, ref)
    assert task.needs == (T,)
    info = core.leases.store.add([1])
    come(core, making, info)
    assert ref.done()
    assert ref.get() == [1]
    assert ref.get() is not ref.get()
    assert ref.id == show_object(info.id)
    task, _ = submit(core, ref)
    assert not task.needs
    assert task.objects == (info,)
    core.receive(m.Ack(9), (), 0.0)
    del making
    ref.release()
    assert released(core) == [info.id]


def test_one_of_a_task_that_failed_raises_what_that_raised(core):
    making = core.sinks[T] = future(core)
    ref = ObjectRef(Link(core), future=making)
    payload, frames = dumps(failure_from(ZeroDivisionError("zero")))
    core.receive(m.Results([m.Result(T, m.Status.ERROR, payload, len(frames), 1)]), frames, 0.0)
    with pytest.raises(ZeroDivisionError):
        ref.get()
    assert ref.id is None


def test_one_of_a_task_whose_engine_has_no_store(core):
    making = core.sinks[T] = future(core)
    ref = ObjectRef(Link(core), future=making)
    payload, frames = dumps([1])
    core.receive(m.Results([m.Result(T, 0, payload, len(frames), 1)]), frames, 0.0)
    assert ref.get() == [1]
    assert ref.get() is not ref.get()
    task, _ = submit(core, ref)
    assert len(find_given(task.payload).results) == 1


def test_it_goes_when_its_user_has_let_go_of_it_before_it_is_made(core):
    making = core.sinks[T] = future(core)
    ref = ObjectRef(Link(core), future=making)
    del making, ref
    info = core.leases.store.add([1])
    come(core, None, info)
    assert released(core) == [info.id]
