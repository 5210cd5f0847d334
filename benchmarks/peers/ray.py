"""ray: tasks on a local node; actors, one per worker, where all of them are to be addressed."""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from . import census
from .base import Peer
from .questions import killed, main


class Holder:
    """An actor that runs what it is given, and keeps one value."""

    def run(self, f, *args):
        return f(*args)

    def keep(self, value):
        self.value = value

    def look(self, f):
        return f(self.value)


class Ray(Peer):
    actors = None

    def start(self, n):
        ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False)
        self.remote = {}

    def stop(self):
        ray.shutdown()

    def submit(self, f, *args, retries=0):
        remote = self.remote.get((f, retries))
        if remote is None:
            remote = self.remote[f, retries] = ray.remote(max_retries=retries)(f)
        return remote.remote(*args)

    def submit_again(self, f, *args):
        return self.submit(f, *args, retries=1)

    def kill_head(self):
        for process in census.own():
            if process.name() == "gcs_server":
                return killed(process.pid)
        raise RuntimeError("no gcs_server is to be found")

    def gather(self, futures):
        return ray.get(futures)

    def call(self, f, *args):
        return ray.get(self.submit(f, *args))

    def finished(self, future):
        return bool(ray.wait([future], timeout=0)[0])

    def finished_of(self, futures):
        return ray.wait(futures, num_returns=len(futures), timeout=0)[0] if futures else []

    def map(self, f, xs, **how):
        from ray.util.multiprocessing import Pool

        if getattr(self, "pool", None) is None:
            self.pool = Pool(self.n)
        return self.pool.map(f, xs, **how)

    def _everybody(self):
        if self.actors is None:
            self.actors = [ray.remote(num_cpus=0)(Holder).remote() for _ in range(self.n)]
        return self.actors

    def on_all(self, f, *args):
        return ray.get([actor.run.remote(f, *args) for actor in self._everybody()])

    def push(self, value):
        ref = ray.put(value)
        ray.get([actor.keep.remote(ref) for actor in self._everybody()])

    def pushed(self, f):
        return ray.get([actor.look.remote(f) for actor in self._everybody()])


if __name__ == "__main__":
    main(Ray())
