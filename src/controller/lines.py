"""Tasks that are addressed to an engine and cannot go there yet: in order, behind the first that is blocked.

An engine runs what a client addresses to it in the order of submission. So while one of its tasks waits for others, all
that come after it wait too: a line for each engine and client.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .records import TaskState

if TYPE_CHECKING:
    from .records import Engine, Task
    from .state import State


def is_held_up(state: State, task: Task) -> bool:
    """Return whether an earlier task of its client to the same engine is blocked."""
    return _key(task) in state.graph.lines


def line_up(state: State, task: Task) -> None:
    """Have a task wait behind its client's earlier ones to the same engine; or be the first to wait."""
    task.state = TaskState.BLOCKED
    state.graph.lines.setdefault(_key(task), deque()).append(task)


def leave(state: State, task: Task) -> None:
    """A task is out of the graph, because it is ready or has ended: those behind it may move up."""
    state.graph.blocked.pop(task.id, None)
    if task.options.ordered:
        _move_up(state, _key(task))


def take_line(state: State, engine: Engine) -> list[Task]:
    """Return the tasks that are held up on their way to an engine, which will not come. They are out of the graph."""
    held: list[Task] = []
    for key in [key for key in state.graph.lines if key[0] == engine.id]:
        held += [task for task in state.graph.lines.pop(key) if task.state == TaskState.BLOCKED]
    for task in held:
        state.graph.blocked.pop(task.id, None)
    return held


def _key(task: Task) -> tuple[int, int]:
    assert task.options.targets is not None, "it is addressed to an engine"
    return task.options.targets[0], task.client


def _move_up(state: State, key: tuple[int, int]) -> None:
    """Have those at the front of a line go to the engine, up to the first that is blocked itself."""
    line, engine = state.graph.lines[key], state.engines[key[0]]
    while line and line[0].id not in state.graph.blocked:
        task = line.popleft()
        if task.state == TaskState.BLOCKED:
            task.state = TaskState.WAITING
            engine.direct.append(task)
    if not line:
        del state.graph.lines[key]
    state.touch(engine)
