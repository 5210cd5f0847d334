"""The language of queries: which fields a record of a task has, and what may be asked of them.

A query is read here by the client that makes it, and again by the controller that gets it and trusts nobody. What it
means is said in `client.records.records` (`Client.db_query`), and done in `controller.journal.query`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBER, TEXT, TIME, LIST, DICT = "number", "text", "time", "list", "dict"

FIELDS = {
    "msg_id": TEXT,
    "label": TEXT,
    "status": TEXT,
    "client": NUMBER,
    "engine_id": NUMBER,
    "submitted": TIME,
    "started": TIME,
    "completed": TIME,
    "received": TIME,
    "duration": NUMBER,
    "items": NUMBER,
    "function": TEXT,
    "targets": LIST,
    "retries": NUMBER,
    "priority": NUMBER,
    "timeout": NUMBER,
    "resources": DICT,
    "after": LIST,
    "follow": LIST,
}
"""What a record has, and of which kind that is, if it is not None."""

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$glob", "$exists", "$and", "$or", "$not")

COMBINED = ("$and", "$or", "$not")
"""Operators on queries, and on conditions of one field."""

SIZE_MAX = 100_000
"""Names and values in a query, all told."""

CONDITIONS_MAX = 1000
"""Conditions in a query, that is fields, operators and alternatives: each may have to be asked of a million tasks."""

DEPTH_MAX = 20
"""So deep may one thing in it be within another."""

GLOB_MAX = 1000
"""Characters of a pattern."""

INT_MAX = (1 << 63) - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def to_ticks(time: datetime) -> int:
    """Return a time as the number of microseconds since 1970 that records are compared by."""
    return (time - _EPOCH) // _TICK


def from_ticks(ticks: int) -> datetime:
    """Return the time that `to_ticks` makes this number of."""
    return _EPOCH + timedelta(microseconds=ticks)


def kind_of(value: Any) -> str:
    """Return of which kind a value in a query is; empty for None and for truth values, which no field has."""
    if isinstance(value, str):
        return TEXT
    if isinstance(value, datetime):
        return TIME
    if isinstance(value, int | float):
        return "" if isinstance(value, bool) else NUMBER
    return LIST if isinstance(value, list) else DICT if isinstance(value, dict) else ""


def is_operators(wanted: Any) -> bool:
    """Return whether what a field is to be is said by operators; else it is a value."""
    return isinstance(wanted, dict) and any(isinstance(name, str) and name.startswith("$") for name in wanted)


def read_query(query: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a query in plain types, and the fields that it names; ValueError, with a sentence, if it is none."""
    reader = _Reader()
    return reader.query(query, 0), frozenset(reader.fields)


def check_fields(names: Iterable[Any]) -> list[str]:
    """Return these names of fields, each once; ValueError if there is no field of some name."""
    return list(dict.fromkeys(map(_field, names)))


def _field(name: Any) -> str:
    if not isinstance(name, str) or name not in FIELDS:
        raise ValueError(f"a record has no field {name!r:.100}; it has: {', '.join(FIELDS)}")
    return name


class _Reader:
    def __init__(self) -> None:
        self.fields: set[str] = set()
        self._size = self._conditions = 0

    def query(self, query: Any, depth: int) -> dict[str, Any]:
        self._count(depth, conditions=1)
        if not isinstance(query, dict):
            raise ValueError(f'a query is a dict such as {{"status": "error"}}, not {query!r:.100}')  # noqa: TRY004 - one error for all
        plain: dict[str, Any] = {}
        for name, wanted in query.items():
            if name in ("$and", "$or"):
                plain[name] = [self.query(one, depth + 1) for one in self._several(name, wanted, "queries")]
            elif name == "$not":
                plain[name] = self.query(wanted, depth + 1)
            elif isinstance(name, str) and name.startswith("$"):
                raise ValueError(f"{self._known(name)} says what a field is to be: {{FIELD: {{{name!r}: ...}}}}")
            else:
                self.fields.add(_field(name))
                plain[name] = self._wanted(wanted, depth + 1)
        return plain

    def _wanted(self, wanted: Any, depth: int) -> Any:
        """Read what a field is to be: a value, or operators."""
        self._count(depth, conditions=len(wanted) if is_operators(wanted) else 1)
        if not is_operators(wanted):
            return self._value(wanted, depth)
        plain: dict[str, Any] = {}
        for name, operand in wanted.items():
            if self._known(name) in ("$and", "$or"):
                plain[name] = [self._wanted(one, depth + 1) for one in self._several(name, operand, "conditions")]
            elif name == "$not":
                plain[name] = self._wanted(operand, depth + 1)
            elif name in ("$in", "$nin"):
                plain[name] = [self._value(one, depth + 1) for one in self._several(name, operand, "values", least=0)]
            elif name == "$exists" and not isinstance(operand, bool):
                raise ValueError(f"$exists is True or False, not {operand!r:.100}")
            elif name == "$glob" and not (isinstance(operand, str) and len(operand) <= GLOB_MAX):
                raise ValueError(f'$glob takes a pattern such as "train-*", not {operand!r:.100}')
            else:
                plain[name] = self._value(operand, depth + 1)
        return plain

    def _value(self, value: Any, depth: int) -> Any:
        self._count(depth)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)  # plain, whatever it shows itself as
        if isinstance(value, int):
            if not -INT_MAX <= value <= INT_MAX:
                raise ValueError(f"a number in a query has at most 63 bits, unlike {value!r:.100}")
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, datetime):
            if value.utcoffset() is None:
                raise ValueError(
                    f"times of records have a time zone, and {value!r} has none; for local time: .astimezone()"
                )
            try:
                return from_ticks(to_ticks(value))
            except OverflowError:
                raise ValueError(f"{value!r} is beyond all times of records") from None
        if isinstance(value, list | tuple):
            return [self._value(one, depth + 1) for one in value]
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return {str(name): self._value(one, depth + 1) for name, one in value.items()}
        raise ValueError(f"records hold text, numbers, times with a zone, lists and None, not {type(value).__name__}")

    @staticmethod
    def _known(name: Any) -> str:
        if name not in OPERATORS:
            raise ValueError(f"queries have no operator {name!r:.100}; they have: {', '.join(OPERATORS)}")
        return str(name)

    @staticmethod
    def _several(name: str, operand: Any, what: str, *, least: int = 1) -> list[Any]:
        if not isinstance(operand, list | tuple | set | frozenset | range) or len(operand) < least:
            raise ValueError(f"{name} takes a list of {what}, not {operand!r:.100}")
        return list(operand)

    def _count(self, depth: int, *, conditions: int = 0) -> None:
        self._conditions += conditions
        if self._conditions > CONDITIONS_MAX:
            raise ValueError(f"a query has at most {CONDITIONS_MAX} conditions; one $in may have many values")
        self._size += 1
        if self._size > SIZE_MAX:
            raise ValueError(f"a query has at most {SIZE_MAX} names and values; ask in several")
        if depth > DEPTH_MAX:
            raise ValueError(f"a query is at most {DEPTH_MAX} deep")
