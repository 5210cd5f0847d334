from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from enginery.client.guests.daskcluster import LOOPBACK, DaskCluster, own_address
from enginery.daskworkers import STOPPED_S
from enginery.wire.messages import EngineInfo


def host(*hosts, safe=True, address="tcp://127.0.0.1:5000"):
    engines = {i: EngineInfo(i, 0, "ready", 1, name) for i, name in enumerate(hosts)}
    link = SimpleNamespace(core=SimpleNamespace(engines=engines), connection=SimpleNamespace(address=address))
    view = SimpleNamespace(targets=list(engines))
    return DaskCluster._host(SimpleNamespace(_view=view), SimpleNamespace(_link=link), safe=safe)


def test_where_all_engines_are_here_only_the_loopback_listens():
    here = os.uname().nodename
    assert host(here, here, address="ipc:///tmp/x") == LOOPBACK
    assert host(here, safe=False) == LOOPBACK


def test_engines_elsewhere_are_told_the_address_of_the_interface_to_them():
    assert host(os.uname().nodename, "far", address="tcp://127.0.0.2:5000") == own_address("tcp://127.0.0.2:5000")


def test_engines_elsewhere_need_security():
    with pytest.raises(ValueError, match=r"one host only, and there are engines on far, near: anybody on the network"):
        host("near", "far", "far", safe=False)


def test_own_address_is_one_of_this_host():
    assert own_address("tcp://127.0.0.1:5000") == "127.0.0.1"
    assert own_address("tcp://localhost:5000") in ("127.0.0.1", "::1")


def test_the_end_does_not_wait_for_ever_for_an_engine_that_is_busy():
    waited = []
    busy = SimpleNamespace(wait=waited.append)
    cluster = object.__new__(DaskCluster)
    cluster._client = None
    cluster._scheduler = "tls://here"
    cluster._cluster = SimpleNamespace(close=lambda: None)
    client = SimpleNamespace(
        _link=SimpleNamespace(core=SimpleNamespace(engines={0: None})),
        direct_view=lambda _targets: SimpleNamespace(apply_async=lambda *_args: busy),
    )
    cluster._view = SimpleNamespace(targets=[0], client=client)
    cluster.close()
    assert waited == [STOPPED_S]
