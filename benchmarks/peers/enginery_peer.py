"""Enginery itself, through its public names only."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from enginery import Cluster

from .base import PATIENCE_S, Peer
from .questions import clock, killed, main, wait_noted
from .work import inc, note_and_wait

HELD = "benchmark_value"


class Enginery(Peer):
    def start(self, n, *, journal=True):
        self.cluster = Cluster(n=n, journal=journal)
        self.client = self.cluster.__enter__()

    def everyone(self, f=None, *args, pause_s=0.02):
        if f is None:
            return set(self.client[:].apply_sync(os.getpid))
        return set(self.client[:].apply_sync(f, *args, pause_s))

    def stop(self):
        self.cluster.__exit__(None, None, None)

    def submit(self, f, *args):
        return self.client.submit(f, *args)

    def submit_again(self, f, *args):
        return self.client.load_balanced_view().set_flags(retries=1).apply_async(f, *args)

    def taken_in(self):
        tasks = self.client.status()["tasks"]
        return tasks["waiting"] + tasks["assigned"]

    def kill_head(self):
        return killed(self.client.status()["controller_pid"])

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


def backlog(peer, *, tasks):
    """Kill the controller while so many tasks wait that take no time; how long until the first, and all, are done?"""
    with tempfile.TemporaryDirectory(prefix="backlog-") as folder:
        gate = Path(folder) / "gate"
        for i in range(peer.n):
            peer.submit(note_and_wait, folder, i, str(gate))
        wait_noted(folder, peer.n, PATIENCE_S)
        futures = [peer.submit(inc, i) for i in range(tasks)]
        end = clock() + PATIENCE_S
        while peer.taken_in() < peer.n + tasks:
            if clock() > end:
                raise TimeoutError(f"the controller had not taken in {tasks} tasks within {PATIENCE_S:.0f} s")
            time.sleep(0.01)
        t0 = peer.kill_head()
        gate.touch()
        futures[0].result(PATIENCE_S)
        first = clock() - t0
        if peer.gather(futures) != list(range(1, tasks + 1)):
            raise ValueError("wrong results")
        return {"tasks": tasks, "first_s": first, "all_s": clock() - t0}


if __name__ == "__main__":
    main(Enginery(), {"backlog": backlog})
