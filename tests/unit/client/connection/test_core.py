from __future__ import annotations

import gc
import os
import weakref

import pytest
from enginery.client.connection import core as client_core
from enginery.client.connection import ended as client_ended
from enginery.client.connection.core import QUIET_S, SILENT_S, Core, Entry, RequestFuture
from enginery.errors import ClusterError, ControllerLost
from enginery.ids import COUNT_BITS
from enginery.wire import messages as m


class Sink:
    def __init__(self, last=True):
        self.last = last
        self.got = []
        self.records = []
        self.error = None

    def _accept(self, reply, frames, now):
        self.got.append((reply, list(frames), now))
        return self.last

    def _add_output(self, record):
        self.records.append(record)

    def _fail(self, error):
        self.error = error


HELLO = m.ClientHello(m.VERSION)


@pytest.fixture
def core():
    core = Core(HELLO, 0.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [m.EngineInfo(0, 0, "ready"), m.EngineInfo(2, 0, "starting")]), (), 0.0)
    return core


def function(n, size=10):
    return m.Function(b"%016d" % n, os.urandom(size))


def entry(n, function, options=None, payload=b"p", frames=()):
    return Entry(m.Task(n, function.digest, payload, len(frames)), function, options or m.Options(), frames)


def test_hello_is_first_and_the_welcome_is_kept():
    core = Core(HELLO, 0.0)
    assert core.take() == [(HELLO, ())]
    assert not core.welcomed.done()
    core.receive(m.Welcome(3, "c", 9, [m.EngineInfo(1, 0, "ready")]), (), 0.0)
    assert core.welcomed.done()
    assert core.first_task() == 3 << COUNT_BITS
    assert list(core.engines) == [1]


def test_a_refused_hello_is_an_error():
    core = Core(HELLO, 0.0)
    core.receive(m.Refused("too old"), (), 0.0)
    with pytest.raises(ClusterError, match="too old"):
        core.welcomed.result(0)


def test_results_go_to_their_sinks_with_their_frames(core):
    first, second = Sink(), Sink(last=False)
    core.sinks = {1: first, 2: second}
    results = [m.Result(1, 0, b"a", 2), m.Result(2, 0, b"b", 0), m.Result(7, 0, b"", 1), m.Result(2, 0, b"c", 1)]
    core.receive(m.Results(results), [b"x", b"y", b"stranger", b"z"], 1.0, 5.0)
    assert first.got == [(results[0], [b"x", b"y"], 5.0)]
    assert second.got == [(results[1], [], 5.0), (results[3], [b"z"], 5.0)]
    assert list(core.sinks) == [2]


def test_output_goes_to_its_task(core):
    core.sinks = {1: (sink := Sink())}
    record = m.Output(1, "stdout", "hi")
    core.receive(m.Outputs([record, m.Output(5, "stdout", "nobody")]), (), 0.0)
    assert sink.records == [record]


def test_replies_go_to_their_requests(core):
    core.requests = {1: (good := RequestFuture()), 2: (bad := RequestFuture())}
    core.receive(m.Reply(1, [4]), (), 0.0)
    core.receive(m.Reply(2, None, "no"), (), 0.0)
    core.receive(m.Reply(9, None), (), 0.0)
    assert good.result(0) == [4]
    with pytest.raises(ClusterError, match="no"):
        bad.result(0)
    assert core.requests == {}


def test_engines_come_and_go(core):
    before = core.engines
    core.receive(
        m.Engines([m.EngineInfo(1, 0, "ready"), m.EngineInfo(0, 0, "dead"), m.EngineInfo(2, 1, "ready")]), (), 0.0
    )
    assert list(core.engines) == [1, 2]
    assert list(before) == [0, 2]


def test_a_batch_names_each_function_and_options_once(core):
    f, g = function(1), function(2)
    plain, special = m.Options(), m.Options(priority=1)
    core.outbox.extend(
        [entry(1, f, plain), entry(2, g, special, frames=[b"x"]), entry(3, f, plain), entry(4, f, special)]
    )
    ((message, frames),) = core.take()
    assert message.functions == [f, g]
    assert message.options == [plain, special]
    assert [(task.id, task.options) for task in message.tasks] == [(1, 0), (2, 1), (3, 0), (4, 1)]
    assert frames == [b"x"]
    core.outbox.append(entry(5, g, special))
    ((message, frames),) = core.take()
    assert message.functions == []
    assert message.tasks[0].options == 0


def test_built_in_operations_are_never_sent(core):
    core.outbox.append(entry(1, m.Function(b"!push", b"")))
    ((message, _),) = core.take()
    assert message.functions == []


def test_order_is_kept_and_batches_are_bounded(core):
    f = function(1)
    core.outbox.extend(entry(n, f) for n in range(client_core.BATCH_TASKS + 1))
    core.outbox.append(m.Cancel(1, [0]))
    core.outbox.append(entry(5, f, payload=bytes(client_core.BATCH_BYTES)))
    core.outbox.append(entry(6, f))
    shape = [len(x.tasks) if isinstance(x, m.Submit) else x for x, _ in core.take()]
    assert shape == [client_core.BATCH_TASKS, 1, m.Cancel(1, [0], after=2), 1, 1]
    assert core.take() == []


