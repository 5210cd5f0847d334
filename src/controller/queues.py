"""Waiting tasks: fair between clients, by priority within a client.

Fairness is start-time fair queueing: each client's account rises by the (estimated) engine time it is given, and the
client with the lowest account is served next. A client that was idle starts at the account of the one served last, so
that it neither pays for nor profits from its absence. A million tasks of one client thus delay another's by a quantum.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from .records import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .records import Client, Task


class _Lanes:
    """The waiting tasks of one client, a lane for each priority."""

    __slots__ = ("client", "lanes", "order")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lanes: dict[int, deque[Task]] = {}
        self.order: list[int] = []
        """Priorities in use, highest first."""

    def lane(self, priority: int) -> deque[Task]:
        lane = self.lanes.get(priority)
        if lane is None:
            lane = self.lanes[priority] = deque()
            self.order = sorted(self.lanes, reverse=True)
        return lane

    def find_top(self) -> deque[Task] | None:
        """Return the lane to serve next, its first task still waiting; None if there is none."""
        while self.order:
            lane = self.lanes[self.order[0]]
            while lane and lane[0].state != TaskState.WAITING:
                lane.popleft()
            if lane:
                return lane
            del self.lanes[self.order.pop(0)]
        return None


class FairQueue:
    """Waiting tasks that the same engines may run.

    A task that is withdrawn while it waits stays in its lane, marked by its state, until it comes to the front.
    """

    def __init__(self) -> None:
        self._clients: dict[int, _Lanes] = {}
        self._turns: list[tuple[float, int]] = []
        """Heap of (account, client); one entry for each client with lanes."""
        self._account_s = 0.0
        self.waiting = 0

    def _lanes_of(self, client: Client) -> _Lanes:
        lanes = self._clients.get(client.no)
        if lanes is None:
            lanes = self._clients[client.no] = _Lanes(client)
            client.used_s = max(client.used_s, self._account_s)
            heappush(self._turns, (client.used_s, client.no))
        return lanes

    def push(self, client: Client, task: Task) -> None:
        """Put a task behind the others of its priority."""
        self._lanes_of(client).lane(task.options.priority).append(task)
        self.waiting += 1

    def push_many(self, client: Client, priority: int, tasks: list[Task]) -> None:
        """Put tasks of one priority behind the others."""
        self._lanes_of(client).lane(priority).extend(tasks)
        self.waiting += len(tasks)

    def push_front(self, client: Client, task: Task) -> None:
        """Put a task that was given back before the others of its priority."""
        self._lanes_of(client).lane(task.options.priority).appendleft(task)
        self.waiting += 1

    def withdraw(self, task: Task) -> None:
        """Leave out a waiting task; its state must have been changed already."""
        assert task.state != TaskState.WAITING
        self.waiting -= 1

    def find_next(self) -> tuple[Client, deque[Task]] | None:
        """Return the client whose turn it is and the lane to take from, or None if nothing waits.

        Take tasks with `popleft` while `lane[0]` is WAITING, then say `served`.
        """
        while self._turns:
            account, no = self._turns[0]
            lanes = self._clients[no]
            lane = lanes.find_top()
            if lane is not None:
                self._account_s = account
                return lanes.client, lane
            heappop(self._turns)
            del self._clients[no]
        return None

    def served(self, client: Client, taken: int, cost_s: float) -> None:
        """The client of `find_next` was given this many tasks of this estimated time: it goes back in line."""
        self.waiting -= taken
        client.used_s = self._account_s + cost_s
        heappop(self._turns)
        heappush(self._turns, (client.used_s, client.no))

    @property
    def contested(self) -> bool:
        """Whether more than one client waits."""
        return len(self._clients) > 1

    def __iter__(self) -> Iterator[Task]:
        """Go through the waiting tasks (all of them: for questions and checks, not for the hot path)."""
        for lanes in self._clients.values():
            for lane in lanes.lanes.values():
                yield from (task for task in lane if task.state == TaskState.WAITING)
