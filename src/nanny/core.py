"""What the nanny decides, with no process, socket, file or clock: events come in, actions come out of `take()`.

An engine process is known by engine and incarnation (`Key`). It is *asked for*, then *running* once it has a pid, and
forgotten when its end is reported. The controller hears exactly one `EngineExited` for every process it asked for, and
an answer for every one it wants stopped that is not there.

A controller with a journal that ends unasked is started again, at once, and after growing pauses when it ends again and
again; then, and always without a journal, its end is the end of the cluster.

A stop goes: tell the controller (`Shutdown`), which says farewell to clients and engines; wait for all to end; after
`GRACE_S`, or `ALONE_S` after the controller's end, kill what is left. Without a controller nothing is waited for.
"""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..certificate import in_a_line, in_words, size
from ..ids import TaskId, show_task
from ..recorder import AFTER_LAST, OVER
from ..wire import messages as m
from .children import Key
from .kills import Kills

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from ..recorder import Entry

GRACE_S = 0.3
"""How long processes may take to end by themselves when the cluster stops."""

CONTROLLER_ENDED = "the controller has ended"

TRIES = 6
"""How many controllers may end, each soon after the one before, until the cluster is given up."""

STEADY_S = 2.0
"""A controller that has run for so long is no failed try."""

PAUSE_S = 0.2
"""Pause before the third controller in a row; it doubles each time."""

ALONE_S = 0.1
"""The same once the controller has gone: there is nobody left whom an engine could tell anything."""

GONE_S = 120.0
"""A controller on another host that has not been heard of for so long is gone, and our engines are of no more use."""

LATE_S = 1.0
"""Who looks so much later than it meant to has heard nothing because it was stopped itself."""

CURVE = 30
"""How many of its last measures of memory a process's certificate tells."""

ACCOUNTS_MAX = 16 << 20
"""Characters of accounts of ends in the log; after that, an end gets one line. A map may kill an engine per item."""


class End(NamedTuple):
    """What is known of an end besides what the process itself has left."""

    now: float = 0.0
    """When it was seen, by the clock of all other times here."""
    epoch: float = 0.0
    """The same in seconds of the epoch."""
    peak_bytes: int = 0
    """The most memory it had resident, by the kernel; 0 if unknown."""


class StartProcess(NamedTuple):
    """Start an engine process."""

    key: Key


class SignalProcess(NamedTuple):
    """Send a signal to an engine process that runs."""

    key: Key
    number: int


class Send(NamedTuple):
    """Send a message to the controller."""

    message: m.EngineExited | m.Running | m.Shutdown | m.Goodbye


class RenewZygote(NamedTuple):
    """The zygote has died: start another."""


class StartController(NamedTuple):
    """Start a controller in place of the one that has ended."""


class KillAll(NamedTuple):
    """Kill the controller, the zygote and every engine, and wait for their ends."""


class Finish(NamedTuple):
    """Clear up and end."""


class Log(NamedTuple):
    """Write a line to the log."""

    text: str


Action = StartProcess | SignalProcess | Send | RenewZygote | StartController | KillAll | Finish | Log


class _Process:
    """An engine process, asked for or running."""

    __slots__ = ("counter", "is_killed", "memory", "pid", "signals")

    def __init__(self, counter: str | None) -> None:
        self.pid = 0
        """0 until it is known to run."""
        self.signals: list[int] = []
        """To be sent as soon as it runs."""
        self.is_killed = False
        """SIGKILL was sent from here, or is to be."""
        self.memory: deque[tuple[float, int]] = deque(maxlen=CURVE)
        """What it weighed when."""
        self.counter = counter
        """The file that counts the kernel's kills where it is."""


