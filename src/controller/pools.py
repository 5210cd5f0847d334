"""Pools: waiting tasks that not every engine may run at any time.

They are for certain engines, they take resources, or they have been to engines where what they need is not there. An
engine says so of a task with a result of status `UNMET`: then the task waits for another that could serve and has not
been asked; when none is left, it ends. No engine is asked twice for a task, but a restarted one is another.

Of the engines, those that lack what other tasks of the same function need are asked last: a function that one of many
engines can run finds that one soon, and then waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..ids import show_engines
from . import resources
from .records import EngineState, Unmet

if TYPE_CHECKING:
    from ..wire.messages import Options
    from .records import Engine, Task
    from .state import State


class Pool(NamedTuple):
    """What its tasks have in common."""

    targets: tuple[int, ...] | None
    """The engines that may run them; None for any."""
    coroutines: bool = False
    resources: resources.Amounts = ()
    unmet: frozenset[tuple[int, int]] = frozenset()
    """Engines that have been asked already."""
    function: bytes = b""
    """Their function, if they have been asked."""


def pool_for(options: Options, *, coroutines: bool) -> Pool | None:
    """Return where tasks wait that nobody has been asked to run; None if any engine may run them at any time."""
    if options.targets is None and not options.resources:
        return None
    return Pool(options.targets, coroutines, options.resources)


def pool_of(task: Task, unmet: Unmet | None = None) -> Pool | None:
    """Return where a task waits, `unmet` or as it says itself; None: any engine may run it at any time."""
    unmet = unmet or task.unmet
    if unmet is None:
        return pool_for(task.options, coroutines=task.is_coroutine)
    options = task.options
    return Pool(options.targets, task.is_coroutine, options.resources, unmet.engines, task.function)


def may_serve(state: State, pool: Pool, engine: Engine) -> bool:
    """Return whether an engine is there, or will be, to run tasks of a pool, and has not been asked."""
    if engine.state is EngineState.FAILED or engine.retiring:
        return False
    if engine.key in pool.unmet and engine.state is not EngineState.DYING:  # (then another will come in its place)
        return False
    return not pool.resources or resources.are_offered(state.nannies.get(engine.nanny), pool.resources)


Willing = dict[bytes, list["Engine"]]
"""By function: the engines that do not lack what it needs, as far as we know. For one look at many pools."""


def members(state: State, pool: Pool, willing: Willing) -> list[Engine]:
    """Return the engines that tasks of a pool are for: those who may serve; if some have been asked, first those that
    do not lack what the function needs, as far as we know, whether they have time or not.
    """
    if pool.unmet:
        able = willing.get(pool.function)
        if able is None:
            lacking = state.functions.entries[pool.function].lacking
            able = willing[pool.function] = [e for e in state.engines.values() if e.key not in lacking]
        targets = pool.targets
        found = [e for e in able if (targets is None or e.id in targets) and may_serve(state, pool, e)]
        if found:
            return found
    ids = state.engines if pool.targets is None else pool.targets
    return [e for i in ids if (e := state.engines.get(i)) is not None and may_serve(state, pool, e)]


def has_taker(state: State, task: Task, giver: Engine, idle: set[int], willing: Willing) -> bool:
    """Return whether an idle engine could have a task that another has not begun."""
    pool = pool_of(task)
    if pool is None:
        return True
    for engine in members(state, pool, willing):
        if engine.id in idle:
            nanny = state.nannies.get(engine.nanny)
            if not pool.resources or engine.nanny == giver.nanny:
                return True  # it takes what it takes along
            if nanny is not None and resources.are_free(state, nanny, pool.resources):
                return True
    return False


def is_hopeless(state: State, pool: Pool) -> bool:
    """Return whether no engine can ever serve tasks of a pool, as things are."""
    if pool.targets is None and not pool.unmet:  # an engine will come some time
        return not any(resources.are_offered(nanny, pool.resources) for nanny in state.nannies.values())
    ids = state.engines if pool.targets is None else pool.targets
    return not any(may_serve(state, pool, state.engines[i]) for i in ids if i in state.engines)


def lacked(engine: Engine, task: Task, sentence: str) -> Unmet:
    """Return what is known of a task after an engine had not what it needs."""
    before = task.unmet.engines if task.unmet is not None else frozenset()
    return Unmet(before | {engine.key}, sentence)


def in_words(unmet: Unmet) -> str:
    """Return what to say of a task that was asked for in vain."""
    asked = sorted({engine for engine, _ in unmet.engines})
    engines = f"engine{'s' if len(asked) > 1 else ''} {show_engines(asked)}"
    return f"no engine can run it: {unmet.sentence} (asked: {engines})"
