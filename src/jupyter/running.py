"""A cell on engines, from its submission until the prompt is back, interrupted or not."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from ..errors import CompositeError
from ..ids import show_engines
from ..wire import messages as m
from .live import PROGRESS_AFTER_S, Follower
from .panes import TICK_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..client.results.futures import AsyncResult

GOES_ON = "what was waited for goes on; to stop it: cancel() on its AsyncResult, or on the client for everything"

STOPPING_S = 0.7
"""After an interruption, so long is waited for the engines before the prompt is back."""


class Interrupted(KeyboardInterrupt):
    """The user interrupted a cell that ran on engines; the text says what became of it there.

    `errors` are those that engines had raised by then, or raised because of the interruption.
    """

    errors: Sequence[Exception] = ()

    def _render_traceback_(self) -> list[str]:
        last = f"KeyboardInterrupt: {self}"
        if not self.errors:
            return [last]
        report = CompositeError(f"{len(self.errors)} calls failed", self.errors)
        return [*report._render_traceback_()[0].split("\n")[:-1], last]


def follow(
    client: Any,
    result: AsyncResult,
    *,
    stream: bool = True,
    progress_after_s: float | None = PROGRESS_AFTER_S,
    signal: str | None = "SIGINT",
) -> None:
    """Show the output of a result until it is done. Ctrl-C raises Interrupted within a second, in any case; before, its
    engines are sent the `signal` (unless it is None: what was waited for goes on).
    """
    follower = Follower(result, stream=stream, progress_after_s=progress_after_s)
    try:
        follower.follow()
    except KeyboardInterrupt:
        if signal is None:
            follower.finish()
            raise Interrupted(GOES_ON) from None
        try:
            _stop(client, result, follower, signal)
        except KeyboardInterrupt:  # a second time: at once
            follower.finish()
        interrupted = Interrupted(_account(result, signal))
        interrupted.errors = [error for error in result._errors() if not isinstance(error, CancelledError)]
        raise interrupted from None


def _stop(client: Any, result: AsyncResult, follower: Follower, signal: str) -> None:
    link, deadline = result._link, time.monotonic() + STOPPING_S
    if not result.done():
        if signal == "SIGINT":
            link.cancel(result._open_tasks(), grace_s=None, interrupt=True)
        else:
            import signal as signals  # noqa: PLC0415 - the name is a parameter's here

            running = list(_running(result))
            client._link.request(m.Signal, int(signals.Signals[signal]), running)
    while not follower.follow(TICK_S) and time.monotonic() < deadline:
        pass
    follower.finish()


def _running(result: AsyncResult) -> list[int]:
    ended = {engine for engine, _ in result._ended_engines()}
    return [engine for engine in result._engines() if engine not in ended]


def _account(result: AsyncResult, signal: str) -> str:
    running = _running(result)
    if result.done() or not running:
        return "stopped on the engines"
    what = "engine" if len(running) == 1 else "engines"
    ends = "has" if len(running) == 1 else "have"
    named = ", ".join(map(str, running)) if len(running) <= 10 else f"*range({running[0]}, {running[-1] + 1})"
    how = "" if signal == "SIGINT" else f" on {signal}"
    return (
        f"{what} {show_engines(running)} {ends} not stopped yet{how}, and will when the call that keeps Python busy "
        f"returns; client.restart([{named}]) ends it now"
    )
