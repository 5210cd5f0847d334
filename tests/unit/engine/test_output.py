from __future__ import annotations

import os
import threading

import msgspec
import pytest
from enginery.engine import output as output_module
from enginery.engine.current import Current
from enginery.engine.output import OutputBuffer, TaskStream, clean_value
from enginery.recorder import NO_TASK
from enginery.wire.messages import Output


@pytest.fixture
def current():
    current = Current()
    current.task = 7
    return current


def make(current, item=0):
    nudges = []
    buffer = OutputBuffer(current, [7, item], lambda: nudges.append(1))
    buffer.engine = 3
    return buffer, nudges


def test_neighbours_are_joined_and_order_is_kept(current):
    buffer, nudges = make(current)
    for stream, text in [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]:
        buffer.write(stream, text)
    assert buffer.pending
    assert buffer.used
    buffer.finish()
    assert current.outputs == 3
    assert buffer.take() == [
        Output(7, "stdout", "ab", 3, 0),
        Output(7, "stderr", "c", 3, 0),
        Output(7, "stdout", "d", 3, 0),
    ]
    assert not buffer.pending
    assert not buffer.used
    assert len(nudges) == 4


def test_the_count_is_right_however_often_it_is_sent_between(current):
    buffer, _ = make(current)
    records = []
    for i in range(10):
        buffer.write("stdout", f"{i}")
        if i % 3 == 0:
            records += buffer.take()
    buffer.publish("display", {"data": {}})
    buffer.finish()
    records += buffer.take()
    assert current.outputs == len(records)
    assert "".join(record.data for record in records if record.kind == "stdout") == "0123456789"


def test_output_of_an_earlier_task_is_not_counted_for_the_next(current):
    buffer, _ = make(current)
    buffer.write("stdout", "late")
    current.task = 8
    current.outputs = 0
    buffer.write("stdout", "mine")
    buffer.finish()
    assert [record.task for record in buffer.take()] == [7, 8]
    assert current.outputs == 1


def test_items_have_records_of_their_own(current):
    buffer, _ = make(current)
    for item in (0, 0, 1):
        buffer.position = [7, item]
        buffer.write("stdout", "x")
    assert [(record.lo, record.data) for record in buffer.take()] == [(0, "xx"), (1, "x")]


def test_of_too_much_text_head_and_tail_are_kept_with_a_note(current, monkeypatch):
    monkeypatch.setattr(output_module, "HEAD_MAX", 10)
    monkeypatch.setattr(output_module, "TAIL_MAX", 6)
    buffer, _ = make(current)
    sent = []
    for i in range(1000):
        buffer.write("stdout", f"{i:04d}")
        sent += buffer.take()
    assert "".join(record.data for record in sent) == "0000000100"
    buffer.write("stderr", "fine")
    buffer.finish()
    records = sent + buffer.take()
    text = "".join(record.data for record in records if record.kind == "stdout")
    assert text == "0000000100\n[... 3,984 characters of stdout left out ...]\n980999"
    assert [record.data for record in records if record.kind == "stderr"] == ["fine"]
    assert current.outputs == len(records)
    current.outputs = 0
    buffer.write("stdout", "abcd")
    buffer.finish()
    assert buffer.take()[0].data == "abcd"


def test_text_that_fits_into_head_and_tail_is_whole(current, monkeypatch):
    monkeypatch.setattr(output_module, "HEAD_MAX", 10)
    monkeypatch.setattr(output_module, "TAIL_MAX", 6)
    buffer, _ = make(current)
    buffer.write("stdout", "0123456789abcdef")
    buffer.finish()
    assert "".join(record.data for record in buffer.take()) == "0123456789abcdef"
    buffer.write("stdout", "x" * 1000)
    buffer.finish()
    [record] = buffer.take()
    assert record.data == "x" * 10 + "\n[... 984 characters of stdout left out ...]\n" + "x" * 6


def test_rich_output_has_a_limit(current, monkeypatch):
    monkeypatch.setattr(output_module, "RICH_MAX", 1000)
    buffer, _ = make(current)
    for _ in range(10):
        buffer.publish("display", {"data": {"image/png": b"x" * 300}})
    buffer.finish()
    records = buffer.take()
    assert [record.kind for record in records] == ["display", "display", "stderr"]
    assert "8 records of rich output left out" in records[-1].data
    assert current.outputs == 3


def test_of_too_much_data_the_last_is_sent_at_the_end(current, monkeypatch):
    monkeypatch.setattr(output_module, "RICH_MAX", 1000)
    buffer, _ = make(current)
    records = []
    for i in range(100):
        buffer.publish("data", b"%0100d" % i)
        buffer.publish("update_display", {"data": {"text/plain": f"{i:0100}"}})
        records += buffer.take()
    assert 5 < len(records) < 15
    buffer.finish()
    records = buffer.take()
    assert sorted(record.kind for record in records) == ["data", "update_display"]
    assert {int(record.data) for record in records if record.kind == "data"} == {99}


