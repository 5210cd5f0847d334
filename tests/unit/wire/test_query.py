"""What a query may say, and the sentence for what it may not."""

from __future__ import annotations

import datetime as dt
import enum

import pytest
from enginery.wire import codec
from enginery.wire import messages as m
from enginery.wire.query import CONDITIONS_MAX, DEPTH_MAX, FIELDS, SIZE_MAX, from_ticks, read_query, to_ticks

NOW = dt.datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=dt.UTC)


class Level(enum.IntEnum):
    HIGH = 3


def test_a_query_is_made_of_plain_types_and_its_fields_are_known():
    zone = dt.timezone(dt.timedelta(hours=2))
    plain, fields = read_query(
        {
            "label": ("a",),
            "priority": Level.HIGH,
            "client": {"$in": {1}},
            "submitted": {"$gt": NOW.astimezone(zone)},
            "$or": ({"status": "ok"}, {"$not": {"duration": {"$not": {"$lt": 1.5}}}}),
        }
    )
    assert plain == {
        "label": ["a"],
        "priority": 3,
        "client": {"$in": [1]},
        "submitted": {"$gt": NOW},
        "$or": [{"status": "ok"}, {"$not": {"duration": {"$not": {"$lt": 1.5}}}}],
    }
    assert type(plain["priority"]) is int
    assert fields == {"label", "priority", "client", "submitted", "status", "duration"}
    sent = codec.decode_to_controller(codec.encode(m.Query(1, plain, ["label"])))
    assert read_query(sent.query) == (plain, fields), "it is the same on the other side"


def test_times_are_the_same_after_a_trip():
    assert from_ticks(to_ticks(NOW)) == NOW
    assert to_ticks(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) == 0


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (["label"], "a query is a dict such as"),
        (None, "a query is a dict such as"),
        ({"$or": ["ok"]}, "a query is a dict such as"),
        ({"labl": "x"}, "no field 'labl'; it has: msg_id, label, status"),
        ({3: "x"}, "no field 3"),
        ({"label": {"$like": "x"}}, r"no operator '\$like'; they have: \$eq, \$ne"),
        ({"$nor": []}, r"no operator '\$nor'"),
        ({"$gt": 3}, r"\$gt says what a field is to be"),
        ({"label": {"$eq": "x", "y": 1}}, "no operator 'y'"),
        ({"$and": []}, r"\$and takes a list of queries, not \[\]"),
        ({"$or": {"label": "x"}}, r"\$or takes a list of queries"),
        ({"label": {"$or": 3}}, r"\$or takes a list of conditions"),
        ({"label": {"$in": "abc"}}, r"\$in takes a list of values, not 'abc'"),
        ({"label": {"$exists": 1}}, r"\$exists is True or False, not 1"),
        ({"label": {"$glob": 3}}, r"\$glob takes a pattern"),
        ({"label": {"$glob": "*" * 1001}}, r"\$glob takes a pattern"),
        ({"submitted": {"$gt": dt.datetime(2026, 1, 1)}}, "has none; for local time: .astimezone"),  # noqa: DTZ001
        (
            {"submitted": {"$lt": dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=1)))}},
            "beyond all times",
        ),
        ({"label": b"x"}, "records hold text, numbers, .* not bytes"),
        ({"targets": [object()]}, "not object"),
        ({"resources": {1: 2}}, "not dict"),
        ({"client": 1 << 63}, "at most 63 bits"),
        ({"label": {"$in": list(range(SIZE_MAX))}}, f"at most {SIZE_MAX} names and values"),
        ({"$or": [{"client": n} for n in range(CONDITIONS_MAX)]}, f"at most {CONDITIONS_MAX} conditions; one .in may"),
    ],
)
def test_what_is_no_query(query, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_query(query)


def test_a_query_has_a_depth():
    query = {"label": "x"}
    for _ in range(DEPTH_MAX - 1):
        query = {"$not": query}
    read_query(query)
    with pytest.raises(ValueError, match=f"at most {DEPTH_MAX} deep"):
        read_query({"$not": query})


def test_every_field_has_a_kind():
    assert set(FIELDS.values()) == {"text", "number", "time", "list", "dict"}
