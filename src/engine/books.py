"""What this engine has to do: unstarted calls, and the running call of items. Pure, but for the lock that it holds.

Two threads meet here. The main thread claims work from the left; the control thread gives work back from the right,
when the controller asks for it (`TakeBack`). Nothing is ever run and given back, nothing is lost between the two.

A whole call is claimed under the lock. Items are too many for that; a running call of items uses a protocol known from
work stealing (the "THE protocol" of Cilk-5):

    main, for each item i                 control, giving back, under the lock
    1. position[1] = i   (announce)       1. stop = new end    (warn)
    2. if i < stop: run it                2. look at position[1]: if main got further, the new end moves up behind it
       else: ask under the lock           3. hi = new end      (settled)

Either main sees the warning and asks, or control sees the announcement and keeps off. This needs loads and stores to
be seen in order by both threads, which the interpreter's lock gives; on a free-threaded build step 1 needs a fence.
`stop` is also how the control thread calls main into `advance` when a slice takes longer than expected (`hurry`).
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..recorder import NO_TASK
from ..wire.messages import Holding
from ..wire.parts import is_coroutine
from .current import FRONT_END

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableSequence, Sequence

    from ..wire.messages import Call
    from .current import Current

UNKNOWN_S = 1e-3
"""What a call of a function that has never run here is taken to weigh when work is given back."""


class Claim:
    """The items of the running call that are ours: up to `hi`; those below `stop` may be run without asking."""

    __slots__ = ("fixed", "function", "hi", "slices", "stop", "task")

    def __init__(self, call: Call) -> None:
        self.task = call.id
        self.function = call.function
        self.fixed = call.fixed
        self.hi = call.hi
        self.stop = call.lo
        self.slices = 0
        """How many slices were begun; the control thread sees by it whether main gets on."""


class Books:
    """Calls received and not started, and the claim on the running one if it has items.

    `position[1]` is the item that the main thread is in (the flight recorder's slots). `estimate` says how long one
    call of a function takes, None if nobody knows.
    """

    def __init__(
        self, current: Current, position: MutableSequence[int] | memoryview, estimate: Callable[[bytes], float | None]
    ) -> None:
        self.lock = threading.Lock()
        self.queue: deque[Call] = deque()
        """To be popped by the runner with the lock held."""
        self.frames: dict[int, list[Any]] = {}
        """Out-of-band buffers of those unstarted calls that have any."""
        self.claim: Claim | None = None
        self.end: tuple[int, int] = (-1, -1)
        """The call of items that was claimed last, and where its items end by now."""
        self._current = current
        self._position = position
        self._estimate = estimate

    def add(self, calls: Sequence[Call], frames: Sequence[Any] = ()) -> None:
        """Receive calls, to be run in this order after those we have; `frames` are those of all calls in turn."""
        with self.lock:
            if frames:
                taken = 0
                for call in calls:
                    if call.frames:
                        self.frames[call.id] = list(frames[taken : taken + call.frames])
                        taken += call.frames
            self.queue.extend(calls)

    def take_frames(self, call: Call) -> list[Any]:
        """Return the buffers of a call that starts now, and let go of them."""
        return self.frames.pop(call.id, [])

    def clear(self) -> None:
        """Drop all unstarted calls: the engine ends."""
        with self.lock:
            self.queue.clear()
            self.frames.clear()

    def functions_in_use(self) -> set[bytes]:
        """Return the functions that unstarted calls name."""
        with self.lock:
            return {call.function for call in self.queue}

    # ------------------------------------------------------------------------------------------ the running call

    def open(self, call: Call) -> Claim:
        """A call of items starts. Ask `advance` before its first item."""
        with self.lock:
            self._position[1] = call.lo
            self.claim = claim = Claim(call)
            self.end = call.id, call.hi
        return claim

    def advance(self, claim: Claim, item: int, size: int) -> bool:
        """Say whether `item` may be run; if so, it and `size - 1` after it may be run without asking again."""
        with self.lock:
            if item >= claim.hi:
                self.claim = None
                return False
            claim.stop = min(claim.hi, item + size)
            claim.slices += 1
            return True

    def close(self, claim: Claim) -> int:
        """The call is over; return where its items end. Nothing of it is given back from now on."""
        with self.lock:
            self.claim = None
            return claim.hi

    def hurry(self, seen: int) -> None:
        """Have the main thread ask before its next item if it is still in the slice of that number."""
        with self.lock:
            if self.claim is not None and self.claim.slices == seen:
                self.claim.stop = 0

    def holding(self, session: int, functions: list[bytes]) -> Holding:
        """Return what there is to do here, for a controller that may be wrong about it; of coroutines it says when they
        began, by our clock.
        """
        with self.lock:
            task = self._current.task
            running = None if task == NO_TASK else task
            hi = self.end[1] if self.end[0] == task else -1
            coroutines = [(awaited.task, awaited.started) for awaited in self._current.awaited.values()]
            coroutines = [pair for pair in coroutines if pair[0] not in {task, NO_TASK, FRONT_END}]
            return Holding(
                session, [call.id for call in self.queue], running, hi, functions=functions, coroutines=coroutines
            )

    # ------------------------------------------------------------------------------------------ giving back

    def give_back_named(self, tasks: Iterable[int]) -> tuple[list[int], list[int]]:
        """Give back those of these calls that have not started; return their ids, and of the others those unknown.

        An unknown call is neither unstarted nor running here.
        """
        wanted = set(tasks)
        with self.lock:
            given = [call.id for call in self.queue if call.id in wanted]
            if given:
                wanted.difference_update(given)
                gone = set(given)
                kept = [call for call in self.queue if call.id not in gone]
                self.queue.clear()  # in place: the runner holds on to the deque
                self.queue.extend(kept)
                self._forget_frames(given)
            wanted.discard(self._current.task)
            wanted.difference_update(self._current.awaited)
        return given, list(wanted)

    def give_back_rest(self, tasks: Iterable[int]) -> list[tuple[int, int]]:
        """Give back the items not begun of the running call, if it is one of these; return it and its new end."""
        with self.lock:
            claim = self.claim
            if claim is None or claim.task not in set(tasks):
                return []
            new_hi = self._cut(claim, claim.hi)
            return [] if new_hi is None else [(claim.task, new_hi)]

    def give_back_half(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Give back about half of what is unstarted, by the time it will take, the last first.

        Returns ids of whole calls, and `(task, new end)` if the running call of items gives up its tail.
        """
        with self.lock:
            weights = [0.0 if call.fixed else self._weight(call) for call in self.queue]
            claim = self.claim
            item_s = tail_items = 0.0
            if claim is not None and not claim.fixed:
                tail_items = max(0, claim.hi - self._position[1] - 1)
                item_s = self._estimate(claim.function) or UNKNOWN_S
            missing = (sum(weights) + item_s * tail_items) / 2
            if missing <= 0:
                return [], []
            given: list[int] = []
            kept: list[Call] = []
            while self.queue and missing > 0:
                call, weight = self.queue.pop(), weights.pop()
                if call.fixed:
                    kept.append(call)
                else:
                    given.append(call.id)
                    missing -= weight
            self.queue.extend(reversed(kept))
            self._forget_frames(given)
            tails = []
            if missing > 0 and claim is not None and tail_items:
                new_hi = self._cut(claim, max(1, round(missing / item_s)))
                if new_hi is not None:
                    tails.append((claim.task, new_hi))
            return given, tails

    def _cut(self, claim: Claim, items: int) -> int | None:
        """Take up to that many items off the end of the running call; return its new end, or None if too late."""
        position = self._position
        new_hi = max(claim.hi - items, position[1] + 1)
        claim.stop = min(claim.stop, new_hi)
        new_hi = max(new_hi, position[1] + 1)
        if new_hi >= claim.hi:
            return None
        claim.hi = new_hi
        self.end = claim.task, new_hi
        return new_hi

    def _weight(self, call: Call) -> float:
        if is_coroutine(call.function, call.hi):
            return UNKNOWN_S  # most of the time it takes, it leaves to others
        return (self._estimate(call.function) or UNKNOWN_S) * max(1, call.hi - call.lo)

    def _forget_frames(self, ids: list[int]) -> None:
        if self.frames:
            for id_ in ids:
                self.frames.pop(id_, None)
