"""A `concurrent.futures.Future` that costs almost nothing until somebody waits for it.

A stock future makes a condition, a lock and two lists when it is made; most of ours are resolved before anybody looks.
Here these are made on first access (`_condition`, `_waiters` and `_done_callbacks` are the names under which
`concurrent.futures` reaches for them), so `wait`, `as_completed` and `asyncio.wrap_future` work as with any future.

The race. A thread that begins to wait and the I/O thread that settles the future must not miss each other. Both take
one module-wide lock for an instant: the waiter to make the condition, the settler to see whether there is one. If there
is none, the settler changes the state inside that same instant, so whoever makes the condition later finds the future
done. If there is one, the state changes under the condition's lock, exactly as in the standard library.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Self

T = TypeVar("T")

PENDING = "PENDING"
FINISHED = "FINISHED"
CANCELLED = "CANCELLED_AND_NOTIFIED"
"""States as `concurrent.futures` spells them; a future of ours is never in another."""

_birth = threading.RLock()  # reentrant: a `__del__` or a signal handler may come between and look at a future


def _new_birth() -> None:
    global _birth
    _birth = threading.RLock()  # another thread may have held it when the process was forked


os.register_at_fork(after_in_child=_new_birth)


class _Waiting:
    """What a future needs once somebody waits for it."""

    __slots__ = ("callbacks", "condition", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], object]] = []


class LightFuture(Future[T], Generic[T]):
    """A future that makes its lock on demand. Subclasses say what the outcome is by `_outcome`."""

    _state = PENDING
    _waiting: _Waiting | None = None
    _watching = 0
    """How many threads wait for less than the end."""

    def __init__(self) -> None:
        """Do nothing: the base class would make what we want to make late."""

    # ---------------------------------------------------------------- what concurrent.futures reaches for

    def _waiting_now(self) -> _Waiting:
        waiting = self._waiting
        if waiting is None:
            fresh = _Waiting()
            with _birth:
                waiting = self._waiting
                if waiting is None:
                    waiting = self._waiting = fresh
        return waiting

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # never set, by nobody
        return self._waiting_now().condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override] # never set, by nobody
        if self._state == PENDING:
            self._check_wait()  # `wait` and `as_completed` are about to wait
        return self._waiting_now().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        return self._waiting_now().callbacks

    # ---------------------------------------------------------------- for subclasses and the I/O thread

    def _outcome(self) -> T:
        """Return the value of a finished future, or raise its error. Called by any thread, as often as it likes."""
        raise NotImplementedError

    def _check_wait(self) -> None:
        """Raise if waiting here can only hang. Called before every wait."""

    def _interrupted(self, error: KeyboardInterrupt) -> None:
        """Ctrl-C ends a wait: tell what there is to know, as a note."""

    def _settle(self, state: str = FINISHED, *, failed: bool = False) -> None:
        """Be done, and tell whoever waits. What `_outcome` needs must be in place. Called once, by the I/O thread."""
        with _birth:
            waiting = self._waiting
            if waiting is None:
                self._state = state
                return
        with waiting.condition:
            self._state = state
            for waiter in waiting.waiters:
                if state == CANCELLED:
                    waiter.add_cancelled(self)
                elif failed:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            waiting.condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined] # the base class's own, not in its stub

    def _wait_done(self, timeout: float | None) -> bool:
        """Wait until the future is done; say whether it is. Ctrl-C ends the wait and harms nothing."""
        if self._state != PENDING:
            return True
        self._check_wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        condition = self._condition
        try:
            with condition:
                while self._state == PENDING:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    condition.wait(left)
        except KeyboardInterrupt as error:
            self._interrupted(error)
            raise
        return True

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for something that comes before the end; say whether it is. Ctrl-C ends the wait and harms nothing."""
        if condition():
            return True
        self._check_wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            self._watching += 1
            try:
                while not condition():
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._condition.wait(left)
            except KeyboardInterrupt as error:
                self._interrupted(error)
                raise
            finally:
                self._watching -= 1
        return True

    def _notify(self) -> None:
        """Something came, and is filed already. Costs nothing unless somebody is in `_wait_for`.

        Filed before `_watching` is read here; a waiter counts itself before it looks for what was filed. So one of the
        two sees the other.
        """
        if self._watching:
            with self._condition:
                self._condition.notify_all()

    # ---------------------------------------------------------------- the public face

    def done(self) -> bool:
        """Say whether the outcome is known (a value, an error, or that it was cancelled).

        while not future.done(): ...        # `wait(timeout)` waits for it
        """
        return self._state != PENDING

    def cancelled(self) -> bool:
        """Say whether it was cancelled.

        values = [future.result() for future in futures if not future.cancelled()]
        """
        return self._state == CANCELLED

    def running(self) -> bool:
        """Return False: it is not known here when a task starts.

        client.queue_status()      # how many tasks each engine has
        """
        return False

    def result(self, timeout: float | None = None) -> T:
        """Return the value; wait for it at most `timeout` seconds (None: as long as it takes).

            client.submit(f, x).result(timeout=10)

        Raises TimeoutError (the task goes on), CancelledError, or what the call raised.
        """
        if self._state == PENDING and not self._wait_done(timeout):
            raise self._too_late(timeout)
        return self._outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None; wait for it at most `timeout` seconds (None: as long as it takes).

            if (error := future.exception()) is not None:
                print(error)

        Raises TimeoutError, and CancelledError if it was cancelled.
        """
        if self._state == PENDING and not self._wait_done(timeout):
            raise self._too_late(timeout)
        try:
            self._outcome()
        except Exception as error:
            if self._state == CANCELLED and isinstance(error, CancelledError):
                raise
            return error
        return None

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"no result after {timeout:g} s; the task goes on")

    def _abandon(self) -> None:
        """The coroutine that awaited this future was cancelled. Must not wait."""

    def __await__(self) -> Generator[Any, None, T]:
        if self._state == PENDING:
            import asyncio  # noqa: PLC0415 - only who awaits has it anyway

            self._check_wait()
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def tell(_future: object) -> None:
                try:
                    loop.call_soon_threadsafe(_set, done)
                except RuntimeError:  # the loop was closed: nobody awaits any more
                    return

            self.add_done_callback(tell)
            try:
                yield from done
            except asyncio.CancelledError:
                self._abandon()
                raise
        return self._outcome()

    def __copy__(self) -> Self:
        return self  # it stands for something that happens once

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a future cannot travel to an engine; pass what its result() returns")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state.lower()}>"


def _set(future: Any) -> None:
    if not future.done():
        future.set_result(None)
