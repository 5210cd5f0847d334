"""What open tasks need of others that have ended: results that are to be kept, and read when a controller begins.

A submission has a row in the table `needs` with the range of ids that its tasks depend on; results in such a range stay
as long as the submission is open.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from .archive import Archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...wire.messages import Submit
    from ...wire.parts import Part
    from .ledger import Submitted
    from .store import Store


_NEEDS = attrgetter("needs")


def needs_of(message: Submit, open_: frozenset[int] | None = None) -> set[int]:
    """Return the tasks that those of a message depend on (of those of its tasks that are open, if that is known)."""
    tasks, needs = message.tasks, set[int]()
    depends = [options.after is not None or options.follow is not None for options in message.options]
    if not any(depends) and not any(map(_NEEDS, tasks)):
        return needs
    named: set[int] = set()
    for task in tasks:
        if open_ is None or not open_.isdisjoint(range(task.id, task.id + max(1, task.copies))):
            needs.update(task.needs)
            named.add(task.options)
    for place, options in enumerate(message.options):
        for dependency in (options.after, options.follow) if place in named else ():
            if dependency is not None:
                needs.update(dependency.tasks)
    return needs


def results_needed(store: Store, submitted: Iterable[tuple[Submitted, frozenset[int] | None]]) -> Sequence[Part]:
    """Return the results of tasks on which these depend, as far as they have not ended."""
    needed: set[int] = set()
    for entry, open_ in submitted:
        needed |= needs_of(entry.message, open_)
    steps = Archive(store).results_of(sorted(needed))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return tuple(end.value)
