"""`DirectView`: some engines, or all, as one machine; everything happens on each of them, in order of submission."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wire.messages import Function, Options, Task
from ..wire.parts import COROUTINE
from .calls import pack
from .consoles import attach, detach
from .core import Entry
from .execution import executed
from .futures import AsyncResult
from .groupresult import GroupResult
from .maps import check_map, new_result, submit_items
from .partition import bounds, check_dist, join, split
from .views import View

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from ..wire.messages import Output
    from .client import Client
    from .mapresult import AsyncMapResult

Targets = int | str | list[int] | tuple[int, ...] | range | slice | None

_EXECUTE = Function(b"!execute", b"")
_PUSH = Function(b"!push", b"")
_PULL = Function(b"!pull", b"")
_CLEAR = Function(b"!clear", b"")


class DirectView(View):
    """Engines addressed directly: `client[0]`, `client[:]`, `client[[0, 2]]`, `client.direct_view()`.

        view = client[:]
        view["x"] = 1                            # on every engine
        view.apply_sync(os.getpid)               # a list, by engine
        client[0]["x"]                           # of one engine: the value itself

    Flags: `targets` ("all" means those that are there at each call), `block` (wait in `apply`, `map`, ...), `label`.
    """

    def __init__(self, client: Client, targets: Any) -> None:
        super().__init__(client, targets)
        self._options = Options()

    def __repr__(self) -> str:
        return f"<DirectView {self.targets!r}>"

    def __len__(self) -> int:
        return len(self._ids(None)[0])

    def _ids(self, targets: Targets) -> tuple[tuple[int, ...], bool]:
        """Return the engines to address now, and whether it is one, for a scalar result."""
        return self._client._resolve(self._flags["targets"] if targets is None else targets)

    def _options_for(self, ids: tuple[int, ...]) -> Options:
        options = self._options
        if options.targets != ids or options.label != self._flags["label"]:
            options = self._options = Options(targets=ids, label=self._flags["label"], ordered=True)
        return options

    def _call(
        self,
        function: Function,
        name: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        targets: Targets = None,
        convert: Callable[..., Any] | None = None,
        assemble: Callable[[list[Any]], Any] | None = None,
        late: Callable[[Output], bool] | None = None,
    ) -> AsyncResult:
        """Have one call made on each engine; they share one pickle of the arguments. `late` takes all their output."""
        ids, scalar = self._ids(targets)
        payload, frames = pack(name, args, kwargs)
        link, now = self._client._link, time.time()
        first = link.new_tasks(len(ids))
        result = self._result(ids, first, now, scalar=scalar, convert=convert, assemble=assemble)
        result._late = late
        task = Task(first, function.digest, payload, len(frames), copies=len(ids))
        link.submit(result, Entry(task, function, self._options_for(ids), frames), now)
        return result

    def _result(
        self,
        ids: tuple[int, ...],
        first: int,
        now: float,
        *,
        scalar: bool,
        convert: Callable[..., Any] | None = None,
        assemble: Callable[[list[Any]], Any] | None = None,
    ) -> AsyncResult:
        link, options = self._client._link, self._options_for(ids)
        result: AsyncResult
        if scalar:
            result = AsyncResult(link, first, now, options)
        else:
            result = group = GroupResult(link, first, now, options, ids)
            group._assemble = assemble
        if convert is not None:
            result._convert = convert
        result._client = self._client
        return result

    def activate(self, suffix: str = "") -> None:
        """Make `%px` and its kin (with a suffix: `%px_even`) be those of this view, in IPython and notebooks."""
        from ..jupyter.magics import activate  # noqa: PLC0415 - only in IPython

        activate(self, suffix)

    # ---------------------------------------------------------------- calls

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on each engine; return the results to come (of a view of one engine: the result).

            pids = client[:].apply_async(os.getpid).get()

        Calls of coroutine functions begin in order, and an engine runs up to 64 of them at once. Raises
        SerializationError naming the argument that cannot travel, NoEngines if the view is of none.
        """
        return self._call(self._client._functions.get(f), f, args, kwargs)

    def map_async(self, f: Callable[..., Any], /, *sequences: Iterable[Any]) -> AsyncMapResult:
        """Call `f` on each item, the items cut into as many consecutive parts as there are engines.

        Raises what the input raises, and SerializationError naming the item that cannot travel. The items stay with
        their engines: where they take unequal time, a load-balanced view is faster.
        """
        check_map(f, sequences)
        ids, _ = self._ids(None)
        client = self._client
        rows = list(zip(*sequences, strict=False)) if len(sequences) > 1 else list(sequences[0])
        function, label = client._functions.get(f), self._flags["label"]
        result = new_result(client._link, Options(label=label))
        for target, (lo, hi) in zip(ids, bounds(len(rows), len(ids)), strict=True):
            options = Options(targets=(target,), label=label, ordered=True)
            size = 1 if function.digest[:1] == COROUTINE else max(1, hi - lo)  # alone, they run at once
            for first in range(lo, hi, size):
                part: Any = rows[first : first + size]
                if len(sequences) > 1:
                    part = tuple(map(list, zip(*part, strict=True)))
                submit_items(client._link, result, part, size, function=function, options=options)
        result.seal()
        return result

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any]) -> list[Any]:
        """Call `f` on each item, as `map_async`, and wait for the list of results."""
        values: list[Any] = self.map_async(f, *sequences).get()
        return values

    def map(self, f: Callable[..., Any], /, *sequences: Iterable[Any], block: bool | None = None) -> Any:
        """Call `f` on each item, as `map_async`, and wait or not as `block` (else the flag) says."""
        return self._maybe_wait(self.map_async(f, *sequences), block)

    # ---------------------------------------------------------------- code

    def execute(self, code: str, silent: bool = True, targets: Targets = None, block: bool | None = None) -> Any:
        """Run code as a cell of each engine's IPython: magics, top-level await and rich output work.

            client[:].execute("import numpy as np", block=True)
            client[0].execute("print(1); 6 * 7", silent=False).get().text     # "42"

        The result is an ExecuteReply for each engine. What the code raises is raised by `get()`. With `silent`, the
        code leaves no trace in the history and its last expression is not displayed.
        """
        if not isinstance(code, str):
            raise TypeError(f"execute takes code as a string, not {type(code).__name__}")
        kwargs = {"silent": silent, "store_history": not silent}
        result = self._call(_EXECUTE, "execute", (code,), kwargs, targets=targets, convert=executed)
        return self._maybe_wait(result, block)

    def run(self, filename: str | os.PathLike[str], targets: Targets = None, block: bool | None = None) -> Any:
        """Run a file of this machine on each engine, as `execute`. Raises OSError if it cannot be read."""
        return self.execute(Path(filename).read_text(encoding="utf-8"), targets=targets, block=block)

    # ---------------------------------------------------------------- front ends

    def bind_kernel(self, targets: Targets = None) -> Any:
        """Have each engine open its Jupyter channels, whatever it runs; return the path of its connection file.

            client[3].bind_kernel()      # for `jupyter console --existing PATH`, or any other front end of this host

        A front end shares the engine's variables with its tasks; what it runs, runs between tasks. The channels are
        Unix sockets in the cluster's private folder, and are there until `unbind_kernel`, or until a front end shuts
        its kernel down; the engine stays. Raises ClusterError for an engine of another host.
        """
        ids, scalar = self._ids(targets)
        paths = [attach(self._client._link, engine) for engine in ids]
        return paths[0] if scalar else paths

    def unbind_kernel(self, targets: Targets = None) -> None:
        """Have each engine close its Jupyter channels. Front ends lose their kernel; engine and variables stay."""
        for engine in self._ids(targets)[0]:
            detach(self._client._link, engine)

    # ---------------------------------------------------------------- variables

    def push(self, namespace: dict[str, Any], targets: Targets = None, block: bool | None = None) -> Any:
        """Set variables on each engine; a dotted name sets an attribute.

        client[:].push({"x": 1, "config.depth": 3}, block=True)
        """
        given: Any = namespace
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
            raise TypeError("push takes a dict of names and values")
        return self._maybe_wait(self._call(_PUSH, "push", (namespace,), {}, targets=targets), block)

    def update(self, namespace: dict[str, Any]) -> Any:
        """Set variables on each engine, as `push`."""
        return self.push(namespace)

    def pull(self, names: str | Sequence[str], targets: Targets = None, block: bool | None = None) -> Any:
        """Return the values of a variable, dotted name or expression, or of several, from each engine.

            client[0].pull("x", block=True)
            client[:].pull(["a", "b.c", "len(d)"], block=True)     # [[...], [...], ...]

        An engine that lacks the name raises NameError.
        """
        one = isinstance(names, str)
        wanted = [names] if isinstance(names, str) else list(names)
        if not all(isinstance(name, str) for name in wanted):
            raise TypeError("pull takes a name or a list of names")
        convert = _only if one else None
        return self._maybe_wait(self._call(_PULL, "pull", (wanted,), {}, targets=targets, convert=convert), block)

    def get(self, name: str) -> Any:
        """Return the value of a variable, dotted name or expression from each engine; waits."""
        return self.pull(name, block=True)

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str):
            raise TypeError(
                f"a view is indexed by the name of a variable, not {type(name).__name__}; engines: client[...]"
            )
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.push({name: value}, block=True)

    def scatter(
        self,
        key: str,
        seq: Iterable[Any],
        dist: str = "b",
        flatten: bool = False,
        *,
        targets: Targets = None,
        block: bool | None = None,
    ) -> Any:
        """Cut a sequence into parts and set the variable `key` to one part on each engine.

        `dist` is "b" for consecutive blocks, "r" for every n-th item. With `flatten`, a part of one item is that item.

            client[:].scatter("part", range(100), block=True)
            client[:].gather("part", block=True)
        """
        ids, scalar = self._ids(targets)
        parts = split(seq, len(ids), dist)
        link, now = self._client._link, time.time()
        first = link.new_tasks(len(ids))
        packed = [
            pack("scatter", ({key: part[0] if flatten and len(part) == 1 else part},), {}) for part in parts
        ]  # all of them before the first leaves
        result = self._result(ids, first, now, scalar=scalar)
        for place, (target, (payload, frames)) in enumerate(zip(ids, packed, strict=True)):
            options = Options(targets=(target,), label=self._flags["label"], ordered=True)
            task = Task(first + place, _PUSH.digest, payload, len(frames))
            link.submit(result, Entry(task, _PUSH, options, frames), now)
        return self._maybe_wait(result, block)

    def gather(self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None) -> Any:
        """Return the parts of a scattered variable as one: arrays concatenated, other sequences as a list."""
        check_dist(dist)
        if self._ids(targets)[1]:
            return self.pull(key, targets=targets, block=block)
        assemble = partial(join, dist=dist)
        result = self._call(_PULL, "gather", ([key],), {}, targets=targets, convert=_only, assemble=assemble)
        return self._maybe_wait(result, block)

    def clear(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Empty each engine's namespace."""
        return self._maybe_wait(self._call(_CLEAR, "clear", (), {}, targets=targets), block)


def _only(values: list[Any], _part: object) -> Any:
    return values[0]
