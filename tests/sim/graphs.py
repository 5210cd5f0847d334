"""Simulated tasks that depend on others: what they depend on, and what must be true of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from enginery.client.results.futures import AsyncResult
from enginery.client.results.mapresult import AsyncMapResult
from enginery.ids import TaskId, client_of
from enginery.wire import messages as m
from enginery.wire.given import find_given, get_inherited
from stores import value_of

if TYPE_CHECKING:
    from world import World


class Links(NamedTuple):
    """What a task depends on."""

    needs: tuple[int, ...] = ()
    after: m.Dependency | None = None
    follow: m.Dependency | None = None
    by_id: bool = False
    """Its client knows these others by their ids, and says nothing of what it was told of them."""


def future_of(id_: int, items: int) -> AsyncResult:
    """Return what a real client would wait with."""
    link: Any = None
    if not items:
        return AsyncResult(link, id_, 0.0)
    result = AsyncMapResult(link, id_, 0.0, None)
    result._add_task(id_, items)
    result._seal()
    return result


def items_of(world: World, id_: int) -> list[tuple[int, int]]:
    for client in world.clients:
        if id_ in client.submitted:
            return [(id_, i) for i in client.items_of(id_)]
    raise AssertionError(f"{id_} was never submitted")


def check_given(world: World, call: m.Call, frames: list) -> None:
    """Assert that a task that begins has all it needs, and comes after what it was to come after."""
    root = world.roots[call.id]
    links = world.links.get(root)
    if links is None:
        assert find_given(call.payload) is None
        return
    given = find_given(call.payload)
    assert (given is None) == (not links.needs)
    if given is not None:
        own, results = given.split(frames)
        assert own in ([], [b"frame"])
        seen: dict[int, list[tuple[int, int]]] = {}
        for result, parts in results:
            assert result.status == m.Status.OK
            assert world.roots[int(value_of(world, result.payload))] == result.id, "the value of another task"
            assert not result.frames or parts == [result.payload]
            seen.setdefault(result.id, []).append((result.lo, result.hi))
        assert set(seen) == set(links.needs)
        for other, runs in seen.items():
            covered = sorted(i for lo, hi in runs for i in (range(lo, hi) if hi else [0]))
            assert covered == [i for _, i in items_of(world, other)], f"{covered} of {other}"
    for other in links.needs:
        assert all(place in world.over for place in items_of(world, other)), f"{root} begins before {other} has ended"
    for spec in (links.after, links.follow):
        if spec is not None and spec.all and not spec.failure:
            for other in spec.tasks:
                assert all(place in world.over for place in items_of(world, other)), f"{root} begins before {other}"


def judge_links(world: World, id_: int, result: m.Result) -> None:
    """Assert that a task with links ended as what it depends on makes it end."""
    links = world.links[id_]
    bad = [other for other in links.needs if _ok(world, other) is False]
    specs = [spec for spec in (links.after, links.follow) if spec is not None]
    unmet = [spec for spec in specs if _met(world, spec) is False]
    mine = client_of(TaskId(id_))
    named = {*links.needs, *(task for spec in (links.after, links.follow) if spec is not None for task in spec.tasks)}
    strange = links.by_id or any(client_of(TaskId(other)) != mine for other in named)
    strange |= any(client.dropped & named for client in world.clients)  # what it was may be gone
    match result.status:
        case m.Status.INHERITED:
            fine = all(_ok(world, other) for other in links.needs)
            assert not fine, f"{id_} has inherited the end of {get_inherited(result.payload)}, and {links} are fine"
            assert _ok(world, get_inherited(result.payload).task) is not True
        case m.Status.IMPOSSIBLE:
            fine = all(_met(world, spec) for spec in specs)
            assert not fine or links.follow is not None, f"{id_}: {result.payload}"
        case m.Status.INVALID:
            assert strange, f"{id_} is of {links}: {result.payload}"
            assert b"not known any more" not in result.payload or world.was_full, f"{id_} of {links}: {result.payload}"
        case m.Status.CANCELLED | m.Status.REFUSED:
            pass
        case _:
            assert not bad, f"{id_} ended as {result.status} though {bad} have no value"
            assert not unmet, f"{id_} ended as {result.status} though {unmet} are not met"


def _ok(world: World, id_: int) -> bool | None:
    """Return whether a task ended OK; None if nobody has heard."""
    for client in world.clients:
        if id_ in client.submitted:
            if any(place not in client.results for place in items_of(world, id_)):
                return None
            return all(client.results[place][0].status == m.Status.OK for place in items_of(world, id_))
    raise AssertionError


def _met(world: World, spec: m.Dependency) -> bool | None:
    ends = [_ok(world, task) for task in spec.tasks]
    hits = {spec.success if ok else spec.failure for ok in ends if ok is not None}
    if (not spec.all) in hits:
        return not spec.all
    return None if None in ends else spec.all
