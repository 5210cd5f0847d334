"""loky's reusable executor, which is joblib's default."""

from __future__ import annotations

import loky

from .base import Peer
from .questions import main


class Loky(Peer):
    def start(self, n):
        self.executor = loky.get_reusable_executor(n, timeout=None)

    def stop(self):
        self.executor.shutdown(wait=True)

    def submit(self, f, *args):
        return self.executor.submit(f, *args)

    def map(self, f, xs, **how):
        return list(self.executor.map(f, xs, **how))


if __name__ == "__main__":
    main(Loky())
