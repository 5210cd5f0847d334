"""What must hold in the controller's books between turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import homes, memory, objects, resources
from .records import EngineState, TaskState

if TYPE_CHECKING:
    from .state import State


def check(state: State) -> None:
    """Assert it. For tests and simulations: it looks at everything."""
    assigned: dict[int, int] = {}
    for engine in state.engines.values():
        for id_, task in engine.assigned.items():
            assert id_ == task.id
            assert state.tasks.get(id_) is task, f"{task} is assigned but not in the books"
            assert task.state == TaskState.ASSIGNED
            assert task.engine == engine.id
            assert id_ not in assigned, f"{task} is assigned twice"
            assigned[id_] = engine.id
        assert abs(engine.load_s - sum(t.cost_s for t in engine.assigned.values())) < 1e-3
        ready = engine.state is EngineState.READY and not engine.retiring
        assert engine.coroutines == sum(t.is_coroutine for t in engine.assigned.values())
        assert (engine.id in state.idle) == (ready and not engine.plain)
        assert (engine.id in state.laden) == (ready and engine.is_laden)
        orders = [t.order for t in engine.assigned.values()]
        assert orders == sorted(orders), "tasks are not assigned in the order in which they were given"
    waiting: set[int] = set()
    queues = [state.common, state.coroutines, *state.pools.values()]
    queues += [home.queue for home in state.homes.values()]
    state.pulls.check()
    assert all(id_ in state.objects.entries for id_ in state.pulls.trees), "what nobody holds is on its way"
    assert not any(t.is_coroutine for t in state.common)
    assert all(t.is_coroutine for t in state.coroutines)
    for queue in queues:
        members = list(queue)
        assert len(members) == queue.waiting, f"{queue.waiting} said to wait, {len(members)} do"
        waiting.update(task.id for task in members)
    for engine in state.engines.values():
        waiting.update(task.id for task in engine.direct if task.state == TaskState.WAITING)
    held = state.graph.check({task.root for task in state.tasks.values()})
    resources.check(state)
    homes.check(state)
    memory.check(state)
    objects.check(state)
    uses: dict[bytes, int] = {}
    for task in state.tasks.values():
        assert task.state != TaskState.ENDED
        assert (task.id in waiting) == (task.state == TaskState.WAITING), f"{task}"
        assert (task.id in assigned) == (task.state == TaskState.ASSIGNED), f"{task}"
        assert (task.id in held) == (task.state == TaskState.BLOCKED), f"{task}"
        assert state.owner_of(task.root) == task.client
        uses[task.function] = uses.get(task.function, 0) + 1
    for entry in state.functions.entries.values():
        assert entry.unfinished == uses.get(entry.digest, 0)
    for root, pieces in state.pieces.items():
        assert pieces
        assert all(state.tasks[piece].root == root for piece in pieces)
