"""What this host's store brings from others: of whom it asks which chunk, and what it does when one fails. Pure.

A pull has its sources in order. It asks the first that can be reached, and goes to another when that one has not got
the object, is gone, or says nothing for a while; what has come stays. With one source only, a broken connection is a
pause: until the controller names others, or it is clear that it will not come back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ...objects.progress import WINDOW, Progress
from ...wire.chunks import Chunk
from ...wire.objects import Source, show_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...wire.objects import ObjectInfo

SOURCE_WINDOW = 2 * WINDOW
"""Chunks that one source is asked for at a time, if it has several objects for us."""

ACTIVE = 32
"""Objects that are brought from one source at a time; each has a chunk on its way, however many others do."""

SILENT_S = 10.0
"""A source that has not sent a chunk for so long is left for another, if there is one."""

GIVE_UP_S = 60.0
"""So long it is tried to reach a source. The controller knows sooner, in general, and names others."""

IDLE_S = 30.0
"""So long a connection is kept that nothing comes through."""


class Connect(NamedTuple):
    """Connect to a store."""

    source: Source


class Disconnect(NamedTuple):
    """End the connection to it."""

    store: bytes


class Ask(NamedTuple):
    """Say this to it."""

    store: bytes
    message: Chunk


class Whole(NamedTuple):
    """All of the object is here."""

    object: bytes


class Failed(NamedTuple):
    """It will not come, for this reason."""

    object: bytes
    why: str


Action = Connect | Disconnect | Ask | Whole | Failed


class Place(NamedTuple):
    """Where the bytes of a piece belong."""

    object: bytes
    offset: int
    nbytes: int


class _Line:
    """The connection to a store, and what is brought through it."""

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.is_up = False
        self.since = now
        """When it went up or down, or when the last pull ended."""
        self.active: dict[bytes, _Pull] = {}
        self.queue: deque[bytes] = deque()
        self.asked = 0
        """Chunks that are on their way."""

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.queue


class _Pull:
    """An object that is brought here."""

    def __init__(self, info: ObjectInfo, now: float) -> None:
        self.info = info
        self.progress = Progress(info.nbytes)
        self.sources: list[Source] = []
        self.failed: dict[bytes, str] = {}
        """Which of the sources have not got it, and what they said."""
        self.store: bytes = b""
        """The one that is asked; empty: none."""
        self.requests: set[int] = set()
        self.heard = now


class Pulls:
    """Everything that is brought. Call what happens, then do what `take` returns."""

    def __init__(self) -> None:
        self._pulls: dict[bytes, _Pull] = {}
        self._lines: dict[bytes, _Line] = {}
        self._requests: dict[int, tuple[_Pull, int, int]] = {}
        """What was asked for, by the number of the request: and where its bytes belong."""
        self._numbers = 0
        self._actions: list[Action] = []

    def take(self) -> list[Action]:
        """Return what is to be done, in order."""
        actions, self._actions = self._actions, []
        return actions

    # ------------------------------------------------------------------------------------------------- what is wanted

    def bring(self, info: ObjectInfo, sources: Iterable[Source], now: float) -> None:
        """Bring an object; if it is being brought already, it is from these sources from now on."""
        pull = self._pulls.get(info.id)
        if pull is None:
            pull = self._pulls[info.id] = _Pull(info, now)
        pull.sources = [source for source in sources if source.address]
        pull.failed.clear()
        if pull.progress.is_whole:
            self._end(pull, now)
            self._actions.append(Whole(info.id))
            return
        line = self._lines.get(pull.store)
        if line is None or not line.is_up or pull.store not in {source.store for source in pull.sources}:
            self._leave(pull, now)
            self._choose(pull, now)

    def stop(self, object_id: bytes, now: float) -> None:
        """Bring it no more."""
        pull = self._pulls.get(object_id)
        if pull is not None:
            self._end(pull, now)

    def knows(self, object_id: bytes) -> bool:
        """Return whether it is being brought."""
        return object_id in self._pulls

    def has(self, object_id: bytes, offset: int, nbytes: int) -> bool:
        """Return whether these bytes of an object that is being brought are here."""
        pull = self._pulls.get(object_id)
        return pull is not None and pull.progress.has(offset, nbytes)

    # -------------------------------------------------------------------------------------------------- what happens

    @property
    def asked(self) -> int:
        """How many chunks are on their way."""
        return len(self._requests)

    def expect(self, request: int) -> Place | None:
        """Return where the bytes that answer a request belong; None if they have come otherwise, or are of no use."""
        found = self._requests.get(request)
        return None if found is None else Place(found[0].info.id, found[1], found[2])

    def on_written(self, request: int, now: float) -> None:
        """The bytes that answer it are where they belong."""
        pull, offset, _ = self._requests[request]
        self._forget(pull, request)
        pull.progress.on_here(offset)
        pull.heard = now
        line = self._lines[pull.store]
        if pull.progress.is_whole:
            self._end(pull, now)
            self._actions.append(Whole(pull.info.id))
        else:
            self._fill(line)

    def on_no_piece(self, request: int, why: str, now: float) -> None:
        """The one asked has not got it, or what it sent was not what was asked for."""
        found = self._requests.get(request)
        if found is None:
            return
        pull = found[0]
        pull.failed[pull.store] = why
        self._leave(pull, now)
        self._choose(pull, now)

    def on_up(self, store: bytes, now: float) -> None:
        """The connection to it is there."""
        line = self._lines.get(store)
        if line is None or line.is_up:
            return
        line.is_up, line.since = True, now
        for pull in line.active.values():
            pull.heard = now
        self._fill(line)
        for pull in list(self._pulls.values()):
            if pull.store != store and self._best(pull) == store and not self._lines[pull.store].is_up:
                self._leave(pull, now)
                self._choose(pull, now)

    def on_down(self, store: bytes, now: float) -> None:
        """The connection has broken: what was asked for will not come."""
        line = self._lines.get(store)
        if line is None or not line.is_up:
            return
        line.is_up, line.since = False, now
        for pull in list(line.active.values()):
            self._forget_all(pull)
        for object_id in [*line.active, *line.queue]:
            pull = self._pulls[object_id]
            if self._best(pull) != store:
                self._leave(pull, now)
                self._choose(pull, now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        for line in list(self._lines.values()):
            if line.is_idle:
                if now - line.since >= IDLE_S:
                    del self._lines[line.source.store]
                    self._actions.append(Disconnect(line.source.store))
            elif line.is_up:
                for pull in [pull for pull in line.active.values() if now - pull.heard >= SILENT_S]:
                    self._on_silent(pull, now)
            elif now - line.since >= GIVE_UP_S:
                self._give_up(line, now)

    def deadline_s(self) -> float | None:
        """Return how often time is to pass; None: there is nothing to wait for."""
        return 1.0 if self._lines else None

    # ------------------------------------------------------------------------------------------------------ deciding

    def _on_silent(self, pull: _Pull, now: float) -> None:
        """Go on to the next source that can be reached, if there is one; the silent one comes last from now on."""
        pull.heard = now
        at = next(i for i, source in enumerate(pull.sources) if source.store == pull.store)
        pull.sources.append(pull.sources.pop(at))
        if self._best(pull) != pull.store:
            self._leave(pull, now)
            self._choose(pull, now)

    def _give_up(self, line: _Line, now: float) -> None:
        line.since = now
        for object_id in [*line.active, *line.queue]:
            pull = self._pulls[object_id]
            pull.failed[pull.store] = f"the store at {line.source.address} cannot be reached"
            self._leave(pull, now)
            self._choose(pull, now)

    def _best(self, pull: _Pull) -> bytes | None:
        """Return the source to ask: the first that may have it and is not known to be out of reach, else any."""
        left = [source for source in pull.sources if source.store not in pull.failed]
        for source in left:
            line = self._lines.get(source.store)
            if line is None or line.is_up:
                return source.store
        if left and pull.store in {source.store for source in left}:
            return pull.store
        return left[0].store if left else None

    def _choose(self, pull: _Pull, now: float) -> None:
        """Ask the best source, or give up."""
        store = self._best(pull)
        if store is None:
            self._end(pull, now)
            self._actions.append(Failed(pull.info.id, _why_not(pull)))
            return
        line = self._lines.get(store)
        if line is None:
            source = next(source for source in pull.sources if source.store == store)
            line = self._lines[store] = _Line(source, now)
            self._actions.append(Connect(source))
        elif line.is_idle and not line.is_up:
            line.since = now
        pull.store, pull.heard = store, now
        line.queue.append(pull.info.id)
        self._fill(line)

    def _leave(self, pull: _Pull, now: float) -> None:
        """Ask nothing of its source any more."""
        self._forget_all(pull)
        line = self._lines.get(pull.store)
        pull.store = b""
        if line is None:
            return
        if line.active.pop(pull.info.id, None) is None and pull.info.id in line.queue:
            line.queue.remove(pull.info.id)
        if line.is_idle and line.is_up:
            line.since = now
        self._fill(line)

    def _end(self, pull: _Pull, now: float) -> None:
        self._leave(pull, now)
        self._pulls.pop(pull.info.id, None)

    def _forget_all(self, pull: _Pull) -> None:
        for request in list(pull.requests):
            self._forget(pull, request)
        pull.progress.forget_asked()

    def _forget(self, pull: _Pull, request: int) -> None:
        del self._requests[request]
        pull.requests.discard(request)
        self._lines[pull.store].asked -= 1

    def _fill(self, line: _Line) -> None:
        """Ask for more, as far as it may be on its way at a time."""
        while line.queue and len(line.active) < ACTIVE:
            object_id = line.queue.popleft()
            line.active[object_id] = self._pulls[object_id]
        if not line.is_up:
            return
        for pull in line.active.values():
            if not pull.requests:
                self._ask(line, pull)
        for pull in line.active.values():
            while line.asked < SOURCE_WINDOW and len(pull.requests) < WINDOW and self._ask(line, pull):
                pass

    def _ask(self, line: _Line, pull: _Pull) -> bool:
        span = pull.progress.ask()
        if span is None:
            return False
        self._numbers += 1
        pull.requests.add(self._numbers)
        self._requests[self._numbers] = (pull, *span)
        line.asked += 1
        self._actions.append(Ask(line.source.store, Chunk(self._numbers, pull.info.id, *span)))
        return True


def _why_not(pull: _Pull) -> str:
    reasons = "; ".join(dict.fromkeys(pull.failed.values()))
    return f"object {show_object(pull.info.id)} is not to be had: {reasons or 'no other host has it'}"
