"""What the main thread is doing right now, and the one SIGINT handler that may break into it.

An interrupt hits the task it was meant for or nothing. The rules that make it so:

- The handler stays for the engine's life and raises only while `armed`: inside user code, nowhere else. It changes that
  before it raises, so that a second signal cannot break into what the first one unwinds through.
- Code may catch the interrupt and run on. So where a frame of the user's was struck, another interrupt for the same
  task strikes again (`STRUCK`), but never in a frame of the runner's: that has left user code, and is about to disarm.
- An interrupt for a task is sent (`aim`) under the lock under which tasks are claimed, and only if that task has been
  claimed and not left. It stays in `target` until the next claim; so it is not lost when it comes just before the
  user's code starts.
- Before the next task is claimed, a signal that is still on its way is waited for (`settle`).
- An import is not broken into (`HOLD_S`): half a module would be left, and many packages can never be imported again
  then. The interrupt is sent again until it finds other code (`aim_again`).
- The event loop itself is never struck, only what user code has on it: a step of a coroutine, or a callback, while its
  guard (`loop`) says whose it is (`step`). A coroutine that waits is cancelled, in the loop (`interrupt`).
"""

from __future__ import annotations

import contextvars
import functools
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..recorder import NO_TASK

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType


STRUCK = 2
"""State of `armed`: user code was interrupted, and unwinds or runs on."""

HOLD_S = 5.0
"""For so long an interrupt for a task waits for an import to end; an import that hangs can be interrupted then."""

OF_TASK: contextvars.ContextVar[int] = contextvars.ContextVar("enginery_task", default=NO_TASK)
"""The task to which work on the event loop belongs, and what it starts there or in threads."""

FRONT_END = NO_TASK - 1
"""Stands there for the front ends attached to the engine: what their cells start, and their kernel's own threads."""

OWNER = "_enginery_task"
"""The attribute of a thread that says which task started it."""

_RUNNERS = {str(Path(__file__).with_name(name)) for name in ("runner.py", "items.py", "loop.py")}
"""Whose frames call user code. Signals come there too: before, after, and while a function without a frame runs."""

_IMPORT = "<frozen importlib._bootstrap>", "_find_and_load"


class Awaited:
    """A coroutine that is awaited for a task."""

    __slots__ = ("asked", "future", "interrupts", "is_task", "outputs", "started", "task")

    def __init__(self, task: int, *, is_task: bool = False, started: float = 0.0) -> None:
        self.task = task
        self.is_task = is_task
        """The coroutine is all of the task, which is not the running one when it waits."""
        self.started = started
        """When it began, by the clock of the calls."""
        self.future: asyncio.Task[object] | None = None
        self.asked = 0
        """How many interrupts are to reach it still."""
        self.interrupts = 0
        """How many have reached it."""
        self.outputs = 0
        """How many output records of the task there are so far, if the coroutine is all of it."""


