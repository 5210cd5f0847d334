"""What user code returned or raised, as results in the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ImpossibleDependency, ObjectStoreFull, SerializationError, UnmetDependency
from ..serialize import Failure, dumps, failure_from, find_culprit
from ..wire.messages import Result, Status
from .values import Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.messages import Call
    from .current import Current
    from .outbox import Outbox
    from .output import OutputBuffer
    from .values import Values


SENTENCE_MAX = 2000
"""Characters of why a task cannot run here: the controller keeps it while the task goes elsewhere."""


class Run(NamedTuple):
    """A task that was run, or items of one."""

    task: int
    lo: int = 0
    hi: int = 0
    started: float = 0.0
    """Seconds since the epoch."""
    duration: float = 0.0


class Reporter:
    """Makes results of the running task. The runner makes those of plain calls itself."""

    def __init__(self, engine: int, current: Current, outbox: Outbox, output: OutputBuffer, values: Values) -> None:
        self._engine = engine
        self._values = values
        self._current = current
        self._outbox = outbox
        self._output = output

    def add(self, run: Run, status: Status, packed: Packed) -> None:
        """Add a result, after the output that it counts."""
        if self._output.used:
            self._output.collect()
        payload, frames, objects = packed
        result = Result(run.task, status, payload, len(frames), self._engine, run.started, run.duration)
        result.outputs, result.lo, result.hi, result.objects = self._current.outputs, run.lo, run.hi, objects
        self._outbox.add(result, frames)
        self._values.claim()

    def add_error(self, run: Run, error: BaseException, hide: tuple[str, ...] = ()) -> None:
        """Add the result of a task, or of items, that an exception ended."""
        status, payload, frames = failed(error, hide)
        self.add(run, status, Packed(payload, frames))

    def refuse(self, call: Call, sentence: str) -> None:
        """Add the result of a call that cannot be run."""
        self.add(Run(call.id, call.lo, call.hi), Status.REFUSED, Packed(sentence.encode(), ()))

    def add_values(self, run: Run, name: str, values: list[Any], *, keep: bool = False) -> None:
        """Add the results of items. A value that cannot be pickled, or for which there is no room, fails alone."""
        try:
            packed = self._values.dump(values, keep=keep)
        except Exception as error:
            if len(values) == 1:
                full = isinstance(error, ObjectStoreFull)
                self.add_error(run, error if full else unpicklable(values[0], f"the result of {name}", error))
                return
            half = len(values) // 2
            middle = run.lo + half
            share = run.duration * half / len(values)
            self.add_values(Run(run.task, run.lo, middle, run.started, share), name, values[:half], keep=keep)
            rest = Run(run.task, middle, run.hi, run.started + share, run.duration - share)
            self.add_values(rest, name, values[half:], keep=keep)
            return
        self.add(run, Status.OK, packed)


def unpicklable(value: Any, what: str, error: BaseException) -> SerializationError:
    """Return the error to report for a value that could not be pickled, naming the culprit inside it."""
    try:
        return SerializationError(find_culprit(value, what))
    except Exception:  # the value's own methods are run to find out
        return SerializationError(f"{what} cannot be pickled: {error}")


def failed(error: BaseException, hide: tuple[str, ...] = ()) -> tuple[Status, bytes, Sequence[Any]]:
    """Return the status, payload and frames of a task, or of items, that an exception ended."""
    if isinstance(error, UnmetDependency) and not isinstance(error, ImpossibleDependency):
        try:
            sentence = str(error) or f"it raised {type(error).__name__}"
        except Exception:
            sentence = f"it raised {type(error).__name__}"
        return Status.UNMET, sentence[:SENTENCE_MAX].encode(errors="replace"), ()
    return Status.ERROR, *pickled_failure(error, hide)


def pickled_failure(error: BaseException, hide: tuple[str, ...] = ()) -> tuple[bytes, Sequence[Any]]:
    """Return the payload and frames that tell of an exception, whatever the exception does when it is looked at."""
    try:
        return dumps(failure_from(error, hide))
    except Exception as trouble:
        kind = type(error).__name__
        return dumps(Failure(kind, f"<the exception cannot be described: {type(trouble).__name__}>"))
