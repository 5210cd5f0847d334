"""Enginery with a real controller and a real client, and engines that are only sockets (`simulated_engines.py`)."""

from __future__ import annotations

import contextlib
import time

from enginery import Client

from simulated_engines import START_S, cluster

from .base import Peer
from .questions import main


class Simulated(Peer):
    def start(self, n):
        self.stack = contextlib.ExitStack()
        path = self.stack.enter_context(cluster(n))
        self.client = self.stack.enter_context(Client(str(path)))
        deadline = time.monotonic() + START_S
        while len(self.client) < n:
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(self.client)} of {n} simulated engines joined in {START_S:.0f} s")
            time.sleep(0.05)

    def everyone(self, f=None, *args, pause_s=0.02):
        return self.client.ids

    def stop(self):
        self.stack.close()

    def submit(self, f, *args):
        return self.client.submit(f, *args)

    def on_all(self, f, *args):
        return self.client[:].apply_sync(f, *args)


if __name__ == "__main__":
    main(Simulated())
