"""`publish_data`: what a task says of its state while it runs.

The engine sets the hook; elsewhere there is nobody to publish to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_HERE = "no task runs here whose data this could be: publish_data() is for the code of a task, on an engine"

_publish: Callable[[Any], None] | None = None


def set_publisher(publish: Callable[[Any], None] | None) -> None:
    """Name what publishes in this process (an engine), and raises RuntimeError where no task runs."""
    global _publish
    _publish = publish


def publish_data(value: Any) -> None:
    """Send a value to whoever waits for the result of this task: it is there as the result's `data`, the last one wins.

        def train(model):
            for epoch in range(100):
                publish_data({"epoch": epoch, "loss": step(model)})

    It may be called as often as one likes: of values that follow one another quickly, only some are sent, the last one
    always. The value is pickled now. Raises RuntimeError where no task runs.
    """
    if _publish is None:
        raise RuntimeError(NOT_HERE)
    _publish(value)