class Current:
    """The running task, as signal handler, control thread and output streams see it.

    The attributes are for the runner, which assigns to them directly: this is its innermost loop.
    """

    __slots__ = (
        "_fresh",
        "_held",
        "_since",
        "_thread",
        "armed",
        "awaited",
        "epoch",
        "interrupt",
        "interrupted",
        "looping",
        "outputs",
        "step",
        "stray",
        "target",
        "task",
    )

    def __init__(self) -> None:
        self.task = NO_TASK
        """The task that was claimed last and has not been left. Set under the lock of the books."""
        self.armed: int = False
        """User code is running and may be interrupted (True), or has been (`STRUCK`)."""
        self.target = NO_TASK
        """The task that an interrupt on its way is meant for."""
        self.interrupted = False
        """The handler has raised since this was last set to False (by whoever wants to know)."""
        self.outputs = 0
        """How many output records of the task there are so far."""
        self.epoch = 0.0
        """To be added to `perf_counter()` to get the time of day."""
        self.step = NO_TASK
        """The task of which something on the event loop runs right now."""
        self.awaited: dict[int, Awaited] = {}
        """The coroutines that are awaited, by task; changed by the main thread only."""
        self.looping = False
        """The event loop runs."""
        self.interrupt: Callable[[Awaited], None] = lambda _awaited: None
        """Has a coroutine cancelled in the loop (any thread)."""
        self.stray: Callable[[int], None] = lambda _owner: None
        """Is told of a signal for nobody in particular that found nothing to strike, and whose code was close."""
        self._fresh = False
        """An interrupt for the target was sent that has not struck."""
        self._since = 0.0
        """Since when."""
        self._held = False
        """Its signal came while something was imported."""
        self._thread = threading.main_thread().ident or 0

    def owner(self) -> int:
        """Return the task that what is written now, by this thread, belongs to; NO_TASK if there is none.

        That of a thread, or of something on the event loop, is the task that started it, whatever runs by now.
        """
        origin = self.origin()
        return NO_TASK if origin == FRONT_END else origin

    def origin(self) -> int:
        """Return the same, or FRONT_END for what a front end has started."""
        if self.is_main_thread():
            running = self.task if self.step == NO_TASK else self.step
            return OF_TASK.get() if running == NO_TASK else running
        started_by = OF_TASK.get()
        if started_by == NO_TASK:
            started_by = getattr(threading.current_thread(), OWNER, NO_TASK)
        return self.task if started_by == NO_TASK else started_by

    def is_main_thread(self) -> bool:
        """Return whether the thread that asks is the main thread."""
        return threading.get_ident() == self._thread

    def count(self, task: int) -> None:
        """There is one more record of output of that task. Whoever counts excludes others."""
        awaited = self.awaited.get(task)
        if awaited is not None and awaited.is_task:
            awaited.outputs += 1
        elif task == self.task:
            self.outputs += 1

    def own_threads(self) -> None:
        """Have every thread that is started from now on know its owner. To be called once."""
        start = threading.Thread.start

        @functools.wraps(start)
        def owned(thread: threading.Thread) -> None:
            setattr(thread, OWNER, self.origin())
            start(thread)

        threading.Thread.start = owned  # type: ignore[method-assign, assignment] # no hook is offered

    def install(self) -> None:
        """Become the handler of SIGINT. To be called once, in the main thread."""
        self._thread = threading.get_ident()
        signal.signal(signal.SIGINT, self.on_sigint)

    def on_sigint(self, _signum: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt in user code, unless the signal is meant for another task."""
        ours = frame is None or frame.f_code.co_filename in _RUNNERS
        running = self.task if self.step == NO_TASK else self.step
        if self.armed and ours and self.looping:  # only its guard: a step that was not taken would never be
            if self.target == NO_TASK:
                self.stray(self.step)
        elif self.armed == STRUCK:
            if self._fresh and self.target == running and not ours and not self._is_held(frame):
                self._strike(STRUCK)
        elif self.armed:
            if self.target == NO_TASK or (self.target == running and not self._is_held(frame)):
                self._strike(False if ours else STRUCK)
        elif self.looping and self.target == NO_TASK:
            self.stray(NO_TASK)

    def _is_held(self, frame: FrameType | None) -> bool:
        """Return whether the interrupt that was sent has to wait for an import. Those of front ends are sent once."""
        waits = self._fresh and self.target != FRONT_END and time.monotonic() < self._since + HOLD_S
        self._held = waits and _is_importing(frame)
        return self._held

    def strike(self) -> None:
        """Interrupt the running task here and now (main thread, armed), before its code has begun."""
        self._strike(False)

    def _strike(self, armed: int) -> NoReturn:
        """Raise, armed like that from now on.

        The target stays until `settle`: its signal may be still to come, when a signal from elsewhere was faster.
        """
        self.armed = armed
        if self._fresh and (awaited := self.awaited.get(self.target)) is not None:
            awaited.asked -= 1  # it need not be cancelled too
        self._fresh = False
        self.interrupted = True
        raise KeyboardInterrupt

    def aim(self, task: int) -> None:
        """Interrupt that task if it runs now. Any thread, with the lock of the books held."""
        awaited = self.awaited.get(task)
        if awaited is not None:
            self.interrupt(awaited)
        if (self.task if self.step == NO_TASK else self.step) == task:
            if not self._fresh or self.target != task:
                self._since = time.monotonic()
            self.target = task
            self._fresh = True
            signal.pthread_kill(self._thread, signal.SIGINT)

    @property
    def is_aimed(self) -> bool:
        """Whether an interrupt was sent for what runs and has not struck. Any thread."""
        return self._fresh and self.target != NO_TASK and self.target in {self.task, self.step}

    def aim_again(self) -> None:
        """Send that interrupt again if an import was in its way. Any thread, with the lock of the books held."""
        if self._held and self.is_aimed:
            self._held = False
            signal.pthread_kill(self._thread, signal.SIGINT)

    def settle(self) -> None:
        """Have a signal that was sent for the task just left arrive now, where it does no harm.

        Main thread, unarmed, with the lock of the books held: so the signal was sent, and the kernel delivers it before
        the next system call returns.
        """
        time.sleep(0)
        self.target = NO_TASK
        self._fresh = False
        self._held = False


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether code that was interrupted there is part of an import."""
    while frame is not None and frame.f_code.co_filename not in _RUNNERS:
        if (frame.f_code.co_filename, frame.f_code.co_name) == _IMPORT:
            return True
        frame = frame.f_back
    return False
