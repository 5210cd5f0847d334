from __future__ import annotations

import base64

from enginery.jupyter.panes import AT_ONCE, FIRST_S, LIVE_ROWS, PANE_S, Board
from enginery.wire.messages import Output

HTML = {"data": {"text/html": "<b>x</b>", "text/plain": "x"}, "metadata": {}, "transient": {}}


def printed(engine, text, kind="stdout"):
    return Output(1, kind, text, engine)


def value(engine, text, count=1, **bundle):
    return Output(
        1, "result", {"data": {"text/plain": text, **bundle}, "metadata": {}, "execution_count": count}, engine
    )


def shown(engine, text, display_id=None, kind="display"):
    transient = {} if display_id is None else {"display_id": display_id}
    bundle = {"data": {"text/html": text, "text/plain": "rich"}, "metadata": {}, "transient": transient}
    return Output(1, kind, bundle, engine)


def board_of(*records, engines=range(4), now=0.0):
    board = Board(engines, "cell", now)
    for record in records:
        board.take(record)
    return board


def texts(ops):
    return [op.bundle["text/plain"] for op in ops]


class Notebook:
    """What a front end makes of the operations: outputs in order, by display id."""

    def __init__(self):
        self.outputs = []

    def apply(self, ops):
        for op in ops:
            if not op.update:
                self.outputs.append([op.display_id, op.bundle])
            for output in self.outputs:
                if op.update and output[0] == op.display_id:
                    output[1] = op.bundle
        return self

    def texts(self):
        return [bundle["text/plain"] for _, bundle in self.outputs if bundle["text/plain"]]


def test_a_quick_cell_is_laid_out_once():
    board = board_of(printed(1, "one\n"), printed(0, "a\nb\n"), value(0, "42", 17), printed(1, "bad\n", "stderr"))
    assert board.flush(FIRST_S / 2) == []
    ops = board.flush(FIRST_S / 2, final=True)
    assert texts(ops) == ["[stdout:0]\na\nb\nOut[0:17]: 42", "[stdout:1] one\n[stderr:1] bad"]
    assert not any(op.update for op in ops)
    assert "Out[0:17]:</span> 42" in ops[0].bundle["text/html"]


def test_what_all_print_alike_is_shown_once():
    records = [printed(engine, "hi\n") for engine in range(4)] + [value(engine, "7", 3) for engine in range(4)]
    assert texts(board_of(*records).flush(0.1, final=True)) == ["[stdout:0-3] hi\nOut[0-3:3]: 7"]
    assert len(board_of(*records[:3]).flush(0.1, final=True)) == 3
    assert texts(board_of(printed(2, "hi"), engines=[2]).flush(0.1, final=True)) == ["[stdout:2] hi"]


def test_a_long_cell_is_shown_live_and_ends_with_one_of_what_is_alike():
    board, notebook = board_of(*[printed(engine, "hi\n") for engine in range(4)]), Notebook()
    notebook.apply(board.flush(1.0))
    assert notebook.texts() == [f"[stdout:{engine}] hi" for engine in range(4)]
    notebook.apply(board.flush(2.0, final=True))
    assert notebook.texts() == ["[stdout:0-3] hi"]


def test_updates_of_a_pane_keep_their_distance_and_the_last_state_wins():
    board = board_of(engines=[0])
    sent, now = 0, 1.0
    for i in range(1000):
        board.take(printed(0, f"{i}\n"))
        ops = board.flush(now)
        sent += len(ops)
        now += 0.01
    assert sent <= 10 / PANE_S + 1
    assert texts(board.flush(now + 1))[0].endswith("\n999")


def test_few_panes_are_updated_at_once_and_all_get_their_turn():
    board = board_of(*[printed(engine, f"{engine}\n") for engine in range(8)], engines=range(8))
    first = board.flush(1.0)
    assert len(first) == AT_ONCE
    second = board.flush(1.05)
    assert len(second) == 8 - AT_ONCE
    assert board.flush(1.1) == []


def test_live_panes_show_the_last_rows_and_the_end_shows_all():
    board = board_of(printed(0, "".join(f"{i}\n" for i in range(500))), engines=[0])
    [live] = board.flush(1.0)
    rows = live.bundle["text/plain"].splitlines()
    assert rows[:2] == ["[stdout:0]", "... 400 earlier lines"]
    assert len(rows) == LIVE_ROWS + 2
    [end] = board.flush(2.0, final=True)
    assert end.update
    assert end.bundle["text/plain"].splitlines()[1] == "0"
    board = board_of(printed(0, "".join(f"{i}\n" for i in range(12345))), engines=[0])
    [end] = board.flush(2.0, final=True)
    assert end.bundle["text/plain"].splitlines()[1] == "... 11,345 earlier lines, see .stdout of engine 0's result"


