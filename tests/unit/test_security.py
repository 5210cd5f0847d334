"""Keys and who is let in."""

import pytest
import zmq
from enginery import security, transport
from enginery.config import Connection
from zmq.utils import z85

WAIT_MS = 5000


@pytest.fixture(scope="module")
def keys():
    return security.new_keys()


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def question(key, *, version=b"1.0", domain=transport.ZAP_DOMAIN, mechanism=b"CURVE"):
    return [version, b"7", domain, b"127.0.0.1", b"", mechanism, z85.decode(key.encode())]


@pytest.fixture
def handler(context, keys):
    handler = security.ZapHandler(context, {keys.client.public: b"client", keys.engine.public: b"engine"})
    yield handler
    handler.close()


def test_known_keys_have_their_roles(handler, keys):
    assert handler.answer(question(keys.client.public)) == [b"1.0", b"7", b"200", b"OK", b"client", b""]
    assert handler.answer(question(keys.engine.public))[4] == b"engine"
    assert handler.refused == 0


def test_everything_else_is_refused(handler, keys):
    good = keys.client.public
    bad = [
        question(security.new_key_pair().public),
        question(keys.server.public),
        question(good, mechanism=b"NULL"),
        question(good, mechanism=b"PLAIN"),
        question(good, domain=b"other"),
        question(good, version=b"2.0"),
        question(good)[:-1],
        [*question(good), b"more"],
        [b"1.0"],
        [],
    ]
    for request in bad:
        answer = handler.answer(request)
        assert answer[2] == b"400", request
        assert answer[4] == b""
    assert handler.refused == len(bad)


def test_files_hold_what_each_role_needs_and_no_more(keys):
    config = security.controller_config("c", "tcp://127.0.0.1:0", keys)
    client, engine = security.connections("c", "tcp://127.0.0.1:5", keys, "host")
    assert config.server_secret == keys.server.secret
    assert client.server_key == engine.server_key == keys.server.public
    assert client.secret_key == keys.client.secret
    assert engine.secret_key == keys.engine.secret
    secrets = {keys.server.secret, keys.client.secret, keys.engine.secret}
    assert secrets & {*map(str, _values(client))} == {keys.client.secret}
    assert secrets & {*map(str, _values(config))} == {keys.server.secret}
    assert security.known_keys(config) == {keys.client.public: b"client", keys.engine.public: b"engine"}


def _values(struct):
    return [getattr(struct, name) for name in struct.__struct_fields__]


def test_a_unix_socket_has_no_keys():
    config = security.controller_config("c", "ipc:///x", None)
    client, engine = security.connections("c", "ipc:///x", None, "host")
    assert config.server_secret is None
    assert client == engine == Connection(cluster="c", address="ipc:///x", host="host")
    assert security.known_keys(config) == {}


def serve(router, handler, until_ms=WAIT_MS):
    """Answer the handler's questions until the router gets something; None if it does not."""
    poller = zmq.Poller()
    poller.register(handler.socket, zmq.POLLIN)
    poller.register(router, zmq.POLLIN)
    while True:
        ready = dict(poller.poll(until_ms))
        if handler.socket in ready:
            handler.drain()
        if router in ready:
            return router.recv_multipart(copy=False)
        if not ready:
            return None


def test_on_real_sockets(context, keys, handler):
    router, address = transport.open_router(context, security.controller_config("c", "tcp://127.0.0.1:0", keys))
    client, engine = security.connections("c", address, keys, "")
    stranger_keys = security.new_keys()._replace(server=keys.server)
    stranger, _ = security.connections("c", address, stranger_keys, "")
    plain = Connection(cluster="c", address=address)
    dealers = []
    try:
        for connection, role in ((client, "client"), (engine, "engine")):
            dealer = transport.open_dealer(context, connection, role.encode())
            dealers.append(dealer)
            dealer.send(b"hello")
            frames = serve(router, handler)
            assert frames[0].get("User-Id") == role
            assert frames[1].bytes == b"hello"
        for connection in (stranger, plain):
            dealer = transport.open_dealer(context, connection, b"x")
            dealers.append(dealer)
            dealer.send(b"let me in")
        assert serve(router, handler, until_ms=300) is None
        assert handler.refused >= 1
    finally:
        for dealer in dealers:
            dealer.close(linger=0)
        router.close(linger=0)
