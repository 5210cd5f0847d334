"""What was submitted, for a client that wants to submit it again: of any client, gone or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...ids import TaskId, show_task
from ...wire.messages import Function, Options, Recalled, Reply, Submit, Task
from .ledger import LOST_PAYLOAD
from .rows import ids_of, submissions_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...wire.messages import Recall
    from .store import Store

ANSWER_BYTES = 8 << 20
"""An answer is not continued beyond so many bytes of functions and arguments."""

TASK_BYTES = 50
"""What a task weighs besides its arguments."""

STEP = 50
"""So many tasks are looked for between two steps."""

BUILTIN = b"!"
"""First byte of the names of operations built into the engine; they have no pickle."""

_submit = msgspec.msgpack.Decoder(Submit)
_frames = msgspec.msgpack.Decoder(list[bytes])


class _Call(NamedTuple):
    """A task as it was submitted: one of the copies of a call, if it has several."""

    task: Task
    options: Options
    frames: Sequence[bytes]
    copy: int


def recall(store: Store, message: Recall) -> Generator[None, None, tuple[msgspec.Struct, Sequence[Any]]]:
    """Answer; return a message and its frames."""
    answer, frames = Recalled(message.request, [], [], []), list[bytes]()
    functions = dict[bytes, Function]()
    found = dict[int, _Call]()
    nbytes = 0
    ids = message.tasks
    at = 0
    while at < len(ids):
        id_ = ids[at]
        if id_ not in found:
            found = _find(store, id_)
        if id_ not in found:
            return _sorry(message, id_, "is not known any more")
        call = found[id_]
        task, count = call.task, _in_a_row(ids, at, call)
        function = functions.get(task.function) or _function(store, task.function)
        if function is None:
            return _sorry(message, id_, "cannot be submitted again, as its function is not kept any more")
        if task.payload == LOST_PAYLOAD:
            return _sorry(message, id_, "cannot be submitted again, as its arguments were too large for the journal")
        nbytes += TASK_BYTES + len(task.payload) + sum(map(len, call.frames))
        if task.function not in functions:
            functions[task.function] = function
            nbytes += len(function.pickled)
        if nbytes > ANSWER_BYTES and answer.tasks:
            answer.left = ids[at:]
            break
        options = call.options
        if options.ordered and options.targets is not None:
            targets = options.targets[call.copy : call.copy + count]
            options = options if targets == options.targets else msgspec.structs.replace(options, targets=targets)
        if not answer.options or answer.options[-1] != options:
            answer.options.append(options)
        place = len(answer.options) - 1
        answer.tasks.append(msgspec.structs.replace(task, id=id_, options=place, copies=count))
        frames += call.frames
        at += count
        if len(answer.tasks) % STEP == 0:
            yield
    answer.functions = [function for function in functions.values() if function.pickled]
    return answer, frames


def _sorry(message: Recall, task: int, why: str) -> tuple[Reply, Sequence[Any]]:
    return Reply(message.request, error=f"task {show_task(TaskId(task))} {why}"), ()


def _in_a_row(ids: Sequence[int], at: int, call: _Call) -> int:
    """Return how many copies of this call are asked for from here on, one after another."""
    most = min(call.task.copies - call.copy, len(ids) - at)
    count = 1
    while count < most and ids[at + count] == ids[at] + count:
        count += 1
    return count


def _find(store: Store, task: int) -> dict[int, _Call]:
    """Return what was submitted in one message with a task."""
    for row in submissions_of(store.db, task):
        message = _submit.decode(row.message)
        if task in ids_of(message):
            (blob,) = store.db.execute("SELECT frames FROM submitted WHERE id = ?", (row.id,)).fetchone()
            return _calls(message, _frames.decode(blob) if blob else [])
    return {}


def _calls(message: Submit, frames: Sequence[bytes]) -> dict[int, _Call]:
    default, calls, at = Options(), dict[int, _Call](), 0
    for task in message.tasks:
        options = message.options[task.options] if task.options < len(message.options) else default
        parts = frames[at : at + task.frames]
        at += task.frames
        for copy in range(task.copies):
            calls[task.id + copy] = _Call(task, options, parts, copy)
    return calls


def _function(store: Store, digest: bytes) -> Function | None:
    if digest[:1] == BUILTIN:
        return Function(digest, b"")
    row = store.db.execute("SELECT pickled FROM functions WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else Function(digest, row[0])
