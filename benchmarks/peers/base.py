"""What an adapter implements. Small on purpose: all measuring is in `questions.py`, the same for everybody."""

from __future__ import annotations

import time

from .work import pid_after

PATIENCE_S = 60.0


class NotAskedError(Exception):
    """The peer has no such operation; the text says what it lacks."""


class Peer:
    """A running cluster of n engines (workers) with one client, which is this process."""

    n = 0

    def start(self, n):
        """Start n engines and connect. They need not all have answered: `everyone` waits for that."""
        raise NotImplementedError

    def stop(self):
        """End everything that was started; return when it is gone, as far as the peer knows."""
        raise NotImplementedError

    def submit(self, f, *args):
        """Hand in one call, anywhere; return its own future."""
        raise NotImplementedError

    def submit_again(self, f, *args):
        """Hand in one call that is run once more, elsewhere, if its worker dies."""
        raise NotAskedError("does not run again what a dead worker ran")

    def gather(self, futures):
        """Wait for the futures; return their results in order."""
        return [future.result() for future in futures]

    def call(self, f, *args):
        """Hand in one call and wait for its result."""
        return self.submit(f, *args).result()

    def finished(self, future):
        """Return whether a future has ended, well or not."""
        return future.done()

    def finished_of(self, futures):
        """Return those that have ended."""
        return [future for future in futures if self.finished(future)]

    def taken_in(self):
        """Return how many calls that were handed in and have not ended are known where they are kept."""
        raise NotAskedError("does not say how many tasks wait")

    def kill_head(self):
        """Kill the process that keeps the tasks between client and workers; return the time of it, when it is dead."""
        raise NotAskedError("has no such process")

    def map(self, f, xs, **how):
        """Return the list of f(x), as somebody writes it who knows no chunk size (`how` is the tuner's)."""
        raise NotAskedError("no map")

    def on_all(self, f, *args):
        """Call f once on every engine; return the results."""
        raise NotAskedError("cannot address all its workers")

    def push(self, value):
        """Give every engine the value, to keep; return when all have it."""
        raise NotAskedError("cannot address all its workers")

    def pushed(self, f):
        """Return f(value) of every engine, for the value last pushed."""
        raise NotAskedError("cannot address all its workers")

    def everyone(self, f=pid_after, *args, pause_s=0.02):
        """Return once f(*args, pause) has run on each of the n engines, f returning its pid. The pids are the answer.

        For peers that cannot address their workers: short pauses spread the calls until all workers have been seen.
        """
        seen = set()
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) < self.n:
            seen.update(self.gather([self.submit(f, *args, pause_s) for _ in range(self.n)]))
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {len(seen)} of {self.n} workers answered in {PATIENCE_S:.0f} s")
        return seen
