"""The client's core when connections break, messages are lost, and controllers take over from one another."""

from __future__ import annotations

import pytest
from enginery.client.connection.core import ACK_EVERY, ACK_S, BROKEN_S, GONE_S, QUIET_S, Core, Entry, RequestFuture
from enginery.errors import ControllerLost
from enginery.wire import messages as m
from enginery.wire.objects import reference_to

F = m.Function(b"f function", b"pickle")


class Sink:
    """Keeps what it hears."""

    def __init__(self):
        self.got = []
        self.records = []
        self.error = None

    def _accept(self, reply, _frames, _now):
        self.got.append(reply)
        return True

    def _add_output(self, record):
        self.records.append(record)

    def _fail(self, error):
        self.error = error


def welcome(have=0, *, client=3, pid=9, durable=True):
    return m.Welcome(client, "c", pid, [m.EngineInfo(0, 1, "ready")], have, durable)


def make(*, durable=True):
    core = Core(m.ClientHello(m.VERSION, "script", 7, "here", cancel_on_exit=True), 0.0)
    core.take()
    core.receive(welcome(durable=durable), (), 0.0)
    return core


@pytest.fixture
def core():
    """A client of a cluster with a journal."""
    return make()


def entry(n, frames=()):
    return Entry(m.Task(n, F.digest, b"p", len(frames)), F, m.Options(), frames)


def submit(core, *ids):
    """Submit these tasks, a message each; return the messages."""
    messages = []
    for id_ in ids:
        core.outbox.append(entry(id_))
        messages += [message for message, _ in core.take()]
    return messages


def ask(core, message):
    core.requests[message.request] = future = RequestFuture()
    core.outbox.append(message)
    return future


def results(seq, *ids):
    return m.Results([m.Result(id_, 0, b"") for id_ in ids], seq=seq)


def interrupt(core, now=10.0):
    """Break the connection, and have it again; return what leaves then."""
    core.broken(now)
    core.connected(now + 1.0)
    return core.take()


def said(core):
    return [message for message, _ in core.take()]


def test_what_is_submitted_or_forgotten_is_numbered(core):
    assert [message.seq for message in submit(core, 1, 2)] == [1, 2]
    core.outbox.append(m.Cancel(1, [1]))
    core.outbox.append(entry(3))
    cancel, third = said(core)
    assert isinstance(cancel, m.Cancel)
    assert third.seq == 3


# ---------------------------------------------------------------------------------------------------------- the hello


def test_a_connection_that_is_there_again_needs_another_hello(core):
    core.receive(results(1, 1), (), 1.0)
    ((hello, frames),) = interrupt(core)
    assert frames == ()
    assert hello == m.ClientHello(m.VERSION, "script", 7, "here", have=1, welcomed=True, cancel_on_exit=True)


def test_before_the_first_welcome_the_hello_is_the_first_one():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    assert interrupt(core) == [(m.ClientHello(m.VERSION), ())]


def test_while_it_greets_nothing_else_leaves(core):
    interrupt(core)
    core.outbox.append(entry(1))
    ask(core, m.Scale(1, 2))
    assert not core.is_calm
    assert not core.has_to_send
    assert said(core) == []
    core.receive(welcome(), (), 12.0)
    assert core.has_to_send
    assert [type(message) for message in said(core)] == [m.Submit, m.Scale]
    assert core.is_calm
    assert not core.has_to_send


def test_a_connection_that_breaks_again_while_it_greets(core):
    assert len(interrupt(core, 10.0)) == 1
    assert len(interrupt(core, 12.0)) == 1, "the first hello may be lost"
    core.receive(welcome(), (), 14.0)
    assert said(core) == []


def test_what_is_said_before_it_is_there_again_waits(core):
    core.broken(10.0)
    submit(core, 1)
    core.connected(11.0)
    assert [type(message) for message in said(core)] == [m.ClientHello]


def test_who_is_asked_to_resume_does(core):
    core.receive(m.Resume(), (), 1.0)
    core.receive(m.Resume(), (), 1.0)
    assert [type(message) for message in said(core)] == [m.ClientHello]
    core.receive(m.Resume(), (), 1.0)
    assert said(core) == [], "a hello is under way"
    core.receive(welcome(), (), 1.0)
    core.receive(m.Resume(), (), 2.0)
    assert [type(message) for message in said(core)] == [m.ClientHello]


@pytest.mark.parametrize("cancel", [False, True])
def test_goodbye_is_said_even_while_it_greets(core, cancel):
    interrupt(core)
    core.outbox.append(entry(1))
    core.outbox.append(m.Goodbye(cancel))
    assert said(core) == [m.Goodbye(cancel)]


def test_goodbye_is_said_after_a_hello_that_has_not_left(core):
    core.broken(10.0)
    core.connected(11.0)
    core.outbox.append(m.Goodbye())
    assert [type(message) for message in said(core)] == [m.ClientHello, m.Goodbye]


# ---------------------------------------------------------------------------------------------------------- said again


