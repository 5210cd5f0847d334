"""How much may be under way, and who waits for room."""

import threading
import time

import pytest
from enginery.client.connection.core import Core, Entry
from enginery.client.connection.gate import Gate
from enginery.client.connection.room import ENTRY_BYTES
from enginery.errors import ControllerLost
from enginery.wire import messages as m

from helpers import wait_until

ROOM = 100_000
FUNCTION = m.Function(b"f" * 16, b"pickle")


def entry(n, payload=b"p", frames=()):
    return Entry(m.Task(n, FUNCTION.digest, payload, len(frames)), FUNCTION, m.Options(), frames)


@pytest.fixture
def core():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.take()
    core.receive(m.Welcome(3, "c", 9, [], room=ROOM), (), 0.0)
    return core


def post(core, gate, *entries):
    """Put tasks into the outbox as a link does."""
    for one in entries:
        if one.frames or len(one.task.payload) > 1000:
            gate.posted(one)
        core.outbox.append(one)
        if len(core.outbox) > core.room.most:
            core.room.full = True


def test_it_is_full_when_more_is_sent_than_the_controller_has_room_for_until_half_is_confirmed(core):
    gate = Gate(core)
    post(core, gate, entry(1, bytes(ROOM // 2)))
    assert not core.room.full
    post(core, gate, entry(2, b"p", [memoryview(bytes(ROOM // 2))]))
    assert core.room.full
    assert core.room.is_over()
    weight = core.room.under_way()
    messages = [message for message, _ in core.take()]
    assert core.room.under_way() == pytest.approx(weight, abs=2 * ENTRY_BYTES)
    core.receive(m.Ack(messages[-1].seq), (), 0.0)
    assert core.room.under_way() == 0
    assert not core.room.is_over()


def test_many_small_tasks_that_cannot_be_sent_fill_it_too(core):
    gate = Gate(core)
    post(core, gate, *map(entry, range(ROOM // ENTRY_BYTES + 1)))
    assert core.room.full
    core.take()
    assert core.room.is_over()


def test_the_controller_says_when_to_hold(core):
    core.receive(m.Hold(True), (), 0.0)
    assert core.room.full
    assert core.room.is_over()
    core.receive(m.Hold(False), (), 0.0)
    assert not core.room.is_over()


def test_a_controller_without_bounds_has_room_for_everything():
    core = Core(m.ClientHello(m.VERSION), 0.0)
    core.receive(m.Welcome(3, "c", 9, []), (), 0.0)
    post(core, Gate(core), entry(1, bytes(ROOM * 10)), *map(entry, range(2, 2000)))
    assert not core.room.full


def test_another_controller_says_anew_whether_to_hold(core):
    core.receive(m.Hold(True), (), 0.0)
    core.receive(m.Welcome(3, "c", 10, [], room=ROOM), (), 0.0)
    assert not core.room.is_over()


def test_threads_wait_at_the_gate_until_there_is_room(core):
    gate = Gate(core)
    core.receive(m.Hold(True), (), 0.0)
    through = []
    threads = [threading.Thread(target=lambda: through.append(gate.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    gate.look()
    assert not through
    core.receive(m.Hold(False), (), 0.0)
    gate.look()
    wait_until(lambda: len(through) == 4, "all went on")
    assert not core.room.full


def test_whoever_waits_at_the_gate_is_let_go_when_nothing_will_come_any_more(core):
    gate = Gate(core)
    core.receive(m.Hold(True), (), 0.0)
    thread = threading.Thread(target=gate.wait)
    thread.start()
    core.lose(ControllerLost("gone"))
    gate.look()
    thread.join(20)
    assert not thread.is_alive()
