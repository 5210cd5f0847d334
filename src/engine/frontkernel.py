"""ipykernel's kernel and debugger, as front ends of an engine meet them. Loaded when the first one attaches."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from ipykernel import compiler, debugger, iostream, ipkernel, kernelapp
from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from .attach import FrontEnds

_debugging: Any = debugger  # Any: ipykernel's annotations are few and partly wrong
_streams: Any = iostream
_StockApp: Any = kernelapp.IPKernelApp
_StockKernel: Any = ipkernel.IPythonKernel
_StockDebugger: Any = debugger.Debugger
Compiler: Any = compiler.XCachingCompiler
"""Names the files of cells as debuggers know them."""
Stream: Any = iostream.OutStream
_temporary_folder: Any = compiler.get_tmp_directory


class KernelApp(_StockApp):  # type: ignore[misc] # untyped
    """The parts of a kernel, on Unix sockets whose names begin with that path."""

    def __init__(self, kernel_class: type, path: Path, key: bytes) -> None:
        super().__init__(
            kernel_class=kernel_class,
            transport="ipc",
            ip=str(path),
            connection_file=f"{path}.json",
            connection_dir=str(path.parent),
            log_level=40,
        )
        self.session.key = key
        self.displayhook = _Nothing()

    def init_iopub(self, context: Any) -> None:
        """Open the channel of output without the TCP port that the stock one listens on for forked processes."""
        socket = context.socket(zmq.XPUB)
        socket.linger = 1000
        self.iopub_port: int = self._bind_socket(socket, 0)
        self.configure_tornado_logger()
        self.iopub_thread = _streams.IOPubThread(socket, pipe=False, session=self.session)
        self.iopub_thread.start()
        self.iopub_socket = self.iopub_thread.background_socket

    def build(self, shell: Any) -> Any:
        """Open the channels and return the kernel, which is not started."""
        _StockApp._instance = self  # some libraries look whether there is one
        self.init_connection_file()
        self.init_sockets()
        self.init_heartbeat()
        self.write_connection_file()
        self._ports = {name: getattr(self, f"{name}_port") for name in ("shell", "iopub", "stdin", "hb", "control")}
        self.profile_dir = shell.profile_dir
        self.init_kernel()
        self.shell = shell
        return self.kernel

    def reset_io(self) -> None:
        """Leave the streams alone: they are the engine's."""

    def take_down(self) -> None:
        """Close the channels and remove their files."""
        self.close()
        self.remove_files()
        atexit.unregister(self.close)
        _StockApp._instance = None

    def remove_files(self) -> None:
        """Remove sockets and connection file."""
        self.cleanup_connection_file()
        self.cleanup_ipc_files()


class _Nothing:
    """Stands for the application's display hook: the shell has one."""


_INTERNAL = sys.stdlib_module_names | {
    *("IPython", "cloudpickle", "comm", "debugpy", "enginery", "ipykernel", "jupyter_client", "jupyter_core"),
    *("matplotlib_inline", "msgspec", "psutil", "pyzmq", "tornado", "traitlets", "zmq"),
} - {"__main__"}
"""Packages that whoever debugs does not want to step into: what runs the user's code, and what it is made of."""


def _internal_files() -> list[str]:
    loaded = [module for name, module in sys.modules.copy().items() if name.partition(".")[0] in _INTERNAL]
    return [file for module in loaded if (file := getattr(module, "__file__", None))]


def _listen_privately(debugpy: Any, host: str, port: int) -> None:
    """Have debugpy listen through `debugadapter`, which lets nobody but this user connect."""
    from debugpy import adapter  # noqa: PLC0415 - as its caller

    before = adapter.__file__
    try:
        adapter.__file__ = os.fspath(Path(__file__).with_name("debugadapter.py") / "program")  # it starts the folder
        debugpy.listen((host, port))
    finally:
        adapter.__file__ = before


_listening: tuple[str, str] | None = None
"""Port and address of the debug server, which listens once in a process's life."""


