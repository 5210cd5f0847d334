"""Set-up: what every engine of the cluster has run, those that are there and those to come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..pieces import joined
from ..serialize import dumps_whole
from ..wire.codec import check_text
from ..wire.messages import Function, Options, Task
from .calls.arguments import name_of, pack
from .connection.core import Entry
from .results.execution import executed
from .results.groupresult import GroupResult
from .results.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fleet import Fleet

_SETUP = Function(b"!setup", b"")

NAME_MAX = 60
"""Characters of a name: the first line of code, or the name of a function."""


def register(
    client: Fleet, code: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> GroupResult:
    """Have all engines run this, now and whenever one starts; return the results to come of those that are there."""
    if isinstance(code, str):
        if args or kwargs:
            raise TypeError("code takes no arguments; register a function, which does")
        code = check_text("code", code)
        name = next((line.strip() for line in code.splitlines() if line.strip()), "")
        what: tuple[Any, ...] = code, b"", []
    elif callable(code):
        name = name_of(code)
        arguments, buffers = pack(code, args, kwargs)
        if type(buffers) is Waits:
            raise TypeError("set-up is run on engines to come, too, when results may be gone: give it their values")
        what = client._functions.get(code).pickled, arguments, [bytes(buffer) for buffer in joined(buffers)]
    else:
        raise TypeError(f"set-up is code as a string, or a function, not {type(code).__name__}")
    if len(name) > NAME_MAX:
        name = f"{name[: NAME_MAX - 3]}..."
    payload = dumps_whole((what, {}))  # in one piece: the controller keeps it
    ids, _ = client._resolve("all", empty=True)
    link, now = client._link, time.time()
    first = link.new_tasks(max(1, len(ids)))  # the message has one in any case
    result = GroupResult(link, first, now, Options(label=name), ids)
    if isinstance(code, str):
        result._convert = executed
    task = Task(first, _SETUP.digest, payload, copies=len(ids))
    link.submit(result, Entry(task, _SETUP, Options(targets=ids, ordered=True, setup=name), ()), now)
    return result
