"""Tasks put together into one message; options and functions that several share are in it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...wire import messages as m
from ..calls.dependencies import resolve
from ..results.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..results.waits import Seen
    from .core import Entry


class Submission(NamedTuple):
    """A message with tasks."""

    message: m.Submit
    frames: Sequence[Any]
    depends: bool
    """It says what had come of other tasks when it was put together: to be sent again, it is to be so anew."""


def compose(batch: list[Entry], name_function: Callable[[m.Function, list[m.Function]], None]) -> Submission:
    """Put tasks together; `name_function` adds a function to a list if the controller does not have it."""
    functions: list[m.Function] = []
    options_list: list[m.Options] = []
    places: dict[int, int] = {}
    frames: list[Any] = []
    tasks: list[m.Task] = []
    seen: Seen | None = None
    last_options, place, last_function = None, 0, None
    for entry in batch:
        task, function, options, parts = entry.task, entry.function, entry.options, entry.frames
        if options is not last_options:
            last_options = options
            place = places.setdefault(id(options), len(options_list))
            if place == len(options_list):
                if options.after is not None or options.follow is not None:
                    seen = {} if seen is None else seen
                    options = resolve(options, seen)
                options_list.append(options)
        if place:
            task.options = place
        if function is not last_function:
            last_function = function
            name_function(function, functions)
        if parts:
            if type(parts) is Waits:
                seen = {} if seen is None else seen
                parts = parts.resolve(task, seen)
            frames.extend(parts)
        tasks.append(task)
    return Submission(m.Submit(functions, options_list, tasks), frames, seen is not None)


def compose_again(batch: list[Entry], sent: m.Submit) -> Submission:
    """Put together anew what was sent, with what has come since."""
    for entry in batch:
        entry.task.options = 0
    again = compose(batch, lambda _function, _functions: None)
    again.message.functions, again.message.seq = sent.functions, sent.seq
    return again
