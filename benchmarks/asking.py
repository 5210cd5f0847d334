"""Asking a peer: its program in its own environment, questions in and answers out as JSON lines."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
import uuid

from environments import ROOT, STATE, NotMeasuredError, environment_of, python_of
from peers import census
from peers.versions import SOURCES

ANSWER_S = 150.0
"""How long a question may take."""

END_S = 15.0
"""How long a program may take to end after its last answer."""

LEAVE_S = 3.0
"""How long what it started may take to end after it; then it is left over."""


class Session:
    """One peer with a running cluster of n engines, for some questions; a context manager.

    `started_s` is the time from nothing (before the interpreter was started) to the first answer of all engines, and
    `stopped_s`, after the block, the time that stopping took. Whatever survives is killed and counted in `left_over`.
    """

    def __init__(self, name, n, *, module=None):
        self.name = name
        self.n = n
        self.module = module or SOURCES[name].module
        self.options = SOURCES[name].options
        self.mark = uuid.uuid4().hex
        self.started_s = self.stopped_s = 0.0
        self.left_over = 0
        self.rest = b""
        self.in_step = True  # every question so far was answered

    def __enter__(self):
        command = [python_of(self.name), "-m", self.module, "--session"]
        environment = {**environment_of(self.name), census.MARK: self.mark}
        logs = STATE / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{self.module.rpartition('.')[2]}.log"
        with self.log.open("ab") as log:
            born = time.monotonic()
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self.started_s = self.ask("start", n=self.n, **self.options)["at"] - born
        except BaseException:
            self._end()
            raise
        return self

    def ask(self, question, **arguments):
        """Return the answer; NotMeasuredError with the reason if there is none."""
        line = json.dumps({"question": question, **arguments}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except OSError:
            self.in_step = False
            raise NotMeasuredError(f"its program ended; see {self._log_name()}") from None
        self.in_step = False
        answer = json.loads(self._read_line(question))
        self.in_step = True
        if not answer.pop("ok"):
            raise NotMeasuredError(answer["why"])
        return answer

    def _read_line(self, question):
        deadline = time.monotonic() + ANSWER_S
        out = self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self.rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise NotMeasuredError(f"no answer to {question!r} within {ANSWER_S:.0f} s")
                data = os.read(out.fileno(), 1 << 16)
                if not data:
                    raise NotMeasuredError(f"its program ended during {question!r}; see {self._log_name()}")
                self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def abandon(self):
        """Have it end without being asked to stop: it could not any more."""
        self.in_step = False

    def _log_name(self):
        return self.log.relative_to(ROOT.parent)

    def __exit__(self, kind, error, traceback):
        if self.in_step and (kind is None or issubclass(kind, NotMeasuredError)):
            try:
                self.stopped_s = self.ask("stop")["seconds"]
            except NotMeasuredError as failure:
                print(f"  {self.name} did not stop in order: {failure}", flush=True)
        self._end()

    def _end(self):
        self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        deadline = time.monotonic() + LEAVE_S
        while (survivors := census.marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.left_over = len(survivors)
        for process in survivors:
            try:
                process.send_signal(signal.SIGKILL)
            except census.psutil.Error:
                pass
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Bench:
    """What a row's program measures with: who takes part, how thoroughly, and three ways to ask."""

    def __init__(self, peers, *, quick=False, repeat=None, curve=False):
        self.peers = tuple(peers)
        self.quick = quick
        self.repeat = repeat or (1 if quick else 3)
        self.curve = curve

    def session(self, name, n=4, *, module=None):
        """Return a session; raises NotMeasuredError on entry if the peer does not start."""
        return Session(name, n, module=module)

    def each(self, names, ask):
        """Return ask(name), or the reason why not, for each of those who take part."""
        answers = {}
        for name in names:
            if name not in self.peers:
                continue
            self.note(name)
            try:
                answers[name] = ask(name)
            except NotMeasuredError as error:
                answers[name] = {"why": str(error)}
        return answers

    def in_turn(self, names, ask, *, rounds, n=4):
        """Put a question to several in turn (A B C A B C ...), so that the machine's moods meet all of them alike.

        `ask(session, round)` returns an answer; the result is the list of answers, or the reason why not, by name.
        """
        sessions, answers = {}, {}
        try:
            for name in names:
                if name not in self.peers:
                    continue
                self.note(name)
                session = self.session(name, n)
                try:
                    sessions[name] = session.__enter__()
                    answers[name] = []
                except NotMeasuredError as error:
                    answers[name] = {"why": str(error)}
            for round_ in range(rounds):
                for name, session in sessions.items():
                    if isinstance(answers[name], list):
                        try:
                            answers[name].append(ask(session, round_))
                        except NotMeasuredError as error:
                            answers[name] = {"why": str(error)}
        finally:
            for session in sessions.values():
                session.__exit__(None, None, None)
        return answers

    def repeated(self, ask, *, at_most_s=25.0):
        """Return the answers of `repeat` times asking, or of fewer when it takes long."""
        answers = []
        end = time.monotonic() + at_most_s
        while len(answers) < self.repeat and (not answers or time.monotonic() < end):
            answers.append(ask())
        return answers

    def note(self, text):
        print(f"  {text}", flush=True)
