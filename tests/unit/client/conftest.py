"""A controller and its engines as one thread with a real socket, that does at once what it is told."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
from collections import deque

import pytest
import zmq
from enginery import transport
from enginery.client.client import Client
from enginery.config import Connection, ControllerConfig, save
from enginery.serialize import dumps, failure_from, loads
from enginery.wire import messages as m
from enginery.wire.codec import decode_to_controller

import helpers

ENGINES = 4


class FakeController:
    """Runs tasks itself, in order, unless `hold` is set: then they wait in `held` until `run_held`."""

    def __init__(self, directory, engines=ENGINES):
        self.connection = Connection(cluster="fake", address=f"ipc://{directory}/s")
        save(directory / "client.json", self.connection)
        self.path = directory / "client.json"
        self.engines = engines
        self.hold = False
        self.deaf = False
        self.run_length = None
        """Results of items come in runs of this length."""
        self.messages = []
        self.held = []
        self.functions = {}
        self.namespace = [{} for _ in range(engines)]
        self.clients = {}
        self._numbers = itertools.count(1)
        self._orders = deque()
        self._context = zmq.Context()
        config = ControllerConfig(cluster="fake", address=self.connection.address)
        self._socket, _ = transport.open_router(self._context, config)
        self._read, self._write = os.pipe()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="fake-controller")
        self._thread.start()

    # what tests say, carried out by the thread

    def order(self, function, *args):
        self._orders.append((function, args))
        os.write(self._write, b"!")

    def say(self, message, frames=()):
        self.order(self._say_all, message, frames)

    def raw(self, *parts):
        self.order(self._raw_all, parts)

    def run_held(self, count=None):
        """Run so many of the held tasks, or these and all that come."""
        helpers.wait_until(lambda: self.held, "there is a task to run")
        if count is None:
            self.hold = False
        self.order(self._run_held, count)

    def finish(self, result):
        """Answer a held task in a way of the test's own."""
        self.order(self._say_all, m.Results([result]), ())

    def stop(self):
        self._stopped = True
        os.write(self._write, b"!")
        self._thread.join(5)
        assert not self._thread.is_alive()
        os.close(self._read)
        os.close(self._write)  # here: the thread may have seen that it is to stop before it was woken

    def of(self, kind):
        return [message for message in list(self.messages) if isinstance(message, kind)]

    # the thread

    def _serve(self):
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._read, zmq.POLLIN)
        while not self._stopped:
            ready = dict(poller.poll(5000))
            if self._read in ready:
                os.read(self._read, 1000)
            while self._orders:
                function, args = self._orders.popleft()
                function(*args)
            if self._socket in ready:
                peer, header, *frames = self._socket.recv_multipart()
                message = decode_to_controller(header)
                self.messages.append(message)
                if not self.deaf:
                    self._answer(peer, message, frames)
        self._socket.close(linger=0)
        self._context.term()

    def _say(self, peer, message, frames=()):
        try:
            transport.send_to(self._socket, peer, message, frames)
        except zmq.ZMQError:
            pass  # it has left

    def _say_all(self, message, frames):
        for peer in self.clients:
            self._say(peer, message, frames)

    def _raw_all(self, parts):
        for peer in self.clients:
            self._socket.send_multipart([peer, *parts])

    def _answer(self, peer, message, frames):
        match message:
            case m.ClientHello():
                number = self.clients.setdefault(peer, next(self._numbers))
                engines = [m.EngineInfo(i, 0, "ready") for i in range(self.engines)]
                self._say(peer, m.Welcome(number, "fake", os.getpid(), engines))
            case m.Submit():
                self._submit(peer, message, frames)
            case m.Cancel():
                stopped = []
                for entry in list(self.held):
                    task = entry[2]
                    if task.id in message.tasks:
                        self.held.remove(entry)
                        stopped.append(task.id)
                        gone = m.Result(task.id, m.Status.CANCELLED, b"cancelled before it started", hi=task.items)
                        self._say(peer, m.Results([gone]))
                self._say(peer, m.Reply(message.request, stopped))
            case m.Ping():
                self._say(peer, m.Pong())
            case m.WaitEngines():
                if message.n is None or message.n <= self.engines:
                    self._say(peer, m.Reply(message.request, list(range(self.engines))))
            case m.Scale():
                self.engines = message.n
                infos = [m.EngineInfo(i, 0, "ready") for i in range(message.n)]
                self._say(peer, m.Engines([*infos, *(m.EngineInfo(i, 0, "dead") for i in range(message.n, 64))]))
                self._say(peer, m.Reply(message.request, list(range(message.n))))
            case m.Retire():
                gone = [engine for engine, _ in message.engines]
                self._say(peer, m.Engines([m.EngineInfo(i, 0, "dead") for i in gone]))
                self._say(peer, m.Reply(message.request, gone))
            case m.ClearSetup():
                self._say(peer, m.Reply(message.request, 0))
            case m.StatusQuery():
                self._say(peer, m.Reply(message.request, {"cluster": "fake"}))
            case m.Restart() | m.Signal():
                self._say(peer, m.Reply(message.request, message.engines))
            case m.Shutdown():
                self._say(peer, m.Reply(message.request, True))
                self._say(peer, m.Farewell())
            case _:
                pass

    def _submit(self, peer, message, frames):
        for function in message.functions:
            self.functions[function.digest] = function.pickled
        frames = iter(frames)
        for task in message.tasks:
            options = message.options[task.options]
            parts = list(itertools.islice(frames, task.frames))
            for copy in range(task.copies):
                engine = options.targets[copy % len(options.targets)] if options.targets else task.id % self.engines
                one = m.Task(task.id + copy, task.function, task.payload, task.frames, 0, task.items)
                self.held.append((peer, engine, one, parts))
        if not self.hold:
            self._run_held(None)

    def _run_held(self, count):
        while self.held and (count is None or count > 0):
            count = None if count is None else count - 1
            peer, engine, task, parts = self.held.pop(0)
            if task.items:
                self._run_items(peer, engine, task, parts)
                continue
            result, buffers = self._run(engine, task, parts)
            self._say(peer, m.Results([result]), buffers)

    def _run(self, engine, task, parts):
        try:
            args, kwargs = loads(task.payload, parts)
            value = self._call(engine, task.function, args, kwargs)
            payload, buffers = dumps(value)
            return m.Result(task.id, m.Status.OK, payload, len(buffers), engine, 100.0, 0.5), buffers
        except BaseException as error:
            payload, buffers = dumps(failure_from(error))
            return m.Result(task.id, m.Status.ERROR, payload, len(buffers), engine, 100.0, 0.5), buffers

    def _call(self, engine, digest, args, kwargs):
        space = self.namespace[engine] if engine < len(self.namespace) else {}
        match digest:
            case b"!push":
                return space.update(*args)
            case b"!pull":
                return [eval(name, space) for name in args[0]]
            case b"!clear":
                return space.clear()
            case b"!setup" if isinstance(args[0], bytes):
                positional, named = loads(args[1], args[2])
                return pickle.loads(args[0])(*positional, **named)
            case b"!execute" | b"!setup":
                exec(args[0], space)
                return {"execution_count": 1, "result": {"text/plain": str(kwargs)}}
        return pickle.loads(self.functions[digest])(*args, **kwargs)

    def _run_items(self, peer, engine, task, parts):
        items = loads(task.payload, parts)
        rows = list(zip(*items, strict=True)) if isinstance(items, tuple) else [(item,) for item in items]
        assert len(rows) == task.items
        function = pickle.loads(self.functions[task.function])
        lo = 0
        values = []
        results = []

        def close(hi):
            if values:
                results.append((m.Result(task.id, 0, b"", 0, engine, 100.0, 0.5, 0, lo, hi), dumps(list(values))))
                values.clear()

        for i, row in enumerate(rows):
            try:
                values.append(function(*row))
                if self.run_length and len(values) == self.run_length:
                    close(i + 1)
                    lo = i + 1
            except Exception as error:
                close(i)
                results.append(
                    (m.Result(task.id, 1, b"", 0, engine, 100.0, 0.5, 0, i, i + 1), dumps(failure_from(error)))
                )
                lo = i + 1
        close(len(rows))
        for result, (payload, buffers) in results:
            result.payload, result.frames = payload, len(buffers)
            self._say(peer, m.Results([result]), buffers)


@pytest.fixture
def fake(tmp_path_factory):
    directory = tmp_path_factory.mktemp("f")
    controller = FakeController(directory)
    yield controller
    controller.stop()


@pytest.fixture
def client(fake):
    client = Client(fake.path)
    yield client
    client.close()
