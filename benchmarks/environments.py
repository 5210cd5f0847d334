"""The peers' virtual environments, made on demand, and the facts about the machine."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from peers.versions import COMMON, SOURCES

ROOT = Path(__file__).resolve().parent
STATE = ROOT.parent / ".bench"
"""Everything that a run makes: environments, logs, results. `make clean` removes it."""

INSTALL_S = 600


class NotMeasuredError(Exception):
    """A figure cannot be had; the text says why, and stands in its place in the table."""


@cache
def python_of(name):
    """Return the interpreter that a peer runs under; makes its environment if need be."""
    requirements = SOURCES[name].requirements
    if not requirements:
        return sys.executable
    folder = STATE / name
    python = folder / "bin" / "python"
    wanted = "\n".join((*requirements, *COMMON, platform.python_version())) + "\n"
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"  installing {', '.join(requirements)} into {folder.relative_to(ROOT.parent)}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)], name)
    _run([str(python), "-m", "pip", "install", "--quiet", *requirements, *COMMON], name)
    stamp.write_text(wanted)
    return str(python)


def _run(command, name):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasuredError(f"{name} could not be installed: {error}") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("ERROR")]
        raise NotMeasuredError(f"{name} could not be installed: {(lines or ['see pip'])[-1][:200]}")


def environment_of(name):
    """Return the environment variables of a peer's programs: its own home, and our functions to be found by workers."""
    home = STATE / "home" / name
    home.mkdir(parents=True, exist_ok=True)
    return {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": str(home)}


def machine():
    """Return what the figures depend on."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "enginery": _version(),
        "peers": {name: list(source.requirements) for name, source in SOURCES.items() if source.requirements},
    }


def _processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version():
    from importlib.metadata import version

    try:
        commit = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version("enginery")
    return f"{version('enginery')} ({commit})"