def test_what_the_controller_misses_is_said_again_then_what_was_asked_then_what_is_new(core):
    # Given three submissions of which the controller has one, and a request without an answer
    _, second, third = submit(core, 1, 2, 3)
    core.outbox.append(entry(4, frames=[b"frame"]))
    ((fourth, frames),) = core.take()
    ask(core, m.Scale(1, 2))
    (scale,) = said(core)
    # And a task submitted and something asked while the connection was broken
    core.broken(10.0)
    core.outbox.append(entry(5))
    ask(core, m.StatusQuery(2))
    core.connected(11.0)
    core.take()
    # When it is welcomed, then it all leaves, in this order, with its numbers and frames
    core.receive(welcome(have=1), (), 12.0)
    (*again, fifth, (status, _)) = core.take()
    assert again == [(second, []), (third, []), (fourth, frames), (scale, ())]
    assert frames == [b"frame"]
    assert [task.id for task in fifth[0].tasks] == [5]
    assert fifth[0].seq == 5
    assert fifth[0].functions == [], "the controller has it, or gets it with the second"
    assert status == m.StatusQuery(2)
    assert said(core) == [], "once"


def test_what_the_controller_has_is_not_said_again(core):
    submit(core, 1, 2, 3)
    core.receive(m.Ack(1), (), 1.0)
    core.receive(m.Results([m.Result(1, 0, b"")], 2, seq=1), (), 1.0)
    interrupt(core)
    core.receive(welcome(have=0), (), 12.0)  # (it cannot have less than it has confirmed)
    assert [message.seq for message in said(core)] == [3]


def test_requests_are_asked_again_until_they_are_answered(core):
    answered, open_ = ask(core, m.Scale(1, 2)), ask(core, m.WaitEngines(2))
    core.take()
    core.receive(m.Reply(1, [0, 1]), (), 1.0)
    for _ in range(2):
        interrupt(core)
        core.receive(welcome(), (), 12.0)
        assert said(core) == [m.WaitEngines(2)]
    core.receive(m.Reply(2, [0]), (), 13.0)
    assert (answered.result(0), open_.result(0)) == ([0, 1], [0])
    interrupt(core)
    core.receive(welcome(), (), 14.0)
    assert said(core) == []


def test_a_request_that_was_never_sent_is_asked_once(core):
    core.broken(10.0)
    ask(core, m.WaitEngines(1))
    core.connected(11.0)
    core.take()
    core.receive(welcome(), (), 12.0)
    assert said(core) == [m.WaitEngines(1)]


def test_nothing_fails_when_the_connection_breaks_and_comes_back(core):
    core.sinks = {1: (sink := Sink())}
    submit(core, 1)
    future = ask(core, m.WaitEngines(1))
    interrupt(core)
    core.receive(welcome(), (), 12.0)
    core.receive(results(1, 1), (), 13.0)
    assert sink.error is None
    assert len(sink.got) == 1
    assert not future.done()


def test_a_single_task_can_be_unsaid(core):
    # Given a task sent past the outbox, of which nobody knows whether it left
    message = core.take_single(entry(1))
    core.unsay()
    # Then the hello finds out, before anything else leaves
    core.outbox.append(entry(2))
    (hello,) = said(core)
    assert isinstance(hello, m.ClientHello)
    core.receive(welcome(have=0), (), 1.0)
    again, second = said(core)
    assert again is message
    assert (second.seq, second.functions) == (2, [])


# ---------------------------------------------------------------------------------------------------------- heard again


def test_what_comes_twice_is_heard_once(core):
    core.sinks = {1: (sink := Sink())}
    core.receive(m.Outputs([m.Output(1, "stdout", "hi")], seq=1), (), 1.0)
    core.receive(m.Outputs([m.Output(1, "stdout", "hi")], seq=1), (), 1.0)
    assert len(sink.records) == 1


def test_after_a_gap_nothing_numbered_is_heard_until_the_hello_is_answered(core):
    core.sinks = {id_: Sink() for id_ in (1, 2, 3)}
    sinks = dict(core.sinks)
    core.receive(results(1, 1), (), 1.0)
    core.receive(results(3, 3), (), 1.0)
    assert list(core.sinks) == [2, 3]
    (hello,) = said(core)
    assert (hello.have, hello.welcomed) == (1, True)
    core.receive(results(4, 2), (), 1.0)
    core.receive(m.Engines([m.EngineInfo(5, 1, "ready")]), (), 1.0)
    assert 5 in core.engines, "what has no number is"
    assert said(core) == [], "one hello is enough"
    core.receive(welcome(), (), 1.0)
    for seq, id_ in ((2, 2), (3, 3), (4, 2)):
        core.receive(results(seq, id_), (), 1.0)
    assert core.sinks == {}
    assert [len(sink.got) for sink in sinks.values()] == [1, 1, 1]


def test_what_has_come_is_confirmed_after_so_many(core):
    for seq in range(1, ACK_EVERY):
        core.receive(results(seq, 1), (), 1.0)
    assert said(core) == []
    core.receive(results(ACK_EVERY, 1), (), 1.0)
    assert said(core) == [m.Ack(ACK_EVERY)]
    core.tick(1.0 + 2 * ACK_S)
    assert said(core) == [], "that was all"


