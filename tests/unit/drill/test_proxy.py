"""A wire that can be cut, between real sockets."""

import contextlib
import os
import socket
import threading

import pytest
from enginery.drill.proxy import Place, Proxy

from helpers import wait_until


class Echo:
    """A server that answers with what it hears, on a Unix socket or a port."""

    def __init__(self, address):
        self.listener = Place.of(address).listen()
        self.listener.setblocking(True)
        name = self.listener.getsockname()
        self.address = f"ipc://{name}" if isinstance(name, str) else f"tcp://127.0.0.1:{name[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def answer(self, connection):
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # closing alone does not end a blocked accept()
        self.listener.close()


@pytest.fixture(params=["ipc", "tcp"])
def wire(request, tmp_path):
    """A proxy to an echo."""
    here, there = (
        (f"ipc://{tmp_path}/near", f"ipc://{tmp_path}/far")
        if request.param == "ipc"
        else ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    )
    echo = Echo(there)
    proxy = Proxy(here, echo.address)
    yield proxy
    proxy.close()
    echo.close()


def connect(proxy):
    place = Place.of(proxy.address)
    client = socket.socket(place.family)
    client.settimeout(10)
    try:
        client.connect(place.name)
    except OSError:
        client.close()
        raise
    return client


def hear(client, nbytes):
    data = b""
    while len(data) < nbytes:
        part = client.recv(1 << 16)
        assert part, f"the connection ended after {len(data)} bytes"
        data += part
    return data


def test_bytes_pass_both_ways_in_order(wire):
    content = os.urandom(5_000_000)  # more than all buffers hold
    with connect(wire) as client:
        sender = threading.Thread(target=client.sendall, args=(content,))
        sender.start()
        assert hear(client, len(content)) == content
        sender.join()


def test_an_end_is_passed_on_after_what_was_said_before(wire):
    with connect(wire) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert hear(client, 10) == b"last words"
        assert client.recv(1) == b""
    wait_until(lambda: wire.connections == 0, "the proxy lets go of the connection")


def test_a_cut_breaks_connections_and_prevents_new_ones_until_it_is_healed(wire):
    with connect(wire) as client:
        client.sendall(b"x")
        hear(client, 1)
        wire.cut()
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    with pytest.raises(OSError):
        connect(wire)
    wire.heal()
    with connect(wire) as client:
        client.sendall(b"again")
        assert hear(client, 5) == b"again"


def test_a_freeze_keeps_connections_and_loses_nothing(wire):
    with connect(wire) as client:
        client.sendall(b"before")
        hear(client, 6)
        wire.freeze()
        client.sendall(b"after")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(wire) as other:  # the kernel takes it; nobody answers yet
            other.sendall(b"other")
            wire.heal()
            client.settimeout(10)
            assert hear(client, 5) == b"after"
            assert hear(other, 5) == b"other"


def test_a_cut_of_what_is_frozen(wire):
    with connect(wire) as client:
        client.sendall(b"x")
        hear(client, 1)
        wire.freeze()
        wire.cut()
        wire.heal()
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    with connect(wire) as client:
        client.sendall(b"again")
        assert hear(client, 5) == b"again"


def test_without_a_controller_a_connection_ends_at_once(tmp_path):
    proxy = Proxy(f"ipc://{tmp_path}/near", f"ipc://{tmp_path}/nobody")
    with connect(proxy) as client, contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""
    proxy.close()


def test_all_may_be_done_twice_and_closing_leaves_nothing(tmp_path):
    threads = set(threading.enumerate())
    proxy = Proxy(f"ipc://{tmp_path}/near", f"ipc://{tmp_path}/far")
    for act in (proxy.cut, proxy.freeze, proxy.heal, proxy.close):
        act()
        act()
    assert not set(threading.enumerate()) - threads
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["udp://127.0.0.1:5", "tcp://127.0.0.1", "nonsense"])
def test_addresses_of_no_socket(address):
    with pytest.raises(ValueError, match="write ipc://PATH or tcp://HOST:PORT"):
        Place.of(address)
