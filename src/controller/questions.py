"""Questions about the books, answered without changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import setups
from .records import EngineState, TaskState

if TYPE_CHECKING:
    from .state import State


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
                "reason": engine.reason if engine.state is EngineState.FAILED else "",
                "setup": setups.show(engine),
            }
            for _, engine in sorted(state.engines.items())
        ],
        "hosts": [
            {"host": nanny.host, "pid": nanny.pid, "cores": nanny.cores, "engines": sorted(nanny.engines)}
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
            "assigned": assigned,
            "finished": state.finished,
        },
        "functions": len(state.functions.entries),
        "setup": [setup.name for setup in state.setups],
        "journal": state.durable and not state.journal_failure,
        "journal_failure": state.journal_failure,
    }
