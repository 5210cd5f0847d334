"""`%px` in notebooks: what a user sees, and what is kept in the file."""

from __future__ import annotations

import base64
import time

import nbformat
import pytest
from nbconvert import HTMLExporter

import notebooks
from notebooks import run_notebook, text_of, texts


@pytest.fixture
def clean(cluster, client):
    """The module's client, and fresh engines: what they count begins at 1."""
    client.restart()
    return client


def cells_of(*codes):
    return run_notebook(codes).cells[1:]


@pytest.fixture(scope="module")
def kernel(cluster):
    running = notebooks.Kernel()
    yield running
    running.stop()


def test_text_values_and_history(clean):
    hi, rank, both, history, targets, quiet, help_ = cells_of(
        "%px print('hi')",
        "client[:].scatter('rank', range(3), flatten=True, block=True);",
        "%%px\nprint('I am', rank)\nrank * 10",
        "%px len(In), Out[2], In[-1]",
        "%px --targets ::2 print(rank)",
        "%px x = 1",
        "%%px -t 1\nlen?",
    )
    assert texts(hi) == ["[stdout:0-2] hi"]
    assert not texts(rank)
    assert texts(both) == [f"[stdout:{i}] I am {i}\nOut[{i}:2]: {i * 10}" for i in range(3)]
    assert texts(history) == [f"Out[{i}:3]: (4, {i * 10}, 'len(In), Out[2], In[-1]')" for i in range(3)]
    assert texts(targets) == ["[stdout:0] 0", "[stdout:2] 2"]
    assert not quiet.outputs
    assert "Return the number of items in a container." in texts(help_)[0]


def test_rich_outputs_of_each_engine(clean):
    figure, table, latex, box, update = cells_of(
        "%%px\nimport matplotlib.pyplot as plt\n_ = plt.plot([1, 3, 2])",
        "%%px --targets 0,1\nimport pandas as pd\npd.DataFrame({'number': [41, 42]})",
        "%%px -t 2\nfrom IPython.display import HTML, Latex, display\nprint('first')\ndisplay(Latex('$x^2$'))",
        "%%px\nfrom IPython.display import HTML, display\nbox = display(HTML('<b>one</b>'), display_id='box')",
        "%px box.update(HTML(f'<i>two</i>'))",
    )
    images = [output.data["image/png"] for output in figure.outputs if "image/png" in output.get("data", {})]
    assert len(images) == 3
    assert base64.b64decode(images[0]).startswith(b"\x89PNG")
    assert sorted(text for text in texts(figure) if text.startswith("[")) == [f"[output:{i}]" for i in range(3)]
    tables = [output.data["text/html"] for output in table.outputs if "<table" in output.data.get("text/html", "")]
    assert len(tables) == 2
    assert "<td>42</td>" in tables[0]
    labels = [text for text in texts(table) if text.startswith("Out")]  # as they came: the import took its time
    assert sorted(labels) == ["Out[0:2]:", "Out[1:2]:"]
    assert texts(latex)[:2] == ["[stdout:2] first", "[output:2]"]
    assert latex.outputs[2].data["text/latex"] == "$x^2$"
    assert [output.data["text/html"] for output in box.outputs if "text/html" in output.data] == ["<i>two</i>"] * 3
    assert not update.outputs


def test_live_output_ends_as_one_output_for_each_engine(clean):
    code = "%%px --progress-after -1\nimport time\nfor i in range(8):\n    print('row', i)\n    time.sleep(0.1)"
    notebook = run_notebook([code])
    cell = notebook.cells[1]
    assert texts(cell) == ["[stdout:0-2]\n" + "\n".join(f"row {i}" for i in range(8))]
    assert len(cell.outputs) <= 3
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "row 7" in page
    assert "row 7" in nbformat.writes(notebook)


def test_output_is_shown_while_the_cell_runs(kernel):
    seen = []

    def on_output(text):
        seen.append((time.monotonic(), text))

    status, shown, _ = kernel.run(
        "%%px --progress-after 0.5\nimport time\nprint('begun')\ntime.sleep(1.5)\nprint('over')", on_output=on_output
    )
    assert status == "ok"
    begun = next(at for at, text in seen if "begun" in text)
    over = next(at for at, text in seen if "over" in text)
    assert over > begun
    assert any("0/3 engines" in text for _, text in seen)
    assert "[stdout:0-2]\nbegun\nover" in shown
    assert any("3/3 engines" in text for text in shown)


