"""Comms of objects on engines, widgets above all, in the client's notebook.

An engine's messages come as output of its tasks, of kind `comm`. For each comm that is opened there, a twin is put into
this kernel's comm manager, and what the engine says goes on to the front end as if it were said here. What the front
end answers comes to the twin, and goes to the engine as the operation `!comm`, a message at a time: while one is under
way, the changes of a slider that is dragged become one.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import EngineryError
from ..wire.messages import Function
from .relay import handlers, relay

if TYPE_CHECKING:
    from ..client.futures import AsyncResult
    from ..wire.messages import Output

_COMM = Function(b"!comm", b"")


def find_kernel() -> Any:
    """Return the notebook kernel that this program is; None if it is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    kernel = getattr(shell, "kernel", None)
    return kernel if hasattr(kernel, "comm_manager") else None


def on_comm(client: Any, record: Output) -> None:
    """Tell the front end what an engine's comm says. Where there is none, nobody is told: text stands beside it."""
    kernel = find_kernel()
    if kernel is None:
        return
    message = dict(record.data)
    kind, buffers, metadata = message.pop("type"), message.pop("buffers"), message.pop("metadata")
    manager, comm_id = kernel.comm_manager, message["comm_id"]
    twin = manager.comms.get(comm_id)
    if kind == "comm_open":
        twin = _twin_class()(client, record.engine, comm_id, message.get("target_name", ""))
        manager.register_comm(twin)
    elif kind == "comm_close" and twin is not None:
        twin._closed = True
        manager.comms.pop(comm_id, None)
    _publish(kernel, kind, message, metadata, buffers)


def _publish(kernel: Any, kind: str, content: dict[str, Any], metadata: Any = None, buffers: Any = None) -> None:
    kernel.session.send(
        kernel.iopub_socket,
        kind,
        content,
        metadata=metadata,
        parent=kernel.get_parent("shell"),
        ident=f"comm-{content['comm_id']}".encode(),
        buffers=buffers or None,
    )


class _Mailbox:
    """What is to be told to one comm of an engine, in order, a message at a time."""

    def __init__(self, client: Any, engine: int, twin: Any) -> None:
        self._client = client
        self._engine = engine
        self._twin = twin
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, dict[str, Any], dict[str, Any], list[bytes]]] = deque()
        self._busy = False

    def post(self, kind: str, data: dict[str, Any], metadata: dict[str, Any], buffers: list[bytes]) -> None:
        """Have a message sent, after those that wait. Never waits."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if last is not None and _is_update(kind, data, buffers) and _is_update(last[0], last[1], last[3]):
                state = {**last[1]["state"], **data["state"]}
                self._waiting[-1] = kind, {**data, "state": state}, metadata, []
            else:
                self._waiting.append((kind, data, metadata, buffers))
            if self._busy:
                return
            self._busy = True
        self._send()

    def _send(self) -> None:
        with self._lock:
            if not self._waiting:
                self._busy = False
                return
            kind, data, metadata, buffers = self._waiting.popleft()
        view = self._client.direct_view()
        comm_id = self._twin.comm_id
        try:
            result = view._call(_COMM, "comm", (kind, comm_id, data, metadata, buffers), {}, targets=self._engine)
        except (EngineryError, IndexError) as error:
            self._twin.lose(error)
            return
        result._late = lambda record: _tell(self._client, record)
        for record in result._log():  # what came before
            _tell(self._client, record)
        result.add_done_callback(self._on_done)

    def _on_done(self, result: AsyncResult) -> None:
        error = result.error
        if isinstance(error, EngineryError) or (error is None and not result.result()):
            self._twin.lose(error)  # the engine is gone, or another process has its place
            return
        self._send()


def _is_update(kind: str, data: Any, buffers: list[bytes]) -> bool:
    """Return whether a message sets some of a widget's values, and no more."""
    return kind == "comm_msg" and not buffers and isinstance(data, dict) and data.get("method") == "update"


def _tell(client: Any, record: Output) -> bool:
    """Show what a callback on an engine says."""
    if relay(client, record):
        return True
    if record.kind in {"stdout", "stderr"}:
        print(f"[{record.kind}:{record.engine}] {record.data}", end="", file=getattr(sys, record.kind))
    elif record.kind == "error":
        print(f"[error:{record.engine}]", *record.data["traceback"], sep="\n", file=sys.stderr)  # noqa: T201
    return True


def _twin_class() -> Any:
    from comm.base_comm import BaseComm  # noqa: PLC0415 - a notebook kernel has it

    stock: Any = BaseComm

    class Twin(stock):  # type: ignore[misc] # untyped
        """Stands here for a comm of an engine."""

        def __init__(self, client: Any, engine: int, comm_id: str, target_name: str) -> None:
            super().__init__(target_name=target_name, comm_id=comm_id, primary=False)
            self._closed: bool = False
            self._mailbox = _Mailbox(client, engine, self)

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
            self._mailbox.post(kind, msg["content"].get("data") or {}, msg.get("metadata") or {}, buffers)

        def lose(self, error: BaseException | None) -> None:
            """Its engine does not have it any more."""
            kernel = find_kernel()
            if self._closed or kernel is None:
                return
            self._closed = True
            kernel.comm_manager.comms.pop(self.comm_id, None)
            _publish(kernel, "comm_close", {"comm_id": self.comm_id, "data": {}})
            if error is not None:
                print(f"a widget has lost its engine: {error}", file=sys.stderr)  # noqa: T201 - for who has moved it

    return Twin


def install() -> None:
    """From now on, act on what comms of engines say."""
    handlers["comm"] = on_comm
