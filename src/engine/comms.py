"""Comms of objects that live on an engine, widgets above all, with the notebook of the client whose task made them.

What such an object says is output of the task (records of kind `comm`), and the client plays the front end's part in
its own kernel. What the notebook answers comes as a task, the operation `!comm`. So all of it is delivered once, in
order, survives what tasks survive, and never breaks into other user code.

A comm that a front end's cell makes, one attached to this engine, is ipykernel's own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import comm
from comm.base_comm import BaseComm, CommManager
from IPython import get_ipython
from traitlets.config import Configurable

from ..ids import TaskId, client_of
from ..recorder import NO_TASK
from .output import clean_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .output import OutputBuffer, Rich

TEXT_MAX = 1000
"""Characters of a value that still is a plain one."""

_StockComm: Any = BaseComm
_StockManager: Any = CommManager


class _Manager(_StockManager, Configurable):  # type: ignore[misc] # untyped
    """All comms of the engine. ipykernel wants it to be configurable."""

    def __init__(self) -> None:
        Configurable.__init__(self)
        _StockManager.__init__(self)


class _Answering:
    """As much of a Jupyter kernel as widgets ask for."""

    def __init__(self, msg_id: str | None) -> None:
        self._msg_id = msg_id

    def get_parent(self) -> dict[str, Any]:
        """Return the message that is acted on; none if a task runs that is no answer."""
        return {} if self._msg_id is None else {"header": {"msg_id": self._msg_id}}


class RelayedComm(_StockComm):  # type: ignore[misc] # untyped
    """A comm with the notebook of the client whose task makes it."""

    output: OutputBuffer
    answering: str | None = None
    """The id of the Jupyter message of the notebook's that is acted on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._maker = self.output.owner()
        self._last: tuple[int, Rich] | None = None
        """Its last message and whose output that is, if another may be put into it."""
        super().__init__(*args, **kwargs)

    @property
    def kernel(self) -> Any:
        """What widgets look for: without one, they say nothing. An `Output` asks it for the message to which all that
        comes now is the answer; the client puts that into the widget.
        """
        return _Answering(RelayedComm.answering)

    def publish_msg(
        self,
        msg_type: str,
        data: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        buffers: Sequence[Any] | None = None,
        **keys: Any,
    ) -> None:
        """Send a message, with the output of the running task, if that is of the same client."""
        if self.output.detached:
            return  # in a process that user code forked: the original speaks
        owner = self.output.owner()
        if owner == NO_TASK or client_of(TaskId(owner)) != client_of(TaskId(self._maker)):
            owner = self._maker
        record = clean_value(
            {
                "type": msg_type,
                "comm_id": self.comm_id,
                "data": data or {},
                "metadata": metadata or {},
                "buffers": [bytes(buffer) for buffer in buffers or ()],
                **{key: value for key, value in keys.items() if value is not None},
            }
        )
        is_plain, last = _is_plain(record), self._last
        if is_plain and last is not None and last[0] == owner:
            state = record["data"]["state"]
            if self.output.amend(last[1], lambda unsent: unsent["data"]["state"].update(state)):
                return
        rich = self.output.put_rich("comm", record, owner)
        self._last = (owner, rich) if is_plain and rich is not None else None


def _is_plain(record: dict[str, Any]) -> bool:
    """Return whether a message does no more than to set plain values of a widget: of many in a row, the last counts.

    What refers to another widget must come after that; and what an `Output` takes lies between two settings of its.
    """
    data = record["data"]
    if (
        record["type"] != "comm_msg"
        or record["buffers"]
        or not isinstance(data, dict)
        or data.get("method") != "update"
    ):
        return False
    state = data.get("state")
    return (
        isinstance(state, dict)
        and "msg_id" not in state
        and all(
            value is None
            or isinstance(value, int | float)
            or (isinstance(value, str) and len(value) <= TEXT_MAX and not value.startswith("IPY_MODEL_"))
            for value in state.values()
        )
    )


class Comms:
    """Makes the comms of this engine, and gives them what comes for them."""

    def __init__(self, output: OutputBuffer) -> None:
        self._output = output
        RelayedComm.output = output
        self._manager = _Manager()
        self.install()

    def install(self) -> None:
        """Be who makes comms; again, when ipykernel has been loaded, which puts itself there."""
        comm.create_comm = self.create
        comm.get_comm_manager = lambda: self._manager

    def create(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new comm, of whoever has code run now."""
        if self._output.owner() != NO_TASK:
            return RelayedComm(*args, **kwargs)
        stock = sys.modules.get("ipykernel.comm.comm")
        return comm.DummyComm(*args, **kwargs) if stock is None else stock.BaseComm(*args, **kwargs)

    def receive(
        self,
        msg_type: str,
        comm_id: str,
        data: Any,
        metadata: dict[str, Any],
        buffers: Sequence[bytes],
        *,
        msg_id: str | None = None,
    ) -> bool:
        """Give a comm a message of the notebook's; return whether there is such a comm: none outlives its process."""
        if comm_id not in self._manager.comms:
            return False
        message = {
            "header": {"msg_type": msg_type},
            "content": {"comm_id": comm_id, "data": data},
            "metadata": metadata,
            "buffers": [memoryview(buffer) for buffer in buffers],
        }
        shell = get_ipython()
        parent = shell.get_parent() if hasattr(shell, "get_parent") else None
        RelayedComm.answering = msg_id
        try:
            found = self._manager.comms[comm_id]
            if msg_type == "comm_close":
                del self._manager.comms[comm_id]
                found._closed = True
                found.handle_close(message)
            else:
                found.handle_msg(message)
        finally:
            RelayedComm.answering = None
            if parent is not None and shell.get_parent() is not parent:
                shell.set_parent(parent)  # an `Output` has set it to our message
        return True
