"""The store of functions by itself."""

from __future__ import annotations

import pytest
from enginery.controller.functions import FunctionEntry, FunctionStore


def test_the_first_result_makes_the_estimate():
    entry = FunctionEntry(b"f", b"")
    assert entry.mean_s is None
    entry.observe(0.4, 2)
    assert entry.mean_s == pytest.approx(0.2)


def test_the_estimate_follows_what_is_seen():
    entry = FunctionEntry(b"f", b"")
    entry.observe(1.0, 1)
    for _ in range(30):
        entry.observe(0.1, 1)
    assert entry.mean_s == pytest.approx(0.1, rel=0.05)


def test_many_calls_weigh_more_than_one():
    one, many = FunctionEntry(b"f", b""), FunctionEntry(b"f", b"")
    for entry in (one, many):
        entry.observe(1.0, 1)
    one.observe(0.1, 1)
    many.observe(10.0, 100)
    assert many.mean_s < one.mean_s < 1.0


def test_an_unknown_function_is_not_found():
    store = FunctionStore()
    assert store.find(b"f") is None
    assert store.find(b"") is None


def test_an_operation_of_the_engine_is_always_found_and_has_no_pickle():
    store = FunctionStore()
    entry = store.find(b"!execute")
    assert entry is not None
    assert entry.pickled == b""
    entry.unfinished += 1
    store.release(b"!execute")
    assert store.find(b"!execute") is entry
    assert store.dropped == []


def test_a_function_goes_when_nobody_may_name_it_and_no_task_needs_it():
    store = FunctionStore()
    store.add(b"f", b"pickle", 1)
    entry = store.find(b"f")
    entry.unfinished += 2
    store.disown(b"f", 1)
    store.release(b"f")
    assert store.find(b"f") is entry
    store.release(b"f")
    assert store.find(b"f") is None
    assert store.dropped == [b"f"]


def test_a_function_stays_while_one_of_its_owners_does():
    store = FunctionStore()
    store.add(b"f", b"pickle", 1)
    store.add(b"f", b"pickle", 2)
    store.disown(b"f", 1)
    assert store.find(b"f") is not None
    store.disown(b"f", 2)
    assert store.find(b"f") is None


def test_to_disown_what_is_not_there_is_nothing():
    store = FunctionStore()
    store.disown(b"f", 1)
    assert store.dropped == []


def test_an_empty_name_is_a_name_like_others():
    store = FunctionStore()
    store.add(b"", b"pickle", 1)
    store.disown(b"", 1)
    assert store.dropped == [b""]
