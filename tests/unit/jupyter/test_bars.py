from __future__ import annotations

import sys

from enginery.jupyter.bars import NotebookBar, TerminalBar, bar_bundle, bar_text, shown_seconds


class Terminal:
    def __init__(self, *, live):
        self.live = live
        self.written = ""

    def isatty(self):
        return self.live

    def write(self, text):
        self.written += text

    def flush(self):
        pass


def test_a_bar_in_text():
    assert bar_text(1, 4, 3.14, "engines") == "[#######.......................] 1/4 engines, 3.1 s"
    assert bar_text(4, 4, 75, "engines", "failed: 2").endswith("] 4/4 engines, 1:15; failed: 2")
    assert bar_text(0, 0, 0, "items").startswith("[##############################] 0/0 items")
    assert shown_seconds(3700) == "1:01:40"


def test_a_bar_in_html():
    bundle = bar_bundle(1, 4, 3.14, "engines", "not done: 1-3")
    assert '<progress value="1" max="4"' in bundle["text/html"]
    assert bundle["text/html"].endswith("1/4 engines, 3.1 s; not done: 1-3")


def test_a_terminal_has_it_on_one_line(monkeypatch):
    terminal = Terminal(live=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = TerminalBar("tasks")
    bar.show(1, 2, 0.5)
    bar.hide()
    bar.hide()
    bar.finish(2, 2, 1.0)
    assert terminal.written.count("\n") == 1
    assert terminal.written.count("\r") == 3
    terminal = Terminal(live=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = TerminalBar("tasks")
    bar.show(1, 2, 0.5)
    bar.finish(2, 2, 1.0)
    assert not terminal.written


def test_a_notebook_has_it_in_one_output():
    ops = []

    class Front:
        publish = staticmethod(ops.append)

    bar = NotebookBar(Front(), "name", "engines")
    bar.show(1, 4, 1.0)
    bar.show(1, 4, 1.0)
    bar.finish(4, 4, 2.0)
    assert [(op.display_id, op.update) for op in ops] == [("name", False), ("name", True)]
