"""Which fault comes when: from a seed, the same each time. Pure.

Faults come in rounds. In each round every kind comes once, in a shuffled order, at a random moment of its share of the
round; so all have happened every few minutes, and some strike while another still lasts.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from ..errors import EngineryError

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE_S = 3.0
"""The share of a round that a kind has, roughly. Most of what breaks is whole again within a second; a cluster that is
never whole would only show that it does not work without engines."""

LASTS_S = (0.3, 3.0)
"""How long a stop or a cut lasts: from a hiccup to what a person would notice. Longer ones are other promises, with
time limits of their own."""


class FaultKind(NamedTuple):
    """A kind of fault."""

    name: str
    text: str
    lasts: bool = False


KINDS = (
    FaultKind("engine-kill", "an engine is killed (SIGKILL)"),
    FaultKind("engine-segv", "an engine crashes (SIGSEGV)"),
    FaultKind("engine-term", "an engine is told to end (SIGTERM)"),
    FaultKind("engine-stop", "an engine is stopped for a while", lasts=True),
    FaultKind("zygote-kill", "the engines' template is killed, and all engines with it"),
    FaultKind("nanny-stop", "the nanny is stopped for a while", lasts=True),
    FaultKind("controller-kill", "the controller is killed"),
    FaultKind("controller-stop", "the controller is stopped for a while", lasts=True),
    FaultKind("client-kill", "a client is killed; its tasks go on"),
    FaultKind("client-stop", "a client is stopped for a while", lasts=True),
    FaultKind("cut", "a client's connection breaks, and cannot be made again for a while", lasts=True),
    FaultKind("freeze", "a client's connection carries nothing for a while", lasts=True),
)
"""All of them."""

NAMES = tuple(kind.name for kind in KINDS)

_LASTING = {kind.name for kind in KINDS if kind.lasts}


class Fault(NamedTuple):
    """One fault to come."""

    at_s: float
    """Seconds after the beginning."""
    kind: str
    lasts_s: float
    """0 for what is done once and cannot be undone."""


def parse(text: str) -> tuple[str, ...]:
    """Return the kinds that a list like `engine-kill,cut` names; EngineryError for one that there is not.

    "all" names all. A word that several kinds begin with names these: `engine` is `engine-kill`, `engine-stop`, ...
    """
    chosen: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = [name for name in NAMES if word in ("all", name) or name.startswith(f"{word}-")]
        if not found:
            raise EngineryError(f"there is no fault {word!r}; there are: {', '.join(NAMES)}")
        chosen += [name for name in found if name not in chosen]
    if not chosen:
        raise EngineryError(f"no fault is named; there are: {', '.join(NAMES)}")
    return tuple(chosen)


def plan(seed: int, seconds: float, kinds: Sequence[str] = NAMES) -> list[Fault]:
    """Return the faults of so many seconds, in order of time. Each kind comes equally often, and at least once."""
    rng = random.Random(f"faults {seed}")
    rounds = max(1, round(seconds / (len(kinds) * SHARE_S)))
    share = seconds / (len(kinds) * rounds)
    faults = []
    for place in range(rounds):
        for i, kind in enumerate(rng.sample(kinds, len(kinds))):
            at = (place * len(kinds) + i + rng.random()) * share
            faults.append(Fault(at, kind, rng.uniform(*LASTS_S) if kind in _LASTING else 0.0))
    return sorted(faults)
