"""Questions about the books, answered without changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ids import CONTROLLER_NO
from . import fleet, resources, setups, stock
from .records import EngineState, TaskState

if TYPE_CHECKING:
    from ..ids import Peer
    from ..wire.messages import QueueQuery
    from .records import Engine, Task
    from .state import State


UNANSWERED_S = 5.0
"""An engine answers at once, whatever it runs; one that has not answered for so long is stopped, or its host is."""


def status(state: State, now: float) -> dict[str, Any]:
    """Return what `cluster status` shows, as plain maps and lists."""
    assigned = sum(len(engine.assigned) for engine in state.engines.values())
    return {
        "cluster": state.cluster,
        "controller_pid": state.pid,
        "uptime_s": now - state.started,
        "engines": [
            {
                "id": engine.id,
                "incarnation": engine.incarnation,
                "state": "retiring" if engine.retiring else str(engine.state),
                "pid": engine.pid,
                "host": engine.host,
                "tasks": len(engine.assigned),
                "threads": engine.threads,
                "reason": _remark(engine, now),
                "setup": setups.show(engine),
            }
            for _, engine in sorted(state.engines.items())
        ],
        "hosts": [
            {
                "host": nanny.host,
                "pid": nanny.pid,
                "cores": nanny.cores,
                "engines": sorted(nanny.engines),
                "resources": nanny.resources,
                "in_use": {name: amount for name, amount in resources.in_use(state, nanny).items() if amount},
            }
            for nanny in state.nannies.values()
        ],
        "clients": [
            {
                "no": client.no,
                "name": client.name,
                "pid": client.pid,
                "host": client.host,
                "unfinished": client.unfinished,
                "away": client.away_since is not None,
            }
            for client in state.clients.values()
        ],
        "tasks": {
            "waiting": sum(task.state == TaskState.WAITING for task in state.tasks.values()),
            "blocked": state.graph.held(),
            "assigned": assigned,
            "finished": state.finished,
        },
        "objects": stock.summary(state),
        "functions": len(state.functions.entries),
        "setup": [setup.name for setup in state.setups],
        "journal": state.durable and not state.journal_failure,
        "journal_failure": state.journal_failure,
    }


def _remark(engine: Engine, now: float) -> str:
    if engine.state is EngineState.FAILED:
        return engine.reason
    silent_s = 0.0 if engine.asked_at is None else now - engine.asked_at
    return f"has not answered for {silent_s:.0f} s" if silent_s >= UNANSWERED_S else ""


def on_queue_query(state: State, peer: Peer, message: QueueQuery) -> None:
    """A client wants to know what there is to do."""
    wanted = sorted(state.engines) if message.engines is None else message.engines
    unknown = [id_ for id_ in wanted if id_ not in state.engines]
    if unknown:
        state.reply(peer, message.request, error=fleet.no_such_engine(state, unknown))
        return
    show = _ids if message.ids else len
    addressed: dict[int, list[Task]] = {
        engine.id: [task for task in engine.direct if task.state == TaskState.WAITING]
        for engine in state.engines.values()
    }
    value: dict[int | None, Any] = {}
    for id_ in wanted:
        engine = state.engines[id_]
        mine = [task for task in engine.assigned.values() if task.client != CONTROLLER_NO]
        queue = [task for task in mine if task.options.ordered] + addressed[id_]
        value[id_] = show(queue), show([task for task in mine if not task.options.ordered]), engine.finished
    if message.ids:
        placed = {task.id for tasks in addressed.values() for task in tasks}
        waiting = [t for t in state.tasks.values() if t.state == TaskState.WAITING and t.id not in placed]
        value[None] = _ids(waiting)
    else:
        with_engines = sum(len(engine.assigned) + len(addressed[engine.id]) for engine in state.engines.values())
        value[None] = len(state.tasks) - with_engines
    state.reply(peer, message.request, value)


def _ids(tasks: list[Task]) -> list[int]:
    """Return the ids by which clients know tasks, each once."""
    return list(dict.fromkeys(task.root for task in tasks))
