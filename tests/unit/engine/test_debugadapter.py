"""Who is let in by the debugger's adapter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from enginery.engine.debugadapter import guarded, is_ours


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connect(address, *, user: int = os.getuid()) -> subprocess.Popen:
    """Have a process of that user connect, and stay until something comes."""
    code = f"import os, socket; os.setuid({user}); s = socket.socket(); s.connect({address!r}); s.recv(1)"
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_process_of_this_user_is_ours(listener):
    with connect(listener.getsockname()) as process:
        connection, _ = listener.accept()
        assert is_ours(connection)
        connection.close()
    assert process.returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of somebody else")
def test_a_process_of_somebody_else_is_not(listener):
    with connect(listener.getsockname(), user=65534):
        connection, _ = listener.accept()
        assert not is_ours(connection)
        connection.close()


def test_a_connection_that_was_closed_is_nobodys(listener):
    socket.create_connection(listener.getsockname()).close()
    connection, _ = listener.accept()
    assert connection.recv(1) == b""
    assert not is_ours(connection)
    connection.close()


def test_whoever_is_not_let_in_is_hung_up_on(listener, monkeypatch):
    handled = []

    def serve(name, handle, host):
        handle(listener.accept()[0])
        return name, host

    monkeypatch.setattr("enginery.engine.debugadapter.is_ours", lambda _: False)
    with socket.create_connection(listener.getsockname()) as client:
        assert guarded(serve)("Client", handled.append, host="h") == ("Client", "h")
        assert client.recv(1) == b""
    assert handled == []
    monkeypatch.setattr("enginery.engine.debugadapter.is_ours", lambda _: True)
    with socket.create_connection(listener.getsockname()):
        guarded(serve)("Client", handled.append, host="h")
    assert len(handled) == 1
    handled[0].close()