def test_what_has_come_is_confirmed_after_a_while(core):
    core.receive(results(1, 1), (), 1.0)
    assert core.deadline() == 1.0 + ACK_S
    core.receive(results(2, 1), (), 1.5)
    core.tick(1.0 + ACK_S - 0.01)
    assert said(core) == []
    core.tick(1.0 + ACK_S)
    assert said(core) == [m.Ack(2)]
    assert core.deadline() == 1.5 + QUIET_S


def test_an_object_is_confirmed_at_once(core):
    info = m.ObjectInfo(bytes(16), 1 << 20)
    core.receive(m.Results([m.Result(1, m.Status.OK, reference_to(info), objects=(info,))], seq=1), (), 1.0)
    core.tick(1.0)
    assert said(core)[0] == m.Ack(1)


def test_what_comes_again_is_confirmed_again(core):
    core.receive(results(1, 1), (), 1.0)
    core.tick(3.0)
    core.take()
    core.receive(results(1, 1), (), 4.0)
    core.tick(6.0)
    assert said(core) == [m.Ack(1)]


# ---------------------------------------------------------------------------------------------------------- patience


@pytest.mark.parametrize(("durable", "patience"), [(False, BROKEN_S), (True, GONE_S)])
def test_a_connection_that_stays_broken_is_loss(durable, patience):
    core = make(durable=durable)
    core.sinks = {1: (sink := Sink())}
    core.broken(10.0)
    core.broken(11.0)
    assert core.is_broken
    assert core.deadline() == 10.0 + patience
    core.tick(10.0 + patience - 0.1)
    assert core.lost is None
    core.tick(10.0 + patience)
    assert isinstance(sink.error, ControllerLost)
    assert "the connection to the controller of cluster c broke" in str(sink.error)


def test_a_client_that_was_stopped_while_its_connection_was_broken_has_its_time_again():
    core = make(durable=True)
    core.broken(10.0)
    core.tick(3600.0)
    assert core.lost is None
    core.tick(3600.0 + GONE_S)
    assert core.lost is not None


def test_a_connection_without_a_welcome_is_broken_still(core):
    core.broken(10.0)
    core.connected(11.0)
    core.tick(10.0 + GONE_S - 0.1)
    assert core.is_broken
    assert core.lost is None
    core.tick(10.0 + GONE_S)
    assert core.lost is not None


def test_a_welcome_mends_it(core):
    interrupt(core)
    core.receive(welcome(), (), 12.0)
    assert not core.is_broken
    core.tick(12.0 + QUIET_S - 0.1)
    assert core.lost is None
    assert core.deadline() == 12.0 + QUIET_S


def test_nobody_is_asked_whether_he_is_there_while_it_is_broken(core):
    core.broken(1.0)
    core.tick(1.0 + 2 * QUIET_S)
    core.connected(20.0)
    assert [type(message) for message in said(core)] == [m.ClientHello]


def test_a_cluster_that_has_ended_is_lost_at_once(core):
    core.sinks = {1: (sink := Sink())}
    future = ask(core, m.WaitEngines(1))
    core.broken(10.0)
    core.gone()
    assert str(sink.error) == "cluster c has ended"
    with pytest.raises(ControllerLost):
        future.result(0)


# ---------------------------------------------------------------------------------------------------------- take-overs


def test_another_controller_is_mentioned_once(core):
    interrupt(core)
    core.receive(welcome(pid=10), (), 12.0)
    assert core.interrupted == "another controller of cluster c has taken over; nothing is lost"
    core.interrupted = ""
    interrupt(core, 20.0)
    core.receive(welcome(pid=10), (), 22.0)
    assert core.interrupted == ""
    assert core.controller_pid == 10


def test_the_same_controller_again_is_not_mentioned(core):
    interrupt(core)
    core.receive(welcome(), (), 12.0)
    assert core.interrupted == ""


def test_a_controller_that_knows_us_by_another_number_does_not_know_us(core):
    core.sinks = {1: (sink := Sink())}
    interrupt(core)
    core.receive(welcome(client=4, pid=10), (), 12.0)
    assert isinstance(sink.error, ControllerLost)
    assert "restarted" in str(sink.error)


def test_a_controller_that_refuses_us_has_lost_our_tasks(core):
    core.sinks = {1: (sink := Sink())}
    interrupt(core)
    core.receive(m.Refused("it does not know this client"), (), 12.0)
    assert isinstance(sink.error, ControllerLost)
    assert "does not know this client" in str(sink.error)


def test_the_engines_are_those_of_the_welcome(core):
    interrupt(core)
    engines = [m.EngineInfo(1, 1, "away"), m.EngineInfo(2, 4, "dead")]
    core.receive(m.Welcome(3, "c", 9, engines), (), 12.0)
    assert list(core.engines) == [1]


def test_nothing_is_said_to_a_controller_that_is_lost(core):
    core.gone()
    core.connected(1.0)
    core.receive(m.Resume(), (), 1.0)
    assert said(core) == []
