"""What an `Output` widget of an engine shows, and what goes into one."""

from __future__ import annotations

import pytest
from enginery.jupyter.answers import AT_MOST_EVERY_S, Answer
from enginery.jupyter.outputs import SHOWN_CHARS, Shown
from enginery.wire.messages import Output


def printed(text, stream="stdout"):
    return Output(1, stream, text, 3)


def displayed(text, display_id=None, kind="display"):
    transient = {"display_id": display_id} if display_id else {}
    return Output(1, kind, {"data": {"text/plain": text}, "metadata": {}, "transient": transient}, 3)


def cleared(*, wait):
    return Output(1, "clear_output", {"wait": wait}, 3)


def texts(shown):
    return [output["text"] if "text" in output else output["data"]["text/plain"] for output in shown.outputs]


@pytest.fixture
def shown():
    return Shown()


def test_text_of_one_stream_is_one_output_and_displays_come_between(shown):
    for record in (printed("a"), printed("b\n"), printed("!", "stderr"), displayed("c"), printed("d")):
        shown.take(record)
    assert texts(shown) == ["ab\n", "!", "c", "d"]
    assert [output.get("name") for output in shown.outputs] == ["stdout", "stderr", None, "stdout"]


def test_clearing_takes_effect_at_once_or_with_the_next_output(shown):
    shown.take(printed("a"))
    shown.take(cleared(wait=True))
    assert texts(shown) == ["a"]
    shown.take(printed("b"))
    assert texts(shown) == ["b"]
    shown.changed = False
    shown.take(cleared(wait=False))
    assert texts(shown) == []
    assert shown.changed


def test_displays_are_updated_in_their_places(shown):
    for record in (displayed("a", "x"), displayed("b"), displayed("c", "x", "update_display")):
        shown.take(record)
    assert texts(shown) == ["c", "b"]
    shown.changed = False
    shown.take(displayed("d", "elsewhere", "update_display"))
    assert not shown.changed


def test_images_are_text_and_errors_are_errors(shown):
    shown.take(Output(1, "display", {"data": {"image/png": b"xyz"}}, 3))
    shown.take(Output(1, "error", {"ename": "E", "evalue": "v", "traceback": ["t"]}, 3))
    image, error = shown.outputs
    assert image["data"] == {"image/png": "eHl6"}
    assert error == {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]}


def test_what_the_engine_sets_is_where_it_goes_on(shown):
    shown.set([{"output_type": "stream", "name": "stdout", "text": "a"}])
    shown.take(printed("b"))
    assert texts(shown) == ["ab"]


def test_of_endless_text_the_end_is_shown(shown):
    for _ in range(3):
        shown.take(printed("x" * (SHOWN_CHARS - 1)))
    shown.take(printed("y"))
    (text,) = texts(shown)
    assert len(text) == SHOWN_CHARS
    assert text.endswith("xy")


class Widget:
    """Stands for an `Output`."""

    def __init__(self):
        self.shown = Shown()
        self.told = []
        self.agreed = 0

    def show(self):
        self.shown.changed = False
        self.told.append(texts(self.shown))

    def agree(self):
        self.agreed += 1


class Front:
    """Notes what is said to the front end."""

    def __init__(self):
        self.widgets = {"out": Widget(), "inner": Widget()}
        self.said = []
        self.comms = []

    def say(self, kind, content):
        self.said.append((kind, content))

    def comm(self, _client, record):
        self.comms.append(record.data["comm_id"])

    def find_output(self, comm_id):
        return self.widgets.get(comm_id)


def catching(comm_id, msg_id):
    data = {"method": "update", "state": {"msg_id": msg_id}, "buffer_paths": []}
    return Output(1, "comm", {"type": "comm_msg", "comm_id": comm_id, "data": data}, 3)


@pytest.fixture
def front():
    return Front()


def test_outputs_take_what_comes_inside_and_the_cell_the_rest(front):
    answer = Answer(None, front, lambda: 0.0)
    for record in (
        printed("before\n"),
        catching("out", "m"),
        printed("a"),
        catching("inner", "m"),
        printed("b"),
        catching("inner", ""),
        displayed("c"),
        catching("out", ""),
        printed("after\n"),
    ):
        assert answer.take(record)
    answer.ended(3, None)
    assert [content["text"] for _, content in front.said] == ["[stdout:3] before\n", "[stdout:3] after\n"]
    assert {name: (widget.told, widget.agreed) for name, widget in front.widgets.items()} == {
        "out": ([["a", "c"]], 1),
        "inner": ([["b"]], 1),
    }


def test_a_long_callback_shows_what_it_has_a_few_times_a_second(front):
    now = [0.0]
    answer = Answer(None, front, lambda: now[0])
    answer.take(catching("out", "m"))
    for step in range(9):
        now[0] = step * AT_MOST_EVERY_S / 2
        answer.take(printed(str(step)))
    answer.ended(3, None)
    out = front.widgets["out"]
    assert out.told == [["012"], ["01234"], ["0123456"], ["012345678"]]
    assert out.agreed == 1


def test_an_output_that_took_nothing_or_is_closed_costs_no_messages(front):
    answer = Answer(None, front, lambda: 0.0)
    for record in (catching("out", "m"), catching("out", ""), catching("gone", "m"), printed("a\n")):
        answer.take(record)
    answer.ended(3, None)
    assert front.widgets["out"].told == []
    assert front.widgets["out"].agreed == 0
    assert [content["text"] for _, content in front.said] == ["[stdout:3] a\n"]
