"""How a client, a view and a result show themselves in a notebook, from what is known here: nothing is asked, so that
looking never waits. In terminals their `repr` does the same in a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ids import show_engines
from ..markup import Markup, card, faint, folded, join, progress, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.messages import EngineInfo
    from .client import Client
    from .results.futures import AsyncResult
    from .views.view import View

ROWS_MAX = 64
"""Engines that are shown a row each."""


def count(n: int, what: str) -> str:
    """Return a number of things.

    >>> count(1, "engine"), count(1200, "engine")
    ('1 engine', '1,200 engines')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def client_html(client: Client) -> Markup:
    """Return a client: its cluster, the engines, and what is unfinished."""
    core = client._link.core
    if core.lost is not None:
        return card("Client", f"of cluster {client.cluster_name}", core.lost)
    engines = list(core.engines.values())
    facts = [count(len(engines), "engine"), _unready(engines), f"{count(len(core.sinks), 'task')} unfinished"]
    return card("Client", f"of cluster {client.cluster_name}", *facts, body=_engines(engines))


def cluster_html(name: str, n: int, client: Client | None, *, running: bool) -> Markup:
    """Return a cluster of this process, with its client if it has one."""
    state = "running" if running else "not running; start() starts it"
    body = client_html(client) if running and client is not None else ""
    return card("Cluster", name, count(n, "engine"), state, body=body)


def view_html(view: View, kind: str) -> Markup:
    """Return a view: which engines, and the flags that are set."""
    targets = view.targets
    if targets is None or targets == "all":
        whom = "all engines" if kind == "DirectView" else "any engine"
    elif isinstance(targets, int):
        whom = f"engine {targets}"
    else:
        whom = f"engines {show_engines(targets)}"
    flags = {name: getattr(view, name) for name in type(view).FLAGS if name != "targets"}
    told = [f"{name}={value!r}" for name, value in flags.items() if value]
    return card(kind, f"of {whom}", f"cluster {view.client.cluster_name}", *told)


def result_html(result: AsyncResult) -> Markup:
    """Return a result: how far it is, where it runs, what it raised."""
    counted = result.progress, result._total()
    state = "done" if result.done() else "pending"
    if result.done() and result.cancelled():
        state = "cancelled"
    facts: list[Any] = [faint(f"{result._label or ''} {_first(result.msg_id)}".strip())]
    facts.append(progress(*counted) if counted[1] > 1 else state)
    facts.append(f"{result.wall_time if result.done() else result.elapsed:.3g} s")
    if counted[1] == 1 and (engine := _first(result.engine_id)) is not None:
        facts.append(f"engine {engine}")
    error = None if state == "cancelled" else result._whole_error()
    body = Markup("") if error is None else Markup(f"<div>{text(f'{type(error).__name__}: {error}')}</div>")
    return card(type(result).__name__, state if counted[1] > 1 else "", *facts, body=body)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None if isinstance(value, list) else value


def _unready(engines: Sequence[EngineInfo]) -> str:
    starting = [engine.id for engine in engines if engine.state != "ready"]
    return f"{len(starting)} of them starting" if starting else ""


def _engines(engines: Sequence[EngineInfo]) -> Markup:
    if not engines:
        return Markup("")
    rows = [(engine.id, engine.state, engine.pid or "", engine.host) for engine in engines[:ROWS_MAX]]
    shown = table(("engine", "state", "pid", "host"), rows)
    if len(engines) > ROWS_MAX:
        shown = join((shown, faint(f"and {len(engines) - ROWS_MAX:,} more")))
    return folded(f"engines {show_engines(engine.id for engine in engines)}", shown)
