"""Which store brings an object from which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from enginery.controller import pulls
from enginery.wire import messages as m

from unit.controller.hosts import Hosts

if TYPE_CHECKING:
    from unit.controller.bench import Bench


GONE = "the host that had it is gone, or has lost it"


def nothing_is_on_its_way(bench: Bench) -> None:
    assert not bench.core.state.pulls.trees
    assert not bench.core.state.pulls.serving


def test_a_store_that_lacks_an_object_is_told_who_has_it(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    assert hosts.pulls(1) == [(info.id, [0])]
    hosts.pulled(1, info)
    assert bench.core.state.objects.entries[info.id].stores == {b"store000", b"store001"}
    nothing_is_on_its_way(bench)


def test_a_need_that_is_said_again_is_answered_again(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.need(1, info)
    assert hosts.pulls(1) == [(info.id, [0])] * 2
    hosts.pulled(1, info)
    nothing_is_on_its_way(bench)


def test_what_nobody_holds_is_lacking(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.release(info)
    assert hosts.drops(0) == [info.id]
    hosts.need(1, info)
    assert hosts.lacking(1) == "nobody held it, so it was freed"


def tree(hosts: Hosts, pullers: range) -> dict[int, int]:
    """Return from which host each of these was told to take the object."""
    return {n: hosts.pull(n)[0] for n in pullers}


def test_many_make_a_tree(bench: Bench):
    hosts = Hosts(bench, 16, engines=0)
    info = hosts.object(0)
    for n in range(1, 16):
        hosts.need(n, info)
    sources = tree(hosts, range(1, 16))
    served = [sum(source == n for source in sources.values()) for n in range(16)]
    assert max(served) == pulls.FAN
    depths = {0: 0}
    for n, source in sources.items():
        depths[n] = depths[source] + 1
    assert max(depths.values()) == 4, "no deeper than need be"
    for n in range(1, 16):
        hosts.pulled(n, info)
    nothing_is_on_its_way(bench)


def test_those_that_have_it_already_are_asked_before_those_that_are_getting_it(bench: Bench):
    hosts = Hosts(bench, 6, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pulled(1, info)
    for n in (2, 3, 4, 5):
        hosts.need(n, info)
    hosts.pull(1)
    assert sorted(tree(hosts, range(2, 6)).values()) == [0, 0, 1, 1]


def test_load_of_other_objects_counts(bench: Bench):
    hosts = Hosts(bench, 4, engines=0)
    first, second = hosts.object(0), hosts.object(1)
    for info, other in ((first, 1), (second, 0)):
        hosts.need(other, info)
        hosts.pulled(other, info)
    hosts.pulls(0), hosts.pulls(1)
    hosts.need(2, first)
    hosts.need(2, second)
    (one,), (two,) = (sources[:1] for _, sources in hosts.pulls(2))
    assert {one, two} == {0, 1}


def test_other_holders_are_named_too(bench: Bench):
    hosts = Hosts(bench, 3, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pulled(1, info)
    hosts.need(2, info)
    hosts.pulls(1)
    assert sorted(hosts.pull(2)) == [0, 1]


# ------------------------------------------------------------------------------------------------------ sources that go


def test_a_source_that_is_lost_is_replaced(bench: Bench):
    hosts = Hosts(bench, 4, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pulled(1, info)
    hosts.pulls(1)
    hosts.need(2, info)
    before = hosts.pull(2)[0]
    hosts.lose(before)
    assert hosts.pull(2) == [1 - before]


def test_a_source_of_several_that_is_lost_while_it_is_getting_it(bench: Bench):
    hosts = Hosts(bench, 8, engines=0)
    info = hosts.object(0)
    for n in range(1, 8):
        hosts.need(n, info)
    sources = tree(hosts, range(1, 8))
    children = [n for n, source in sources.items() if source == 1]
    assert len(children) == 2
    hosts.lose(1)
    for child in children:
        source = hosts.pull(child)[0]
        assert source not in (1, child)
        sources[child] = source
        above = child
        for _ in range(8):  # up to the one that has it
            above = sources.get(above, 0)
        assert above == 0, "they serve one another, and nobody has it"
    bench.nothing_else_was_said()


def test_an_object_that_vanished_at_its_source(bench: Bench):
    hosts = Hosts(bench, 3, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pulled(1, info)
    hosts.pulls(1)
    hosts.need(2, info)
    source = hosts.pull(2)[0]
    bench.nannies[source].say(m.Vanished([info.id]))
    assert hosts.pull(2) == [1 - source]
    bench.nannies[1 - source].say(m.Vanished([info.id]))
    assert hosts.lacking(2) == GONE
    nothing_is_on_its_way(bench)
    hosts.need(2, info)  # it is in the books, as lost
    assert hosts.lacking(2) == GONE
    nothing_is_on_its_way(bench)


def test_an_object_that_vanished_before_it_was_spoken_of(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0, put=False)
    bench.nannies[0].say(m.Vanished([info.id]))
    bench.clients[0].say(m.Put([info]))
    hosts.need(1, info)
    assert hosts.lacking(1) == GONE
    nothing_is_on_its_way(bench)


def test_all_sources_are_lost(bench: Bench):
    """Those that are getting it have nobody to get it from but one another."""
    hosts = Hosts(bench, 5, engines=0)
    info = hosts.object(0)
    for n in range(1, 5):
        hosts.need(n, info)
    tree(hosts, range(1, 5))
    hosts.lose(0)
    for n in range(1, 5):
        hosts.pulls(n)
        assert hosts.lacking(n) == GONE
    nothing_is_on_its_way(bench)


def test_sources_that_fail_are_tried_again_and_then_given_up(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    for _ in range(pulls.ROUNDS):
        assert hosts.pull(1) == [0]
        hosts.unpulled(1, info, "host0 does not answer")
        bench.advance(pulls.AGAIN_S)
    assert hosts.lacking(1) == "it cannot be had from host host0: host0 does not answer"
    nothing_is_on_its_way(bench)


def test_another_source_is_tried_at_once(bench: Bench):
    hosts = Hosts(bench, 4, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.need(2, info)
    hosts.need(3, info)
    sources = tree(hosts, range(1, 4))
    assert sources == {1: 0, 2: 0, 3: 1}
    hosts.unpulled(3, info)  # it was told of 1 and 0
    bench.advance(pulls.AGAIN_S / 2)
    assert hosts.pull(3) == [2, 0]


def test_a_holder_that_is_away_is_waited_for(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    bench.nannies[0].lose_connection()
    hosts.need(1, info)
    bench.advance(20.0)
    assert not hosts.pulls(1)
    nanny = bench.nannies[0]
    bench.unreachable.discard(nanny.name)
    nanny.say(m.Running(nanny.say_hello(), [], [], [info]))
    bench.advance(pulls.AGAIN_S)
    assert hosts.pull(1) == [0]


def test_a_holder_that_is_away_too_long(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    bench.nannies[0].lose_connection()
    hosts.need(1, info)
    bench.advance(61.0)
    assert hosts.lacking(1) == GONE
    nothing_is_on_its_way(bench)


def test_a_store_that_serves_nobody(bench: Bench):
    hosts = Hosts(bench, 2, engines=0, serving=False)
    info = hosts.object(0)
    hosts.need(1, info)
    assert hosts.lacking(1) == "it cannot be had from host host0: it serves no objects to other hosts"


# ------------------------------------------------------------------------------------------------------ pullers that go


def test_no_room(bench: Bench):
    hosts = Hosts(bench, 4, engines=0)
    info = hosts.object(0)
    for n in (1, 2, 3):
        hosts.need(n, info)
    assert tree(hosts, range(1, 4))[3] == 1
    hosts.unpulled(1, info, "the disk is full", full=True)
    assert hosts.lacking(1) == "the disk is full"
    assert hosts.pull(3)[0] in (0, 2)  # it cannot have it from there
    hosts.need(1, info)  # another process wants it: perhaps there is room now
    assert hosts.pull(1)


def test_an_object_that_is_dropped_is_dropped_where_it_is_coming_too(bench: Bench):
    hosts = Hosts(bench, 3, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.need(2, info)
    tree(hosts, range(1, 3))
    hosts.release(info)
    assert [hosts.drops(n) for n in range(3)] == [[info.id]] * 3
    nothing_is_on_its_way(bench)
    hosts.pulled(1, info)  # it was whole before it heard
    assert hosts.drops(1) == [info.id]


def test_a_store_could_not_have_what_an_earlier_controller_told_it_to_bring(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info, lost = hosts.object(0), hosts.object(0)
    bench.nannies[0].say(m.Vanished([lost.id]))
    hosts.unpulled(1, info)
    assert hosts.pull(1) == [0]
    hosts.unpulled(1, lost)
    assert hosts.lacking(1) == GONE
    hosts.unpulled(1, lost, "the disk is full", full=True)
    assert hosts.lacking(1) == "the disk is full"
    hosts.pulled(1, info)
    nothing_is_on_its_way(bench)


def test_a_store_that_is_back_is_told_again(bench: Bench):
    hosts = Hosts(bench, 3, engines=0)
    info, other = hosts.object(0), hosts.object(0)
    hosts.need(1, info, other)
    hosts.pulls(1)
    nanny = bench.nannies[1]
    nanny.lose_connection()
    bench.unreachable.discard(nanny.name)
    nanny.say(m.Running(nanny.say_hello(), [], [], [other]))
    assert hosts.pulls(1) == [(info.id, [0])]
    assert b"store001" not in bench.core.state.pulls.stores(other.id)


def test_a_source_that_is_back_without_it(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    hosts.pulls(1)
    nanny = bench.nannies[0]
    nanny.lose_connection()
    bench.unreachable.discard(nanny.name)
    nanny.say(m.Running(nanny.say_hello(), [], [], []))
    assert hosts.lacking(1) == GONE
    nothing_is_on_its_way(bench)


# ------------------------------------------------------------------------------------------------------ tasks


def test_what_a_task_needs_is_brought_when_it_is_assigned(bench: Bench):
    hosts = Hosts(bench, 2)
    here, there = hosts.object(0), hosts.object(1)
    hosts.submit(here, there, targets=(1,), ordered=True)
    assert hosts.pulls(1) == [(here.id, [0])]
    assert not hosts.pulls(0)
    assert len(bench.engines[1].given()) == 1
    hosts.submit(here, targets=(1,), ordered=True)
    assert not hosts.pulls(1), "it is coming"
    hosts.pulled(1, here)
    bench.engines[1].given()
    hosts.submit(here, targets=(1,), ordered=True)
    assert not hosts.pulls(1), "it is there"
    bench.engines[1].given()


def test_a_broadcast_is_a_tree(bench: Bench):
    hosts = Hosts(bench, 8)
    info = hosts.object(0)
    hosts.submit(info, targets=tuple(range(8)), ordered=True)
    sources = tree(hosts, range(1, 8))
    assert max(list(sources.values()).count(n) for n in range(8)) == 2
    assert [len(engine.given()) for engine in bench.engines] == [1] * 8


def test_a_task_that_ends_lets_go_of_what_is_coming(bench: Bench):
    hosts = Hosts(bench, 2)
    info = hosts.object(0)
    (id_,) = hosts.submit(info, targets=(1,), ordered=True)
    hosts.release(info)
    hosts.pulls(1)
    bench.engines[1].given()
    bench.engines[1].finish(id_)
    bench.clients[0].results()
    assert [hosts.drops(n) for n in range(2)] == [[info.id]] * 2
    nothing_is_on_its_way(bench)


def test_with_a_thousand_hosts_a_pull_costs_no_more(bench: Bench):
    """Each is given a source after a look at a few others, not at all of them."""
    looks = 0
    find = pulls.find_source

    def counted(*args: object) -> object:
        nonlocal looks
        looks += 1
        return find(*args)  # type: ignore[arg-type]

    hosts = Hosts(bench, 300, engines=0)
    info = hosts.object(0)
    patch = pytest.MonkeyPatch()
    patch.setattr(pulls, "find_source", counted)
    for n in range(1, 300):
        hosts.need(n, info)
    patch.undo()
    assert looks < 300 * (pulls.NAMED + 8)
    bench.forget_what_was_said()


def test_a_need_that_is_said_again_while_the_source_is_away_is_answered_when_that_is_back(bench: Bench):
    hosts = Hosts(bench, 2, engines=0)
    info = hosts.object(0)
    hosts.need(1, info)
    assert hosts.pull(1) == [0]
    bench.nannies[0].lose_connection()
    hosts.need(1, info)
    assert hosts.pulls(1) == []
    bench.nannies[0].come_back(objects=[info])
    bench.advance(2 * pulls.AGAIN_S)
    assert hosts.pull(1) == [0]
    hosts.pulled(1, info)
    nothing_is_on_its_way(bench)
