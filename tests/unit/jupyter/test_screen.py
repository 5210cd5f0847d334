from __future__ import annotations

import pytest
from enginery.jupyter.screen import KEPT_ROWS, WIDEST, Screen, html_of, plain


def screen_of(*texts):
    screen = Screen()
    for text in texts:
        screen.write(text)
    return screen


@pytest.mark.parametrize(
    ("texts", "looks"),
    [
        (["a\nb\n"], "a\nb"),
        (["a", "b\n", "c"], "ab\nc"),
        (["10%\r20%\r100%\n"], "100%"),
        (["100%\r20%\n"], "20%%"),  # as on a terminal: what is longer shows
        (["100%\r\x1b[K20%\n"], "20%"),
        (["abc\b\bX\n"], "aXc"),
        (["one\ntwo\x1b[A\rONE\n"], "ONE\ntwo"),
        (["a\x1b[", "31mred\x1b", "[0m\n"], "ared"),
        (["a\x1b]0;title\x07b"], "ab"),
        (["\x1b[2Jx"], "x"),
        (["windows\r\nline\r\n"], "windows\nline"),
        ([""], ""),
    ],
)
def test_a_screen_looks_as_on_a_terminal(texts, looks):
    assert screen_of(*texts).text() == looks


def test_colours_become_styles():
    html = screen_of("\x1b[1;31mbold <red>\x1b[0m plain \x1b[38;5;196mx\x1b[38;2;1;2;3my\x1b[39m").html()
    assert '<span style="font-weight:bold;color:#c0392b">bold &lt;red&gt;</span> plain ' in html
    assert '<span style="color:rgb(255,0,0)">x</span><span style="color:rgb(1,2,3)">y</span>' in html
    assert html_of("a\x1b[4mb\x1b[24mc") == 'a<span style="text-decoration:underline">b</span>c'
    assert plain("a\x1b[4mb\x1b[24mc") == "abc"


def test_a_row_is_cut_where_nobody_reads_on():
    screen = screen_of("x" * 1_000_000, "\rab", "\ny")
    assert screen.text().startswith("abx")
    assert len(screen.text()) == WIDEST + 2


def test_only_the_last_rows_are_kept_and_counted():
    screen = screen_of("".join(f"{i}\n" for i in range(KEPT_ROWS + 500)))
    assert screen.text(2) == f"{KEPT_ROWS + 498}\n{KEPT_ROWS + 499}"
    assert screen.height <= KEPT_ROWS
    assert screen.height + screen.dropped == KEPT_ROWS + 500
    assert screen.above(100) == KEPT_ROWS + 400
    screen.write("\r\x1b[Aup\n")
    assert "up" in screen.text()
