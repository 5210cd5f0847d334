"""A query, made ready to be answered: which rows of the journal can hold what it asks for, and what to ask each record.

`read_plan` takes the query apart into conditions that must all be true. Those that name certain tasks, labels, clients
or times of submission narrow down the rows that are read at all; those on what was submitted are asked before anything
is read of results; the others last. Narrowing decides nothing: every condition is asked of every record that is left.

A condition compares values of one kind: of numbers, of text, of times. All others are false, none is an error.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ...ids import read_task
from ...wire.query import (
    COMBINED,
    FIELDS,
    INT_MAX,
    NUMBER,
    TEXT,
    TIME,
    check_fields,
    is_operators,
    kind_of,
    read_query,
    to_ticks,
)
from .subjects import GETTERS, OF_RESULTS, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Test = Callable[[Any], bool]
    """Of the value of a field."""
    Ask = Callable[[Subject], bool]
    """Of a task."""

NARROW = 100
"""By more labels or clients than that, rows are not looked for."""

ALWAYS = 1 << 62
"""Later than any time, in microseconds since 1970."""


class Plan(NamedTuple):
    """How to answer a query."""

    early: Ask | None
    """Asked when only what was submitted is known."""
    late: Ask | None
    """Asked when it is known what became of the task."""
    getters: Sequence[Callable[[Subject], Any]]
    """Of the fields that are wanted."""
    reads_results: bool
    """Whether it matters what became of the tasks."""
    ids: frozenset[int] | None = None
    """Only these tasks; None: all."""
    labels: frozenset[str] | None = None
    clients: frozenset[int] | None = None
    since: int = 0
    until: int = ALWAYS
    """When they were submitted, in microseconds since 1970."""


def read_plan(query: Any, keys: Sequence[str]) -> Plan:
    """Return how to answer a query with these fields of the records; ValueError, with a sentence, if it is none."""
    plain, _ = read_query(query)
    getters = [_get_id if key == "msg_id" else GETTERS[key] for key in check_fields(keys)]
    conditions = list(_conditions(plain))
    asks = list(map(_ask, conditions))
    early = [ask for ask, named in asks if not named & OF_RESULTS]
    late = [ask for ask, named in asks if named & OF_RESULTS]
    plan = Plan(
        _all(early) if early else None,
        _all(late) if late else None,
        getters,
        reads_results=bool(late) or not OF_RESULTS.isdisjoint(keys),
    )
    for condition in conditions:
        plan = _narrow(plan, condition)
    return plan


def _get_id(task: Subject) -> int:
    return task.id


Condition = tuple[str, Any]
"""A field and what it is to be, or a combining operator and its queries."""


def _conditions(query: dict[str, Any]) -> Iterable[Condition]:
    """Yield the conditions of which each must be true."""
    for name, wanted in query.items():
        if name == "$and":
            for one in wanted:
                yield from _conditions(one)
        else:
            yield name, wanted


# ------------------------------------------------------------------------------------------------ which rows


def _narrow(plan: Plan, condition: Condition) -> Plan:
    """Return the plan for no more tasks than may meet a condition."""
    name, wanted = condition
    if name in COMBINED:
        return plan
    values = _values_of(wanted)
    if name == "submitted" and is_operators(wanted):
        since = [to_ticks(wanted[op]) for op in ("$gt", "$gte") if kind_of(wanted.get(op)) == TIME]
        until = [to_ticks(wanted[op]) for op in ("$lt", "$lte") if kind_of(wanted.get(op)) == TIME]
        return plan._replace(since=max([plan.since, *since]), until=min([plan.until, *until]))
    if values is None:
        return plan
    if name == "msg_id":
        ids = frozenset(_ids(values))
        return plan._replace(ids=ids if plan.ids is None else plan.ids & ids)
    if len(values) > NARROW:
        return plan
    if name == "label" and None not in values:
        labels = frozenset(value for value in values if kind_of(value) == TEXT)
        return plan._replace(labels=labels if plan.labels is None else plan.labels & labels)
    if name == "client":
        numbers = (value for value in values if kind_of(value) == NUMBER and abs(value) <= INT_MAX)
        clients = frozenset(int(value) for value in numbers if value == value // 1)
        return plan._replace(clients=clients if plan.clients is None else plan.clients & clients)
    return plan


def _values_of(wanted: Any) -> list[Any] | None:
    """Return the values of which a field is to have one; None if it may have others."""
    if not is_operators(wanted):
        return [wanted]
    if "$eq" in wanted:
        return [wanted["$eq"]]
    return list(wanted["$in"]) if "$in" in wanted else None


def _ids(values: Iterable[Any]) -> Iterable[int]:
    for value in values:
        if kind_of(value) == TEXT:
            try:
                yield read_task(value)
            except ValueError:
                continue  # there is no such task


# ------------------------------------------------------------------------------------------------ what to ask


def _ask(condition: Condition) -> tuple[Ask, frozenset[str]]:
    """Return a condition as a function of a task, and the fields that it looks at."""
    name, wanted = condition
    if name not in COMBINED:
        get, test = GETTERS[name], _test(name, wanted)
        return (lambda task: test(get(task))), frozenset([name])
    queries = [wanted] if name == "$not" else wanted
    asks = [[_ask(one) for one in _conditions(query)] for query in queries]
    fields = frozenset[str]().union(*(named for several in asks for _, named in several))
    tests = [_all([ask for ask, _ in several]) for several in asks]
    if name == "$not":
        (test_one,) = tests
        return (lambda task: not test_one(task)), fields
    return (lambda task: any(test(task) for test in tests)), fields


def _all(tests: Sequence[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _test(field: str, wanted: Any) -> Test:
    """Return what a field is to be as a function of its value."""
    if not is_operators(wanted):
        return _equals(field, wanted)
    return _all([_operator(field, name, operand) for name, operand in wanted.items()])


def _operator(field: str, name: str, operand: Any) -> Test:
    match name:
        case "$eq":
            return _equals(field, operand)
        case "$ne":
            return _negated(_equals(field, operand))
        case "$in":
            return _one_of(field, operand)
        case "$nin":
            return _negated(_one_of(field, operand))
        case "$exists":
            return lambda value: (value is not None) is operand
        case "$glob":
            matches = re.compile(fnmatch.translate(operand)).match
            return lambda value: isinstance(value, str) and matches(value) is not None
        case "$not":
            return _negated(_test(field, operand))
        case "$and":
            return _all([_test(field, one) for one in operand])
        case "$or":
            tests = [_test(field, one) for one in operand]
            return lambda value: any(test(value) for test in tests)
    return _ordered(field, name, operand)


def _never(_: Any) -> bool:
    return False


def _negated(test: Test) -> Test:
    return lambda value: not test(value)


def _operand(field: str, value: Any) -> Any:
    """Return a value as that field's are compared; None if it is of another kind."""
    if kind_of(value) != FIELDS[field]:
        return None
    return to_ticks(value) if FIELDS[field] == TIME else value


def _equals(field: str, wanted: Any) -> Test:
    if wanted is None:
        return lambda value: value is None
    operand = _operand(field, wanted)
    return _never if operand is None else lambda value: bool(value == operand)


def _one_of(field: str, wanted: Sequence[Any]) -> Test:
    operands = {_frozen(_operand(field, value)) for value in wanted} - {None}  # a set, however many they are
    if None in wanted:
        operands.add(None)
    if FIELDS[field] in (NUMBER, TEXT, TIME):
        return lambda value: value in operands
    return lambda value: _frozen(value) in operands


def _frozen(value: Any) -> Any:
    """Return what is equal for equal values, and can be in a set."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return frozenset((name, _frozen(one)) for name, one in value.items())
    return value


def _ordered(field: str, name: str, wanted: Any) -> Test:
    operand = _operand(field, wanted)
    if operand is None or FIELDS[field] not in (NUMBER, TEXT, TIME):
        return _never
    match name:
        case "$gt":
            return lambda value: value is not None and value > operand
        case "$gte":
            return lambda value: value is not None and value >= operand
        case "$lt":
            return lambda value: value is not None and value < operand
    return lambda value: value is not None and value <= operand
