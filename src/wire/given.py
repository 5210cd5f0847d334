"""Values of other tasks among the arguments of a task.

The pickled arguments have placeholders in their place (`placeholders`). What is known of the values travels beside them
in one payload, `Given`, made by the client, the controller or both: nobody but the engine opens a value. Its frames are
those of the arguments, then those of the results in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .parts import Count, Result, Status, with_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .parts import Part

MARK = b"\xc1given"
"""Begins such a payload: no pickle begins so."""

SHARED_MIN = 1024
"""A longer pickle of a value goes as a frame: so it is there once, however many tasks need it."""

_encode = msgspec.msgpack.Encoder().encode


class Given(msgspec.Struct, array_like=True):
    """Arguments, and results whose values they have placeholders for."""

    payload: bytes
    """The pickled arguments."""
    frames: Count
    """How many of the frames are theirs."""
    results: list[Result]
    """By task; of a divisible one several, in any order."""
    by_id: tuple[int, ...] = ()
    """From a client: those of the task's `needs` that it knows by their ids, and not by what it was told of them. So
    what it has of them is not all that it was told, and the journal is to be asked for the rest."""

    def split(self, frames: Sequence[Any]) -> tuple[Sequence[Any], list[Part]]:
        """Return the arguments' own frames, and each result with its own; ValueError if the counts do not fit."""
        count = self.frames + sum(result.frames for result in self.results)
        if count != len(frames):
            raise ValueError(f"{len(frames)} frames where {count} are spoken of")
        return frames[: self.frames], with_frames(self.results, frames[self.frames :])


class Inherited(msgspec.Struct, array_like=True):
    """How a task ended without which another could not run."""

    task: int
    status: int
    payload: bytes
    engine: int
    why: str
    """What became of the other, in words that go on from "it"."""


_given = msgspec.msgpack.Decoder(Given)
_inherited = msgspec.msgpack.Decoder(Inherited)


def join(
    payload: bytes,
    frames: Sequence[Any],
    results: Iterable[Part],
    by_id: tuple[int, ...] = (),
) -> tuple[bytes, list[Any]]:
    """Return arguments and results as one payload, and its frames."""
    given = Given(payload, len(frames), [], by_id)
    parts = list(frames)
    for result, mine in results:
        if result.status == Status.OK and len(result.payload) >= SHARED_MIN:
            parts.append(result.payload)
            result = msgspec.structs.replace(result, payload=b"", frames=result.frames + 1)  # noqa: PLW2901 - what stands for it
        given.results.append(result)
        parts += mine
    return MARK + _encode(given), parts


def find_given(payload: bytes) -> Given | None:
    """Return what a payload has, if it has more than arguments; ValueError if it is malformed."""
    if payload[: len(MARK)] != MARK:
        return None
    try:
        return _given.decode(memoryview(payload)[len(MARK) :])
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def inherited(result: Result, why: str) -> bytes:
    """Return the payload that hands on how a task ended without a value."""
    if result.status == Status.INHERITED:  # it had inherited that itself
        first = get_inherited(result.payload)
        return _encode(Inherited(first.task, first.status, first.payload, first.engine, why))
    return _encode(Inherited(result.id, result.status, result.payload, result.engine, why))


def get_inherited(payload: bytes) -> Inherited:
    """Return what the payload of an `INHERITED` result says; ValueError if it is malformed."""
    try:
        return _inherited.decode(payload)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
