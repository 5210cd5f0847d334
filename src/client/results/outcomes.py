"""What a `Result` means to the user: a value, or which exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import serialize
from ...errors import (
    EngineDied,
    ImpossibleDependency,
    InvalidDependency,
    NoSuchEngine,
    SerializationError,
    TaskAborted,
    TaskLost,
    TaskRefused,
    TaskTimeout,
)
from ...ids import TaskId, show_task
from ...pickles import loads_mapped
from ...reasons import never
from ...wire.codec import MalformedError, decode_certificate
from ...wire.given import get_inherited
from ...wire.messages import Result, Status
from .leases import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

OK = int(Status.OK)
CANCELLED = int(Status.CANCELLED)


def value_of(result: Result, frames: Sequence[Any]) -> Any:
    """Return the value of a result whose status is OK; SerializationError if it cannot be unpickled here, ObjectLost if
    it is nowhere any more.
    """
    opened = frames.open() if type(frames) is Lease else None
    try:
        if opened is not None:
            return loads_mapped(*opened, keep_classes=True)
        return serialize.loads(result.payload, frames, keep_classes=True)
    except Exception as error:
        task = show_task(TaskId(result.id))
        raise SerializationError(
            f"the result of task {task} cannot be unpickled here: {type(error).__name__}: {error}"
        ) from error


def error_of(
    result: Result, frames: Sequence[Any], label: str | None = None, first_item: int | None = None
) -> Exception:
    """Return the exception of a result whose status is not OK.

    `first_item` is the number, in the user's sequence, of the first item of the result, where items were run.
    """
    engine = None if result.engine < 0 else result.engine
    match result.status:
        case Status.ERROR:
            return _remote(result, frames, engine)
        case Status.CANCELLED:
            return TaskAborted(result.payload.decode(errors="replace"))
        case Status.TIMEOUT:
            return TaskTimeout(result.payload.decode(errors="replace"))
        case Status.LOST:
            return _died(result, label, first_item)
        case Status.REFUSED:
            sentence = result.payload.decode(errors="replace")
            kind = NoSuchEngine if sentence.startswith(("there is no engine", "engine ")) else TaskRefused
            return kind(sentence)
        case Status.UNMET | Status.IMPOSSIBLE:
            return ImpossibleDependency(result.payload.decode(errors="replace"))
        case Status.INVALID:
            return InvalidDependency(result.payload.decode(errors="replace"))
        case Status.INHERITED:
            return _inherited(result, frames)
        case Status.UNKNOWN:
            reason = result.payload.decode(errors="replace")
            return TaskLost(f"there is no result of task {show_task(TaskId(result.id))}: {reason}")
    return TaskLost(f"task {show_task(TaskId(result.id))} ended in a way unknown here (status {result.status})")


def _inherited(result: Result, frames: Sequence[Any]) -> Exception:
    """Return the error of the task whose value was needed, with a note that says by whom."""
    said = get_inherited(result.payload)
    cause = Result(said.task, said.status, said.payload, result.frames, said.engine)
    error = error_of(cause, frames)
    error.add_note(never(result.id, None, said.why))
    return error


def _remote(result: Result, frames: Sequence[Any], engine: int | None) -> Exception:
    failure = serialize.loads(result.payload, frames)
    if isinstance(failure, serialize.Failure):
        return serialize.to_exception(failure, engine, {"msg_id": show_task(TaskId(result.id))})
    return TaskLost(f"engine {engine} reported an error in a way unknown here")


def _died(result: Result, label: str | None, first_item: int | None) -> Exception:
    try:
        certificate = decode_certificate(result.payload)
    except MalformedError:
        return TaskLost(f"engine {result.engine} died, and its death certificate cannot be read")
    return EngineDied(
        certificate.engine,
        certificate.reason,
        task=label or show_task(TaskId(result.id)),
        item=first_item,
        running=certificate.running,
        pid=certificate.pid,
        exit_code=certificate.exit_code,
        memory_bytes=certificate.memory_bytes,
        last_output=certificate.last_output,
        since=certificate.since if certificate.running else 0.0,  # else it is another task's
        ended=certificate.ended,
        peak_bytes=certificate.peak_bytes,
        memory_curve=certificate.memory_curve,
        history=certificate.history,
    )
