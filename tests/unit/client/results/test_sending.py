"""When the memory of arguments may be used again."""

from __future__ import annotations

import numpy as np
import pytest
from enginery.client.connection.core import Core, Entry
from enginery.client.results.sending import Sent
from enginery.errors import ControllerLost
from enginery.wire import messages as m

import helpers

FUNCTION = m.Function(b"f1", b"p")
ARRAY = np.zeros(1000)


@pytest.fixture
def core():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    core.receive(m.Welcome(1, "c", 1, []), (), 0.0)
    return core


class Nobody:
    def _accept(self, reply, frames, now):
        return True

    def _add_output(self, record):
        pass

    def _fail(self, error):
        self.error = error


def submit(core, task, *, watched=True):
    sent = core.sends.add(task, lambda: None) if watched else None
    core.sinks[task] = Nobody()
    core.outbox.append(Entry(m.Task(task, b"f1", b"", 1), FUNCTION, m.Options(), [memoryview(b"x" * 5000)]))
    return sent


def test_it_is_sent_when_the_controller_has_the_message(core):
    first = submit(core, 1)
    submit(core, 2, watched=False)
    core.take()
    second = submit(core, 3)
    core.take()
    core.receive(m.Ack(1), (), 0.0)
    assert (first.done(), second.done()) == (True, False)
    core.receive(m.Results([], ack=2), (), 0.0)
    assert second.done()
    assert not core.sends.numbered
    assert not core.sends.waiting


def test_not_before_it_is_part_of_a_message(core):
    sent = submit(core, 1)
    core.receive(m.Ack(5), (), 0.0)
    assert not sent.done()


def test_after_a_break_what_the_controller_has_is_sent_and_what_it_lacks_is_not(core):
    first = submit(core, 1)
    core.take()
    second = submit(core, 2)
    core.take()
    core.broken(1.0)
    core.connected(2.0)
    core.take()
    core.receive(m.Welcome(1, "c", 1, [], have=1), (), 2.0)
    assert (first.done(), second.done()) == (True, False)
    again = [message for message, frames in core.take() if isinstance(message, m.Submit) and frames]
    assert [task.id for message in again for task in message.tasks] == [2]
    assert not second.done()
    core.receive(m.Ack(2), (), 2.0)
    assert second.done()


def test_when_the_controller_is_lost_nothing_is_sent_any_more(core):
    numbered = submit(core, 1)
    core.take()
    waiting = submit(core, 2)
    core.lose(ControllerLost("gone"))
    for sent in (numbered, waiting):
        with pytest.raises(ControllerLost, match="gone"):
            sent.result(1)


def test_sent_waits():
    sent = Sent(lambda: None)
    with pytest.raises(TimeoutError):
        sent.result(0.01)
    sent.settle()
    assert sent.result() is None


@pytest.mark.parametrize("kind", ["direct", "balanced", "map", "direct map", "scatter", "push"])
def test_a_tracked_call_knows_when_its_arguments_are_sent(fake, client, kind):
    fake.deaf = True
    direct, balanced = client[:].set_flags(track=True), client.load_balanced_view().set_flags(track=True)
    result = {
        "direct": lambda: direct.apply_async(len, ARRAY),
        "balanced": lambda: balanced.apply_async(len, ARRAY),
        "map": lambda: balanced.map_async(len, [ARRAY] * 3),
        "direct map": lambda: direct.map_async(len, [ARRAY] * 3),
        "scatter": lambda: direct.scatter("x", np.zeros(4000)),
        "push": lambda: direct.push({"x": ARRAY}),
    }[kind]()
    assert not result.sent
    with pytest.raises(TimeoutError, match=r"not sent after 0.01 s"):
        result.wait_for_send(0.01)
    helpers.wait_until(lambda: not client._link.core.sends.waiting, "all of it is in messages")
    fake.say(m.Ack(100))  # far beyond what was sent: all there is
    result.wait_for_send(10)
    assert result.sent


def test_small_arguments_are_copied_at_the_call(fake, client):
    fake.deaf = True
    for result in (client.submit(abs, 1), client[:].set_flags(track=True).apply_async(sum, [1, 2])):
        assert result.sent
        result.wait_for_send()


def test_without_track_it_is_not_known(client):
    for result in (client.submit(len, ARRAY), client[:].apply_async(len, ARRAY), client[:].scatter("x", [ARRAY] * 4)):
        with pytest.raises(ValueError, match="track=True"):
            result.sent  # noqa: B018
        with pytest.raises(ValueError, match="track=True"):
            result.wait_for_send()


def test_a_closed_client_sends_nothing_any_more(fake, client):
    fake.deaf = True
    result = client.load_balanced_view().set_flags(track=True).apply_async(len, ARRAY)
    client.close()
    with pytest.raises(ControllerLost):
        result.wait_for_send(10)
    assert not result.sent
