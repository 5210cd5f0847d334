"""The bench, with a look at its end whether each test accounted for all that was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unit.controller.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.nothing_else_was_said()
