"""Where to listen."""

import socket

import pytest
from enginery.cluster import listen
from enginery.errors import ClusterError


@pytest.mark.parametrize(
    ("text", "bind", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1:0", "127.0.0.1"),
        ("127.0.0.1:8786", "127.0.0.1:8786", "127.0.0.1"),
        (" localhost:80 ", "127.0.0.1:80", "127.0.0.1"),
        ("[::1]:9", "[::1]:9", "[::1]"),
        ("[::1]", "[::1]:0", "[::1]"),
        ("::1", "[::1]:0", "[::1]"),
    ],
)
def test_places(text, bind, reachable, monkeypatch):
    names = {"localhost": "127.0.0.1"}

    def look_up(host, port, **_):
        return [(0, 0, 0, "", (names.get(host, host), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert listen.parse(text) == (bind, reachable)


@pytest.mark.parametrize(("text", "bind"), [("0.0.0.0", "0.0.0.0:0"), ("*:5", "0.0.0.0:5"), ("::", "[::]:0")])
def test_everywhere_is_reached_by_a_real_address(text, bind):
    place = listen.parse(text)
    assert place.bind == bind
    assert place.reachable not in ("0.0.0.0", "::", "*", "")


@pytest.mark.parametrize("text", ["", ":80", "host:", "host:port", "host:70000", "[::1", "[::1]80"])
def test_nonsense(text):
    with pytest.raises(ClusterError, match="write HOST or HOST:PORT"):
        listen.parse(text)


def test_an_unknown_host(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ClusterError, match="'nowhere' is not a host of this network"):
        listen.parse("nowhere")
