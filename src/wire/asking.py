"""Questions to an engine's control thread, which answers whatever the engine runs.

See `messages`, which they belong to, and whose `VERSION` covers them. What may be asked is between client and engine:
the controller passes question and answer on. A question may be asked twice, so asking changes nothing the second time.
"""

from __future__ import annotations

from typing import Any

import msgspec


class AskEngine(msgspec.Struct, array_like=True, tag=True):
    """Ask an engine something (client to controller). Answered by a `Reply` with what the engine answers."""

    request: int
    engine: int
    question: str
    value: Any = None


class Ask(msgspec.Struct, array_like=True, tag=True):
    """The question, on the engine's control socket; `attach` or `detach` (see `engine.attach`)."""

    request: int
    question: str
    value: Any = None


class Answer(msgspec.Struct, array_like=True, tag=True):
    """The answer to the `Ask` of that number, on the control socket: a value, or an error in one sentence."""

    request: int
    value: Any = None
    error: str | None = None
