"""What both kinds of views have in common: flags, and waiting."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from .client import Client
    from .futures import AsyncResult


class View:
    """A way to run things on engines, with flags that say how. Made by a client; safe to use from many threads."""

    FLAGS: ClassVar[tuple[str, ...]] = ("targets", "block", "track", "label")

    def __init__(self, client: Client, targets: Any) -> None:
        self._client = client
        self._flags: dict[str, Any] = {"targets": targets, "block": False, "track": False, "label": None}

    @property
    def client(self) -> Client:
        """The client that made this view."""
        return self._client

    def __getattr__(self, name: str) -> Any:
        if name in type(self).FLAGS:
            return self.__dict__["_flags"][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.set_flags(**{name: value})

    def set_flags(self, **flags: Any) -> Self:
        """Set flags for all later calls, and return the view; TypeError for one that it does not have.

        view.set_flags(block=True, label="warm-up").apply(f)
        """
        unknown = [name for name in flags if name not in self.FLAGS]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no flag {unknown[0]!r}; its flags are: {', '.join(self.FLAGS)}")
        self._set({**self._flags, **flags})
        return self

    def _set(self, flags: dict[str, Any]) -> None:
        """Have these flags; raise if one has an impossible value."""
        label = flags["label"]
        if label is not None and not isinstance(label, str):
            raise TypeError(f"label is a string, not {type(label).__name__}")
        self._flags = flags

    @contextmanager
    def temp_flags(self, **flags: Any) -> Iterator[Self]:
        """Set flags within a `with` block.

        with view.temp_flags(block=True):
            view.apply(f)
        """
        before = self._flags
        self.set_flags(**flags)
        try:
            yield self
        finally:
            self._set(before)

    def __reduce__(self) -> Any:
        raise TypeError("a view belongs to its client, a connection of its process, and cannot travel")

    def _repr_html_(self) -> str:
        from .show import view_html  # noqa: PLC0415 - for notebooks only

        return view_html(self, type(self).__name__)

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on the engines; return its result to come."""
        raise NotImplementedError

    def apply_sync(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on the engines and wait; return the value, or raise what the call raised."""
        return self.apply_async(f, *args, **kwargs).get()

    def apply(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `f(*args, **kwargs)` on the engines, and wait or not as the flag `block` says."""
        return self._maybe_wait(self.apply_async(f, *args, **kwargs), None)

    def _maybe_wait(self, result: AsyncResult, block: bool | None) -> Any:
        if block is None:
            block = self._flags["block"]
        return result.get() if block else result

    def wait(self, jobs: AsyncResult | Iterable[AsyncResult] | None = None, timeout: float | None = -1) -> bool:
        """Wait for these results, or for all of this client, as `Client.wait`."""
        return self._client.wait(jobs, timeout)

    def abort(self, jobs: AsyncResult | Iterable[AsyncResult] | None = None) -> None:
        """Withdraw the unstarted tasks of these results, or of all of this client, as `Client.abort`."""
        self._client.abort(jobs)
