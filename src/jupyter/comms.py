"""Comms of objects on engines, widgets above all, in the client's notebook.

An engine's messages come as output of its tasks, of kind `comm`. For each comm that is opened there, a twin is put into
this kernel's comm manager, and what the engine says goes on to the front end as if it were said here. What the front
end says comes to the twin, and goes to the engine as the operation `!comm` (`talkback`). What callbacks there print or
display is shown in the output of the cell that made the comm, or in the widget (`Output`) that asks for it.

When an engine is gone, so are its comms: the front end is told that they are closed.
"""

from __future__ import annotations

import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import EngineryError, RemoteError
from ..wire.messages import Function
from .lines import Lines
from .panes import STREAMS, encoded
from .relay import handlers, relay
from .talkback import Mailbox, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.futures import AsyncResult
    from ..wire.messages import Output

_COMM = Function(b"!comm", b"")

CONTROL_TARGET = "jupyter.widget.control"
"""Where a front end that was reloaded asks for the state of all widgets."""

_watched: weakref.WeakSet[Any] = weakref.WeakSet()
"""Clients whose engines are watched."""


def find_kernel() -> Any:
    """Return the notebook kernel that this program is; None if it is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    return kernel if hasattr(kernel, "comm_manager") else None


def on_comm(client: Any, record: Output, parent: Any = None) -> None:
    """Tell the front end what an engine's comm says. Where there is none, nobody is told: text stands beside it.

    It answers the Jupyter message `parent`, without one that which the kernel works on.
    """
    kernel = find_kernel()
    if kernel is None:
        return
    content = dict(record.data)
    kind, buffers, metadata = content.pop("type"), content.pop("buffers"), content.pop("metadata")
    manager, comm_id = kernel.comm_manager, content["comm_id"]
    parent = parent or kernel.get_parent("shell")
    if kind == "comm_open":
        _watch(client)
        _answer_reloads(manager)
        manager.register_comm(_twin_class()(client, record.engine, comm_id, content.get("target_name", ""), parent))
    elif comm_id not in manager.comms:
        return  # closed here, or by the front end
    elif kind == "comm_close":
        manager.comms.pop(comm_id)._closed = True
    _publish(kernel, kind, content, parent, metadata=metadata, buffers=buffers)


def _publish(
    kernel: Any, kind: str, content: dict[str, Any], parent: Any, *, metadata: Any = None, buffers: Any = None
) -> None:
    """Send a message to all front ends of this kernel. Raises nothing: the client's I/O thread calls it, too."""
    ident = f"comm-{content['comm_id']}" if "comm_id" in content else kind
    try:
        kernel.session.send(
            kernel.iopub_socket,
            kind,
            content,
            metadata=metadata,
            parent=parent,
            ident=ident.encode(),
            buffers=buffers or None,
        )
    except Exception as error:  # what cannot be JSON, or a kernel that ends
        text = f"a {kind} of a widget could not be sent to the notebook: {type(error).__name__}: {error}"
        print(text, file=sys.__stderr__)


class Answer:
    """Shows what an engine says while it acts on a message of the front end's."""

    def __init__(self, client: Any, kernel: Any, cell: Any, message: Message) -> None:
        self._client = client
        self._kernel = kernel
        self._cell = cell
        self._message = message
        self._lines = Lines()
        self._captured = False
        """A widget (`Output`) takes what is printed and displayed in answer to the message."""

    def take(self, record: Output) -> bool:
        """Show a record; return True: it need not be kept."""
        kind, data = record.kind, record.data
        if kind == "comm":
            state = data["data"].get("state") if isinstance(data["data"], dict) else None
            if isinstance(state, dict) and "msg_id" in state:
                self._captured = bool(state["msg_id"])
            on_comm(self._client, record, self._message.parent)
        elif relay(self._client, record):
            pass
        elif kind in {"display", "update_display", "result"}:
            self._display(record)
        elif not self._captured:
            self._print(self._lines.take(record))
        elif kind in STREAMS:
            self._say("stream", {"name": kind, "text": data})
        elif kind in {"error", "clear_output"}:
            self._say(kind, data)
        return True

    def ended(self, engine: int, error: Any) -> None:
        """The engine has acted on it, with this error if a callback failed that nobody caught."""
        self._captured = False
        self._print(self._lines.ended(engine, failed=False))
        if error is not None:
            self._say("stream", {"name": "stderr", "text": f"[error:{engine}] {error.traceback}".rstrip() + "\n"})

    def _print(self, lines: Any) -> None:
        for line in lines:
            self._say("stream", {"name": line.stream, "text": line.text + "\n"})

    def _display(self, record: Output) -> None:
        data = record.data
        display_id = (data.get("transient") or {}).get("display_id")
        self._say(
            "update_display_data" if record.kind == "update_display" else "display_data",
            {
                "data": encoded(data.get("data") or {}),
                "metadata": data.get("metadata") or {},
                "transient": {} if display_id is None else {"display_id": f"{record.engine}:{display_id}"},
            },
        )

    def _say(self, kind: str, content: dict[str, Any]) -> None:
        _publish(self._kernel, kind, content, self._message.parent if self._captured else self._cell)


