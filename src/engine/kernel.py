"""The engine's IPython: the one module that knows IPython and ipykernel.

The shell is ipykernel's, so that tools that look for a notebook kernel find one, and so that a Jupyter kernel can adopt
it later. There are no sockets, no threads, no history file. What the shell shows is output of the running task.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipykernel
import IPython
from ipykernel import zmqshell
from ipykernel.displayhook import ZMQShellDisplayHook
from traitlets.config import Config

from .comms import Comms
from .output import clean_value

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .output import OutputBuffer

_StockPublisher: Any = zmqshell.ZMQDisplayPublisher  # Any: their annotations are few and partly wrong
_StockDisplayHook: Any = ZMQShellDisplayHook
_StockShell: Any = zmqshell.ZMQInteractiveShell

INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class _DisplayPublisher(_StockPublisher):  # type: ignore[misc] # see above
    """`display()`: a record of the running task's output."""

    output: OutputBuffer

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        self._validate_data(data, metadata)
        if self.output.attached:
            bundle = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
            self.output.publish("update_display" if update else "display", clean_value(bundle))
        elif self.session is not None:
            super().publish(data, metadata, transient=transient, update=update, **kwargs)
        else:
            print(data.get("text/plain", ""))  # noqa: T201 - the process's own output is where it belongs

    def clear_output(self, wait: bool = False) -> None:
        if self.output.attached:
            self.output.publish("clear_output", {"wait": bool(wait)})
        elif self.session is not None:
            super().clear_output(wait)


class _DisplayHook(_StockDisplayHook):  # type: ignore[misc] # see above
    """The value of a cell's last expression: kept for `Kernel.execute`, and a record of the task's output."""

    output: OutputBuffer
    bundle: dict[str, Any] | None = None
    msg: dict[str, Any] | None

    def start_displayhook(self) -> None:
        if self.output.attached:
            self.msg = {"content": {"data": {}, "metadata": {}}}
        else:
            super().start_displayhook()

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        if self.output.attached:
            assert self.msg is not None
            self.msg["content"].update(data=format_dict, metadata=md_dict or {})  # images stay bytes
        else:
            super().write_format_data(format_dict, md_dict)

    def finish_displayhook(self) -> None:
        if not self.output.attached:
            super().finish_displayhook()
            return
        assert self.msg is not None
        content = clean_value(self.msg["content"])
        self.msg = None
        if content["data"]:
            self.bundle = content["data"]
            self.output.publish("result", content)


class ZMQInteractiveShell(_StockShell):  # type: ignore[misc] # see above
    """The engine's shell. It has its parent's name because libraries (rich) look for exactly that name."""

    output: OutputBuffer
    displayhook_class = _DisplayHook
    display_pub_class = _DisplayPublisher

    def init_environment(self) -> None:
        """Leave the environment alone: the stock shell exports TERM, FORCE_COLOR and PAGER to all subprocesses."""

    def ask_exit(self) -> None:
        """Say what `exit` cannot do here."""
        sys.stderr.write("An engine does not end with exit(). Client.shutdown() and `cluster stop` end engines.\n")

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        if self.output.attached:
            error = {"ename": etype.__name__, "evalue": str(evalue), "traceback": stb}
            self.output.publish("error", clean_value(error))
            self._last_traceback = stb
        elif self.displayhook.session is not None:
            super()._showtraceback(etype, evalue, stb)
        else:
            print("\n".join(stb), file=sys.stderr)  # noqa: T201 - as above


class Kernel:
    """The shell of this process, and running cells in it. Make one per process."""

    hide = tuple(str(Path(file).parent) + os.sep for file in (IPython.__file__, ipykernel.__file__) if file)
    """Where the files are whose frames are not the user's in the traceback of a cell."""

    def __init__(self, output: OutputBuffer, run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        os.environ.setdefault("MPLBACKEND", INLINE_BACKEND)
        config = Config()
        config.HistoryManager.enabled = False  # no database, no thread
        config.InteractiveShell.colors = "neutral"
        for part in (ZMQInteractiveShell, _DisplayHook, _DisplayPublisher):
            part.output = output
        self.shell: Any = ZMQInteractiveShell.instance(config=config)
        shell = self.shell
        shell.display_pub.session = shell.displayhook.session = None
        shell.loop_runner = run_coroutine
        self.comms = Comms(output)
        shell.run_cell("pass", store_history=False, silent=True)  # what the first cell loads, forked engines share

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's variables; the same dictionary for the life of the process."""
        return self.shell.user_ns  # type: ignore[no-any-return] # IPython is untyped

    def _print_pages(self) -> None:
        """Print what a cell has for the pager (`name?`): there is none here."""
        manager = self.shell.payload_manager
        for payload in manager.read_payload():
            if payload.get("source") == "page":
                print(payload.get("data", {}).get("text/plain", ""))  # noqa: T201 - output of the task
        manager.clear_payload()

    def execute(self, code: str, *, silent: bool = False, store_history: bool = True) -> dict[str, Any]:
        """Run a cell: magics, `await`, rich display. Returns the execution count and the bundle of its last value.

        What the cell raises is raised here, with the cell's own traceback.
        """
        shell = self.shell
        shell.displayhook.bundle = None
        count = shell.execution_count if store_history and not silent else None
        result = shell.run_cell(code, store_history=store_history, silent=silent)
        self._print_pages()
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            raise error
        bundle, shell.displayhook.bundle = shell.displayhook.bundle, None
        return {"execution_count": count, "result": bundle}

    def show_figures(self) -> None:
        """Show the figures that a task has drawn, as those of a cell are shown."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        open_figures = getattr(pyplot, "get_fignums", None)  # there is none while it is being imported
        if open_figures is not None and open_figures():
            self.shell.events.trigger("post_execute")

    def clear(self) -> None:
        """Delete the user's variables."""
        self.shell.reset(new_session=False)
