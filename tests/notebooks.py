"""Notebooks for tests: run as a user's would be, by nbclient, in a kernel of their own."""

from __future__ import annotations

import re
import time

import nbformat
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

START = "from enginery import Client\nclient = Client()"


def run_notebook(cells, timeout_s=60):
    """Return a notebook of these cells after a run, without its first cell, which makes `client`."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [START, *cells]])
    NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", allow_errors=True).execute()
    nbformat.validate(notebook)
    return notebook


def plain(text):
    """Return text without colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def text_of(output):
    """Return what an output says as text."""
    match output.output_type:
        case "stream":
            return plain(output.text)
        case "error":
            return plain("\n".join(output.traceback))
    return plain(output.data.get("text/plain", ""))


def texts(cell):
    """Return what the outputs of a cell say, without those that are empty."""
    return [text for output in cell.outputs if (text := text_of(output))]


class Kernel:
    """A kernel that runs cells one by one, and can be interrupted."""

    def __init__(self):
        self._manager, self._client = start_new_kernel(kernel_name="python3")
        assert self.run(START)[0] == "ok"

    def run(self, code, timeout_s=60.0, on_output=lambda _text: None):
        """Return the status of a cell, its texts (the last state of each output), and how long it took."""
        outputs = []
        began = time.monotonic()

        def hook(message):
            content, kind = message["content"], message["msg_type"]
            text = content.get("text") or content.get("data", {}).get("text/plain", "")
            text = plain(text or "\n".join(content.get("traceback", [])))
            display_id = content.get("transient", {}).get("display_id")
            if kind == "update_display_data":
                for output in outputs:
                    if output[0] == display_id:
                        output[1] = text
            elif kind in ("stream", "display_data", "execute_result", "error"):
                outputs.append([display_id, text])
            if text:
                on_output(text)

        reply = self._client.execute_interactive(code, output_hook=hook, timeout=timeout_s)
        return reply["content"]["status"], [text for _, text in outputs if text], time.monotonic() - began

    def interrupt(self):
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def stop(self):
        """End it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
