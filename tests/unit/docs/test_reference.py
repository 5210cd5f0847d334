"""The reference page is what the code says, and the code says enough."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import enginery

FOLDER = Path(__file__).parents[3] / "docs"

spec = importlib.util.spec_from_file_location("write_reference", FOLDER / "write_reference.py")
assert spec is not None
assert spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def test_the_page_is_what_the_docstrings_say():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run python docs/write_reference.py"


def test_everything_public_is_documented_with_an_example():
    assert reference.find_gaps() == []


def test_the_lists_of_public_names_agree():
    assert sorted(enginery.__all__) == sorted(enginery._HOMES)
    assert list(enginery.__all__) == sorted(enginery.__all__)


def test_code_is_told_from_prose():
    doc = "Do it.\n\n    first(1)\n\nThen, see below:\n\nwith x as y:\n    y.go()\n\n>>> 1 + 1\n2"
    assert [code for code, _ in reference.paragraphs(doc)] == [False, True, False, True, True]


def test_a_parameter_that_nobody_tells_of_is_a_gap():
    entry = reference.Entry(
        "Client.go", "method", "", "Go `far`, as `run`.\n\n    client.go(wide)", 4, ("far", "fast", "wide", "f")
    )
    docs = {"Client": "It connects in `time`.", "Client.run": "Run `fast`, as `walk`.", "Client.walk": "Take `care`."}
    told = reference._told(entry, docs)
    assert {"far", "fast", "wide", "f", "time"} <= told
    assert "care" not in told, "one step only"
