"""The parts of an engine that its two threads share."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    from .books import Books
    from .coroutines import Coroutines
    from .current import Current
    from .functions import Functions
    from .link import TaskLink, Waker
    from .outbox import Outbox
    from .output import OutputBuffer
    from .values import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine is made of; `app` puts it together."""

    engine: int
    current: Current
    slots: MutableSequence[int] | memoryview[int]
    """The flight recorder's: task and item."""
    since: MutableSequence[float] | memoryview[float]
    """The flight recorder's: when the task began."""
    coroutine_slots: MutableSequence[int] | memoryview[int]
    """The flight recorder's: coroutine tasks."""
    coroutine_since: MutableSequence[float] | memoryview[float]
    """The flight recorder's: when they began."""
    books: Books
    functions: Functions
    outbox: Outbox
    output: OutputBuffer
    link: TaskLink
    coroutines: Coroutines
    values: Values
    control_waker: Waker
    """Wakes the control thread."""
    clock: Callable[[], float] = perf_counter
    """The time to which `Current.epoch` is to be added; that of `TaskLink.flushed_at`."""
    show_figures: Callable[[], None] = lambda: None
    """Shows the figures that a task has drawn; to be called after each once pyplot is loaded."""