def test_errors_of_many_engines_are_one_report(clean):
    some, alike, one, syntax, late, died = cells_of(
        "%%px\nimport os\nprint('working')\ndef f(x):\n    return 1 / x\nf(0)",
        "%px {}['key']",
        "%px --targets 1 undefined_name",
        "%px def f(:",
        "%%px --no-stream\nprint('before')\nraise ValueError('late')",
        "%px -t 1 import os; os._exit(3)",
    )
    report = text_of(some.outputs[-1])
    assert texts(some)[0] == "[stdout:0-2] working"
    assert some.outputs[-1].output_type == "error"
    assert report.startswith("[engines 0-2] ZeroDivisionError: division by zero")
    assert report.count("Traceback (most recent call last)") == 1
    assert "return 1 / x" in report
    assert report.endswith("CompositeError: 3 of 3 calls failed")
    assert "[engines 0-2] KeyError: 'key'" in text_of(alike.outputs[0])
    assert one.outputs[0].ename == "NameError"
    assert text_of(one.outputs[0]).startswith("[engine 1] NameError: name 'undefined_name' is not defined")
    assert "[engines 0-2] SyntaxError: invalid syntax" in text_of(syntax.outputs[0])
    assert texts(late)[0] == "[stdout:0-2] before"
    assert "ValueError: late" in texts(late)[1]
    assert texts(died)[0].startswith("EngineDied: engine 1 ")
    assert "exited with code 3" in texts(died)[0]
    assert "Traceback" not in texts(died)[0]


def test_not_waiting_and_the_result_later(clean):
    wait, result, again, out, value, nothing = cells_of(
        "%%px --noblock\nprint('later')\n6 * 7",
        "%pxresult",
        "%pxresult --group-outputs engine",
        "%px -o kept 6 * 8",
        "[reply.text for reply in kept.get()], kept",
        "%%px --block\n# nothing",
    )
    assert texts(wait)[0].startswith("<GroupResult ")
    assert texts(result) == ["[stdout:0-2] later\nOut[0-2:1]: 42"]
    assert texts(again) == [f"[stdout:{i}] later\nOut[{i}:1]: 42" for i in range(3)]
    assert texts(out) == ["Out[0-2:2]: 48"]
    assert texts(value)[0].startswith("(['48', '48', '48'], <GroupResult")
    assert not texts(nothing)


def test_output_of_a_result_is_streamed_to_its_cell(clean):
    code = "import time\nfor i in range(4):\n    print('row', i)\n    time.sleep(0.15)"
    stream, typed, bar, reply = cells_of(
        f"with client[:].execute({code!r}, silent=False).stream_output() as result:\n    result.wait();",
        "result.display_outputs()",
        "client.map(abs, range(9)).wait_interactive();",
        "client[0].execute('import pandas as pd; pd.DataFrame([7])', silent=False).get()",
    )
    rows = "[stdout:0-2]\nrow 0\nrow 1\nrow 2\nrow 3"
    assert texts(stream) == [rows]
    assert texts(typed) == [rows]
    assert "9/9 items" in texts(bar)[-1]
    assert "<progress" in bar.outputs[-1].data["text/html"]
    assert "<table" in reply.outputs[0].data["text/html"]
    assert texts(reply)[0].startswith("<ExecuteReply[0]: Out[0:2]: ")


def test_autopx_local_and_suffixes(clean):
    codes = (
        "%autopx",
        "mine = 5\nmine",
        "for i in range(2):\n    print(i)",
        "%autopx",
        "'mine' in globals()",
        "%px --local both = 7; print('both', both)",
        "%px --local 1 / ('client' not in globals())",
        "both",
        "client[::2].activate('_even')",
        "%pxconfig_even --block",
        "%px_even print('even')",
        "client.activate([1], '_one')",
        "%px_one print('one')",
        "%px print('all')",
        "%pxconfig -t 0:2 --group-outputs type --verbose",
        "%px print('two')",
    )
    cells = dict(zip(codes, cells_of(*codes), strict=True))
    assert texts(cells["mine = 5\nmine"]) == ["Out[0-2:1]: 5"]
    assert texts(cells["for i in range(2):\n    print(i)"]) == ["[stdout:0-2]\n0\n1"]
    assert texts(cells["'mine' in globals()"]) == ["False"]
    assert texts(cells["%px --local both = 7; print('both', both)"]) == ["both 7\n", "[stdout:0-2] both 7"]
    assert texts(cells["both"]) == ["7"]
    failed = texts(cells["%px --local 1 / ('client' not in globals())"])
    assert "ZeroDivisionError" in failed[0]
    assert "Out[0-2:" in failed[1]
    assert "the cell failed here, as shown above" in failed[2]
    assert texts(cells["%px_even print('even')"]) == ["[stdout:0,2] even"]
    assert texts(cells["%px_one print('one')"]) == ["[stdout:1] one"]
    assert texts(cells["%px print('all')"]) == ["[stdout:0-2] all"]
    assert texts(cells["%px print('two')"]) == ["Parallel execution on engines: 0-1\n", "[stdout:0-1] two"]


