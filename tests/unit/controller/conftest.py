"""The bench, with a look at its end whether each test accounted for all that was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unit.controller.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[False, True], ids=["", "journal"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench without a journal, and one with; the latter with a look at its end at what another would make of it."""
    bench = Bench(durable=request.param)
    yield bench
    bench.nothing_else_was_said()
    if bench.store is not None:
        bench.restored_books_are_the_same()
        bench.summarize()
        bench.restored_books_are_the_same()
        bench.begin_anew()
        bench.restored_books_are_the_same()
        bench.store.close()


@pytest.fixture
def durable() -> Iterator[Bench]:
    """A bench with a journal, whose controller can `die`."""
    bench = Bench(durable=True)
    yield bench
    bench.nothing_else_was_said()
    bench.restored_books_are_the_same()
    assert bench.store is not None
    bench.store.close()
