"""dask.distributed: a local cluster of single-threaded worker processes."""

from __future__ import annotations

import os

from distributed import Client, LocalCluster

from .base import Peer
from .questions import main


class Dask(Peer):
    def start(self, n):
        self.cluster = LocalCluster(n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None)
        self.client = Client(self.cluster)

    def everyone(self, f=None, *args, pause_s=0.02):
        if f is None:
            return set(self.client.run(os.getpid).values())
        return set(self.client.run(f, *args, pause_s).values())

    def stop(self):
        self.client.close()
        self.cluster.close()

    def submit(self, f, *args):
        return self.client.submit(f, *args, pure=False)

    def submit_again(self, f, *args):
        return self.submit(f, *args)  # it does so unasked

    def taken_in(self):
        return self.client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    def gather(self, futures):
        return self.client.gather(futures)

    def map(self, f, xs, **how):
        return self.client.gather(self.client.map(f, xs, pure=False, **how))

    def on_all(self, f, *args):
        return list(self.client.run(f, *args).values())

    def push(self, value):
        self.held = self.client.scatter(value, broadcast=True, hash=False)

    def pushed(self, f):
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        return self.client.gather([self.client.submit(f, self.held, workers=[w], pure=False) for w in workers])


if __name__ == "__main__":
    main(Dask())
