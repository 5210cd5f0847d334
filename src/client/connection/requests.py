"""`RequestFuture`: the answer to a question, to come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..results.lightfuture import LightFuture

if TYPE_CHECKING:
    from collections.abc import Callable


class RequestFuture(LightFuture[Any]):
    """The controller's answer to a request."""

    _value: Any = None
    _error: Exception | None = None

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check_wait = check  # type: ignore[method-assign] # a callable either way

    def resolve(self, value: Any, error: Exception | None) -> None:
        """Take the answer. Called by the I/O thread."""
        if not self.done():
            self._value, self._error = value, error
            self._settle(failed=error is not None)

    def _outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"no answer after {timeout:g} s")
