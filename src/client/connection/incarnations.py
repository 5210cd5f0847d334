"""Which process of an engine a result came from: an engine that is restarted keeps its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...wire.messages import EngineInfo


FIRST = 1
"""The number of an engine's first process."""


class Incarnations:
    """What a client has been told of the processes of each engine, and when.

    >>> from ..wire.parts import EngineInfo
    >>> known = Incarnations()
    >>> known.learn([EngineInfo(3, 1, "ready")], 10.0)
    >>> known.learn([EngineInfo(3, 2, "starting")], 20.0)
    >>> known.find(3, 15.0), known.find(3, 25.0), known.find(7, 25.0)
    (1, 2, None)
    """

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[float, int]]] = {}

    def learn(self, engines: Iterable[EngineInfo], now: float) -> None:
        """Take what the controller says of engines."""
        for engine in engines:
            known = self._known.setdefault(engine.id, [])
            if not known or known[-1][1] != engine.incarnation:
                known.append((now, engine.incarnation))

    def find(self, engine: int, at: float) -> int | None:
        """Return which process the engine was at a time; None if that is not known.

        What came in the same instant as the news of another process is of the one before.
        """
        known = self._known.get(engine, ())
        for since, incarnation in reversed(known):
            if since < at or incarnation <= FIRST:
                return incarnation
        return None
