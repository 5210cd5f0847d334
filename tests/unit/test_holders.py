"""Why an object is alive, in words."""

from __future__ import annotations

import doctest

import msgspec
from enginery import holders
from enginery.wire import stock
from enginery.wire.stock import Hold, ObjectRecord, Place, Stock

ID = bytes.fromhex("0123456789abcdef") + (17).to_bytes(8, "big")


def test_examples():
    for module in (holders, stock):
        assert not doctest.testmod(module).failed


def test_all_reasons():
    record = ObjectRecord(
        ID,
        100_000_000,
        "a",
        [Place("a", "memory", [0, 1], [99]), Place("b", "disk", [4])],
        [Hold(3, "notebook", 812, 1), Hold(4, "script", 5, 2)],
        [((3 << 40) + n, "fit" if n == 1 else "") for n in range(1, 5)],
        30,
        [(3 << 40) + 40],
        [(2 << 40) + 1, (2 << 40) + 2],
        ["load"],
    )
    assert holders.explain(record).splitlines() == [
        "object 01234567-17 (100.0 MB, made on a) is in memory on a and on disk on b; alive because:",
        "  client 3 (notebook, pid 812) holds 1 handle",
        "  client 4 (script, pid 5) holds 2 handles",
        "  task 3-1 'fit' has not ended",
        "  task 3-2 has not ended",
        "  task 3-3 has not ended",
        "  27 more tasks have not ended",
        "  tasks wait for the result of task 3-40",
        "  the result of tasks 2-1, 2-2 is kept for whoever asks",
        "  the set-up load needs it",
        "  engines 0-1,4 have it mapped",
        "  process 99 on a has it mapped",
    ]


def test_nobody_and_nowhere():
    text = holders.explain(ObjectRecord(ID, 5, "a"))
    assert text == (
        "object 01234567-17 (5 B, made on a) is lost: no host has it any more; "
        "nobody holds it: it is about to be freed, or has just been made"
    )


def test_the_answer_crosses_the_wire():
    sent = Stock(
        [ObjectRecord(ID, 5, "a", [Place("a", "memory")], [Hold(1, "x", 2, 3)], [(7, "label")])],
        [stock.StoreRecord("a", 1, 5, True, 5, 0, 100)],
    )
    assert stock.read_stock(msgspec.msgpack.decode(msgspec.msgpack.encode(sent))) == sent