def test_functions_are_forgotten_beyond_a_bound(core, monkeypatch):
    monkeypatch.setattr(client_core, "FUNCTIONS_MAX_BYTES", 1000)
    functions = [function(n, 400) for n in range(4)]
    said = []
    for f in functions:
        core.outbox.append(entry(1, f))
        said += [message for message, _ in core.take()]
    assert [type(message) for message in said] == [m.Submit, m.Submit, m.Submit, m.Forget, m.Submit]
    assert said[3].digests == [functions[0].digest, functions[1].digest]
    core.outbox.append(entry(1, functions[0]))
    assert core.take()[0][0].functions == [functions[0]]


def test_a_single_task_goes_past_the_outbox(core):
    f = function(1)
    assert core.is_calm
    first, second = core.take_single(entry(1, f)), core.take_single(entry(2, f))
    assert (first.seq, first.functions) == (1, [f])
    assert (second.seq, second.functions) == (2, [])
    core.outbox.append(m.Ping())
    assert not core.is_calm


def test_silence_is_asked_about_and_then_is_loss(core):
    core.sinks = {1: (sink := Sink())}
    assert core.deadline() == QUIET_S
    core.tick(QUIET_S - 0.1)
    assert core.take() == []
    core.tick(QUIET_S)
    core.tick(QUIET_S + 1)
    assert core.take() == [(m.Ping(), ())]
    core.receive(m.Pong(), (), QUIET_S + 2)
    core.tick(QUIET_S + 2 + QUIET_S)
    assert core.take() == [(m.Ping(), ())]
    core.tick(QUIET_S + 2 + SILENT_S - 0.1)
    assert core.lost is None
    core.tick(QUIET_S + 2 + SILENT_S)
    assert isinstance(sink.error, ControllerLost)
    assert "has not answered for 60 s" in str(core.lost)


@pytest.mark.parametrize("asked", [False, True])
def test_a_client_that_was_stopped_itself_asks_before_it_gives_up(core, asked):
    if asked:
        core.tick(QUIET_S)
        core.take()
    core.tick(3600.0)
    assert core.lost is None
    assert core.take() == [(m.Ping(), ())]
    core.tick(3600.0 + SILENT_S - QUIET_S)
    assert core.lost is not None


def test_the_first_connection_needs_no_second_hello(core):
    core.connected(0.1)
    assert core.take() == []


def test_another_controller_does_not_know_us(core):
    core.sinks = {1: (sink := Sink())}
    core.broken(1.0)
    core.receive(m.Welcome(4, "c", 10, []), (), 2.0)
    assert "restarted" in str(sink.error)


def test_a_cluster_that_has_ended_without_a_word_is_loss_at_once(core):
    core.sinks = {1: (sink := Sink())}
    core.broken(1.0)
    core.gone()
    assert isinstance(sink.error, ControllerLost)
    assert str(sink.error).startswith("cluster c has ended")


@pytest.mark.parametrize("message", [m.Farewell("the cluster was stopped"), m.Refused("malformed message")])
def test_the_end_fails_everything_at_once(core, message):
    core.sinks = {1: (sink := Sink()), 2: (other := Sink())}
    core.requests = {1: (request := RequestFuture())}
    core.receive(message, (), 0.0)
    text = message.reason
    for error in (sink.error, other.error, request.exception(0), core.lost):
        assert isinstance(error, ControllerLost)
        assert text in str(error)
    assert core.engines == {}
    first = core.lost
    core.lose(ControllerLost("again"))
    assert core.lost is first
    core.tick(1e9)


def ended(core, id_, sink, duration=1.0):
    core.sinks[id_] = sink
    core.receive(m.Results([m.Result(id_, 0, b"", duration=duration)]), (), 0.0)
    assert id_ not in core.sinks


def test_output_of_a_task_that_has_ended_is_taken_while_somebody_holds_the_result(core):
    sink = Sink()
    ended(core, 5, sink)
    late = m.Output(5, "stdout", "late")
    core.receive(m.Outputs([late]), (), 0.0)
    assert sink.records == [late]
    reference = weakref.ref(sink)
    del sink
    gc.collect()
    assert reference() is None
    core.receive(m.Outputs([late]), (), 0.0)  # nobody's


def test_of_results_that_have_ended_a_limited_number_is_remembered(core, monkeypatch):
    monkeypatch.setattr(client_ended, "ENDED_MAX", 10)
    sinks = [Sink() for _ in range(100)]
    for id_, sink in enumerate(sinks):
        ended(core, id_, sink)
    quick = Sink()
    ended(core, 100, quick, 1e-6)
    core.receive(m.Outputs([m.Output(id_, "stdout", "late") for id_ in range(101)]), (), 0.0)
    heard = [id_ for id_, sink in enumerate([*sinks, quick]) if sink.records]
    assert 5 <= len(heard) <= 10
    assert heard[-1] == 99


def test_what_has_come_is_confirmed_before_goodbye(core):
    core.sinks = {1: Sink()}
    core.receive(m.Results([m.Result(1, 0, b"a")], seq=1), (), 0.0)
    core.outbox.append(m.Goodbye())
    assert core.take() == [(m.Ack(1), ()), (m.Goodbye(), ())]
    core.outbox.append(m.Goodbye())
    assert core.take() == [(m.Goodbye(), ())]


def test_a_result_that_is_an_object_is_confirmed_at_once(core):
    info = m.ObjectInfo(bytes(16), 7)
    core.receive(m.Results([m.Result(1, 0, b"a", objects=(info,))], seq=1), (), 5.0)
    assert core.deadline() <= 5.0
    core.tick(5.0)
    assert [message for message, _ in core.take()] == [m.Ack(1), m.Release([info.id], seq=1)]
