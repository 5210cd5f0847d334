"""What `execute` returns for each engine."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .metadata import Part


class ExecuteReply:
    """What code printed, displayed and evaluated to on one engine.

        reply = client[0].execute("print('hello'); 6 * 7", silent=False).get()
        reply.stdout        # "hello" and a newline
        reply.text          # "42"

    A notebook shows its value as the engine would.
    """

    __slots__ = ("engine_id", "execution_count", "outputs", "result", "stderr", "stdout")

    def __init__(self, value: dict[str, Any], part: Part) -> None:
        self.engine_id: int = part.reply.engine if part.reply is not None else -1
        self.execution_count: int | None = value.get("execution_count")
        """The number in `Out[n]`; None if the code was not kept in the history."""
        self.result: dict[str, Any] | None = value.get("result")
        """The value of the last expression as a MIME bundle (`text/plain`, `text/html`, ...); None if there is none."""
        self.stdout = "".join(r.data for r in part.outputs if r.kind == "stdout")
        self.stderr = "".join(r.data for r in part.outputs if r.kind == "stderr")
        self.outputs = [(r.kind, r.data) for r in part.outputs if r.kind not in {"stdout", "stderr"}]
        """Rich outputs (figures, tables, ...), as `(kind, data)`."""

    @property
    def text(self) -> str | None:
        """The value of the last expression as text; None if there is none."""
        return None if self.result is None else self.result.get("text/plain")

    def __repr__(self) -> str:
        text = self.text
        if text is None:
            text = self.stdout.rstrip("\n")
            return f"<ExecuteReply[{self.engine_id}]{': ' + text[:200] if text else ''}>"
        count = "" if self.execution_count is None else f":{self.execution_count}"
        return f"<ExecuteReply[{self.engine_id}]: Out[{self.engine_id}{count}]: {text[:200]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return what IPython shows: the value as its engine shows it, and as text what this is."""
        del include, exclude  # IPython chooses among what there is
        rich = {
            kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for kind, value in (self.result or {}).items()
        }
        return {**rich, "text/plain": repr(self)}


def executed(value: dict[str, Any], part: Part) -> ExecuteReply:
    """Convert an engine's answer to `!execute`."""
    return ExecuteReply(value, part)