@functools.cache
def _twin_class() -> Any:
    from comm.base_comm import BaseComm  # noqa: PLC0415 - a notebook kernel has it

    stock: Any = BaseComm

    class Twin(stock):  # type: ignore[misc] # untyped
        """Stands here for a comm of an engine."""

        def __init__(self, client: Any, engine: int, comm_id: str, target_name: str, cell: Any) -> None:
            super().__init__(target_name=target_name, comm_id=comm_id, primary=False)
            self._closed: bool = False
            self._client = client
            self._engine = engine
            self._incarnation = _incarnation(client, engine)
            self._cell = cell
            self._mailbox = Mailbox(self._send)

        def publish_msg(self, *args: Any, **keys: Any) -> None:
            """Say nothing of its own: the engine's comm speaks."""

        def handle_msg(self, msg: Any) -> None:
            """Pass on what the front end says."""
            self._post("comm_msg", msg)

        def handle_close(self, msg: Any) -> None:
            """Pass on that the front end has closed it."""
            self._post("comm_close", msg)

        def _post(self, kind: str, msg: Any) -> None:
            buffers = [bytes(buffer) for buffer in msg.get("buffers") or ()]
            parent = {"header": msg.get("header") or {}, "msg_id": (msg.get("header") or {}).get("msg_id")}
            data = msg["content"].get("data") or {}
            self._mailbox.post(Message(kind, data, msg.get("metadata") or {}, buffers, parent))

        def _send(self, message: Message) -> None:
            view = self._client.direct_view()
            answer = Answer(self._client, find_kernel(), self._cell, message)
            args = message.kind, self.comm_id, message.data, message.metadata, message.buffers
            keys = {"msg_id": message.parent["msg_id"]}
            try:
                result = view._call(_COMM, "comm", args, keys, targets=self._engine, late=answer.take)
            except (EngineryError, IndexError) as error:
                self.lose(error)
                return
            result.add_done_callback(lambda result: self._on_done(answer, result))

        def _on_done(self, answer: Answer, result: AsyncResult) -> None:
            error = result.error
            called = error is None or isinstance(error, RemoteError)
            answer.ended(self._engine, error if called else None)
            if isinstance(error, EngineryError) and not called:
                self.lose(error)
            elif error is None and not result.result():
                self.lose(None)  # another process has its engine's place
            else:
                self._mailbox.sent()

        @property
        def is_lost(self) -> bool:
            """Whether its engine is gone, though the cluster is not."""
            there = _incarnation(self._client, self._engine)
            return self._client._link.core.lost is None and there != self._incarnation

        def is_of(self, client: Any) -> bool:
            """Return whether it stands for a comm of this client's tasks."""
            return self._client is client

        def lose(self, error: BaseException | None) -> None:
            """Its engine does not have it any more."""
            kernel = find_kernel()
            if self._closed or kernel is None:
                return
            self._closed = True
            kernel.comm_manager.comms.pop(self.comm_id, None)
            _publish(kernel, "comm_close", {"comm_id": self.comm_id, "data": {}}, self._cell)
            if error is not None:
                text = f"a widget of engine {self._engine} does not answer any more: {error}\n"
                _publish(kernel, "stream", {"name": "stderr", "text": text}, self._cell)

    return Twin


def _incarnation(client: Any, engine: int) -> int | None:
    """Return which process has an engine's place."""
    there = client._link.core.engines.get(engine)
    return None if there is None else int(there.incarnation)


def _twins(manager: Any) -> list[Any]:
    return [comm for comm in list(manager.comms.values()) if isinstance(comm, _twin_class())]


def _watch(client: Any) -> None:
    """Close the comms of this client's engines when those are gone."""
    if client in _watched:
        return
    _watched.add(client)
    known = weakref.ref(client)

    def look() -> None:
        client, kernel = known(), find_kernel()
        if client is not None and kernel is not None:
            for twin in _twins(kernel.comm_manager):
                if twin.is_of(client) and twin.is_lost:
                    twin.lose(None)

    client._link.core.on_fleet = look


def _answer_reloads(manager: Any) -> None:
    """Have a front end that was reloaded ask each widget: ipywidgets here would answer for those of this process only,
    and knows nothing of the twins. A front end does so when the comm on which it asks for all is closed.
    """
    former: Callable[[Any, Any], None] | None = manager.targets.get(CONTROL_TARGET)
    if getattr(former, "is_ours", False):
        return

    def opened(comm: Any, msg: Any) -> None:
        if former is None or _twins(manager):
            comm.close()
        else:
            former(comm, msg)

    opened.is_ours = True  # type: ignore[attr-defined] # a mark
    manager.register_target(CONTROL_TARGET, opened)


def install() -> None:
    """From now on, act on what comms of engines say."""
    handlers["comm"] = on_comm
