"""Where a host's store can be reached."""

from types import SimpleNamespace

import pytest
from enginery.config import Connection
from enginery.nanny.store import reach
from enginery.security import new_keys
from enginery.wire.objects import Source


@pytest.fixture
def store():
    store = SimpleNamespace(source=Source(bytes(8), ""), puller=None)
    yield store
    if store.puller is not None:
        store.puller.close()


def test_the_heads_store_listens_where_the_controller_does_and_is_called_what_others_call_that(store):
    reach.as_head(store, "127.0.0.1:8786", "head.example", new_keys(), print)
    assert store.source.address.startswith("tcp://head.example:")
    assert not store.source.address.endswith(":8786")
    assert len(store.source.key) == 40
    assert store.puller is not None


def test_another_hosts_store_listens_where_it_reaches_the_controller(store):
    keys = new_keys().engine
    connection = Connection(
        cluster="x", address="tcp://127.0.0.1:9", public_key=keys.public, secret_key=keys.secret, server_key="k"
    )
    reach.as_guest(store, connection, print)
    assert store.source.address.startswith("tcp://127.0.0.1:")
    assert store.puller is not None


def test_on_one_host_there_are_no_others(store):
    reach.as_guest(store, Connection(cluster="x", address="ipc:///tmp/x"), print)
    assert store.source == Source(bytes(8), "")
    assert store.puller is None


def test_without_keys_nobody_is_served(store):
    reach.as_guest(store, Connection(cluster="x", address="tcp://127.0.0.1:9"), print)
    assert store.puller is None


def test_where_it_cannot_listen_it_serves_nobody(store):
    said = []
    reach.as_head(store, "192.0.2.1:0", None, new_keys(), said.append)
    assert store.puller is None
    assert "this host cannot serve its objects to others" in said[0]
