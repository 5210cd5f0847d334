"""What the machine allows: the same two hops without any framework, and one copy of the data.

Row 2: a DEALER sends 100 bytes to a ROUTER in another process, which forwards them to a DEALER in a third, which sends
them back the same way: the path of a task through a controller to an engine, with nothing done on it.
Row 6: copying the data once into shared memory that nobody has touched yet.
"""

from __future__ import annotations

import mmap
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from .base import NotAskedError, Peer
from .questions import main

PAYLOAD = b"x" * 100
ROLE = "--role"


def forward(address):
    import zmq

    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    other = {b"c": b"e", b"e": b"c"}
    waiting = []
    while True:  # the echo process must be there before anything can be sent to it
        sender, payload = router.recv_multipart()
        if sender == b"e":
            break
        waiting.append(payload)
    for payload in waiting:
        router.send_multipart([b"e", payload])
    while True:
        sender, payload = router.recv_multipart()
        router.send_multipart([other[sender], payload])


def echo(address):
    import zmq

    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.routing_id = b"e"
    dealer.connect(address)
    dealer.send(b"here")
    while True:
        dealer.send(dealer.recv())


class Limits(Peer):
    def start(self, n):
        import zmq

        self.folder = tempfile.mkdtemp(prefix="echo-")
        address = f"ipc://{self.folder}/s"
        program = [sys.executable, "-m", "peers.limits", ROLE]
        self.processes = [subprocess.Popen([*program, role, address]) for role in ("forward", "echo")]
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.routing_id = b"c"
        self.socket.linger = 0
        self.socket.rcvtimeo = 20_000
        self.socket.connect(address)

    def everyone(self, f=None, *args, pause_s=0.02):
        self.call(None)
        return {process.pid for process in self.processes}

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.context.destroy()
        shutil.rmtree(self.folder)

    def submit(self, f, *args):
        raise NotAskedError("an echo runs no tasks")

    def call(self, f, *args):
        self.socket.send(PAYLOAD)
        return self.socket.recv()


def copy(_peer, *, nbytes=100_000_000, rounds=5):
    """Time one copy into fresh shared pages."""
    source = b"\x05" * nbytes
    times = []
    for _ in range(rounds):
        t0 = time.perf_counter()
        with mmap.mmap(-1, nbytes) as pages:
            pages[:] = source
            times.append(time.perf_counter() - t0)
    return {"seconds": statistics.median(times)}


if __name__ == "__main__":
    if sys.argv[1:2] == [ROLE]:
        {"forward": forward, "echo": echo}[sys.argv[2]](sys.argv[3])
    else:
        main(Limits(), {"copy": copy})
