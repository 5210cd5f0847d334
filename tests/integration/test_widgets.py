"""Widgets that live on engines, in real notebook kernels: shown, stored, and answered."""

from __future__ import annotations

import nbclient
import nbformat
import pytest
from jupyter_client.manager import KernelManager

from helpers import wait_until

WAIT_S = 30

CONNECT = "import enginery\nclient = enginery.Client({name!r})"

MAKE = """%%px --targets 0
from ipywidgets import IntSlider
slider = IntSlider(description="threshold", value=3)
moves = []
def moved(change):
    moves.append(change["new"])
    print("moved to", change["new"])
slider.observe(moved, "value")
slider"""


def run_notebook(cluster, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.cells.insert(0, nbformat.v4.new_code_cell(CONNECT.format(name=cluster.name)))
    notebook = nbclient.NotebookClient(notebook, timeout=WAIT_S, kernel_name="python3").execute()
    nbformat.validate(notebook)
    return notebook


def test_a_widget_of_an_engine_is_shown_and_its_state_is_stored(cluster, client):
    notebook = run_notebook(cluster, MAKE, "%px --targets 0 slider.value = 7")
    views = [output.data for output in notebook.cells[1].outputs if "data" in output]
    (view,) = [data for data in views if "application/vnd.jupyter.widget-view+json" in data]
    model = view["application/vnd.jupyter.widget-view+json"]["model_id"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert states[model]["model_name"] == "IntSliderModel"
    assert states[model]["state"]["value"] == 7
    assert "IntSlider" in view["text/plain"]
    assert client[0]["slider.value"] == 7


class Notebook:
    """A notebook kernel and a front end that speaks for the user."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WAIT_S)
        self.comms = {}
        self.closed = []
        self.text = ""

    def take(self, message):
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open":
            self.comms[content["comm_id"]] = content["data"]["state"]
        elif kind == "comm_msg" and content["data"].get("method") in {"update", "echo_update"}:
            self.comms[content["comm_id"]].update(content["data"]["state"])
        elif kind == "comm_close":
            self.closed.append(content["comm_id"])
        elif kind == "stream":
            self.text += content["text"]

    def run(self, code):
        reply = self.client.execute_interactive(code, timeout=WAIT_S, output_hook=self.take)
        assert reply["content"]["status"] == "ok", reply["content"]

    def move(self, comm, value):
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm, "data": data}))

    def look(self):
        """Take the messages that have come."""
        while self.client.iopub_channel.msg_ready():
            self.take(self.client.get_iopub_msg(timeout=1))
        return self

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook():
    notebook = Notebook()
    yield notebook
    notebook.close()


def test_moving_a_slider_moves_the_variable_on_the_engine(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(MAKE)
    (slider,) = [comm for comm, state in notebook.comms.items() if state.get("_model_name") == "IntSliderModel"]
    notebook.move(slider, 8)
    wait_until(lambda: client[0]["slider.value"] == 8, "the engine's slider has moved")
    assert client[0]["moves"] == [8]
    wait_until(lambda: "[stdout:0] moved to 8" in notebook.look().text, "what the callback prints is shown")

    # Another task moves it: the front end hears of it.
    client[0].execute("slider.value = 20", block=True)
    wait_until(lambda: notebook.look().comms[slider]["value"] == 20, "the front end's slider has moved")

    # A drag while the engine is busy: it ends where it ended, without a task for each step.
    busy = client[0].apply_async(__import__("time").sleep, 0.5)
    for value in range(21, 71):
        notebook.move(slider, value)
    busy.get()
    wait_until(lambda: client[0]["slider.value"] == 70, "the drag has arrived")
    assert len(client[0]["moves"]) < 10

    client.restart([0])
    notebook.move(slider, 1)
    wait_until(lambda: slider in notebook.look().closed, "the front end hears that the widget is gone")
    assert "a widget has lost its engine" not in notebook.text, "it is no error to have restarted an engine"


def test_a_widget_in_a_script_is_text(client):
    result = client[1].execute("from ipywidgets import IntSlider\nIntSlider(value=5)", silent=False)
    assert result.get().text == "IntSlider(value=5)"
