"""A DEALER's connection that breaks and is there again, as its monitor tells it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import zmq
from enginery import transport
from enginery.config import Connection, ControllerConfig
from enginery.transport import Monitor
from enginery.wire import messages as m

import helpers

if TYPE_CHECKING:
    from collections.abc import Iterator

PEER = b"c1"


class Bench:
    """A DEALER with its monitor, and a ROUTER that comes and goes."""

    def __init__(self, address):
        self.context = zmq.Context()
        self.config = ControllerConfig(cluster="c", address=address)
        self.router = None
        if address.startswith("tcp:"):
            self.config = ControllerConfig(cluster="c", address=self.bind())
            self.unbind()  # it was for a port that is free
        self.dealer = transport.open_dealer(self.context, Connection(cluster="c", address=self.config.address), PEER)
        self.monitor = Monitor(self.dealer)

    def bind(self):
        self.router, address = transport.open_router(self.context, self.config)
        return address

    def unbind(self):
        self.router.close(linger=0)
        self.router = None
        if self.config.address.startswith("tcp:"):
            helpers.wait_until(self.is_free, "the port is free again")

    def is_free(self):
        port = int(self.config.address.rpartition(":")[2])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def wait(self):
        """Wait until the monitor's descriptor says that something has happened, as a loop would."""
        assert zmq.zmq_poll([(self.monitor.fd, zmq.POLLIN)], 10_000), "the descriptor wakes its watcher"

    def events(self, *expected):
        """Wait for exactly these events."""
        seen = []
        while len(seen) < len(expected):
            seen += self.monitor.events()
            if len(seen) < len(expected):
                self.wait()
        assert tuple(seen) == expected

    def close(self):
        self.monitor.close()
        self.dealer.close(linger=0)
        if self.router is not None:
            self.unbind()
        self.context.term()


@pytest.fixture(params=["ipc", "tcp"])
def bench(request, tmp_path_factory) -> Iterator[Bench]:
    address = "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path_factory.mktemp('m')}/s"
    bench = Bench(address)
    try:
        bench.bind()  # now: what happens before there is a monitor, it does not tell
        yield bench
    finally:
        bench.close()


def test_the_first_connection_is_there_and_has_not_come_back(bench):
    bench.events(Monitor.CONNECTED)
    assert bench.monitor.events() == []
    assert not bench.monitor.came_back()


def test_a_connection_breaks_and_comes_back_once(bench):
    bench.events(Monitor.CONNECTED)
    bench.unbind()
    bench.events(Monitor.BROKEN)
    bench.bind()
    bench.events(Monitor.CONNECTED)
    assert bench.monitor.events() == []


def test_came_back_is_said_once_for_each_time(bench):
    assert not bench.monitor.came_back()
    for _ in range(3):
        helpers.wait_until(lambda: hears(bench), "the peer is there")
        bench.monitor.came_back()
        bench.unbind()
        bench.wait()
        assert not bench.monitor.came_back(), "it has only broken"
        bench.bind()
        helpers.wait_until(bench.monitor.came_back, "it is back")
        assert not bench.monitor.came_back()


def hears(bench):
    """Return whether the router can send to the dealer."""
    try:
        transport.send_to(bench.router, PEER, m.Pong())
    except zmq.ZMQError:
        return False
    return True


def test_a_break_that_is_seen_before_the_return_counts(bench):
    bench.events(Monitor.CONNECTED)
    bench.unbind()
    helpers.wait_until(lambda: not bench.monitor.came_back() and bench.monitor._was_broken, "the break is seen")
    bench.bind()
    helpers.wait_until(bench.monitor.came_back, "it is back")


def test_several_breaks_between_two_looks_are_one_return(bench):
    bench.events(Monitor.CONNECTED)
    for _ in range(2):
        bench.unbind()
        bench.bind()
        helpers.wait_until(lambda: hears(bench), "the peer is there again")
    helpers.wait_until(bench.monitor.came_back, "it is back")
    assert not bench.monitor.came_back()


def test_messages_go_both_ways_after_a_break(bench):
    bench.events(Monitor.CONNECTED)
    bench.unbind()
    bench.events(Monitor.BROKEN)
    bench.bind()
    bench.events(Monitor.CONNECTED)
    transport.send(bench.dealer, m.Ping())
    assert bench.router.poll(10_000)
    peer, *_ = bench.router.recv_multipart()
    assert peer == PEER
    transport.send_to(bench.router, PEER, m.Pong())
    assert bench.dealer.poll(10_000)


def test_a_peer_that_is_not_there_cannot_be_sent_to(bench):
    with pytest.raises(zmq.ZMQError):
        transport.send_to(bench.router, b"nobody", m.Pong())


def test_a_connection_that_has_not_been_made_yet(tmp_path_factory):
    bench = Bench(f"ipc://{tmp_path_factory.mktemp('m')}/s")
    assert bench.monitor.events() == []
    assert not bench.monitor.came_back()
    bench.bind()
    bench.events(Monitor.CONNECTED)
    bench.close()


def test_the_socket_file_of_one_that_was_killed_is_in_nobodys_way(tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    context = zmq.Context()
    router, address = transport.open_router(context, ControllerConfig(cluster="c", address=f"ipc://{path}"))
    assert address == f"ipc://{path}"
    router.close(linger=0)
    context.term()
