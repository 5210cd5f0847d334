"""Widgets that live on engines, in real notebook kernels: shown, stored, and answered."""

from __future__ import annotations

import nbclient
import nbformat
import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from helpers import wait_until

WAIT_S = 30

VIEW = "application/vnd.jupyter.widget-view+json"

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
        self.targets = {}
        self.closed = []
        self.text = ""
        self.texts = {}
        """By the message that it answers."""
        self.displays = {}
        self.answers = {}
        self.accounts = []
        """States of all widgets, with their buffers."""

    def take(self, message):
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id")
        if kind == "comm_open":
            self.targets[content["comm_id"]] = content["target_name"]
            self.comms[content["comm_id"]] = content["data"].get("state", {})
        elif kind == "comm_msg" and content["data"].get("method") in {"update", "echo_update"}:
            state = content["data"]["state"]
            self.comms[content["comm_id"]].update(state)
            self.answers.setdefault(parent, []).append(state)
        elif kind == "comm_msg" and content["data"].get("method") == "update_states":
            self.accounts.append((content["data"], message["buffers"]))
        elif kind == "comm_close":
            self.closed.append(content["comm_id"])
        elif kind == "stream":
            self.text += content["text"]
            self.texts[parent] = self.texts.get(parent, "") + content["text"]
        elif kind == "display_data":
            self.displays.setdefault(parent, []).append(content["data"])

    def run(self, code):
        reply = self.client.execute_interactive(code, timeout=WAIT_S, output_hook=self.take)
        assert reply["content"]["status"] == "ok", reply["content"]
        return reply["parent_header"]["msg_id"]

    def find(self, model):
        (comm,) = [comm for comm, state in self.comms.items() if state.get("_model_name") == model]
        return comm

    def say(self, kind, comm, data):
        message = self.client.session.msg(kind, {"comm_id": comm, "data": data})
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def move(self, comm, value):
        return self.say("comm_msg", comm, {"method": "update", "state": {"value": value}, "buffer_paths": []})

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
    slider = notebook.find("IntSliderModel")
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

    # A cell sees the slider where the user has left it.
    for value in range(71, 91):
        notebook.move(slider, value)
    notebook.run("%px --targets 0 seen = slider.value")
    assert client[0]["seen"] == 90


def number(client):
    for engine in client.ids:
        client[engine]["engine_id"] = engine


def test_each_engine_shows_its_own_widget(cluster, client):
    number(client)
    notebook = run_notebook(
        cluster,
        "%%px\nfrom ipywidgets import IntSlider\nslider = IntSlider(value=engine_id)\nslider",
        "%%px\nslider.value += 10",
    )
    views = [output.data[VIEW]["model_id"] for output in notebook.cells[1].outputs if VIEW in output.get("data", {})]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert sorted(states[view]["state"]["value"] for view in views) == [10, 11, 12]


