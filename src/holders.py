"""Objects in words: how large, where, and why each is alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ids import TaskId, show_engines, show_task
from .reasons import listed
from .wire.objects import show_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .wire.stock import ObjectRecord

NAMED = 3
"""So many tasks are named at the most."""


def amount(nbytes: int) -> str:
    """Return a size for people, in the units that limits are given in.

    >>> amount(7), amount(1_500_000), amount(4_200_000_000)
    ('7 B', '1.5 MB', '4.2 GB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes} B"


def counted(count: int) -> str:
    """Return how many objects there are.

    >>> counted(1), counted(1200)
    ('1 object', '1,200 objects')
    """
    return "1 object" if count == 1 else f"{count:,} objects"


HEADERS = ("object", "size", "where", "held by")
"""What is in a `row`."""


def row(record: ObjectRecord) -> tuple[str, ...]:
    """Return an object as a row of a table."""
    why = "; ".join(reasons(record))
    return show_object(record.id), amount(record.nbytes), where(record), why or "nobody"


def reasons(record: ObjectRecord) -> list[str]:
    """Return what keeps an object alive, one sentence for each kind of holder.

    >>> from .wire.stock import Hold, ObjectRecord
    >>> reasons(ObjectRecord(bytes(16), 7, "here", handles=[Hold(3, "notebook", 812, 2)]))
    ['client 3 (notebook, pid 812) holds 2 handles']
    """
    found = [
        f"client {hold.client} ({hold.name}, pid {hold.pid}) holds {_count(hold.handles, 'handle')}"
        for hold in record.handles
    ]
    found += _tasks(record)
    if record.waited_for:
        found.append(f"tasks wait for the result of {listed(record.waited_for, NAMED)}")
    if record.kept:
        found.append(f"the result of {listed(record.kept, NAMED)} is kept for whoever asks")
    found += [f"the set-up {name} needs it" for name in record.setups]
    engines = sorted({engine for place in record.places for engine in place.engines})
    if engines:
        found.append(f"engine{_s(engines)} {show_engines(engines)} {_have(engines)} it mapped")
    for place in record.places:
        if place.pids:
            pids, es = ", ".join(map(str, place.pids)), "es" if len(place.pids) > 1 else ""
            found.append(f"process{es} {pids} on {place.host} {_have(place.pids)} it mapped")
    return found


def explain(record: ObjectRecord) -> str:
    """Return where an object is and why it is alive, as a few lines.

    >>> from .wire.stock import ObjectRecord, Place
    >>> print(explain(ObjectRecord(bytes(16), 7, "here", [Place("here", "mapped", [0])])))
    object 00000000-0 (7 B, made on here) is dropped, and only mapped any more on here; alive because:
      engine 0 has it mapped
    """
    head = f"object {show_object(record.id)} ({amount(record.nbytes)}, made on {record.made_at}) is {where(record)}"
    why = reasons(record)
    if not why:
        return f"{head}; nobody holds it: it is about to be freed, or has just been made"
    return "\n".join([f"{head}; alive because:", *(f"  {reason}" for reason in why)])


def where(record: ObjectRecord) -> str:
    """Return where an object is.

    >>> from .wire.stock import ObjectRecord, Place
    >>> where(ObjectRecord(bytes(16), 7, "a", [Place("a", "disk"), Place("b", "coming")]))
    'on disk on a and on its way to b'
    """
    words = {
        "memory": "in memory on",
        "disk": "on disk on",
        "coming": "on its way to",
        "mapped": "dropped, and only mapped any more on",
    }
    found = [f"{words.get(place.place, 'on')} {place.host}" for place in record.places]
    if not found:
        return "lost: no host has it any more"
    *most, last = found
    return f"{', '.join(most)} and {last}" if most else last


def _tasks(record: ObjectRecord) -> Iterable[str]:
    for task, label in record.tasks[:NAMED]:
        name = f" {label!r}" if label else ""
        yield f"task {show_task(TaskId(task))}{name} has not ended"
    more = record.tasks_count - len(record.tasks[:NAMED])
    if more > 0:
        yield f"{more:,} more task{'s' if more > 1 else ''} {'have' if more > 1 else 'has'} not ended"


def _count(n: int, what: str) -> str:
    return f"1 {what}" if n == 1 else f"{n} {what}s"


def _s(of: list[int]) -> str:
    return "s" if len(of) > 1 else ""


def _have(who: list[int]) -> str:
    return "have" if len(who) > 1 else "has"
