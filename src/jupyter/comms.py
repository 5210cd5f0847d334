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
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import EngineryError, RemoteError
from ..wire.messages import Function
from .answers import Answer
from .live import find_notebook
from .outputs import Shown
from .relay import handlers
from .states import WidgetState, control
from .talkback import Mailbox, Message

if TYPE_CHECKING:
    from ..client.results.futures import AsyncResult
    from ..wire.messages import Output

_COMM = Function(b"!comm", b"")

KEPT = 16
"""So many of the last messages to a comm are kept: threads that its callbacks started may speak still."""

_watched: weakref.WeakSet[Any] = weakref.WeakSet()
"""Clients whose engines are watched."""


def find_kernel() -> Any:
    """Return the notebook kernel that this program is; None if it is none."""
    kernel = getattr(find_notebook(), "kernel", None)
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
        _answer_reloads(kernel)
        manager.register_comm(_twin_class()(client, record.engine, comm_id, content.get("target_name", ""), parent))
    twin = manager.comms.get(comm_id)
    if twin is None:
        return  # closed here, or by the front end
    if kind == "comm_close":
        manager.comms.pop(comm_id)._closed = True
    elif isinstance(twin, _twin_class()):
        data = content["data"] = _without_catching(content["data"])
        if data is None:
            return
        twin.note(data, buffers)
    _publish(kernel, kind, content, parent, metadata=metadata, buffers=buffers)


def _without_catching(data: Any) -> Any:
    """Return what is said without the name of a message whose answers an `Output` takes: it is the client that puts
    them there (`answers`). None if nothing is left.
    """
    state = data.get("state") if isinstance(data, dict) else None
    if not isinstance(state, dict) or "msg_id" not in state or "_model_name" in state:
        return data
    rest = {name: value for name, value in state.items() if name != "msg_id"}
    return {**data, "state": rest} if rest else None


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


class Front:
    """The front end, as the answer to a message of its needs it."""

    def __init__(self, cell: Any, message: dict[str, Any]) -> None:
        """`cell` is the request that made the comm."""
        self._kernel = find_kernel()
        self._cell = cell
        self._message = message

    def say(self, kind: str, content: dict[str, Any]) -> None:
        """Put something into the output of the cell."""
        _publish(self._kernel, kind, content, self._cell)

    def comm(self, client: Any, record: Output) -> None:
        """Pass on what a comm says in answer; what it opens is of the same cell."""
        data, ours = record.data, self._message.get("msg_id") is None
        if ours and isinstance(data["data"], dict) and data["data"].get("method") == "echo_update":
            return  # the front end has what was said to the engine: it came from here
        on_comm(client, record, self._cell if ours or data["type"] == "comm_open" else self._message)

    def find_output(self, comm_id: str) -> Any:
        """Return the twin of an `Output`; None if it is closed."""
        twin = self._kernel.comm_manager.comms.get(comm_id)
        return twin if isinstance(twin, _twin_class()) else None


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
            self._kept: deque[AsyncResult] = deque(maxlen=KEPT)
            self.state = WidgetState()
            self.shown = Shown()
            """For an `Output`."""

        def note(self, data: Any, buffers: Any) -> None:
            """The engine has said this."""
            self.state.take(data, buffers)
            state = data.get("state") if isinstance(data, dict) else None
            if isinstance(state, dict) and "outputs" in state and data.get("method") != "echo_update":
                self.shown.set(state["outputs"])

        def show(self) -> None:
            """It is an `Output` and shows something else: let the front end know."""
            kernel = find_kernel()
            self.shown.changed = False
            if kernel is None or self._closed:
                return
            data = {"method": "update", "state": {"outputs": list(self.shown.outputs)}, "buffer_paths": []}
            self.state.take(data, ())
            _publish(kernel, "comm_msg", {"comm_id": self.comm_id, "data": data}, self._cell)

        def agree(self) -> None:
            """Let the engine know what it shows."""
            data = {"method": "update", "state": {"outputs": list(self.shown.outputs)}, "buffer_paths": []}
            self._mailbox.post(Message("comm_msg", data, {}, [], {"msg_id": None}))

        def publish_msg(self, *args: Any, **keys: Any) -> None:
            """Say nothing of its own: the engine's comm speaks."""

        def handle_msg(self, msg: Any) -> None:
            """Pass on what the front end says."""
            self._post("comm_msg", msg)

        def handle_close(self, msg: Any) -> None:
            """Pass on that the front end has closed it."""
            self._post("comm_close", msg)

        def flush(self) -> None:
            """Send what waits."""
            self._mailbox.flush()

        def _post(self, kind: str, msg: Any) -> None:
            buffers = [bytes(buffer) for buffer in msg.get("buffers") or ()]
            parent = {"header": msg.get("header") or {}, "msg_id": (msg.get("header") or {}).get("msg_id")}
            data = msg["content"].get("data") or {}
            self.state.take(data, buffers)  # an engine that does not echo need not say it again
            self._mailbox.post(Message(kind, data, msg.get("metadata") or {}, buffers, parent))

        def _send(self, message: Message) -> None:
            view = self._client.direct_view()
            answer = Answer(self._client, Front(self._cell, message.parent))
            args = message.kind, self.comm_id, message.data, message.metadata, message.buffers
            keys = {"msg_id": message.parent["msg_id"]}
            try:
                result = view._call(_COMM, "comm", args, keys, targets=self._engine, late=answer.take)
            except (EngineryError, IndexError) as error:
                self.lose(error)
                return
            self._kept.append(result)
            result.add_done_callback(lambda result: self._on_done(answer, result))

        def _on_done(self, answer: Answer, result: AsyncResult) -> None:
            error = result._whole_error()
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


def _answer_reloads(kernel: Any) -> None:
    """Tell a front end that is loaded anew of the twins, too."""
    if _keep_control not in kernel.shell.events.callbacks["post_execute"]:
        kernel.shell.events.register("post_execute", _keep_control)
        kernel.shell.events.register("pre_execute", _flush)
    control(kernel.comm_manager, _states)


def _keep_control() -> None:
    """A cell may have imported ipywidgets, which puts itself there."""
    kernel = find_kernel()
    if kernel is not None:
        control(kernel.comm_manager, _states)


def _flush() -> None:
    """A cell begins: what the front end has said before comes before what the cell has the engines do."""
    kernel = find_kernel()
    for twin in [] if kernel is None else _twins(kernel.comm_manager):
        twin.flush()


def _states() -> list[tuple[str, WidgetState]]:
    kernel = find_kernel()
    return [] if kernel is None else [(twin.comm_id, twin.state) for twin in _twins(kernel.comm_manager)]


def install() -> None:
    """From now on, act on what comms of engines say."""
    handlers["comm"] = on_comm
