"""How a result is watched: progress bars, output as it comes, output after the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .timeouts import limit_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from ...wire.messages import Output


class Shown:
    """The part of a result that people watch, in notebooks, terminals and scripts."""

    def _wait_done(self, timeout: float | None) -> bool:
        raise NotImplementedError

    def _log(self) -> Sequence[Output]:
        """Return all records of output in the order in which they came; it grows at its end."""
        raise NotImplementedError

    def _engines(self) -> tuple[int, ...]:
        """Return the engines it is of, as far as that is known."""
        raise NotImplementedError

    def _ended_engines(self) -> list[tuple[int, bool]]:
        """Return the engines that are done, each with whether that was without a value."""
        raise NotImplementedError

    def _total(self) -> int:
        """Return what `progress` will be when all is done."""
        raise NotImplementedError

    def display_outputs(self, groupby: str = "type") -> None:
        """Wait until it is done, then show what was printed and displayed: in a notebook as rich output, else as text.

            client[:].execute("print(n); plot(data)").display_outputs(groupby="engine")

        `groupby` is "type" (what all engines printed, then what they displayed, then their values), "engine" or
        "order"; ValueError for another. What the call raised is not raised here.
        """
        from ...jupyter.lines import GROUPINGS  # noqa: PLC0415 - only who looks needs it
        from ...jupyter.live import display_outputs  # noqa: PLC0415

        if groupby not in GROUPINGS:
            raise ValueError(f"groupby is one of {', '.join(GROUPINGS)}, not {groupby!r}")
        self._wait_done(None)
        display_outputs(self, groupby)  # type: ignore[arg-type] # of results only

    @contextmanager
    def stream_output(self) -> Iterator[Self]:
        """Print what is printed there as it comes, each line with its engine, while the `with` block runs.

        with client[:].execute(code).stream_output() as result:
            result.wait()
        """
        from ...jupyter.streaming import streamed  # noqa: PLC0415 - only who looks needs it

        with streamed(self):  # type: ignore[arg-type] # of results only
            yield self

    def wait_interactive(self, interval: float = 0.25, timeout: float | None = -1) -> bool:
        """Wait with a progress bar, as `wait`; it is drawn anew every `interval` seconds.

            client.map(f, xs).wait_interactive()

        In a notebook the bar is a rich output, on a terminal a line of stderr; elsewhere there is none. Returns whether
        it is done. What the call raised is not raised here.
        """
        from ...jupyter.live import wait_interactive  # noqa: PLC0415 - only who looks needs it

        return wait_interactive(self, interval, limit_of(timeout))  # type: ignore[arg-type] # of results only

    def _repr_html_(self) -> str:
        from ..show import result_html  # noqa: PLC0415 - for notebooks only

        return result_html(self)  # type: ignore[arg-type] # of results only
