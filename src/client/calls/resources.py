"""Resources as people write them: of which names how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from ...wire.codec import check_text


def amounts(resources: Mapping[str, float] | None) -> tuple[tuple[str, float], ...]:
    """Return resources in order of their names, checked; TypeError or ValueError says what is wrong.

    >>> amounts({"mem": 1.5, "gpu": 1})
    (('gpu', 1.0), ('mem', 1.5))
    """
    given: Any = resources
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(f'resources are a dict like {{"gpu": 1}}, not {given!r}')
    found: dict[str, float] = {}
    for name, amount in given.items():
        if not isinstance(name, str) or not name or any(character.isspace() or character == "=" for character in name):
            raise TypeError(f"a resource is named by a word, not {name!r}")
        name = check_text("the name of a resource", name)  # noqa: PLW2901 - the same word
        if isinstance(amount, bool) or not isinstance(amount, Real):
            raise TypeError(f"the amount of resource {name} is a number, not {amount!r}")
        found[name] = float(amount)
        if not (found[name] > 0 and math.isfinite(found[name])):
            raise ValueError(f"the amount of resource {name} is a number above 0, not {amount!r}")
    return tuple(sorted(found.items()))
