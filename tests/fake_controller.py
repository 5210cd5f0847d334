"""A controller that does as a test tells it, for one real engine process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq
from enginery import recorder
from enginery.config import Connection, ControllerConfig, save
from enginery.ids import EngineId, Incarnation, control_peer, engine_peer
from enginery.serialize import dumps, loads, to_exception
from enginery.transport import open_router, send_to
from enginery.wire import messages as m
from enginery.wire.codec import decode_to_controller

TEMPLATE = """
import json, os, signal, sys
import enginery.engine.app as app
app.prepare(sys.argv[1:])
print("ready", flush=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.dup2(2, 1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        app.run(json.loads(line))
    os.write(1, b"%d\\n" % pid)
"""


class Template:
    """A process that forks engines."""

    def __init__(self, *preload: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", TEMPLATE, *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline().strip() == "ready"

    def fork(self, setup: dict) -> int:
        self.process.stdin.write(json.dumps(setup) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class FakeController:
    """One ROUTER, one engine. What the engine sends is kept in `results`, `outputs`, `given` and `said`."""

    def __init__(
        self, template: Template | None = None, *, answer: bool = True, lifeline: int | None = None, preload=()
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="enf-", dir="/tmp"))
        self.context = zmq.Context()
        address = f"ipc://{self.directory}/sock"
        self.router, _ = open_router(self.context, ControllerConfig(cluster="test", address=address))
        connection = self.directory / "engine.json"
        save(connection, Connection(cluster="test", address=address))
        self.recorder = self.directory / "0.1.rec"
        self.setup = {
            "engine": 0,
            "incarnation": 1,
            "connection": str(connection),
            "recorder": str(self.recorder),
            "directory": str(self.directory),
            "lifeline": lifeline,
            "preload": list(preload),
        }
        self.process = None
        if template is not None:
            self.pid = template.fork(self.setup)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "enginery.engine.app", json.dumps(self.setup)],
                pass_fds=[lifeline] if lifeline is not None else [],
            )
            self.pid = self.process.pid
        self.task = engine_peer(EngineId(0), Incarnation(1))
        self.control = control_peer(EngineId(0), Incarnation(1))
        self.results: dict[int, list[tuple[m.Result, list]]] = {}
        self.outputs: list[m.Output] = []
        self.given: list[m.GivenBack] = []
        self.said: list[object] = []
        self.functions: set[bytes] = set()
        self.next_id = 1
        self.next_request = 1
        if answer:
            self.until(lambda: self.has(m.EngineHello) and self.has(m.ControlHello), "both hellos")
            self.send(m.EngineWelcome())

    # ------------------------------------------------------------------------------------------ talking

    def send(self, message, frames=()) -> None:
        send_to(self.router, self.task, message, frames)

    def send_control(self, message) -> None:
        send_to(self.router, self.control, message)

    def has(self, kind: type) -> bool:
        return any(isinstance(message, kind) for message in self.said)

    def receive(self, timeout_s: float) -> bool:
        if not self.router.poll(timeout_s * 1000):
            return False
        _peer, header, *frames = self.router.recv_multipart()
        message = decode_to_controller(header)
        if isinstance(message, m.Done):
            for result in message.results:
                mine, frames = frames[: result.frames], frames[result.frames :]
                self.results.setdefault(result.id, []).append((result, mine))
            assert not frames
        elif isinstance(message, m.Outputs):
            self.outputs.extend(message.records)
        elif isinstance(message, m.GivenBack):
            self.given.append(message)
        else:
            self.said.append(message)
        return True

    def until(self, condition, what: str, timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"after {timeout_s:g} s, still not: {what}"
            self.receive(min(left, 0.05))

    def settle(self, seconds: float) -> None:
        """Receive whatever comes in this time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.receive(left)

    # ------------------------------------------------------------------------------------------ work

    def _function(self, function) -> tuple[bytes, list[m.Function]]:
        if isinstance(function, bytes):
            return function, []
        pickled, buffers = dumps(function)
        assert not buffers
        digest = b"f" + hashlib.blake2b(pickled, digest_size=15).digest()
        if digest in self.functions:
            return digest, []
        self.functions.add(digest)
        return digest, [m.Function(digest, pickled)]

    def call(self, function, *args, fixed: bool = False, announce: bool = False, **kwargs):
        """Return a Call, its functions and frames, not sent."""
        digest, functions = self._function(function)
        payload, frames = dumps((args, kwargs))
        call = m.Call(self.next_id, digest, payload, len(frames), fixed=fixed, announce=announce)
        self.next_id += 1
        return call, functions, frames

    def run(self, *prepared) -> list[int]:
        """Send prepared calls in one message; return their ids."""
        calls, functions, frames = [], [], []
        for call, some_functions, some_frames in prepared:
            calls.append(call)
            functions += some_functions
            frames += some_frames
        self.send(m.Run(functions, calls), frames)
        return [call.id for call in calls]

    def submit(self, function, *args, **kwargs) -> int:
        return self.run(self.call(function, *args, **kwargs))[0]

    def map(self, function, items, lo: int = 0, hi: int | None = None, fixed: bool = False) -> int:
        """Start a divisible call; return its id."""
        digest, functions = self._function(function)
        payload, frames = dumps(items)
        n = len(items[0]) if isinstance(items, tuple) else len(items)
        call = m.Call(self.next_id, digest, payload, len(frames), lo, n if hi is None else hi, fixed)
        self.next_id += 1
        self.send(m.Run(functions, [call]), frames)
        return call.id

    def result(self, task: int, timeout_s: float = 15.0) -> m.Result:
        self.until(lambda: task in self.results, f"a result of task {task}", timeout_s)
        return self.results[task][0][0]

    def value(self, task: int, timeout_s: float = 15.0):
        """Return the value of a plain call, or raise what it raised."""
        result = self.result(task, timeout_s)
        return self.decode(*self.results[task][0]) if result.status != m.Status.REFUSED else result.payload.decode()

    @staticmethod
    def decode(result: m.Result, frames):
        value = loads(result.payload, frames)
        if result.status == m.Status.ERROR:
            raise to_exception(value, result.engine)
        return value

    def items(self, task: int, lo: int, hi: int, timeout_s: float = 30.0) -> list:
        """Return values or errors of items [lo, hi) when all have come, each exactly once."""
        self.until(lambda: self.covered(task) >= hi - lo, f"all items of task {task}", timeout_s)
        found: dict[int, object] = {}
        for result, frames in self.results.get(task, []):
            if result.status == m.Status.OK:
                values = loads(result.payload, frames)
                assert len(values) == result.hi - result.lo
            else:
                values = [to_exception(loads(result.payload, frames), 0)] * (result.hi - result.lo)
            for i, value in enumerate(values, result.lo):
                assert i not in found, f"item {i} has come twice"
                found[i] = value
        assert sorted(found) == list(range(lo, hi))
        return [found[i] for i in range(lo, hi)]

    def covered(self, task: int) -> int:
        return sum(result.hi - result.lo for result, _ in self.results.get(task, []))

    def take_back(self, tasks: list[int] | None = None) -> m.GivenBack:
        request = self.next_request
        self.next_request += 1
        self.send_control(m.TakeBack(request, tasks))
        self.until(lambda: any(given.request == request for given in self.given), "an answer to TakeBack")
        return next(given for given in self.given if given.request == request)

    def wait_running(self, task: int) -> None:
        self.until(lambda: recorder.read(self.recorder).task == task, f"task {task} running")

    # ------------------------------------------------------------------------------------------ the end

    def alive(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def until_gone(self, timeout_s: float = 10.0) -> None:
        self.until(lambda: not self.alive(), "the engine's end", timeout_s)

    def close(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.until_gone()
        self.router.close(0)
        self.context.term()
        for path in self.directory.iterdir():
            path.unlink()
        self.directory.rmdir()
