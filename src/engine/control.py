"""The control thread: answers the controller while the main thread runs user code.

It sleeps without a timer unless something of the main thread's is pending: then it looks every `TICK_S`, and what has
not moved since it last looked is sent from here. The main thread wakes it by `Waker.nudge`, which costs nothing while
it is awake.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import traceback
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import zmq

from ..transport import Monitor, send
from ..wire.messages import (
    Answer,
    Ask,
    ControlHello,
    Exit,
    Farewell,
    GivenBack,
    Interrupt,
    Pong,
    Refused,
    Resume,
    TakeBack,
)
from .link import log, receive_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..wire.messages import ToEngine
    from .descriptors import Descriptors
    from .parts import Parts

TICK_S = 0.02
"""How long a result or output may wait for the main thread before it is sent from here: one to two ticks."""

PATIENCE_S = 0.005
"""How long to wait for the main thread to leave its socket; while it is there it takes in messages itself."""

NAMED_WAIT_S = 0.03
"""How long calls that are to be given back, and are not known here, may still be on their way on the other socket."""

NAMED_RETRY_S = 0.003

FAILED = 70
"""Exit code after an error of our own."""


class Control:
    """The control thread and its socket. `start` it once the main thread's parts exist."""

    def __init__(
        self,
        parts: Parts,
        *,
        open_socket: Callable[[], zmq.Socket[bytes]],
        hello: ControlHello,
        greet: Callable[[], None],
        is_greeting: Callable[[], bool],
        leave: Callable[[zmq.Socket[bytes], int, bool], None],
        lifeline: int | None,
        descriptors: Descriptors,
        questions: Mapping[str, Callable[[], Any]],
    ) -> None:
        self.said_hello = threading.Event()
        self._open_socket = open_socket
        self._hello = hello
        self._greet = greet
        self._is_greeting = is_greeting
        self._books = parts.books
        self._link = parts.link
        self._waker = parts.control_waker
        self._current = parts.current
        self._leave = leave
        self._lifeline = lifeline
        self._descriptors = descriptors
        self._questions = questions
        self._answers: deque[Answer] = deque()
        self._stop: tuple[int, bool] | None = None
        self._wanted: list[_Wanted] = []
        self._seen_flushes = -1
        self._seen_slices = -1
        self._socket: zmq.Socket[bytes]
        self._thread = threading.Thread(target=self._run, name="enginery-control", daemon=True)
        leave_to_itself(self._thread)

    def start(self) -> None:
        """Start the thread, with SIGINT blocked: signals are for the main thread."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def stop(self, code: int, *, orderly: bool) -> None:
        """Have the engine end (any thread). Orderly: what is finished is delivered first, and a goodbye."""
        if self._stop is None:
            self._stop = code, orderly
        self._waker.wake()

    @property
    def stopping(self) -> bool:
        """Whether the engine is about to end."""
        return self._stop is not None

    # --------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:
            log("the control thread failed; the engine ends\n" + traceback.format_exc())
            os._exit(FAILED)

    def _serve(self) -> None:
        self._socket = socket = self._open_socket()
        send(socket, self._hello)
        monitors = (Monitor(socket), self._link.monitor)
        for monitor in monitors:
            monitor.events()  # its descriptor says nothing until it was once read empty
        self.said_hello.set()
        poll = select.poll()
        for monitor in monitors:
            poll.register(monitor.fd, select.POLLIN)
        poll.register(int(socket.getsockopt(zmq.FD)), select.POLLIN)
        poll.register(self._waker.fd, select.POLLIN)
        for fd in self._descriptors.fds:
            poll.register(fd, select.POLLIN)
        if self._lifeline is not None:
            poll.register(self._lifeline, select.POLLIN)
        next_tick = 0.0
        while self._stop is None:
            if self._wanted:
                self._retry_named()
            if self._current.is_aimed:
                with self._books.lock:
                    self._current.aim_again()
            while self._answers:
                send(socket, self._answers.popleft())
            for monitor in monitors:
                if monitor.came_back():
                    self._link.lost_touch = True
            if self._link.lost_touch:
                self._link.lost_touch = False
                send(socket, self._hello)
                self._greet()
            if self._is_greeting():
                self._link.receive_for_main(PATIENCE_S)
            while receive_one(socket, self.on_message):  # last of all uses of the socket: see `link` on descriptors
                pass
            if self._wanted or self._is_greeting():
                timeout_s: float | None = NAMED_RETRY_S
            elif self._fall_asleep() and not self._current.is_aimed:
                timeout_s = None
            else:
                timeout_s = TICK_S
            ready = poll.poll(None if timeout_s is None else timeout_s * 1000)
            for fd, _ in ready:
                if fd == self._waker.fd:
                    self._waker.clear()
                elif fd in self._descriptors.fds:
                    self._descriptors.read()
                elif fd == self._lifeline and not _is_alive(fd):
                    os._exit(1)  # our nanny has died: nobody would know of us
            now = monotonic()
            if now >= next_tick and not self._waker.asleep:
                next_tick = now + TICK_S * 0.9
                self._tick()
        monitors[0].close()
        self._leave(socket, *self._stop)

    def _fall_asleep(self) -> bool:
        """Say whether there is nothing to look after, having asked to be woken when there is."""
        if self._waker.asleep:
            return True
        self._waker.asleep = True  # before looking: what becomes pending from now on wakes us
        if self._link.pending or self._books.claim is not None:
            self._waker.asleep = False
            return False
        return True

    def _tick(self) -> None:
        link, claim = self._link, self._books.claim
        if link.pending and link.flushes == self._seen_flushes:
            link.flush_for_main()
        if claim is not None:
            if claim.slices == self._seen_slices:
                self._books.hurry(claim.slices)
            self._seen_slices = claim.slices
        self._seen_flushes = link.flushes

    # --------------------------------------------------------------------------------------------- messages

    def on_message(self, message: ToEngine, _frames: Sequence[Any]) -> None:
        """Deal with a message on the control socket."""
        if isinstance(message, TakeBack):
            self.on_take_back(message)
        elif isinstance(message, Interrupt):
            with self._books.lock:
                self._current.aim(message.task)
        elif isinstance(message, Ask):
            name = f"enginery-{message.question}"
            thread = threading.Thread(target=self._find_answer, args=(message,), name=name, daemon=True)
            leave_to_itself(thread)
            thread.start()
        else:
            self.on_notice(message)

    def _find_answer(self, ask: Ask) -> None:
        """Answer a question, in a thread of its own: it may take a while, and we are needed."""
        answer = Answer(ask.request)
        find = self._questions.get(ask.question)
        try:
            if find is None:
                answer.error = f"an engine does not know the question {ask.question!r}"
            else:
                answer.value = find()
        except Exception as error:
            log(f"the question {ask.question!r} failed\n{traceback.format_exc()}")
            answer.error = f"{ask.question} failed on the engine: {type(error).__name__}: {error}"
        self._answers.append(answer)
        self._waker.wake()

    def on_notice(self, message: ToEngine) -> None:
        """Deal with a message that may come on either socket, in the thread that received it."""
        if isinstance(message, Exit):
            self.stop(0, orderly=True)
        elif isinstance(message, Farewell):
            self.stop(0, orderly=False)
        elif isinstance(message, Resume):
            self._link.lost_touch = True
            self._waker.wake()
        elif isinstance(message, Refused):
            log(f"the controller refused: {message.reason}")
            self.stop(1, orderly=False)
        elif not isinstance(message, Pong):
            log(f"{type(message).__name__} came on the wrong socket and was dropped")

    def on_take_back(self, message: TakeBack) -> None:
        """Give back unstarted work, also what has come and the main thread has not had time to see."""
        self._link.receive_for_main(PATIENCE_S)
        if message.tasks is None:
            with self._link.lock:  # so it was before we told what we hold, or after
                calls, tails = self._books.give_back_half()
                send(self._socket, GivenBack(message.request, calls, tails, self._link.session))
        else:
            with self._link.lock:
                tails = self._books.give_back_rest(message.tasks)
                wanted = _Wanted(message, tails, monotonic() + NAMED_WAIT_S, self._link.session)
            self._wanted.append(wanted)
            self._answer_named()

    def _retry_named(self) -> None:
        self._link.receive_for_main(PATIENCE_S)
        self._answer_named()

    def _answer_named(self) -> None:
        """Withdraw what is asked for by name, and answer when all of it has been seen, or time is over.

        A call that is not known here has ended, or was sent before the request and is late: each socket keeps its
        order, but neither waits for the other. Were a late one taken for started, nobody could withdraw it.
        """
        waiting = []
        for wanted in self._wanted:
            with self._link.lock:
                wanted.belong_to(self._link.session)
                given, unknown = self._books.give_back_named(wanted.missing)
                wanted.given += given
                wanted.missing = unknown
                if unknown and monotonic() < wanted.until:
                    waiting.append(wanted)
                else:
                    send(self._socket, GivenBack(wanted.request, wanted.given, wanted.tails, wanted.session))
        self._wanted = waiting


class _Wanted:
    """A `TakeBack` by name that is not answered yet."""

    def __init__(self, message: TakeBack, tails: list[tuple[int, int]], until: float, session: int) -> None:
        self.request = message.request
        self.tails = tails
        self.until = until
        self.missing = message.tasks or []
        self.given: list[int] = []
        self.session = session

    def belong_to(self, session: int) -> None:
        """Answer in this session: what was given before it began, the controller has heard of by then."""
        if session != self.session:
            self.session = session
            self.given, self.tails = [], []


def leave_to_itself(thread: Any) -> None:
    """Have a debugger that stops the engine not stop this thread, nor look at it."""
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True


def _is_alive(lifeline: int) -> bool:
    try:
        return bool(os.read(lifeline, 4096))
    except BlockingIOError:
        return True
    except OSError:
        return False


def stdio_flush() -> None:
    """Flush what the interpreter itself has buffered; failing is no reason to stay."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