def test_what_goes_wrong_in_a_callback_is_shown_and_the_widget_lives_on(cluster, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(
        """%%px --targets 0
from ipywidgets import IntSlider
slider = IntSlider()
def fail(change):
    raise ValueError(f"no {change['new']}")
slider.observe(fail, "value")
import comm
bare = comm.create_comm(target_name="bare")
def refuse(message):
    raise KeyError(message["content"]["data"])
bare.on_msg(refuse)
slider"""
    )
    slider = notebook.find("IntSliderModel")
    notebook.move(slider, 5)
    wait_until(lambda: "ValueError: no 5" in notebook.look().text, "the exception is shown")
    notebook.move(slider, 6)
    wait_until(lambda: "ValueError: no 6" in notebook.look().text, "it goes on")
    (bare,) = [comm for comm, target in notebook.targets.items() if target == "bare"]
    notebook.say("comm_msg", bare, "first")
    wait_until(lambda: "KeyError: 'first'" in notebook.look().text, "an exception that nobody caught is shown")
    notebook.say("comm_msg", bare, "second")
    wait_until(lambda: "KeyError: 'second'" in notebook.look().text, "that comm goes on, too")
    assert not notebook.closed


@pytest.mark.parametrize("local", [False, True], ids=["without ipywidgets here", "with ipywidgets here"])
def test_a_front_end_that_is_loaded_anew_gets_all_widgets(cluster, notebook, local):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(MAKE)
    notebook.run("%px --targets 0 from ipywidgets import Image; image = Image(value=bytes(range(256)))")
    notebook.run("%px --targets 0 slider.value = 9")
    if local:
        notebook.run("import ipywidgets; text = ipywidgets.IntText(value=5)")

    opening = notebook.client.session.msg(
        "comm_open",
        {"comm_id": "ask", "target_name": "jupyter.widget.control", "data": {}},
        metadata={"version": "1.0.0"},
    )
    notebook.client.shell_channel.send(opening)
    notebook.say("comm_msg", "ask", {"method": "request_states"})
    wait_until(lambda: notebook.look().accounts, "the states have come")
    account, buffers = notebook.accounts[0]
    states = account["states"]
    assert states[notebook.find("IntSliderModel")]["state"]["value"] == 9
    image = notebook.find("ImageModel")
    assert bytes(buffers[account["buffer_paths"].index([image, "state", "value"])]) == bytes(range(256))
    here = [state["state"]["value"] for state in states.values() if state["model_name"] == "IntTextModel"]
    assert here == ([5] if local else [])

    question = notebook.say("comm_msg", notebook.find("IntSliderModel"), {"method": "request_state"})
    answers = wait_until(lambda: notebook.look().answers.get(question), "the widget answers for itself, too")
    assert answers[0]["value"] == 9


def shown(outputs):
    return [output.get("text") or output["data"] for output in outputs]


def test_what_callbacks_show_is_in_the_cell_of_the_widget_or_in_an_output(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    cell = notebook.run(
        """%%px --targets 0
from ipywidgets import IntSlider, Output
from IPython.display import display, HTML
slider, out = IntSlider(), Output()
def moved(change):
    print("beside")
    display(HTML("<b>rich</b>"))
    with out:
        print("within", change["new"])
slider.observe(moved, "value")
display(slider, out)"""
    )
    notebook.run("pass")
    output = notebook.find("OutputModel")
    notebook.move(notebook.find("IntSliderModel"), 4)
    wait_until(lambda: notebook.look().comms[output]["outputs"], "it is printed in the Output")
    assert shown(notebook.comms[output]["outputs"]) == ["within 4\n"]
    assert notebook.texts[cell].endswith("[stdout:0] beside\n")
    assert ("text/html", "<b>rich</b>") in [item for data in notebook.displays[cell] for item in data.items()]
    wait_until(lambda: client[0]["[o['text'] for o in out.outputs]"] == ["within 4\n"], "the engine knows it, too")
    notebook.run("%px --targets 0 out.append_stdout('more')")
    wait_until(lambda: shown(notebook.look().comms[output]["outputs"])[-1].endswith("more"), "it goes on from there")
    assert not notebook.comms[output]["msg_id"], "the front end catches nothing by itself"


def test_interact_shows_its_last_result_in_its_output(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(
        """%%px --targets 0
from ipywidgets import interact
def square(x):
    if x == 9:
        raise ValueError("not nine")
    return x * x
_ = interact(square, x=(0, 100))"""
    )
    slider, output = notebook.find("IntSliderModel"), notebook.find("OutputModel")
    for value in (7, 8):
        notebook.move(slider, value)
        wanted = [{"text/plain": str(value * value)}]
        wait_until(
            lambda wanted=wanted: shown(notebook.look().comms[output]["outputs"]) == wanted, f"{wanted} is shown"
        )
    notebook.move(slider, 9)
    wait_until(lambda: notebook.look().comms[output]["outputs"][0]["output_type"] == "error", "its error is shown")
    (error,) = notebook.comms[output]["outputs"]
    assert (error["ename"], error["evalue"]) == ("ValueError", "not nine")


def test_a_thread_that_a_callback_started_goes_on_moving_widgets(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(
        """%%px --targets 0
import threading
from ipywidgets import Button, IntProgress
button, bar, go = Button(), IntProgress(), threading.Event()
def work():
    go.wait(30)
    for value in range(1, 6):
        bar.value = value
button.on_click(lambda _: threading.Thread(target=work).start())"""
    )
    notebook.say("comm_msg", notebook.find("ButtonModel"), {"method": "custom", "content": {"event": "click"}})
    wait_until(lambda: client[0]["any(t._target is work for t in threading.enumerate())"], "the thread is there")
    client[0].execute("go.set()", block=True)  # the task of the click has ended
    bar = notebook.find("IntProgressModel")
    wait_until(lambda: notebook.look().comms[bar]["value"] == 5, "the bar has come to its end")


def test_tqdm_in_a_notebook_is_a_widget_of_the_engine(cluster, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run("%px --targets 0 from tqdm.auto import tqdm; _ = list(tqdm(range(30)))")
    bar = notebook.comms[notebook.find("FloatProgressModel")]
    assert (bar["value"], bar["max"]) == (30, 30)


def test_widgets_close_with_their_engine_and_when_either_side_closes_them(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    number(client)
    notebook.run("%%px\nfrom ipywidgets import IntSlider\nslider = IntSlider(description=str(engine_id))\nslider")
    sliders = {state["description"]: comm for comm, state in notebook.comms.items() if "step" in state}
    assert sorted(sliders) == ["0", "1", "2"]
    client.restart([1])
    wait_until(lambda: sliders["1"] in notebook.look().closed, "that of the engine that is gone is closed")
    assert sliders["0"] not in notebook.closed

    notebook.run("%px --targets 0 slider.close()")
    wait_until(lambda: sliders["0"] in notebook.look().closed, "one that is closed there is closed here")
    notebook.say("comm_close", sliders["2"], {})
    wait_until(lambda: client[2].execute("slider.comm._closed", silent=False).get().text == "True", "and the reverse")


def test_a_thread_moves_a_widget_when_its_task_is_long_over(cluster, client, notebook):
    notebook.run(CONNECT.format(name=cluster.name))
    notebook.run(MAKE)
    notebook.run(
        """%%px --targets 0
import threading
go = threading.Event()
def later():
    go.wait(30)
    slider.value = 50
threading.Thread(target=later).start()"""
    )
    slider = notebook.find("IntSliderModel")
    assert notebook.comms[slider]["value"] == 3
    client[0].execute("go.set()", block=True)
    wait_until(lambda: notebook.look().comms[slider]["value"] == 50, "the front end hears of it")


def test_a_front_end_of_the_engine_has_its_own_widgets(cluster, client, notebook):
    attached = BlockingKernelClient(connection_file=client[2].bind_kernel())
    try:
        attached.load_connection_file()
        attached.start_channels()
        attached.wait_for_ready(timeout=WAIT_S)
        got = []
        make = "from ipywidgets import IntSlider\n{0} = IntSlider()\n{0}.comm.comm_id"
        attached.execute_interactive(make.format("mine"), timeout=WAIT_S, output_hook=got.append)
        mine = [message["content"]["comm_id"] for message in got if message["msg_type"] == "comm_open"]
        notebook.run(CONNECT.format(name=cluster.name))
        notebook.run("%%px --targets 2\n" + make.format("theirs"))
        slider = notebook.find("IntSliderModel")
        assert client[2]["mine.comm.comm_id"] in mine
        assert slider not in mine
        assert slider == client[2]["theirs.comm.comm_id"]
        notebook.move(slider, 5)
        wait_until(lambda: client[2]["theirs.value"] == 5, "the notebook's has moved")
        data = {"method": "update", "state": {"value": 6}, "buffer_paths": []}
        attached.shell_channel.send(
            attached.session.msg("comm_msg", {"comm_id": client[2]["mine.comm.comm_id"], "data": data})
        )
        wait_until(lambda: client[2]["mine.value"] == 6, "the front end's has moved")
    finally:
        attached.stop_channels()
        client[2].unbind_kernel()


def test_a_widget_in_a_script_is_text(client):
    result = client[1].execute("from ipywidgets import IntSlider\nIntSlider(value=5)", silent=False)
    assert result.get().text == "IntSlider(value=5)"
