"""What clients ask of the cluster as a whole: another number of engines, fresh ones, signals, its state, its end.

See `messages`, which they belong to, and whose `VERSION` covers them. Each is answered by a `Reply` of its number.
"""

from __future__ import annotations

import msgspec


class Scale(msgspec.Struct, array_like=True, tag=True):
    """Have n engines. Answered when the ones to start answer and the ones to stop are gone."""

    request: int
    n: int


class Retire(msgspec.Struct, array_like=True, tag=True):
    """Stop these engines (`(engine, incarnation)` each) for good, each when it has done what it was given. Answered
    when they are gone.

    An engine that is not there is gone already; one of a later incarnation is an error, since it is not known whether
    it is the one that was meant: so the request may be made again when its answer was lost.
    """

    request: int
    engines: list[tuple[int, int]]


class Restart(msgspec.Struct, array_like=True, tag=True):
    """Replace these engines (all: None) by fresh ones under the same ids. Answered when they answer.

    Those that are not of the `incarnations` named (`(engine, incarnation)` each) have been replaced since, and are left
    alone: so the request may be made again when its answer was lost.
    """

    request: int
    engines: list[int] | None = None
    incarnations: list[tuple[int, int]] = []


class Signal(msgspec.Struct, array_like=True, tag=True):
    """Send a signal to engine processes (all: None). Answered when it is passed on to their nannies."""

    request: int
    signal: int
    engines: list[int] | None = None


class Shutdown(msgspec.Struct, array_like=True, tag=True):
    """Stop the whole cluster. Answered before the controller ends (from a client), or asked by the head nanny."""

    request: int = 0


class StatusQuery(msgspec.Struct, array_like=True, tag=True):
    """How is the cluster? Answered by a `Reply` whose value is a `ClusterStatus` as a map."""

    request: int


class QueueQuery(msgspec.Struct, array_like=True, tag=True):
    """What is there to do for these engines (all: None)? Answered by a `Reply` whose value maps each one's id to
    `(queue, tasks, completed)`: how many tasks it has that were addressed to it, how many others, and how many it has
    run; and None to how many are with no engine. With `ids`, each of these but `completed` is a list of ids.
    """

    request: int
    engines: list[int] | None = None
    ids: bool = False


class WaitEngines(msgspec.Struct, array_like=True, tag=True):
    """Answer when at least n engines are ready (None: all that the cluster is to have); an error if that cannot be."""

    request: int
    n: int | None = None


class ClearSetup(msgspec.Struct, array_like=True, tag=True):
    """Forget all set-up: engines that come from now on have none. Answered with how many calls that were."""

    request: int