def test_wrong_options_are_a_sentence(clean):
    frob, targets, nowhere, none, rest = cells_of(
        "%px --frob 3", "%px --targets some print(1)", "%px --targets 9 print(1)", "%pxresult", "%%px print(1)\nx"
    )
    assert texts(frob) == ["UsageError: %px has no option --frob; %px? shows those it has\n"]
    assert "UsageError: targets are a number" in texts(targets)[0]
    assert "there is no engine 9; there are: 0, 1, 2" in texts(nowhere)[0]
    assert "nothing has been run with %px yet" in texts(none)[0]
    assert "code begins on the next line" in texts(rest)[0]


def interrupted(kernel, code, when):
    """Run a cell, and interrupt it when that is shown; return the status, texts, and the time from there to the end."""
    pressed = []

    def on_output(text):
        if when in text and not pressed:
            pressed.append(time.monotonic())
            kernel.interrupt()

    status, shown, _ = kernel.run(code, on_output=on_output)
    return status, shown, time.monotonic() - pressed[0]


def test_interrupting_reaches_the_engines(kernel):
    code = "%px import time; print('sleeps', flush=True); time.sleep(60); print('woke')"
    status, shown, took_s = interrupted(kernel, code, "sleeps")
    assert status == "error"
    assert shown[:-1] == ["[stdout:0-2] sleeps"]
    assert shown[-1].startswith("KeyboardInterrupt: ")
    assert took_s < 5.0
    assert kernel.run("%px print('next')")[1] == ["[stdout:0-2] next"]  # which they cannot while they sleep


def test_the_prompt_is_back_though_an_engine_is_deep_in_c(kernel):
    code = "%%px -t 1\nimport re\nprint('deep', flush=True)\nimport time\ntime.sleep(0.3)\nre.match('(a*)*b', 'a' * 60)"
    status, shown, took_s = interrupted(kernel, code, "engines")  # the progress bar, after two seconds
    assert status == "error"
    assert "engine 1 has not stopped yet" in shown[-1]
    assert "client.restart([1]) ends it now" in shown[-1]
    assert took_s < 5.0
    assert kernel.run("%px -t 0,2 print('others')")[1] == ["[stdout:0,2] others"]
    assert kernel.run("client.restart([1])")[0] == "ok"
    assert kernel.run("%px print('next')")[1] == ["[stdout:0-2] next"]


def test_errors_before_an_interruption_are_told(kernel):
    code = "%%px\nimport time\nif engine == 0: raise ValueError('early')\nprint('sleeps', flush=True)\ntime.sleep(60)"
    assert kernel.run("client[:].scatter('engine', range(3), flatten=True, block=True);")[0] == "ok"
    status, shown, _ = interrupted(kernel, code, "sleeps")
    assert status == "error"
    assert "[engine 0] ValueError: early" in shown[-1]
    assert "\nKeyboardInterrupt: " in shown[-1]


def test_an_earlier_cell_goes_on_when_nobody_waits_for_it_any_more(kernel):
    code = "%%px --noblock\nimport time\nprint('sleeps', flush=True)\ntime.sleep(2)\nprint('over')"
    assert kernel.run(code)[0] == "ok"
    status, shown, _ = interrupted(kernel, "%pxresult", "sleeps")
    assert status == "error"
    assert "what was waited for goes on" in shown[-1]
    assert kernel.run("%pxresult --progress-after -1")[1] == ["[stdout:0-2]\nsleeps\nover"]


def test_another_signal(kernel):
    handler = "import signal\n\ndef f(*_):\n    raise RuntimeError('USR1 came')\n\nsignal.signal(signal.SIGUSR1, f);"
    assert kernel.run(f"%%px\n{handler}")[0] == "ok"
    code = "%%px --signal-on-interrupt USR1\nimport time\nprint('sleeps', flush=True)\ntime.sleep(60)"
    status, shown, _ = interrupted(kernel, code, "sleeps")
    assert status == "error"
    assert "[engines 0-2] RuntimeError: USR1 came" in shown[-1]
