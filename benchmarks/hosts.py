"""An object between two hosts against one plain TCP stream: two network namespaces of this machine, joined by a cable.

    python benchmarks/hosts.py [--mb 1000] [--rounds 3] [--gbit 10]

For root on Linux. The plain stream is Python's: `sendall` of 1 MB at a time, `recv_into` the same buffer. The object is
brought as a cluster's nannies bring it: encrypted, from the file where it is to a file of shared memory. With `--gbit`
the cable is as fast as that (by `tc`), else as fast as the kernel can copy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1_000_000
PIECE = 1 << 20
HERE, THERE = "198.19.7.1", "198.19.7.2"
TOO_LONG_S = 120


class Namespaces:
    """Two network namespaces and the cable between them."""

    def __init__(self, gbit):
        self.names = [f"eb{side}{os.getpid()}" for side in "ab"]
        self._gbit = gbit

    def __enter__(self):
        try:
            for name in self.names:
                _ip("netns", "add", name)
            a, b = self.names
            _ip("link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b)
            for name, address in zip(self.names, (HERE, THERE), strict=True):
                _ip("-n", name, "addr", "add", f"{address}/30", "dev", "cable")
                _ip("-n", name, "link", "set", "cable", "up")
                _ip("-n", name, "link", "set", "lo", "up")
                if self._gbit:
                    shape = ["root", "tbf", "rate", f"{self._gbit}gbit", "burst", "4mb", "latency", "50ms"]
                    _run("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "cable", *shape)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def start(self, side, *args):
        """Start this program in one of them."""
        command = ["ip", "netns", "exec", self.names[side], sys.executable, __file__, *args]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ip(*args):
    _run("ip", *args)


def _run(*args):
    subprocess.run(args, check=True, capture_output=True, text=True, timeout=10)


# -------------------------------------------------------------------------------------------------- one plain stream


def send_plain(nbytes):
    data = os.urandom(PIECE)
    with socket.create_server((HERE, 0)) as listener:
        _say({"port": listener.getsockname()[1]})
        connection, _ = listener.accept()
        with connection:
            left = nbytes
            while left:
                connection.sendall(data[: min(left, PIECE)])
                left -= min(left, PIECE)
            connection.recv(1)
    _say({"cpu": time.process_time()})


def receive_plain(nbytes, told):
    buffer = bytearray(PIECE)
    with socket.create_connection((HERE, told["port"])) as connection:
        began = time.perf_counter()
        left = nbytes
        while left:
            left -= connection.recv_into(buffer)
        _say({"seconds": time.perf_counter() - began, "cpu": time.process_time()})


# ---------------------------------------------------------------------------------------------------------- an object


class Store:
    """A host's store with one object, and its mover."""

    def __init__(self, folder, keys, bind):
        from enginery.config import Connection
        from enginery.nanny.store.mover import Mover

        self.folder = Path(folder)
        self.here = None
        self.came = queue.Queue()
        self.mover = Mover(self, Connection(cluster="", address="", **keys), print)
        self.reached = self.mover.start(f"tcp://{bind}:*", bind, {keys["public_key"]: b"engine"})

    def find(self, object_id):
        return (str(self.here), self.here.stat().st_size) if self.here else None

    def on_used(self, object_id):
        pass

    def on_pulled(self, object_id):
        self.came.put("")

    def on_unpulled(self, object_id, why, *, full=False):
        self.came.put(why)


def send_object(nbytes, folder, keys):
    store = Store(folder, keys, HERE)
    store.here = store.folder / "object"
    data = os.urandom(PIECE)
    with store.here.open("wb") as file:
        for at in range(0, nbytes, PIECE):
            file.write(data[: nbytes - at])
    _say({"reached": store.reached})
    began = time.process_time()
    sys.stdin.read()
    store.mover.close()
    _say({"cpu": time.process_time() - began})


def receive_object(nbytes, folder, keys, told):
    from enginery.wire.objects import ObjectInfo, Source

    store = Store(folder, keys, THERE)
    path = store.folder / "brought"
    source = Source(bytes(8), *told["reached"])
    small = ObjectInfo(bytes(16), 1)
    store.mover.pull(small, [source], str(path))  # now there is a connection, as in a cluster that is at work
    store.came.get(timeout=TOO_LONG_S)
    info = ObjectInfo(bytes(15) + b"1", nbytes)
    began, used = time.perf_counter(), time.process_time()
    store.mover.pull(info, [source], str(path))
    why = store.came.get(timeout=TOO_LONG_S)
    _say({"seconds": time.perf_counter() - began, "why": why, "cpu": time.process_time() - used})
    store.mover.close()


# ----------------------------------------------------------------------------------------------------------- the run


def _say(answer):
    print(json.dumps(answer), flush=True)


def one_round(namespaces, kind, nbytes, extra):
    """Return the bytes a second of one way, and the processor's seconds for each GB at both ends."""
    sender = namespaces.start(0, f"send-{kind}", json.dumps([nbytes, *extra[:1], *extra[2:]]))
    try:
        told = json.loads(sender.stdout.readline())
        receiver = namespaces.start(1, f"receive-{kind}", json.dumps([nbytes, *extra[1:], told]))
        answer = json.loads(receiver.communicate(timeout=TOO_LONG_S)[0])
        if answer.get("why"):
            sys.exit(answer["why"])
        sent = json.loads(sender.communicate(timeout=TOO_LONG_S)[0])
        return nbytes / answer["seconds"], (sent["cpu"] * 1e9 / nbytes, answer["cpu"] * 1e9 / nbytes)
    finally:
        sender.kill()
        sender.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000, help="size of the object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gbit", type=float, default=0, help="shape the cable to so many Gbit/s")
    args = parser.parse_args()
    from enginery.security import new_key_pair

    pair = new_key_pair()
    keys = {"public_key": pair.public, "secret_key": pair.secret}
    folders = [tempfile.mkdtemp(prefix="enginery-bench-", dir="/dev/shm") for _ in range(2)]
    found = {"plain": [], "object": []}
    try:
        with Namespaces(args.gbit) as namespaces:
            for _ in range(args.rounds):
                for kind, extra in (("plain", []), ("object", [folders[0], folders[1], keys])):
                    found[kind].append(one_round(namespaces, kind, args.mb * MB, extra))
    finally:
        for folder in folders:
            shutil.rmtree(folder)
    cable = f"{args.gbit:g} Gbit/s" if args.gbit else "no limit"
    print(
        f"cable: {cable}; {args.mb} MB; median of {args.rounds}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    rates = {}
    for kind, name in (("plain", "one plain TCP stream"), ("object", "an object")):
        rates[kind] = statistics.median(rate for rate, _ in found[kind])
        cpu = [statistics.median(used[end] for _, used in found[kind]) for end in (0, 1)]
        print(f"{name:<22} {rates[kind] / 1e9:.2f} GB/s   {cpu[0]:.2f} + {cpu[1]:.2f} s of processor per GB")
    print(f"{'ratio':<22} {rates['object'] / rates['plain']:.0%} (to be 80 %)")


PARTS = {
    "send-plain": send_plain,
    "receive-plain": receive_plain,
    "send-object": send_object,
    "receive-object": receive_object,
}

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in PARTS:
        PARTS[sys.argv[1]](*json.loads(sys.argv[2]))
    else:
        main()
