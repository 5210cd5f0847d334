"""What there is of objects, as clients are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginery import holders
from enginery.controller import stock
from enginery.wire import messages as m
from enginery.wire.objects import InStore, show_object
from enginery.wire.stock import Hold, Place, Stock, StoreRecord, read_stock

from unit.controller.hosts import Hosts

if TYPE_CHECKING:
    from unit.controller.bench import Bench


def seen(hosts: Hosts, n: int, *objects: InStore, memory: int = 0, disk: int = 0, limit: int = 1000) -> None:
    """A store answers."""
    nanny = hosts.bench.nannies[n]
    nanny.say(m.StoreSeen(nanny.take(m.StoreQuery).request, list(objects), memory, disk, limit))


def ask(hosts: Hosts, objects: list[bytes] | None = None) -> int:
    return hosts.bench.clients[0].ask(m.ObjectsQuery, objects)


def answer(hosts: Hosts, request: int) -> Stock:
    assert not hosts.bench.core.state.inquiries
    return read_stock(hosts.bench.clients[0].answer(request))


def test_without_stores_there_is_nothing(bench: Bench):
    bench.start(engines=1)
    hosts = Hosts(bench, 0, clients=0)
    assert answer(hosts, ask(hosts)) == Stock([], [])


def test_an_object_and_all_who_hold_it(bench: Bench):
    hosts = Hosts(bench, 2, clients=2)
    info = hosts.object(0)
    bench.clients[1].say(m.Put([info]))
    bench.clients[1].say(m.Put([info]))
    ids = hosts.submit(info, label="fit", targets=(1,), ordered=True)
    hosts.pulls(1)
    bench.engines[1].given()
    request = ask(hosts)
    seen(hosts, 1, InStore(info.id, info.nbytes, "coming"))
    assert not bench.clients[0].inbox, "not all have answered"
    seen(hosts, 0, InStore(info.id, info.nbytes, "memory", [0], [812]), memory=5_000_000)
    there = answer(hosts, request)
    (record,) = there.objects
    assert (record.id, record.nbytes, record.made_at) == (info.id, info.nbytes, "host0")
    assert record.places == [Place("host0", "memory", [0], [812]), Place("host1", "coming")]
    assert record.handles == [Hold(1, "c0", 7, 1), Hold(2, "c1", 7, 2)]
    assert record.tasks == [(ids[0], "fit")]
    assert there.stores == [
        StoreRecord("host0", 1, 5_000_000, True, 5_000_000, 0, 1000),
        StoreRecord("host1", 0, 0, True, 0, 0, 1000),
    ]
    assert "task 1-0 'fit' has not ended" in holders.explain(record)


def test_a_store_that_does_not_answer(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    request = ask(hosts)
    seen(hosts, 1)
    bench.nannies[0].take(m.StoreQuery)
    bench.advance(stock.ANSWER_S + 0.1)
    there = answer(hosts, request)
    assert there.objects[0].places == [Place("host0", "there")]
    assert [store.answered for store in there.stores] == [False, True]
    bench.nannies[0].say(m.StoreSeen(1, []))  # too late
    assert info.id in bench.core.state.objects.entries


def test_a_store_that_is_away_is_not_waited_for(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    hosts.object(0)
    bench.nannies[0].lose_connection()
    request = ask(hosts)
    seen(hosts, 1)
    assert answer(hosts, request).objects[0].places == [Place("host0", "there")]


def test_a_store_that_is_lost_meanwhile(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    hosts.object(0)
    request = ask(hosts)
    seen(hosts, 1)
    hosts.lose(0)
    bench.nannies[0].take(m.StoreQuery)
    (record,) = answer(hosts, request).objects
    assert holders.where(record) == "lost: no host has it any more"


def test_what_is_only_mapped_any_more(bench: Bench):
    hosts = Hosts(bench, 1)
    info = hosts.object(0, put=False)
    request = ask(hosts)
    seen(hosts, 0, InStore(info.id, info.nbytes, "mapped", [0]))
    (record,) = answer(hosts, request).objects
    assert holders.reasons(record) == ["engine 0 has it mapped"]


def test_what_is_about_to_go(bench: Bench):
    """Stores are asked before they have heard of what was dropped in the same turn."""
    hosts = Hosts(bench, 1)
    free, mapped = hosts.object(0), hosts.object(0)
    requests = []
    bench.burst(lambda: requests.append(ask(hosts)), lambda: hosts.release(free, mapped))
    seen(hosts, 0, InStore(free.id, 5, "memory"), InStore(mapped.id, 5, "memory", [], [812]))
    (record,) = answer(hosts, requests[0]).objects
    assert (record.id, record.places) == (mapped.id, [Place("host0", "mapped", [], [812])])
    assert len(hosts.drops(0)) == 2


def test_only_what_was_asked_for(bench: Bench):
    hosts = Hosts(bench, 1)
    _, second = hosts.object(0), hosts.object(0)
    request = ask(hosts, [second.id, bytes(16)])
    seen(hosts, 0)
    assert [show_object(record.id) for record in answer(hosts, request).objects] == [show_object(second.id)]


def test_status(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    hosts.object(0, 7)
    hosts.object(0, 8)
    lost = hosts.object(1, 9)
    bench.nannies[1].say(m.Vanished([lost.id]))
    client = bench.clients[0]
    assert client.answer(client.ask(m.StatusQuery))["objects"] == {
        "count": 3,
        "nbytes": 24,
        "lost": 1,
        "hosts": [{"host": "host0", "count": 2, "nbytes": 15}, {"host": "host1", "count": 0, "nbytes": 0}],
    }
