"""`concurrent.futures.ProcessPoolExecutor`, the standard library's own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from .base import Peer
from .questions import main


class Pool(Peer):
    def start(self, n):
        self.executor = ProcessPoolExecutor(n)

    def stop(self):
        self.executor.shutdown()

    def submit(self, f, *args):
        return self.executor.submit(f, *args)

    def map(self, f, xs, **how):
        return list(self.executor.map(f, xs, **how))


if __name__ == "__main__":
    main(Pool())
