"""The task socket: what is kept until the controller has it, and the order in which it is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq
from enginery import transport
from enginery.config import Connection, ControllerConfig
from enginery.engine.link import TaskLink
from enginery.engine.outbox import Outbox
from enginery.wire import messages as m
from enginery.wire.codec import decode_to_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

PEER = b"e0.1"


class Output:
    """Stands for `OutputBuffer`."""

    def __init__(self):
        self.records = []

    @property
    def pending(self):
        return bool(self.records)

    def take(self):
        records, self.records = self.records, []
        return records


class Bench:
    """A link to a controller that is a bare socket."""

    def __init__(self, directory):
        self.context = zmq.Context()
        address = f"ipc://{directory}/s"
        self.router, _ = transport.open_router(self.context, ControllerConfig(cluster="c", address=address))
        dealer = transport.open_dealer(self.context, Connection(cluster="c", address=address), PEER)
        self.outbox, self.output, self.handled = Outbox(), Output(), []
        self.link = TaskLink(dealer, self.outbox, self.output, lambda message, _: self.handled.append(message))
        self.link.send(m.ControlHello(0, 1))
        assert self.heard() == [m.ControlHello(0, 1)]

    def result(self, id_, *frames):
        self.outbox.add(m.Result(id_, 0, b"", len(frames)), frames)

    def heard(self):
        """Return what the controller was sent, up to now."""
        self.link.send(m.Ping())
        messages = []
        while True:
            assert self.router.poll(10_000), "the message that was sent comes"
            _, header, *self.frames = self.router.recv_multipart()
            message = decode_to_controller(header)
            if isinstance(message, m.Ping):
                return messages
            messages.append(message)

    def resume(self, have, held):
        with self.link.lock:
            self.link.resume(have, held)

    def close(self):
        self.link.close(0)
        self.router.close(linger=0)
        self.context.term()


@pytest.fixture
def bench(tmp_path_factory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("l"))
    yield bench
    bench.close()


def shape(messages):
    return [(type(message).__name__, getattr(message, "seq", None)) for message in messages]


def test_results_and_output_are_numbered_in_the_order_they_are_sent(bench):
    bench.result(1)
    bench.output.records = [m.Output(1, "stdout", "hi")]
    bench.link.flush()
    bench.result(2)
    bench.link.flush()
    assert shape(bench.heard()) == [("Outputs", 1), ("Done", 2), ("Done", 3)]


def test_what_has_no_number_goes_after_what_is_pending(bench):
    bench.result(1)
    bench.link.send(m.Started(2))
    assert shape(bench.heard()) == [("Done", 1), ("Started", None)]


def test_what_the_controller_misses_is_sent_again_then_what_is_pending_then_what_is_held(bench):
    # Given three results sent, of which the controller has one, and one that is ready
    for id_ in (1, 2, 3):
        bench.result(id_)
        bench.link.flush()
    bench.heard()
    bench.result(4)
    bench.output.records = [m.Output(4, "stdout", "hi")]
    # When the controller is there again
    bench.resume(1, lambda: m.Holding(9, [5], 4))
    # Then results are before what is held
    assert shape(bench.heard()) == [("Done", 2), ("Done", 3), ("Outputs", 4), ("Done", 5), ("Holding", None)]


def test_what_ends_while_it_is_looked_what_is_held_is_sent_before(bench):
    """What is held is determined first: a call that it does not name has a result that comes before it."""

    def look():
        held = m.Holding(9, [])
        bench.result(7)  # by the main thread, which does not hold the lock while it runs calls
        return held

    bench.resume(0, look)
    assert shape(bench.heard()) == [("Done", 1), ("Holding", None)]


def test_what_has_come_is_not_sent_again(bench):
    for id_ in (1, 2, 3):
        bench.result(id_)
        bench.link.flush()
    bench.heard()
    with bench.link.lock:
        bench.link.acked(2)
    bench.resume(0, lambda: m.Holding(9, []))
    assert shape(bench.heard()) == [("Done", 3), ("Holding", None)]
    bench.resume(3, lambda: m.Holding(9, []))
    assert shape(bench.heard()) == [("Holding", None)]


def test_frames_are_sent_again_too(bench):
    bench.result(1, b"frame", b"another")
    bench.link.flush()
    bench.router.recv_multipart()
    with bench.link.lock:
        bench.link.resume(0, lambda: m.Holding(9, []))
    _, header, *frames = bench.router.recv_multipart()
    assert [result.id for result in decode_to_controller(header).results] == [1]
    assert frames == [b"frame", b"another"]


def test_what_comes_is_handled_in_order(bench):
    for message in (m.EngineWelcome(3), m.Run([], [], 2), m.Ack(4)):
        transport.send_to(bench.router, PEER, message)
    while len(bench.handled) < 3:
        assert bench.link._socket.poll(10_000), "it comes"
        bench.link.pump()
    assert bench.handled == [m.EngineWelcome(3), m.Run([], [], 2), m.Ack(4)]
