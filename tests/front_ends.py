"""Front ends that attach to engines, for tests."""

from __future__ import annotations

import time
from contextlib import contextmanager

from jupyter_client import BlockingKernelClient

WAIT_S = 20


class FrontEnd:
    """A front end attached to an engine."""

    def __init__(self, path, *, is_busy=False):
        """Of an engine that is busy, not even an answer can be waited for."""
        self.client = BlockingKernelClient(connection_file=path)
        self.client.load_connection_file()
        self.client.start_channels()
        if not is_busy:
            self.client.wait_for_ready(timeout=WAIT_S)

    def run(self, code, **options):
        """Run a cell; return its status and what it showed, by kind of message."""
        shown = {}

        def keep(message):
            content = message["content"]
            text = content.get("text") or content.get("data") or content.get("ename")
            if text:
                kind = content.get("name", message["msg_type"])
                shown[kind] = shown[kind] + text if isinstance(text, str) and kind in shown else text

        options.setdefault("stop_on_error", False)  # else what is asked next, in the same instant, is aborted
        reply = self.client.execute_interactive(code, timeout=WAIT_S, output_hook=keep, **options)
        return reply["content"]["status"], shown

    def ask(self, kind, **content):
        """Ask on the control channel, which answers whatever the engine runs."""
        message = self.client.session.msg(kind, content)
        self.client.control_channel.send(message)
        while True:
            reply = self.client.get_control_msg(timeout=WAIT_S)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return reply["content"]

    def shell(self, request, **arguments):
        """Ask on the shell channel."""
        number = getattr(self.client, request)(**arguments)
        while True:
            reply = self.client.get_shell_msg(timeout=WAIT_S)
            if reply["parent_header"].get("msg_id") == number:
                return reply["content"]

    def until(self, kind, which=lambda content: True):
        """Return the content of the next such message on the output channel."""
        while True:
            message = self.client.get_iopub_msg(timeout=WAIT_S)
            if message["msg_type"] == kind and which(message["content"]):
                return message["content"]


@contextmanager
def attached(view):
    front_end = FrontEnd(view.bind_kernel())
    try:
        yield front_end
    finally:
        front_end.client.stop_channels()


def hang():
    """Be a task that runs until it is interrupted."""
    print("hangs", flush=True)
    while True:
        time.sleep(0.01)
