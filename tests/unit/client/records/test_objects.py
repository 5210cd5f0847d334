from __future__ import annotations

import pytest
from enginery.client.records.objects import ROWS_MAX, ObjectList, explain, find_objects
from enginery.client.results.refs import ObjectRef
from enginery.errors import ObjectLost
from enginery.wire import messages as m
from enginery.wire.stock import Hold, ObjectRecord, Place


def record(number, **more):
    return ObjectRecord(number.to_bytes(16, "big"), 5_000_000, "<here>", [Place("<here>", "memory")], **more)


class Answer:
    def __init__(self, value):
        self.value = value

    def result(self):
        return self.value


class Link:
    """Answers questions about objects."""

    def __init__(self, *records):
        self.records = records
        self.asked = []

    def request(self, kind, ids):
        assert kind is m.ObjectsQuery
        self.asked.append(ids)
        plain = [
            {"id": one.id, "nbytes": one.nbytes, "made_at": one.made_at, "handles": [], "tasks": [(7, "fit")]}
            for one in self.records
            if ids is None or one.id in ids
        ]
        return Answer({"objects": plain, "stores": []})


def test_a_list_of_objects_is_a_table():
    held = ObjectList([record(1, handles=[Hold(3, "notebook", 812, 2)]), record(12)])
    assert repr(held).splitlines() == [
        "2 objects, 10.0 MB",
        "object       size    where                held by",
        "00000000-1   5.0 MB  in memory on <here>  client 3 (notebook, pid 812) holds 2 handles",
        "00000000-12  5.0 MB  in memory on <here>  nobody",
    ]
    html = held._repr_html_()
    assert "in memory on &lt;here&gt;" in html
    assert html.startswith("2 objects, 10.0 MB<table")
    assert [one.nbytes for one in held] == [5_000_000] * 2


def test_long_and_empty_lists():
    many = ObjectList(record(number) for number in range(ROWS_MAX + 1500))
    assert repr(many).endswith("and 1,500 more")
    assert "and 1,500 more" in many._repr_html_()
    assert len(repr(many).splitlines()) == ROWS_MAX + 3
    assert repr(ObjectList()) == ObjectList()._repr_html_() == "no objects"
    assert repr(ObjectList([record(1)])).startswith("1 object, 5.0 MB")


def test_one_is_explained_by_its_id_or_its_reference():
    link = Link(record(1), record(2))
    assert len(find_objects(link)) == 2
    assert "task 0-7 'fit' has not ended" in explain(link, "00000000-2")
    assert link.asked[-1] is None
    with pytest.raises(ObjectLost, match=r"no object 00000000-3; client\.objects"):
        explain(link, "00000000-3")
    with pytest.raises(TypeError, match="not bytes"):
        explain(link, b"x")
    here = ObjectRef(link, packed=(b"x", []))
    assert explain(link, here) == f"{here!r} has no object in shared memory"