def test_of_many_engines_the_first_are_shown_in_full_and_the_others_in_a_line():
    engines = range(100)
    records = [printed(engine, f"start\n{'even' if engine % 2 == 0 else engine}\n") for engine in engines]
    ops = board_of(*records, engines=engines).flush(0.0, final=True)
    assert len(ops) == 9
    assert ops[7].bundle["text/plain"] == "[stdout:7]\nstart\n7"
    others = ops[8].bundle["text/plain"].splitlines()
    assert others[0].startswith("[stdout:8,10,12,")
    assert others[0].endswith(" even  (2 lines)")
    assert others[1] == "[stdout:9] 9  (2 lines)"
    assert len(others) == 47


def test_rich_outputs_follow_the_text_with_a_header():
    records = [
        printed(1, "text\n"),
        shown(1, "<b>1</b>"),
        shown(1, "<b>2</b>"),
        value(0, "df", 4, **{"text/html": "<table/>"}),
    ]
    ops = board_of(*records, engines=[0, 1]).flush(0.0, final=True)
    assert texts(ops) == ["Out[0:4]:", "df", "[stdout:1] text", "[output:1]", "rich", "rich"]
    assert ops[4].bundle["text/html"] == "<b>1</b>"


def test_images_travel_as_base64():
    record = Output(1, "display", {"data": {"image/png": b"\x89PNG", "text/plain": "f"}, "metadata": {"w": 1}}, 0)
    ops = board_of(record).flush(0.0, final=True)
    assert ops[1].bundle["image/png"] == base64.b64encode(b"\x89PNG").decode()
    assert ops[1].metadata == {"w": 1}


def test_displayed_text_is_text():
    record = Output(1, "display", {"data": {"text/plain": "(1, 2)"}, "metadata": {}, "transient": {}}, 2)
    assert texts(board_of(record).flush(0.0, final=True)) == ["[output:2] (1, 2)"]


def test_updates_of_displays_find_their_output_also_of_an_earlier_cell():
    notebook = Notebook().apply(board_of(shown(0, "one", "box"), shown(1, "eins", "box")).flush(0.0, final=True))
    board = board_of(*[shown(0, f"two {i}", "box", "update_display") for i in range(50)])
    ops = board.flush(1.0)
    assert [(op.display_id, op.update) for op in ops] == [("0:box", True)]
    notebook.apply(ops)
    assert [bundle.get("text/html") for key, bundle in notebook.outputs if key] == ["two 49", "eins"]
    board = board_of(shown(0, "a", "new"), shown(0, "b", "new", "update_display"))
    assert [op.bundle.get("text/html") for op in board.flush(0.0, final=True)] == [None, "b"]


def test_clearing_is_for_the_engine_that_cleared():
    board, notebook = board_of(printed(0, "a\n"), printed(1, "b\n"), engines=[0, 1]), Notebook()
    notebook.apply(board.flush(1.0))
    board.take(Output(1, "clear_output", {"wait": False}, 0))
    notebook.apply(board.flush(2.0))
    assert notebook.texts() == ["[stdout:1] b"]
    board.take(Output(1, "clear_output", {"wait": True}, 1))
    notebook.apply(board.flush(3.0))
    assert notebook.texts() == ["[stdout:1] b"]
    board.take(printed(1, "c\n"))
    notebook.apply(board.flush(4.0, final=True))
    assert notebook.texts() == ["[stdout:1] c"]


def test_an_animation_takes_the_place_of_its_last_frame():
    board, notebook = board_of(engines=[0]), Notebook()
    for frame in range(20):
        board.take(Output(1, "clear_output", {"wait": True}, 0))
        board.take(shown(0, f"frame {frame}"))
        notebook.apply(board.flush(1.0 + frame))
    notebook.apply(board.flush(30.0, final=True))
    assert [bundle["text/html"] for _, bundle in notebook.outputs if "text/html" in bundle] == ["frame 19"]


def test_the_traceback_of_what_failed_is_left_to_the_error():
    tb = {"ename": "E", "evalue": "", "traceback": ["tb 1"]}
    board = board_of(Output(1, "error", tb, 0), Output(1, "error", {**tb, "traceback": ["tb 2"]}, 0))
    board.ended(0, failed=True)
    assert texts(board.flush(0.0, final=True)) == ["[error:0] tb 1"]
    board = board_of(Output(1, "error", tb, 0))
    board.ended(0, failed=False)
    assert texts(board.flush(0.0, final=True)) == ["[error:0] tb 1"]


def test_progress_bars_of_engines_do_not_disturb_one_another():
    board = board_of()
    for i in range(100):
        for engine in range(3):
            board.take(printed(engine, f"\r{i + engine}%", "stderr"))
    assert texts(board.flush(1.0)) == ["[stderr:0] 99%", "[stderr:1] 100%", "[stderr:2] 101%"]


def test_what_nobody_knows_is_left_alone():
    assert board_of(Output(1, "comm", {"type": "comm_open"}, 0), Output(1, "setup", "", 0)).flush(0.0, final=True) == []
