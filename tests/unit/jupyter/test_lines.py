from __future__ import annotations

from enginery.jupyter.lines import Line, Lines, grouped
from enginery.wire.messages import Output


def take(lines, *records):
    return [line for record in records for line in lines.take(record)]


def printed(engine, text, kind="stdout"):
    return Output(1, kind, text, engine)


def test_whole_lines_with_their_engine():
    lines = Lines()
    assert take(lines, printed(0, "one\ntw"), printed(1, "uno\n"), printed(0, "o\n"), printed(0, "x\n", "stderr")) == [
        Line("stdout", "[stdout:0] one"),
        Line("stdout", "[stdout:1] uno"),
        Line("stdout", "[stdout:0] two"),
        Line("stderr", "[stderr:0] x"),
    ]
    assert take(lines, printed(3, "rest")) == []
    assert lines.ended(3, failed=False) == [Line("stdout", "[stdout:3] rest")]
    assert lines.ended(3, failed=False) == []


def test_a_progress_bar_is_one_line():
    lines = Lines()
    assert take(lines, *[printed(0, f"\r{i}%", "stderr") for i in range(1000)]) == []
    assert take(lines, printed(0, "\n", "stderr")) == [Line("stderr", "[stderr:0] 999%")]


def test_colours_only_where_they_can_be_seen():
    record = printed(0, "\x1b[31mred\n")
    assert take(Lines(), record) == [Line("stdout", "[stdout:0] red")]
    assert take(Lines(colours=True), record) == [Line("stdout", "[stdout:0] \x1b[31mred\x1b[0m")]


def test_values_and_displays_are_shown_as_text():
    lines = Lines()
    value = Output(1, "result", {"data": {"text/plain": "42", "text/html": "<b>"}, "execution_count": 17}, 3)
    table = Output(1, "result", {"data": {"text/plain": "a\nb"}, "execution_count": 18}, 3)
    figure = Output(1, "display", {"data": {"text/plain": "<Figure>", "image/png": b"x"}}, 3)
    assert [line.text for line in take(lines, printed(3, "half"), value, table, figure)] == [
        "[stdout:3] half",
        "Out[3:17]: 42",
        "Out[3:18]:\na\nb",
        "[output:3] <Figure>",
    ]


def test_of_what_is_updated_the_last_state_is_told():
    lines = Lines()
    states = [
        Output(1, "update_display", {"data": {"text/plain": f"{i}%"}, "transient": {"display_id": "bar"}}, 2)
        for i in range(101)
    ]
    assert take(lines, *states) == []
    assert lines.ended(1, failed=False) == []
    assert lines.ended(2, failed=False) == [Line("stdout", "[output:2] 100%")]
    assert lines.ended(2, failed=False) == []


def test_the_traceback_of_what_failed_is_left_to_the_error():
    error = Output(1, "error", {"traceback": ["\x1b[31mtb\x1b[0m"]}, 0)
    lines = Lines()
    assert take(lines, error) == []
    assert lines.ended(0, failed=True) == []
    take(lines, error)
    assert lines.ended(0, failed=False) == [Line("stderr", "tb")]


def test_grouping():
    out0, err0, out1 = printed(0, "a"), printed(0, "b", "stderr"), printed(1, "c")
    logs, order = {0: [out0, err0], 1: [out1]}, [out1, out0, err0]
    assert [group for group in grouped(logs, "type", order) if group] == [[out0, out1], [err0]]
    assert grouped(logs, "engine", order) == [[out0, err0], [out1]]
    assert grouped(logs, "order", order) == [[out1], [out0], [err0]]
