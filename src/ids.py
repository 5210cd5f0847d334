"""Identifiers, as types: no bare integer or bytes crosses a module unnamed.

A task id is made by the client that submits the task and is unique in the cluster: the client's number, given by the
controller at hello, in the upper bits and the client's own count in the lower ones. Nothing ever translates an id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Iterable

TaskId = NewType("TaskId", int)
ClientNo = NewType("ClientNo", int)
EngineId = NewType("EngineId", int)
Incarnation = NewType("Incarnation", int)
Digest = NewType("Digest", bytes)
Peer = NewType("Peer", bytes)
"""The routing id of a ZeroMQ peer, as the controller's ROUTER sees it."""

COUNT_BITS = 40
"""Room for 10**12 tasks a client; ids stay below 2**63, the largest integer of MessagePack."""

COUNT_MASK = (1 << COUNT_BITS) - 1

MAX_TASK = (1 << 63) - 1

CONTROLLER_NO = ClientNo(0)
"""The number under which the controller makes ids of its own, for the pieces of a divided task."""


def first_task_id(client: ClientNo) -> TaskId:
    """Return the smallest task id of a client."""
    return TaskId(client << COUNT_BITS)


def client_of(task: TaskId) -> ClientNo:
    """Return the number of the client that made a task id."""
    return ClientNo(task >> COUNT_BITS)


def show_task(task: TaskId) -> str:
    """Return a task id as people see it: client, dash, count.

    >>> show_task(TaskId((3 << COUNT_BITS) + 17))
    '3-17'
    """
    return f"{task >> COUNT_BITS}-{task & COUNT_MASK}"


def read_task(text: str) -> TaskId:
    """Return the task id that `show_task` shows so; ValueError if it is none.

    >>> read_task("3-17") == (3 << COUNT_BITS) + 17
    True
    """
    client, dash, number = text.strip().partition("-")
    if not (dash and client.isdecimal() and number.isdecimal() and int(number) <= COUNT_MASK):
        raise ValueError(text)
    task = (int(client) << COUNT_BITS) + int(number)
    if task > MAX_TASK:
        raise ValueError(text)
    return TaskId(task)


def show_engines(engines: Iterable[int]) -> str:
    """Return ids of engines as people see them, runs of them in short.

    >>> show_engines([0, 1, 2, 3, 5])
    '0-3,5'
    """
    runs: list[list[int]] = []
    for engine in engines:
        if runs and engine == runs[-1][1] + 1:
            runs[-1][1] = engine
        else:
            runs.append([engine, engine])
    return ",".join(str(lo) if lo == hi else f"{lo}-{hi}" for lo, hi in runs)


def engine_peer(engine: EngineId, incarnation: Incarnation) -> Peer:
    """Return the routing id of an engine's task socket (its main thread)."""
    return Peer(b"e%d.%d" % (engine, incarnation))


def control_peer(engine: EngineId, incarnation: Incarnation) -> Peer:
    """Return the routing id of an engine's control socket (its control thread)."""
    return Peer(b"k%d.%d" % (engine, incarnation))
