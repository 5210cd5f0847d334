"""Results of tasks among the arguments of a call, from the moment they are pickled until the call is sent.

The arguments have placeholders (`placeholders`), and their frames are a `Waits`, which knows the results. When the
message is composed (again, if it has to be sent again) it is looked what has come by then: that goes along, and the
rest is named, for the controller to add (`wire.given`).

The controller may let go of a result as soon as we have confirmed it. So what a message names as still to come must not
have been confirmed by one that leaves before it: messages are composed and sent under one lock, confirmations too, and
a result is filed before it is confirmed.

Objects that are named among the arguments (`ObjectRef`), or are the values of such results, are named in the task, for
the controller. They are held here until then: what is let go of later is said later (`leases`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import placeholders
from ...errors import SerializationError
from ...serialize import dumps, failure_from
from ...wire.given import join
from ...wire.messages import Result, Status
from .execution import executed
from .refs import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...serialize import Buffer
    from ...wire.messages import ObjectInfo, Task
    from ...wire.parts import Part
    from .futures import AsyncResult
    from .leases import Lease

Seen = dict[int, dict[int, "list[Part]"]]
"""What has come of results, by `id` of the result and task: looked up once for a message."""


class Waits(list["Buffer"]):
    """The frames of arguments that have placeholders, and the results that these stand for."""

    __slots__ = ("_again", "_leases", "_objects", "_payload", "_results")

    def __init__(self, frames: Iterable[Buffer], results: Iterable[AsyncResult | ObjectRef]) -> None:
        super().__init__(frames)
        self._payload: bytes | None = None
        self._results: dict[int, AsyncResult] = {}
        self._again: dict[tuple[int, int], Part] = {}
        """Parts that were let go of before, by task and first item: pickled anew, in the thread of the user."""
        self._leases: list[Lease] = []
        """What is held of objects that are named among the arguments."""
        self._objects: tuple[ObjectInfo, ...] = ()
        for result in results:
            if isinstance(result, ObjectRef):
                self._leases += result._leases()
                continue
            for id_, parts in result._known().items():
                self._results[id_] = result
                for part in parts:
                    if not is_intact(part):
                        self._again[id_, part[0].lo] = _packed_again(result, part[0])

    def __bool__(self) -> bool:
        return True  # whoever looks whether there are frames is to look closer

    def resolve(self, task: Task, seen: Seen) -> Sequence[Any]:
        """Put what has come beside the task's arguments, and the rest on its list; return the frames."""
        if self._payload is None:
            self._payload, self._objects = task.payload, task.objects
        given: list[Part] = []
        needs: list[int] = []
        by_id: list[int] = []
        for id_, result in self._results.items():
            parts = known(result, seen)[id_]
            for part in parts:
                kept = part if is_intact(part) else self._again.get((id_, part[0].lo))
                given.append(kept or _packed_again(result, part[0]))  # read in the moment when the result was held
            if not is_over(result, id_, parts) or any(reply.status != Status.OK for reply, _ in parts):
                needs.append(id_)
                if result._is_by_id(id_):
                    by_id.append(id_)
        task.payload, task.needs = self._payload, tuple(needs)
        frames: list[Any] = list(self)
        if given or by_id:
            task.payload, frames = join(self._payload, frames, given, tuple(by_id))
        task.frames = len(frames)
        infos = [*self._objects, *(lease.info for lease in self._leases)]
        infos += [info for reply, _ in given for info in reply.objects]
        task.objects = tuple({info.id: info for info in infos}.values())
        return frames


class AsArgument:
    """What a result is to calls that it is an argument of, and to tasks that come after its own.

    This is so of one task: results of several say otherwise.
    """

    _task: int
    _reply: Result | None
    _frames: Sequence[Any]
    _convert: Callable[..., Any] | None
    _needed = False
    """What comes is kept as it came. Else its frames, then its payload are let go of when the value has been read."""
    _fetched = False
    """It was asked for by id, and so may be older than what its client has seen."""

    def _known(self) -> dict[int, list[Part]]:
        """Return what has come, as it came, by task."""
        reply = self._reply  # before its frames
        return {self._task: [] if reply is None else [(reply, self._frames)]}

    def _hold(self) -> None:
        """Keep what comes as it comes."""
        self._needed = True

    def _stands_for(self) -> tuple[Any, ...]:
        """Return what stands for the value, as `__reduce__` would."""
        return placeholders.value_of, (self._task, self._convert)

    def _read_again(self, _reply: Result) -> tuple[Any, Exception | None]:
        """Return the value of a part that was read, or its error."""
        return self._open()  # type: ignore[attr-defined, no-any-return] # of the result

    def _items_in(self, _task: int) -> int:
        """Return how many items a task has; 0 if it is a plain call."""
        return 0

    def _is_by_id(self, _task: int) -> bool:
        """Return whether a task was asked for by its id, so that not all that was told of it has come here."""
        return self._fetched

    def _is_sealed(self) -> bool:
        """Return whether it is known which tasks it is of."""
        return True

    def _placeholder(self) -> tuple[Any, ...]:
        return placeholder_of(self)  # type: ignore[arg-type] # every such thing is a result


def known(result: AsyncResult, seen: Seen) -> dict[int, list[Part]]:
    """Return what has come of a result, by task."""
    found = seen.get(id(result))
    if found is None:
        found = seen[id(result)] = result._known()
    return found


def is_over(result: AsyncResult, task: int, parts: list[Part]) -> bool:
    """Return whether nothing more will come of a task, where these parts have come."""
    items = result._items_in(task)
    if not items:
        return bool(parts)
    return sum(reply.hi - reply.lo or items for reply, _ in parts) >= items  # by these: more may come meanwhile


def is_intact(part: Part) -> bool:
    """Return whether nobody has read the value and let go of the pickle (frames first, and then the payload)."""
    reply, frames = part
    payload = reply.payload
    return len(frames) == reply.frames and bool(payload or frames)


def _packed_again(result: AsyncResult, reply: Result) -> Part:
    """Return a part anew whose value was read, and its pickle let go of."""
    value, error = result._read_again(reply)
    payload, frames = dumps(value if error is None else failure_from(error))
    return Result(reply.id, reply.status, payload, len(frames), reply.engine, lo=reply.lo, hi=reply.hi), frames


def placeholder_of(result: AsyncResult) -> tuple[Any, ...]:
    """Return what is to be pickled for a result in the arguments of a call, as `__reduce__` would: what stands for it,
    or its value where that was read here and its pickle is gone. SerializationError if that is not possible.
    """
    if not result._is_sealed():
        raise SerializationError("its input is still being read")
    result._hold()
    parts = [part for some in result._known().values() for part in some]
    is_foreign = result._convert is executed
    done, whole = result.done(), all(map(is_intact, parts))
    if done and (is_foreign or not whole) and all(reply.status == Status.OK for reply, _ in parts):
        return placeholders.itself, (result._outcome(),)
    if not done and (is_foreign or not (whole or result._convert is None)):
        raise SerializationError("it cannot be an argument before it is done; wait() for it")
    return result._stands_for()
