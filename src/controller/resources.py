"""Resources: what hosts offer by name (GPUs, licences, memory), and what tasks take of it while they are assigned.

A task takes from the host of its engine, from its assignment until it has ended or is given back; never more is taken
than is offered. Each engine's record has what its tasks take; a host's is the sum over its engines, so that nothing has
to be given back when an engine ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Engine, Nanny, Task
    from .state import State

Amounts = tuple[tuple[str, float], ...]
"""How much of what, in order of the names."""

TINY = 1e-9
"""Sums of fractions differ by less from what they should be."""


def pin(engine: Engine, tasks: Iterable[Task]) -> None:
    """Tasks of a pool were assigned to an engine: they take what they take."""
    for task in tasks:
        engine.pinned[task.id] = task
        for name, amount in task.options.resources:
            engine.held[name] = engine.held.get(name, 0.0) + amount


def is_pinned(task: Task) -> bool:
    """Return whether a task is from such a pool."""
    return task.unmet is not None or (bool(task.options.resources) and not task.options.ordered)


def unpin(engine: Engine, task: Task) -> None:
    """A task is off an engine's books."""
    if engine.pinned.pop(task.id, None) is None:
        return
    for name, amount in task.options.resources:
        engine.held[name] -= amount
    if not engine.pinned:
        engine.held = {}  # no drift from rounding


def are_offered(nanny: Nanny | None, wanted: Amounts) -> bool:
    """Return whether a host has that much at all. What is not above zero nobody has."""
    return nanny is not None and all(0 < amount <= nanny.resources.get(name, 0.0) for name, amount in wanted)


def are_free(state: State, nanny: Nanny, wanted: Amounts) -> bool:
    """Return whether a host has that much left."""
    used = in_use(state, nanny)
    return all(used.get(name, 0.0) + amount <= nanny.resources.get(name, 0.0) + TINY for name, amount in wanted)


def in_use(state: State, nanny: Nanny) -> dict[str, float]:
    """Return what the tasks on a host take."""
    used: dict[str, float] = {}
    for engine_id in nanny.engines:
        engine = state.engines.get(engine_id)
        if engine is not None and engine.held:
            for name, amount in engine.held.items():
                used[name] = used.get(name, 0.0) + amount
    return used


def why_not_offered(state: State, wanted: Amounts) -> str:
    """Return why a task that takes so much can never run."""
    hosts = [f"host {nanny.host} offers {show(sorted(nanny.resources.items()))}" for nanny in state.nannies.values()]
    return f"it takes {show(wanted)}, which no host can give: {'; '.join(hosts) or 'there is none'}"


def show(amounts: Iterable[tuple[str, float]]) -> str:
    """Return amounts as people read them.

    >>> show([("gpu", 2.0), ("mem", 1.5)])
    'gpu=2 mem=1.5'
    """
    return " ".join(f"{name}={amount:g}" for name, amount in amounts) or "nothing"


def check(state: State) -> None:
    """Assert what must hold between turns."""
    for engine in state.engines.values():
        assert engine.pinned.items() <= engine.assigned.items()
        held: dict[str, float] = {}
        for task in engine.assigned.values():
            assert is_pinned(task) == (task.id in engine.pinned), f"{task}"
            for name, amount in task.options.resources:
                held[name] = held.get(name, 0.0) + amount
        assert all(abs(held.get(name, 0.0) - amount) < TINY for name, amount in engine.held.items())
        assert held.keys() <= engine.held.keys()
    for nanny in state.nannies.values():
        for name, amount in in_use(state, nanny).items():
            offered = nanny.resources.get(name, 0.0)
            assert amount <= offered + TINY, f"{amount} {name} of {nanny.host} are taken, {offered} there"
