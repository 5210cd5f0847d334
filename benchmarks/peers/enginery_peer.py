"""Enginery itself, through its public names only."""

from __future__ import annotations

import os

from enginery import Cluster

from .base import Peer
from .questions import main

HELD = "benchmark_value"


class Enginery(Peer):
    def start(self, n):
        self.cluster = Cluster(n=n)
        self.client = self.cluster.__enter__()

    def everyone(self, f=None, *args, pause_s=0.02):
        if f is None:
            return set(self.client[:].apply_sync(os.getpid))
        return set(self.client[:].apply_sync(f, *args, pause_s))

    def stop(self):
        self.cluster.__exit__(None, None, None)

    def submit(self, f, *args):
        return self.client.submit(f, *args)

    def map(self, f, xs, **how):
        return list(self.client.map(f, xs, **how))

    def on_all(self, f, *args):
        return self.client[:].apply_sync(f, *args)

    def push(self, value):
        self.client[:].push({HELD: value}, block=True)

    def pushed(self, f):
        view = self.client[:]
        view.push({"benchmark_look": f}, block=True)
        return view.pull(f"benchmark_look({HELD})", block=True)


if __name__ == "__main__":
    main(Enginery())