class NannyCore:
    """The nanny's state. See the module for what happens when.

    `counter` is the file that counts the kernel's kills where engines begin; None if there is none to be read. With
    `durable`, another controller can take over from one that ends. `is_guest`: the controller is on another host, and
    so not ours to start, to stop or to watch.
    """

    def __init__(self, counter: str | None = None, *, durable: bool = False, is_guest: bool = False) -> None:
        self.processes: dict[Key, _Process] = {}
        self.ended: dict[int, m.DeathCertificate] = {}
        """How each engine's last process that ended has ended."""
        self.was_welcomed = False
        """A controller has ever welcomed us."""
        self._durable = durable
        self.is_guest = is_guest
        """Our controller is on another host."""
        self._heard: float | None = None
        self._tries = 0
        self._controller_since = 0.0
        self._restart_at: float | None = None
        self.controller_runs = False
        """The controller's process exists."""
        self.is_connected = False
        """The controller has welcomed us, so it can be told to stop."""
        self.stopping = ""
        """Why the cluster stops; empty while it does not."""
        self.finished = False
        self._deadline: float | None = None
        self._actions: list[Action] = []
        self._counter = counter
        self._kills = Kills()
        self._told = 0
        """Characters of accounts of ends that are in the log."""

    # -------------------------------------------------------------------------------------------- from the controller

    def on_heard(self, now: float) -> None:
        """Take note that there is a controller."""
        self._heard = now

    def on_nanny_welcome(self, message: m.NannyWelcome) -> None:
        """Take note that the controller knows us; say what we run if it wants to know."""
        self.is_connected = self.was_welcomed = True
        if message.session:
            running = [(key.engine, key.incarnation) for key in self.processes]
            self._actions.append(Send(m.Running(message.session, running, list(self.ended.values()))))

    def hello(self, hello: m.NannyHello) -> m.NannyHello:
        """Return the hello with which to introduce ourselves, again if we have done so."""
        return msgspec.structs.replace(hello, welcomed=self.was_welcomed)

    def on_start_engines(self, message: m.StartEngines) -> None:
        """Start what is asked for. An older process of the same engine has had its time."""
        if self.stopping:
            return
        for engine, incarnation in message.engines:
            key = Key(engine, incarnation)
            if key in self.processes:
                continue
            for other in self.processes:
                if other.engine == engine and other.incarnation < incarnation:
                    self._signal(other, signal.SIGKILL)
            self.processes[key] = _Process(self._counter)
            self._actions.append(StartProcess(key))

    def on_stop_engine(self, message: m.StopEngine) -> None:
        """Send the signal; say so if there is nobody to get it."""
        key = Key(message.engine, message.incarnation)
        if key in self.processes:
            self._signal(key, message.signal)
        elif (known := self.ended.get(key.engine)) is not None and known.incarnation == key.incarnation:
            self._actions.append(Send(m.EngineExited(known)))
        else:
            self._report(key, 0, None, "was not running")

    def on_farewell(self, message: m.Farewell, now: float) -> None:
        """The controller stops, so everything does. The engines hear it from the controller too."""
        self._begin_stop(message.reason, now)

    def on_exit(self, now: float) -> None:
        """Stop, because the controller says so. It then has told, or will tell, the engines."""
        self._begin_stop("the controller asked for it", now)

    def on_refused(self, message: m.Refused, now: float) -> None:
        """Without a controller that talks to us there is no cluster."""
        self.stop(f"the controller refuses its nanny: {message.reason}", now)

    # ------------------------------------------------------------------------------------------- from this host

    def on_controller_started(self, now: float = 0.0) -> None:
        """Take note that the controller's process exists."""
        self.controller_runs = True
        self._controller_since = now

    def on_controller_exited(self, status: int, now: float) -> None:
        """Without a controller, the engines have no reason to live."""
        self.controller_runs = False
        self.is_connected = False
        if not self.stopping and self._durable and self.was_welcomed and self._try_again(status, now):
            return
        if not self.stopping:
            self._begin_stop(f"{CONTROLLER_ENDED} ({reason_for(status)})", now)
            if not self.finished:
                self._kill_all()
        elif self._deadline is not None:
            self._deadline = min(self._deadline, now + ALONE_S)
        self._finish_if_done()

    def _try_again(self, status: int, now: float) -> bool:
        """Have another controller started, now or after a pause; return False if there were enough."""
        self._tries = 1 if now - self._controller_since >= STEADY_S else self._tries + 1
        if self._tries > TRIES:
            return False
        pause = PAUSE_S * 2 ** (self._tries - 3) if self._tries > 2 else 0.0
        self._actions.append(Log(f"the controller has ended ({reason_for(status)}); another takes over"))
        if pause:
            self._restart_at = now + pause
        else:
            self._actions.append(StartController())
        return True

    def on_started(self, key: Key, pid: int) -> None:
        """Take note of the process, and send it the signals it has missed."""
        process = self.processes.get(key)
        if process is None:
            return
        process.pid = pid
        for number in process.signals:
            self._actions.append(SignalProcess(key, number))
        process.signals.clear()

    def on_unstarted(self, key: Key, reason: str) -> None:
        """Report a process that could not be made."""
        if self.processes.pop(key, None) is not None:
            self._report(key, 0, None, f"could not be started: {reason}")
            self._actions.append(Log(f"engine {key.engine} could not be started: {reason}"))
        self._finish_if_done()

    def on_exited(
        self,
        key: Key,
        status: int | None,
        entry: Entry,
        last_output: str,
        *,
        reason: str = "",
        end: End = End(),  # noqa: B008 - it cannot change
    ) -> None:
        """Report the end of a process, with where it was (its flight recorder) and what it said last."""
        process = self.processes.pop(key, None)
        if process is not None:
            weighed = process.memory[-1][1] if process.memory else 0
            peak_bytes = max([end.peak_bytes, *(resident for _, resident in process.memory)])
            certificate = m.DeathCertificate(
                engine=key.engine,
                incarnation=key.incarnation,
                pid=process.pid,
                exit_code=status,
                reason=reason or self._reason(process, status, peak_bytes, end.now),
                task=entry.task,
                item=entry.item,
                memory_bytes=weighed,
                last_output=last_output,
                since=0.0 if entry.task is None or entry.item == AFTER_LAST else entry.since,
                ended=end.epoch,
                peak_bytes=peak_bytes,
                memory_curve=[(round(end.now - at, 3), resident) for at, resident in process.memory],
                coroutines=list(entry.coroutines),
                step=entry.step,
            )
            self._certify(certificate)
            self._log_end(certificate, is_killed=process.is_killed)
        self._finish_if_done()

    def on_zygote_lost(self, status: int) -> None:
        """Start another. The caller reports the engines, which all died with it, by `on_exited` before this."""
        if not self.stopping:
            self._actions += [
                Log(f"the zygote has ended ({reason_for(status)}), and all its engines with it"),
                RenewZygote(),
            ]

    def on_memory(self, key: Key, resident: int, now: float = 0.0, counter: str | None = None) -> None:
        """Take note of what a process weighs, and which file counts the kernel's kills where it is now."""
        process = self.processes.get(key)
        if process is not None and resident:  # else it was gone, and the look at the rest may have been late too
            process.memory.append((now, resident))
            process.counter = counter

    def on_kills(self, counter: str, count: int, now: float) -> None:
        """Take note of how many processes the kernel has killed for lack of memory, by this file."""
        self._kills.note(counter, count, now)

    def stop(self, reason: str, now: float) -> None:
        """Stop the cluster, for a reason that is not the controller's: it is told first."""
        if self.stopping:
            return
        told = self.controller_runs and self.is_connected
        if told:
            self._actions.append(Send(m.Shutdown()))
        elif self.is_guest and self.was_welcomed:
            self._actions.append(Send(m.Goodbye()))
        self._begin_stop(reason, now)
        if not told and not self.finished:
            self._kill_all()

    # ----------------------------------------------------------------------------------------------------- the turn

    def running(self) -> list[tuple[Key, int]]:
        """Return the processes that run, with their pids."""
        return [(key, process.pid) for key, process in self.processes.items() if process.pid]

    def counters(self) -> AbstractSet[str]:
        """Return the files that count the kernel's kills where engines are or begin. Forget about others."""
        counters = {process.counter for process in self.processes.values()} | {self._counter}
        found = {counter for counter in counters if counter is not None}
        self._kills.keep(found)
        return found

    def counter_for(self, key: Key, status: int) -> str | None:
        """Return the file whose count would explain an end with this status; None if there is nothing to explain."""
        process = self.processes.get(key)
        if process is None or process.is_killed or status != -signal.SIGKILL:
            return None
        return process.counter

    def deadline(self) -> float | None:
        """Return when to call `tick` at the latest."""
        if self._restart_at is not None and not self.stopping:
            return self._restart_at
        if self.is_guest and self._heard is not None and not self.stopping:
            return self._heard + GONE_S
        return self._deadline

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._restart_at is not None and now >= self._restart_at:
            self._restart_at = None
            if not self.stopping:
                self._actions.append(StartController())
        if self.is_guest and self._heard is not None and not self.stopping and now - self._heard >= GONE_S:
            if now - self._heard >= GONE_S + LATE_S:
                self._heard = now
            else:
                self.stop(f"its controller has not been heard of for {GONE_S:.0f} s", now)
        if self._deadline is None or now < self._deadline:
            return
        self._actions.append(Log(f"{len(self.processes)} engines did not end by themselves"))
        self._kill_all()

    def take(self) -> list[Action]:
        """Return what is to be done, in order, and forget it."""
        actions, self._actions = self._actions, []
        return actions

    # ------------------------------------------------------------------------------------------------------- helpers

    def _signal(self, key: Key, number: int) -> None:
        process = self.processes[key]
        if number == signal.SIGKILL:
            process.is_killed = True
        if process.pid:
            self._actions.append(SignalProcess(key, number))
        else:
            process.signals.append(number)

    def _report(self, key: Key, pid: int, status: int | None, reason: str) -> None:
        certificate = m.DeathCertificate(
            engine=key.engine, incarnation=key.incarnation, pid=pid, exit_code=status, reason=reason
        )
        self._certify(certificate)

    def _certify(self, certificate: m.DeathCertificate) -> None:
        """Tell the controller of an end; if it does not hear it, it will with our next hello."""
        last = self.ended.get(certificate.engine)
        if last is None or last.incarnation <= certificate.incarnation:
            self.ended[certificate.engine] = certificate
        self._actions.append(Send(m.EngineExited(certificate)))

    def _reason(self, process: _Process, status: int | None, nbytes: int, now: float) -> str:
        if status is None:
            return "ended"
        reason = reason_for(status)
        if status != -signal.SIGKILL or process.is_killed or process.counter is None:
            return reason
        if not self._kills.take(process.counter, now):
            return reason
        resident = f" ({size(nbytes)} resident)" if nbytes else ""
        return f"{reason}, likely by the kernel for lack of memory{resident}"

    def _log_end(self, certificate: m.DeathCertificate, *, is_killed: bool) -> None:
        if certificate.exit_code == 0 and self.stopping:
            return  # as it should be, and one of many
        asked = "on request " if is_killed and certificate.exit_code == -signal.SIGKILL else ""
        doing = asked + _doing(certificate)
        if certificate.exit_code == 0 or self._told > ACCOUNTS_MAX:
            self._actions.append(Log(in_a_line(certificate, doing)))
            return
        text = in_words(certificate, doing)
        self._told += len(text)
        if self._told > ACCOUNTS_MAX:
            text += "\n(this log is long: from now on, the end of an engine gets one line)"
        self._actions.append(Log(text))

    def _begin_stop(self, reason: str, now: float) -> None:
        if not self.stopping:
            self.stopping = reason or "no reason given"
            self._actions.append(Log(f"stopping: {self.stopping}"))
            self._deadline = now + GRACE_S
            # What does not run yet never will: the zygote, which would start it, ends with us.
            self.processes = {key: process for key, process in self.processes.items() if process.pid}
        self._finish_if_done()

    def _kill_all(self) -> None:
        self.processes.clear()
        self.controller_runs = False
        self._actions.append(KillAll())
        self._finish()

    def _finish_if_done(self) -> None:
        if self.stopping and not self.processes and not self.controller_runs:
            self._finish()

    def _finish(self) -> None:
        if not self.finished:
            self.finished = True
            self._deadline = None
            self._actions.append(Finish())


def _doing(certificate: m.DeathCertificate) -> str:
    """Return what an engine was doing when it ended, as a clause."""
    if certificate.task is None:
        return "before it had run a task"
    task = f"task {show_task(TaskId(certificate.task))}"
    if certificate.step is not None:
        return f"while it ran task {show_task(TaskId(certificate.step))}"
    if certificate.item == AFTER_LAST:
        waiting = sum(since != OVER for _, since in certificate.coroutines)
        if waiting:
            return f"while {waiting} coroutine task{'s' * (waiting > 1)} waited in it"
        return f"after it had run {task}"
    item = f"item {certificate.item} of " if certificate.item else ""  # a plain call's is 0 too
    return f"while it ran {item}{task}"


def reason_for(status: int) -> str:
    """Return the end of a process as a clause for people.

    >>> reason_for(-9)
    'killed by signal 9 (SIGKILL)'
    >>> reason_for(3)
    'exited with code 3'
    """
    if status >= 0:
        return f"exited with code {status}"
    try:
        name = f" ({signal.Signals(-status).name})"
    except ValueError:
        name = ""
    return f"killed by signal {-status}{name}"
