"""ipyparallel: a local cluster; the load-balanced view for tasks, the direct view for everybody."""

from __future__ import annotations

import logging
import os

import ipyparallel as ipp
import psutil

from .base import Peer
from .questions import killed, main

HELD = "benchmark_value"


class IPyParallel(Peer):
    def start(self, n):
        self.cluster = ipp.Cluster(n=n, log_level=logging.ERROR)
        self.client = self.cluster.start_and_connect_sync(activate=False)
        self.all = self.client[:]
        self.balanced = self.client.load_balanced_view()

    def everyone(self, f=None, *args, pause_s=0.02):
        if f is None:
            return set(self.all.apply_sync(os.getpid))
        return set(self.all.apply_sync(f, *args, pause_s))

    def stop(self):
        self.client.close()
        self.cluster.stop_cluster_sync()

    def submit(self, f, *args):
        return self.balanced.apply_async(f, *args)

    def submit_again(self, f, *args):
        with self.balanced.temp_flags(retries=1):
            return self.submit(f, *args)

    def kill_head(self):
        hub = self.cluster.controller.pid
        schedulers = [process.pid for process in psutil.Process(hub).children(recursive=True)]  # they keep the tasks
        return min(map(killed, [hub, *schedulers]))

    def gather(self, futures):
        return [future.get() for future in futures]

    def call(self, f, *args):
        return self.balanced.apply_sync(f, *args)

    def map(self, f, xs, *, direct=False, **how):
        """Map over the load-balanced view, or the direct one, which cuts the sequence into one part per engine."""
        view = self.all if direct else self.balanced
        return list(view.map_sync(f, xs, **how))

    def on_all(self, f, *args):
        return self.all.apply_sync(f, *args)

    def push(self, value):
        self.all.push({HELD: value}, block=True)

    def pushed(self, f):
        return self.all.apply_sync(f, ipp.Reference(HELD))


if __name__ == "__main__":
    main(IPyParallel())
