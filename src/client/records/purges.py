"""Forgetting: what the cluster keeps of tasks that have ended, and what results hold here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...wire import messages as m
from ..results.futures import AsyncResult
from . import queries
from .fetches import ALL, find, named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..connection.link import Link
    from .fetches import Tasks

AT_A_TIME = 10_000
"""Tasks that are forgotten at a time: meanwhile the journal is not written."""

Engines = int | str | list[int] | tuple[int, ...] | range | None


def forget(link: Link, cluster: str, jobs: Tasks | None, label: str | None, targets: Engines) -> None:
    """Have the cluster forget tasks. See `Client.purge_results`."""
    if ALL in (jobs, targets):
        link.request(m.Purge, None).result()
        return
    ids: list[int] = []
    if targets is not None:
        query = {"engine_id": {"$in": _engines(targets)}, "status": {"$ne": "pending"}}
        ids += queries.ids(link, query)
    if targets is None or jobs is not None or label is not None:
        tasks, _ = named(jobs, label)
        ids += [info.id for info in find(link, cluster, tasks, label)]
    for at in range(0, len(ids), AT_A_TIME):
        link.request(m.Purge, ids[at : at + AT_A_TIME]).result()


def _engines(targets: Any) -> list[int]:
    """Return ids of engines that are, or were, there."""
    ids = (
        [targets] if isinstance(targets, int) else list(targets) if isinstance(targets, list | tuple | range) else None
    )
    if ids is None or not all(isinstance(id_, int) and not isinstance(id_, bool) and id_ >= 0 for id_ in ids):
        raise TypeError(f'targets are the ids of engines, which may be gone by now, or "all", not {targets!r}')
    return ids


def release(jobs: AsyncResult | Iterable[AsyncResult]) -> None:
    """Have results hold their values no longer. See `Client.purge_local_results`."""
    results = [jobs] if isinstance(jobs, AsyncResult) else list(jobs)
    for result in results:
        if not isinstance(result, AsyncResult):
            raise TypeError(
                f"what is held here is held by results such as submit() returns: give those, not {result!r:.100}"
            )
        if not result.done():
            raise ValueError(f"{result!r} is not done and holds nothing yet; wait for it, or cancel it")
    for result in results:
        result._release()
