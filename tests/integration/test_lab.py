"""A user in JupyterLab: types cells, sees what comes, presses the stop button. In a real browser."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from enginery import Client

import lab
from helpers import wait_until

TOUR = Path(__file__).parents[2] / "docs" / "notebooks" / "tour.ipynb"

SQUARE = """%%px --targets 0
from ipywidgets import Output
from IPython.display import clear_output
out = Output()
def square(change):
    with out:
        clear_output(wait=True)
        print("square", change["new"] ** 2)
slider.observe(square, "value")
out"""

pytestmark = [
    pytest.mark.skipif(lab.CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def jupyter(cluster):
    pytest.importorskip("jupyterlab")
    with lab.server() as server:
        yield server


def test_cells_on_engines_in_jupyterlab(cluster, jupyter):
    with lab.browser() as page:
        notebook = lab.open_notebook(page, jupyter, "try.ipynb")
        expect_text = lambda output, pattern: wait_until(
            lambda: re.search(pattern, output.inner_text(), re.DOTALL), f"{pattern} in {output.inner_text()!r}", 30
        )

        shown = notebook.run(f"import enginery\nclient = enginery.Client({cluster.name!r})\nclient")
        expect_text(shown, "3 engines")

        # It streams: the first line is there while the code waits for a file that only then is made.
        go_on = jupyter.folder / "go-on"
        printed = notebook.run(
            "%%px\nimport os, time\nprint('first line')\n"
            f"while not os.path.exists({str(go_on)!r}):\n    time.sleep(0.01)\nprint('last line')"
        )
        expect_text(printed, "first line")
        assert "last line" not in printed.inner_text()
        go_on.touch()
        expect_text(printed, "last line")
        notebook.wait_idle()

        figures = notebook.run(
            "%%px\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.title(f'of {os.getpid()}');"
        )
        wait_until(lambda: figures.locator("img").count() == 3, "a figure of each engine", 60)
        notebook.wait_idle()

        # The stop button reaches the engines, and the prompt comes back.
        stuck = notebook.run("%px print('sleeping'); time.sleep(600)")
        expect_text(stuck, "sleeping")
        notebook.press_stop()
        notebook.wait_idle(5)
        expect_text(stuck, "KeyboardInterrupt")
        after = notebook.run("%px 6 * 7")
        expect_text(after, "42")
        notebook.wait_idle()

        notebook.save()
        saved = wait_until(lambda: _saved(jupyter.folder / "try.ipynb", "6 * 7"), "the notebook is saved", 20)
        nbformat.validate(saved)


def test_a_slider_of_an_engine_in_jupyterlab(cluster, client, jupyter):
    with lab.browser() as page:
        notebook = lab.open_notebook(page, jupyter, "slider.ipynb")
        notebook.run(f"import enginery, ipywidgets\nclient = enginery.Client({cluster.name!r})")
        shown = notebook.run(
            "%%px --targets 0\nfrom ipywidgets import IntSlider\nslider = IntSlider(value=3)\n"
            "slider.observe(lambda change: print('moved to', change['new']), 'value')\nslider"
        )
        notebook.wait_idle()
        shown.locator(".noUi-handle").press("ArrowRight")
        wait_until(lambda: client[0]["slider.value"] == 4, "the engine's slider has moved", 30)
        wait_until(lambda: "moved to 4" in shown.inner_text(), "what the callback prints is below the slider", 30)
        client[0].execute("slider.value = 42", block=True)
        wait_until(lambda: shown.locator(".widget-readout").inner_text() == "42", "the browser's slider has moved", 30)

        # What a callback puts into an `Output` is in it, in place of what was there.
        square = notebook.run(SQUARE)
        notebook.wait_idle()
        shown.locator(".noUi-handle").press("ArrowRight")
        squares = square.locator(".widget-output, .jupyter-widgets-output-area").first
        wait_until(lambda: "square 1849" in squares.inner_text(), "the square of 43 is in the Output", 30)
        shown.locator(".noUi-handle").press("ArrowLeft")
        wait_until(lambda: "square 1764" in squares.inner_text(), "the square of 42 is in the Output", 30)
        assert "1849" not in squares.inner_text()

        # A page that is loaded anew finds the widget, with the value it has now.
        notebook.save()
        wait_until(lambda: _saved(jupyter.folder / "slider.ipynb", "IntSlider"), "the notebook is saved", 20)
        client[0].execute("slider.value = 43", block=True)
        page.reload()
        readout = page.locator(".jp-Notebook .widget-readout")
        wait_until(lambda: readout.count() == 1 and readout.inner_text() == "43", "the slider is there again", 60)


def test_the_tour_in_jupyterlab_and_a_slider_that_moves_a_variable(runtime):
    pytest.importorskip("jupyterlab")
    with lab.server() as server, lab.browser(height=2600) as page:
        notebook = lab.open_notebook(page, server, "tour.ipynb", TOUR)
        notebook.leave_out("cluster.stop()")
        notebook.run_all()
        slider = page.locator(".widget-slider [role=slider], .jupyter-widgets [role=slider]").first
        slider.wait_for()
        notebook.wait_idle(60)
        assert page.locator(".jp-OutputArea img").count() == 2
        if path := os.environ.get("ENGINERY_SCREENSHOT"):
            notebook.show("Cells on engines")
            page.screenshot(path=path, clip={"x": 0, "y": 0, "width": 1100, "height": 1350})

        slider.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        with Client() as client:  # another of the same cluster
            wait_until(lambda: client[0]["slider.value"] == 7, "the engine's slider has moved with the one on the page")


def _saved(path, text):
    content = nbformat.read(path, as_version=4)
    return content if any(text in cell.source for cell in content.cells) else None
