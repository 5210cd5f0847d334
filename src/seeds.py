"""Random numbers that depend on the item and on nothing else: not on the engine, the batch, or how often it was tried.

Item `i` of a map with `seed` gets child `i` of `numpy.random.SeedSequence(seed)`. A child is known by its number alone,
so the engine makes it from the number of the item, which travels with the items.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = "rng"
"""A function with a parameter of this name is given its item's generator."""


class Seed(NamedTuple):
    """What makes a `numpy.random.SeedSequence`, without numpy."""

    entropy: int | tuple[int, ...]
    spawn_key: tuple[int, ...] = ()
    pool_size: int = 4
    first: int = 0
    """Children that were spawned before: those of the items come after."""

    def child(self, index: int) -> Any:
        """Return the SeedSequence of an item."""
        numpy = _numpy()
        key = (*self.spawn_key, self.first + index)
        return numpy.random.SeedSequence(self.entropy, spawn_key=key, pool_size=self.pool_size)


def seed_from(seed: Any) -> Seed:
    """Return the seed that a user gave: a number, a sequence of numbers, or a SeedSequence, which stays as it is.

    Raises TypeError for anything else, ValueError for a negative number.

    >>> seed_from(42)
    Seed(entropy=42, spawn_key=(), pool_size=4, first=0)
    """
    try:
        if hasattr(seed, "n_children_spawned"):
            return Seed(_entropy(seed.entropy), tuple(seed.spawn_key), seed.pool_size, seed.n_children_spawned)
        entropy = _entropy(seed)
    except TypeError:
        raise TypeError(
            f"seed is a whole number, a sequence of them, or a numpy.random.SeedSequence, not {seed!r:.100}"
        ) from None
    if min((entropy,) if isinstance(entropy, int) else entropy, default=0) < 0:
        raise ValueError(f"a seed has no negative numbers, but this is {seed!r:.100}")
    return Seed(entropy)


def _entropy(numbers: Any) -> int | tuple[int, ...]:
    if isinstance(numbers, bool | str | bytes):
        raise TypeError
    if hasattr(numbers, "__index__") and not getattr(numbers, "ndim", 0):
        return operator.index(numbers)
    return tuple(operator.index(number) for number in numbers)


def takes_rng(function: Callable[..., Any], filled: int) -> bool:
    """Return whether a function has a parameter for the generator, beyond the `filled` ones, that nobody has bound."""
    import inspect  # noqa: PLC0415 - once per map

    inner = function
    while isinstance(inner, functools.partial):
        if RNG in inner.keywords:
            return False
        inner = inner.func
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    found = parameters.get(RNG)
    if found is None or found.kind not in {found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY}:
        return False
    return found.kind == found.KEYWORD_ONLY or list(parameters).index(RNG) >= filled


class Seeded:
    """A function whose first argument is the number of the item, from which its randomness is made.

    With `rng` the function is passed a generator of its own. Without, the global states of `numpy.random` and `random`
    are the item's while it runs, and what they were afterwards.
    """

    def __init__(self, function: Callable[..., Any], seed: Seed, *, rng: bool) -> None:
        self.function = function
        self.seed = seed
        self.rng = rng
        name = getattr(function, "__name__", None)
        self.__name__ = name if isinstance(name, str) else type(function).__name__

    def __call__(self, index: int, /, *row: Any) -> Any:
        """Call the function with an item's row."""
        if self.rng:
            return self.function(*row, rng=generator(self.seed, index))
        import random  # noqa: PLC0415 - the client does without

        numpy, words = _numpy().random, self.seed.child(index).generate_state(8)
        before, before_numpy = random.getstate(), numpy.get_state(legacy=False)
        try:
            numpy.seed(words[:4])
            random.seed(words[4:].tobytes())
            return self.function(*row)
        finally:
            random.setstate(before)
            numpy.set_state(before_numpy)


class SeededCoroutine(Seeded):
    """The same of a coroutine function. Several run at once, so it has its generator, and no global state."""

    async def __call__(self, index: int, /, *row: Any) -> Any:
        """Call the function with an item's row."""
        return await self.function(*row, rng=generator(self.seed, index))


def generator(seed: Seed, index: int) -> Any:
    """Return the generator of an item: `numpy.random.default_rng` of its child."""
    return _numpy().random.default_rng(seed.child(index))


def _numpy() -> Any:
    try:
        import numpy.random  # noqa: PLC0415 - only on engines, and only for seeds
    except ImportError as error:
        raise ImportError(f"seed= needs numpy on the engines: {error}") from error
    return numpy
