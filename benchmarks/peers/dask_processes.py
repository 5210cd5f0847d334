"""dask.distributed as its commands start it: `dask scheduler` in a process of its own, which can be killed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from distributed import Client

from .base import PATIENCE_S
from .dask import Dask
from .questions import killed, main


class DaskProcesses(Dask):
    def start(self, n):
        self.folder = Path(tempfile.mkdtemp(prefix="dask-"))
        common = ["--scheduler-file", str(self.folder / "scheduler.json"), "--no-dashboard"]
        here = ["--host", "127.0.0.1"]
        self.scheduler = self._command("scheduler", "--port", "0", *here, *common)
        self.workers = self._command("worker", "--nworkers", str(n), "--nthreads", "1", *here, *common)
        self.client = Client(scheduler_file=common[1])
        self.client.wait_for_workers(n, timeout=PATIENCE_S)

    def _command(self, *words):
        return subprocess.Popen([sys.executable, "-m", "dask", *words], cwd=self.folder)

    def stop(self):
        self.client.close()
        for process in (self.workers, self.scheduler):
            process.terminate()
            process.wait()
        shutil.rmtree(self.folder)

    def kill_head(self):
        return killed(self.scheduler.pid)


if __name__ == "__main__":
    main(DaskProcesses())
