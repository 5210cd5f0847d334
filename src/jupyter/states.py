"""What the widgets of engines look like, for a front end that was loaded anew and asks for all widgets at once.

It asks through the comm target `jupyter.widget.control`. ipywidgets answers there for the widgets of this kernel, once
the user has imported it here; so its answer is taken, and the widgets of engines are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONTROL = "jupyter.widget.control"

_SAYS = frozenset({None, "update", "echo_update"})
"""Methods of messages that tell state; opening a comm has none."""


class WidgetState:
    """The state of one widget, as it last said it."""

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._buffers: dict[tuple[Any, ...], bytes] = {}
        """By their place in the state."""

    def take(self, data: Any, buffers: Sequence[bytes]) -> None:
        """Note what a message of the widget's says of its state."""
        if not isinstance(data, dict) or data.get("method") not in _SAYS or not isinstance(data.get("state"), dict):
            return
        state = data["state"]
        new = dict(zip(map(tuple, data.get("buffer_paths") or ()), buffers, strict=False))
        changed = {*state, *(path[0] for path in new)}
        old = {path: buffer for path, buffer in self._buffers.items() if path[0] not in changed}
        self._buffers = {**old, **new}
        self._state = {**{key: value for key, value in self._state.items() if key not in changed}, **state}

    def account(self) -> dict[str, Any] | None:
        """Return the state as the front end wants it, without the buffers; None if this is no widget."""
        state = self._state
        if "_model_name" not in state:
            return None
        names = ("model_name", "model_module", "model_module_version")
        return {**{name: state.get(f"_{name}") for name in names}, "state": state}

    def buffers(self) -> list[tuple[list[Any], bytes]]:
        """Return the buffers, with their places."""
        return [(list(path), buffer) for path, buffer in self._buffers.items()]


class _Local:
    """Stands for the front end before ipywidgets, to get its answer."""

    def __init__(self) -> None:
        self._ask: Callable[[Any], None] = lambda _msg: None
        self._said: tuple[dict[str, Any], list[Any]] = ({}, [])

    def on_msg(self, ask: Callable[[Any], None]) -> None:
        self._ask = ask

    def send(self, data: dict[str, Any], metadata: Any = None, buffers: Any = None) -> None:
        del metadata
        self._said = data, list(buffers or ())

    def ask(self, msg: Any) -> tuple[dict[str, Any], list[Any]]:
        """Return the data and the buffers that it answers."""
        self._said = {}, []
        self._ask(msg)
        return self._said


class Control:
    """The comm target: answers for the widgets of engines, and for those of this kernel."""

    def __init__(
        self, local: Callable[[Any, Any], None] | None, states: Callable[[], Iterable[tuple[str, Any]]]
    ) -> None:
        """`local` is ipywidgets' target if there is one, `states` returns comm ids and their `WidgetState`."""
        self._local = local
        self._states = states

    def __call__(self, comm: Any, msg: Any) -> None:
        """A front end has opened a comm. Raises ValueError if ipywidgets refuses its version."""
        local = _Local()
        if self._local is not None:
            self._local(local, msg)
        comm.on_msg(lambda msg: self._answer(comm, local, msg))

    def _answer(self, comm: Any, local: _Local, msg: Any) -> None:
        answer, buffers = local.ask(msg)
        if (msg["content"].get("data") or {}).get("method") != "request_states":
            return
        states, paths = dict(answer.get("states") or {}), list(answer.get("buffer_paths") or ())
        for comm_id, state in self._states():
            account = state.account()
            if account is None:
                continue
            states[comm_id] = account
            for path, buffer in state.buffers():
                paths.append([comm_id, "state", *path])
                buffers.append(buffer)
        comm.send({"method": "update_states", "states": states, "buffer_paths": paths}, buffers=buffers)


def control(manager: Any, states: Callable[[], Iterable[tuple[str, Any]]]) -> None:
    """Be who answers; again, when ipywidgets has been imported since and put itself there."""
    there = manager.targets.get(CONTROL)
    if not isinstance(there, Control):
        manager.register_target(CONTROL, Control(there, states))
