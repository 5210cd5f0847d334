# ruff: noqa: NPY002 - the global state is what is tested

from __future__ import annotations

import builtins
import functools
import random

import numpy as np
import pytest
from enginery.seeds import Seed, Seeded, SeededCoroutine, generator, seed_from, takes_rng


def child(seed, index, count=10):
    return np.random.SeedSequence(seed).spawn(count)[index]


@pytest.mark.parametrize("seed", [0, 42, 2**100, [1, 2, 3], (7,), np.int64(5), np.array([4, 5]), range(3)])
def test_items_have_the_streams_that_spawn_gives(seed):
    plain = seed.tolist() if isinstance(seed, np.generic | np.ndarray) else seed
    plain = plain if isinstance(plain, int) else list(plain)
    for index in (0, 3, 9):
        expected = np.random.default_rng(child(plain, index)).random(4)
        assert (generator(seed_from(seed), index).random(4) == expected).all()


def test_a_seed_sequence_counts_from_where_it_is_and_stays_there():
    seed = np.random.SeedSequence(42, spawn_key=(3,), pool_size=8)
    seed.spawn(5)
    made = seed_from(seed)
    values = generator(made, 2).random(4)
    assert seed.n_children_spawned == 5
    assert (values == np.random.default_rng(seed.spawn(3)[2]).random(4)).all()


@pytest.mark.parametrize("wrong", ["42", b"42", 4.2, True, [1, "2"], [1.5], None, {}.keys, np.array([1.5])])
def test_what_is_no_seed_is_refused(wrong):
    with pytest.raises(
        TypeError, match=r"seed is a whole number, a sequence of them, or a numpy\.random\.SeedSequence"
    ):
        seed_from(wrong)


@pytest.mark.parametrize("wrong", [-1, [3, -3]])
def test_negative_seeds_are_refused(wrong):
    with pytest.raises(ValueError, match="no negative numbers"):
        seed_from(wrong)


class Callable:
    def __call__(self, x, rng):
        return x


@pytest.mark.parametrize(
    ("function", "filled", "takes"),
    [
        (lambda x, rng: x, 1, True),
        (lambda x, rng=None: x, 1, True),
        (lambda x, *, rng: x, 1, True),
        (lambda x, y, *, rng: x, 2, True),
        (lambda x, rng: x, 2, False),  # the sequences fill it
        (lambda rng: rng, 1, False),
        (lambda rng, /, x=1: x, 0, False),
        (lambda x, **kwargs: x, 1, False),
        (lambda x, *rng: x, 1, False),
        (lambda x: x, 1, False),
        (Callable(), 1, True),
        (functools.partial(lambda a, x, rng: x, 1), 1, True),
        (functools.partial(lambda x, rng: x, rng=3), 1, False),
        (functools.partial(functools.partial(lambda x, y, rng: x, rng=3), 1), 1, False),
        (max, 1, False),
    ],
)
def test_who_takes_a_generator(function, filled, takes):
    assert takes_rng(function, filled) == takes


def test_the_global_states_are_the_items_while_it_runs_and_as_before_after_it():
    def draw(x):
        return x, random.random(), np.random.random()

    def fail(_x):
        np.random.random()
        raise KeyError

    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random_sample()
    seeded = Seeded(draw, Seed(42), rng=False)
    assert seeded(3, "x") == seeded(3, "x")
    assert seeded(3, "x")[1:] != seeded(4, "x")[1:]
    words = child(42, 3).generate_state(8)
    assert seeded(3, "x")[2] == np.random.RandomState(words[:4]).random_sample()
    assert seeded(3, "x")[1] == random.Random(words[4:].tobytes()).random()
    with pytest.raises(KeyError):
        Seeded(fail, Seed(42), rng=False)(3, "x")
    assert (random.random(), np.random.random()) == expected


def test_who_takes_a_generator_leaves_the_global_states_alone():
    random.seed(1)
    before = random.getstate()
    seeded = Seeded(lambda x, rng: (random.getstate(), rng.random()), Seed(42), rng=True)
    state, value = seeded(3, "x")
    assert state == before
    assert value == np.random.default_rng(child(42, 3)).random()


def test_coroutine_functions_are_awaited_with_their_generator():
    async def draw(x, rng):
        return x, rng.random()

    coroutine = SeededCoroutine(draw, Seed(42), rng=True)(2, "x")
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == ("x", np.random.default_rng(child(42, 2)).random())


def test_it_has_the_name_of_the_function():
    assert Seeded(child, Seed(1), rng=False).__name__ == "child"
    assert Seeded(functools.partial(child), Seed(1), rng=False).__name__ == "partial"


def test_without_numpy_the_error_says_who_needs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name.startswith("numpy"):
            raise ModuleNotFoundError("No module named 'numpy'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="seed= needs numpy on the engines: No module named 'numpy'"):
        Seeded(abs, Seed(1), rng=False)(0, 1)