class _Debugger(_StockDebugger):  # type: ignore[misc] # untyped
    """Starts to listen by itself: the stock one has a cell do it, which waits as long as a task runs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kernel_modules = _internal_files()  # the stock list is of all that is loaded: the user's modules as well

    def start(self) -> bool:
        """Start, or connect again to what was started."""
        global _listening
        client = self.debugpy_client
        if _listening is None:
            import debugpy  # noqa: PLC0415, T100 - only for who debugs

            os.makedirs(_temporary_folder(), mode=0o700, exist_ok=True)  # noqa: PTH103 - as a string
            host, port = client.get_host_port()
            _listen_privately(debugpy, host, int(port))
            _listening = client.debugpy_port, client.endpoint
        client.debugpy_port, client.endpoint = _listening
        self.debugpy_initialized = True
        shell: Any = InteractiveShell.instance()
        transforms = shell.input_transformer_manager.cleanup_transforms
        if _debugging.leading_empty_lines in transforms:  # else breakpoints are some lines off
            index = transforms.index(_debugging.leading_empty_lines)
            self._removed_cleanup[index] = transforms.pop(index)
        client.connect_tcp_socket()
        return True


def make_kernel_class(front_ends: FrontEnds) -> type:
    """Return the class of the kernel that serves these front ends."""
    current, shell = front_ends.current, front_ends.shell

    class EngineKernel(_StockKernel):  # type: ignore[misc] # untyped
        """The engine's shell, for front ends."""

        _execute_sleep = 0
        debugger_class = _Debugger

        def pre_handler_hook(self) -> None:
            """An interrupt may strike from here on, but for a cell, which is to be answered in any case (`do_execute`).

            Subshells come here too, in threads of their own.
            """
            if threading.current_thread() is threading.main_thread():
                current.armed = self.get_parent("shell")["header"]["msg_type"] != "execute_request"

        def post_handler_hook(self) -> None:
            """No more."""
            if threading.current_thread() is threading.main_thread():
                current.armed = False

        async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            """Run a cell."""
            if threading.current_thread() is not threading.main_thread():
                reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
                return reply
            try:
                try:
                    current.armed = True
                    reply = await super().do_execute(*args, **kwargs)
                finally:
                    current.armed = False
                    front_ends.catch_up()
            except KeyboardInterrupt as error:  # it struck in IPython's own code, before the user's or after
                count = shell.execution_count - 1
                named = {"ename": type(error).__name__, "evalue": "", "traceback": []}
                return {"status": "error", "execution_count": count, "user_expressions": {}, "payload": []} | named
            return reply

        def _send_interrupt_children(self) -> None:
            """Interrupt what runs: a cell, or a task. The stock method sends a signal, which may come too late."""
            front_ends.interrupt()

        async def shutdown_request(self, stream: Any, ident: Any, parent: Any) -> None:
            """A front end is done with the kernel, or wants another one: the engine stays, with all it has."""
            content = {"status": "ok", "restart": parent["content"].get("restart", False)}
            self.session.send(stream, "shutdown_reply", content, parent, ident=ident)
            self.session.send(self.iopub_socket, "shutdown_reply", content, parent)
            if not content["restart"]:
                front_ends.shut_down_soon()

        def do_history(  # noqa: PLR0917 - as the method it stands for
            self,
            hist_access_type: str,
            output: bool,
            raw: bool,
            session: int = 0,
            start: int = 0,
            stop: int | None = None,
            n: int | None = None,
            pattern: str | None = None,
            unique: bool = False,
        ) -> dict[str, Any]:
            """Answer from memory: there is no file."""
            history = shell.history_manager
            if hist_access_type == "range":
                found = list(history.get_range(session, start, stop, raw=raw, output=output))
            else:
                found = list(history.get_range(0, raw=raw, output=output))
            if hist_access_type == "search":
                found = [line for line in found if fnmatch(line[2][0] if output else line[2], pattern or "*")]
                if unique:
                    found = list({line[2][0] if output else line[2]: line for line in found}.values())
            if hist_access_type in {"tail", "search"} and n is not None:
                found = found[-n:] if n else []
            return {"status": "ok", "history": found}

    return EngineKernel
