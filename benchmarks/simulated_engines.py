"""A cluster with a real controller and a thousand engines that are only sockets.

    python simulated_engines.py CONNECTION N

is one process that is a nanny and N engines towards the controller: every engine has its two sockets and says what a
real one says, but runs nothing; the result of each call is None. What it measures is the controller and the client. Its
own part (about 10 us for each call, on one core) is included in every figure.

`cluster(n)` starts a controller and that process, and gives the path of the file that a client connects with.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq
from enginery import config, ids, serialize, transport
from enginery.wire import codec
from enginery.wire import messages as m

HOST = "simulated"
START_S = 60.0


class Engine:
    """What one engine answers: `receive` takes a message to it and returns what to send back, or None."""

    def __init__(self, engine: int, incarnation: int) -> None:
        self.engine = engine
        self.incarnation = incarnation

    def hello(self) -> m.EngineHello:
        return m.EngineHello(m.VERSION, self.engine, self.incarnation, os.getpid(), HOST)

    def control_hello(self) -> m.ControlHello:
        return m.ControlHello(self.engine, self.incarnation)

    def receive(self, message):
        match message:
            case m.Run():
                return m.Done([self._result(call) for call in message.calls])
            case m.TakeBack():
                return m.GivenBack(message.request, [], [])
            case m.Refused():
                raise SystemExit(f"the controller refused engine {self.engine}: {message.reason}")
        return None

    def _result(self, call):
        payload = NONE if call.hi == 0 else serialize.dumps([None] * (call.hi - call.lo))[0]
        now = time.time()
        return m.Result(call.id, m.Status.OK, payload, 0, self.engine, now, 1e-6, lo=call.lo, hi=call.hi)


NONE = serialize.dumps(None)[0]


class Loop:
    """All sockets of all engines, in one thread, on one epoll: ZeroMQ's own poll looks at every socket each time."""

    def __init__(self, connection: config.Connection, n: int) -> None:
        self.connection = connection
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 2 * n + 64)
        self.epoll = select.epoll()
        self.readers = {}
        self.todo = []
        self.open = True
        self.nanny = self._open(b"n" + HOST.encode() + b".%d" % os.getpid(), self._to_nanny)
        self._send(self.nanny, m.NannyHello(m.VERSION, HOST, os.getpid(), os.cpu_count() or 1, n, head=True))

    def run(self) -> None:
        while self.open:
            while self.todo:
                self._drain(self.todo.pop())
            for fd, _ in self.epoll.poll():
                self._drain(fd)
        self.context.destroy(linger=0)

    def _open(self, identity, react):
        socket = transport.open_dealer(self.context, self.connection, identity)
        fd = socket.fileno()
        self.readers[fd] = socket, react
        self.epoll.register(fd, select.EPOLLIN)
        return socket

    def _send(self, socket, message) -> None:
        transport.send(socket, message)
        self.todo.append(socket.fileno())  # sending may swallow the news of an arrival

    def _drain(self, fd) -> None:
        socket, react = self.readers[fd]
        while self.open:
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            react(socket, parts[0])

    def _to_nanny(self, _socket, header) -> None:
        match codec.decode_to_nanny(header):
            case m.StartEngines(engines):
                for engine, incarnation in engines:
                    self._start(Engine(engine, incarnation))
            case m.StopEngine(engine, incarnation, _):
                # Nobody kills what is only simulated; the controller is told what it wants to hear.
                certificate = m.DeathCertificate(engine, incarnation, os.getpid(), -9, "killed by signal 9 (SIGKILL)")
                self._send(self.nanny, m.EngineExited(certificate))
            case m.Refused(reason):
                raise SystemExit(f"the controller refused the nanny: {reason}")
            case m.Farewell() | m.Exit():
                self.open = False

    def _start(self, engine) -> None:
        def react(socket, header) -> None:
            answer = engine.receive(codec.decode_to_engine(header))
            if answer is not None:
                self._send(socket, answer)

        key = ids.EngineId(engine.engine), ids.Incarnation(engine.incarnation)
        self._send(self._open(ids.control_peer(*key), react), engine.control_hello())
        self._send(self._open(ids.engine_peer(*key), react), engine.hello())


@contextlib.contextmanager
def cluster(n):
    """Run a controller with n simulated engines; give the path of the clients' connection file."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="simulated-"))
    name = "simulated"
    address = f"ipc://{folder}/controller.sock"
    config.save(folder / "controller.json", config.ControllerConfig(cluster=name, address=address))
    for role in ("client", "engine"):
        config.save(folder / f"{role}.json", config.Connection(cluster=name, address=address))
    processes = []
    try:
        ready, theirs = os.pipe()
        settings = str(folder / "controller.json")
        controller = [sys.executable, "-P", "-m", "enginery.controller.app", settings, str(theirs)]
        processes.append(subprocess.Popen(controller, pass_fds=[theirs]))
        os.close(theirs)
        with os.fdopen(ready) as file:
            line = file.readline().strip()
        if not line or line.startswith("error:"):
            raise RuntimeError(f"the controller did not start: {line or 'it said nothing'}")
        processes.append(subprocess.Popen([sys.executable, __file__, str(folder / "engine.json"), str(n)]))
        yield folder / "client.json"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    Loop(config.load(Path(sys.argv[1]), config.Connection), int(sys.argv[2])).run()
