"""When the memory of arguments may be used again.

Large buffers of arguments (of arrays: 4 KB and more) are not copied: ZeroMQ reads them while it sends, and should the
connection break, or another controller take over, they are sent again from where they are. That is over when the
controller has confirmed the message they are in; if it has a journal, they are written down by then.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .lightfuture import LightFuture
from .timeouts import deadline_of, left_until, limit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...wire.messages import Task


class Sent(LightFuture[None]):
    """Done when the controller has a task, or never will."""

    _error: Exception | None = None

    def __init__(self, check: Callable[[], None]) -> None:
        self._check_wait = check  # type: ignore[method-assign] # a callable either way

    def settle(self, error: Exception | None = None) -> None:
        """The controller has it, or never will, for this reason. Called by the I/O thread."""
        self._error = error
        self._settle(failed=error is not None)

    def _outcome(self) -> None:
        if self._error is not None:
            raise self._error


class Sends:
    """The tasks of which somebody wants to know when they are sent. `add` is for any thread."""

    def __init__(self) -> None:
        self.waiting: dict[int, Sent] = {}
        """Those that are not in a message yet, by task."""
        self.numbered: deque[tuple[int, Sent]] = deque()
        """Those that are in the message of that number."""

    def add(self, task: int, check: Callable[[], None]) -> Sent:
        """Watch a task, which is about to be submitted."""
        sent = self.waiting[task] = Sent(check)
        return sent

    def number(self, tasks: Iterable[Task], seq: int) -> None:
        """These tasks are in the message of that number."""
        for task in tasks:
            sent = self.waiting.pop(task.id, None)
            if sent is not None:
                self.numbered.append((seq, sent))

    def confirm(self, have: int) -> None:
        """The controller has all messages up to that number."""
        while self.numbered and self.numbered[0][0] <= have:
            self.numbered.popleft()[1].settle()

    def lose(self, error: Exception) -> None:
        """Nothing will be confirmed any more."""
        while self.numbered:
            self.numbered.popleft()[1].settle(error)
        while self.waiting:
            self.waiting.popitem()[1].settle(error)


class Sending:
    """The part of a result that knows whether its arguments are sent."""

    _sends: list[Sent] | None = None
    """One for each message that reads the user's memory; None: no memory of the user's is read."""
    _tracked = True
    """False: some is read, and nobody asked to know for how long."""

    def _read_by(self, sent: Sent | None) -> None:
        """A message is about to be sent that reads the user's memory. `sent` says when that is over (None: nobody)."""
        if sent is None:
            self._tracked = False
        elif self._sends is None:
            self._sends = [sent]
        else:
            self._sends.append(sent)

    @property
    def sent(self) -> bool:
        """Whether arrays and other buffers among the arguments may be changed again. (They may in any case when a
        result has come.) ValueError if that is not known: set the flag `track=True` before the call.
        """
        self._check_tracked()
        return all(sent.done() and sent._error is None for sent in self._sends or ())

    def wait_for_send(self, timeout: float | None = -1) -> None:
        """Wait until arrays and other buffers among the arguments may be changed again: the cluster has them (and has
        written them down, if it keeps a journal), and they are not read here any more.

            result = view.set_flags(track=True).apply_async(f, array)
            result.wait_for_send()
            array[:] = 0                     # f gets what was in it at the call

        Raises TimeoutError after `timeout` seconds (-1 or None: never), ControllerLost if the cluster is gone, and
        ValueError if it is not known: set the flag `track=True` before the call.
        """
        self._check_tracked()
        deadline = deadline_of(limit_of(timeout))
        for sent in self._sends or ():
            if not sent._wait_done(left_until(deadline)):
                raise TimeoutError(f"the arguments are not sent after {timeout:g} s")
            sent._outcome()

    def _check_tracked(self) -> None:
        if not self._tracked:
            raise ValueError("when the arguments are sent is not known; set the flag track=True before the call")


def watch(link: Any, result: Sending, task: int, *, track: bool) -> None:
    """A task with buffers is about to be submitted for this result."""
    result._read_by(link.track(task) if track else None)
