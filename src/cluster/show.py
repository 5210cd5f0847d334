"""Tables for people: drawn on a terminal, plain columns elsewhere, so that scripts can cut them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from .. import holders

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..rendezvous import ClusterInfo
    from ..wire.stock import Stock, StoreRecord


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(3725)
    '1 h 2 min'
    """
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows under headers."""
    cells = [list(row) for row in rows]
    if sys.stdout.isatty():
        return _drawn(headers, cells)
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in [headers, *cells]]
    return "\n".join(line.rstrip() for line in lines)


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box  # noqa: PLC0415 - slow to import, and only for terminals
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD)
    for header in headers:
        drawn.add_column(header)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console()
    with console.capture() as capture:
        console.print(drawn)
    return capture.get().strip("\n")


def clusters(infos: Sequence[ClusterInfo]) -> str:
    """Return the list of clusters."""
    now = time.time()
    rows = []
    for info in infos:
        state = "dead" if not info.running else "running" if info.address else "starting"
        since = duration(now - info.started) if info.started and info.running else ""
        rows.append([info.name, state, str(info.pid) if info.running else "", since, info.address])
    return table(["NAME", "STATE", "PID", "UP", "ADDRESS"], rows)


def status(state: Mapping[str, Any]) -> str:
    """Return how a cluster is."""
    engines, tasks = state.get("engines", []), state.get("tasks", {})
    clients = [client for client in state.get("clients", []) if client.get("name") != "cluster"]
    ready = sum(engine["state"] == "ready" for engine in engines)
    people = "client" if len(clients) == 1 else "clients"
    up, pid = duration(state.get("uptime_s", 0)), state.get("controller_pid", "?")
    head = [
        f"cluster {state['cluster']}: {ready} of {len(engines)} engines ready, up {up}, controller pid {pid}",
        ", ".join(f"{count} {what}" for what, count in tasks.items()) + f" tasks, {len(clients)} {people}",
    ]
    if state.get("journal_failure"):
        head.append(f"{state['journal_failure']}: if the controller dies now, its tasks are lost")
    elif "journal" in state:
        head[1] += ", with a journal" if state["journal"] else ", no journal"
    head += _objects(state.get("objects", {}))
    head += [_offers(host) for host in state.get("hosts", []) if host.get("resources")]
    rows = [
        [
            str(e["id"]),
            e["state"],
            str(e["pid"] or ""),
            e.get("host", ""),
            str(e.get("threads") or ""),
            str(e.get("tasks", "")),
            _remark(e),
        ]
        for e in engines
    ]
    return "\n".join([*head, table(["ENGINE", "STATE", "PID", "HOST", "THREADS", "TASKS", ""], rows)])


def _objects(objects: Mapping[str, Any]) -> list[str]:
    """Return how many objects there are, and where."""
    if not objects.get("count"):
        return []
    hosts = [f"{h['host']} {h['count']} ({holders.amount(h['nbytes'])})" for h in objects["hosts"] if h["count"]]
    lost = f", {objects['lost']} lost" if objects.get("lost") else ""
    where = f": {', '.join(hosts)}" if hosts else ""
    return [f"{holders.counted(objects['count'])}, {holders.amount(objects['nbytes'])}{lost}{where}"]


def stock(there: Stock) -> str:
    """Return what objects there are, and what each host has of its memory and disk in use."""
    lines = [_store(record) for record in there.stores]
    if there.objects:
        headers = [header.upper() for header in holders.HEADERS]
        lines.append(table(headers, [holders.row(record) for record in there.objects]))
    return "\n".join(lines) or "there are no objects"


def _store(record: StoreRecord) -> str:
    """Return what one store has, and may have."""
    has = f"host {record.host}: {holders.counted(record.count)}"
    if not record.answered:
        return f"{has}, {holders.amount(record.nbytes)} (it has not answered)"
    limit = f" of {holders.amount(record.limit_bytes)}" if record.limit_bytes else ""
    return f"{has}, {holders.amount(record.memory_bytes)}{limit} of memory, {holders.amount(record.disk_bytes)} on disk"


def _offers(host: Mapping[str, Any]) -> str:
    """Return what a host offers to tasks, and how much of it is in use."""
    used = host.get("in_use", {})
    offers = [f"{name} {used.get(name, 0):g} of {amount:g}" for name, amount in sorted(host["resources"].items())]
    return f"resources in use on {host['host']}: {', '.join(offers)}"


def _remark(engine: Mapping[str, Any]) -> str:
    """Return what is not as it should be with an engine."""
    setup = engine.get("setup")
    return str(engine.get("reason") or (f"setup: {setup}" if setup else ""))