def test_an_update_replaces_one_that_is_not_sent(current):
    buffer, _ = make(current)

    def update(display, value):
        buffer.publish("update_display", {"data": {"text/plain": value}, "transient": {"display_id": display}})

    for i in range(100):
        update("a", f"a{i}")
        update("b", f"b{i}")
        buffer.publish("data", b"d%d" % i)
    first = buffer.take()
    assert [record.kind for record in first] == ["update_display", "update_display", "data"]
    assert [first[0].data["data"]["text/plain"], first[1].data["data"]["text/plain"]] == ["a99", "b99"]
    assert first[2].data == b"d99"
    update("a", "again")
    buffer.finish()
    assert buffer.take()[0].data["data"]["text/plain"] == "again"
    assert current.outputs == 4


def test_replacing_while_another_thread_takes_loses_no_last_word(current):
    buffer, _ = make(current)
    taken = []
    thread = threading.Thread(target=lambda: [buffer.publish("data", b"%d" % i) for i in range(3000)])
    thread.start()
    while thread.is_alive():
        taken += buffer.take()
    buffer.finish()
    taken += buffer.take()
    values = [int(record.data) for record in taken]
    assert values[-1] == 2999
    assert values == sorted(set(values))


def test_output_of_a_thread_belongs_to_the_task_that_started_it(current, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    current.own_threads()
    buffer, _ = make(current)
    go = threading.Event()

    def late():
        go.wait(10)
        buffer.write("stdout", "late")
        inner = threading.Thread(target=buffer.write, args=("stdout", " and later"))
        inner.start()
        inner.join()

    thread = threading.Thread(target=late)
    thread.start()
    buffer.finish()
    current.task = 8
    current.outputs = 0
    go.set()
    thread.join()
    other = threading.Thread(target=buffer.write, args=("stdout", "mine"))
    other.start()
    other.join()
    buffer.finish()
    assert [(record.task, record.data) for record in buffer.take()] == [(7, "late and later"), (8, "mine")]
    assert current.outputs == 1


def test_a_thread_that_no_task_started_writes_for_the_one_that_runs(current, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    current.own_threads()
    current.task = NO_TASK
    buffer, _ = make(current)
    go = threading.Event()

    def write():
        go.wait(10)
        buffer.write("stdout", "x")

    thread = threading.Thread(target=write)
    thread.start()
    current.task = 7
    go.set()
    thread.join()
    assert [record.task for record in buffer.take()] == [7]


def test_what_threads_write_after_their_task_does_not_add_up(current, monkeypatch):
    monkeypatch.setattr(output_module, "LATE_TASKS", 10)
    buffer, _ = make(current)
    for task in range(100):
        current.task = task
        buffer.write("stdout", "x")
    assert len(buffer._budgets) <= 11


def test_writing_from_many_threads_loses_nothing(current):
    buffer, _ = make(current)
    stream = TaskStream(buffer, "stdout", 1)
    taken = []

    def write(letter):
        for _ in range(500):
            print(letter, file=stream)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += buffer.take()
    buffer.finish()
    taken += buffer.take()
    text = "".join(record.data for record in taken)
    assert {letter: text.count(letter) for letter in "abcd"} == dict.fromkeys("abcd", 500)
    assert current.outputs == len(taken)


def test_what_cannot_be_encoded_is_escaped(current):
    buffer, _ = make(current)
    buffer.write("stdout", "caf\xe9 \udc80")
    [record] = buffer.take()
    assert record.data == "caf\xe9 \\udc80"
    msgspec.msgpack.encode(record)


def test_a_stream_is_what_programs_expect(current):
    buffer, _ = make(current)
    stream = TaskStream(buffer, "stdout", 1)
    assert stream.write("x") == 1
    stream.writelines(["y", "z"])
    stream.buffer.write(b"\xc3\xa9\xff")
    stream.flush()
    stream.reconfigure(encoding="utf-8")
    assert (stream.encoding, stream.errors, stream.name, stream.fileno()) == (
        "utf-8",
        "backslashreplace",
        "<stdout>",
        1,
    )
    assert stream.writable()
    assert not stream.isatty()
    with pytest.raises(TypeError):
        stream.write(b"bytes")
    assert buffer.take()[0].data == "xyz\xe9\ufffd"


def test_without_a_task_text_goes_to_the_descriptor():
    buffer, _ = make(Current())
    read_end, write_end = os.pipe()
    stream = TaskStream(buffer, "stdout", write_end)
    print("nobody's", file=stream)
    assert os.read(read_end, 100) == b"nobody's\n"
    os.close(read_end)
    print("nobody reads", file=stream)
    os.close(write_end)
    assert not buffer.pending


def test_a_forked_copy_writes_to_the_descriptor(current):
    buffer, _ = make(current)
    buffer.detached = True
    assert not buffer.attached


def test_clean_value():
    class Odd:
        def __repr__(self):
            return "odd"

    class Text(str):
        __slots__ = ()

    deep = []
    for _ in range(100):
        deep = [deep]
    cleaned = clean_value(
        {1: (1, 2.5, None, True), "b": {Text("k"): b"raw"}, "big": 1 << 70, "odd": Odd(), "s": "\ud800", "deep": deep}
    )
    assert cleaned.pop("deep")
    assert cleaned == {
        "1": [1, 2.5, None, True],
        "b": {"k": b"raw"},
        "big": str(1 << 70),
        "odd": "odd",
        "s": "\\ud800",
    }
    msgspec.msgpack.encode(cleaned)
