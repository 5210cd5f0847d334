"""Which processes belong to a peer, and what they use.

A session starts its program with a mark in the environment, which every process it starts inherits, detached or not.
Descendants of marked processes count too: some programs write their title over their environment.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

MARK = "ENGINERY_BENCH_SESSION"


def marked(mark, *, but=()):
    """Return the live processes of the session with this mark, without those pids."""
    alive = {process.pid: process for process in psutil.process_iter()}
    children = {}
    for process in alive.values():
        try:
            children.setdefault(process.ppid(), []).append(process.pid)
        except psutil.Error:
            pass
    needle = f"{MARK}={mark}".encode()
    found, todo = set(), [pid for pid in alive if needle in _environment(pid)]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    return [alive[pid] for pid in sorted(found) if pid not in but and _is_alive(alive[pid])]


def _environment(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def own():
    """Return the processes of the session that this process belongs to, itself included."""
    return marked(os.environ[MARK])


def cpu_seconds(processes):
    """Return user and system time so far, by process."""
    used = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        used[process.pid, process.create_time()] = times.user + times.system
    return used


def spent(before, after):
    """Return the CPU seconds between two `cpu_seconds`."""
    return sum(now - before.get(key, 0.0) for key, now in after.items())


def memory(processes):
    """Return the sums of the proportional and the unique set size, in bytes."""
    pss = uss = 0
    for process in processes:
        try:
            full = process.memory_full_info()
        except psutil.Error:
            continue
        pss += getattr(full, "pss", full.uss)
        uss += full.uss
    return pss, uss
