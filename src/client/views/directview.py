"""`DirectView`: some engines, or all, as one machine; everything happens on each of them, in order of submission."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...wire.messages import Function, Options, Task
from ...wire.parts import COROUTINE
from ..calls.arguments import all_to_objects, pack, to_object
from ..calls.serializers import Own, dill, standard
from ..connection.core import Entry
from ..maps.batches import check_map, new_result, submit_items
from ..maps.imap import lazy_map
from ..maps.inputs import cut, seeded
from ..results.execution import executed
from ..results.futures import AsyncResult
from ..results.groupresult import GroupResult
from ..results.sending import watch
from .consoles import attach, detach
from .imports import SyncImports
from .partition import bounds, check_dist, join, only_item, split
from .view import View

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from ...wire.messages import ObjectInfo, Output
    from ..client import Client
    from ..maps.imap import LazyMap
    from ..results.mapresult import AsyncMapResult

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

    Flags: `targets` ("all" means those that are there at each call), `block` (wait in `apply`, `map`, ...), `track`
    (the result knows when arrays among the arguments may be changed again: `wait_for_send`), `label`.
    """

    def __init__(self, client: Client, targets: Any) -> None:
        super().__init__(client, targets)
        self._last_options = Options()
        self._own: Own | None = None

    def __repr__(self) -> str:
        return f"<DirectView {self.targets!r}>"

    def __len__(self) -> int:
        return len(self._ids(None)[0])

    def _ids(self, targets: Targets) -> tuple[tuple[int, ...], bool]:
        """Return the engines to address now, and whether it is one, for a scalar result."""
        return self._client._resolve(self._flags["targets"] if targets is None else targets)

    def _options_for(self, ids: tuple[int, ...]) -> Options:
        options, label = self._last_options, self._flags["label"]
        if options.targets != ids or options.label != label:
            options = self._last_options = Options(targets=ids, label=label, ordered=True)
        return options

    def _pickling(self) -> AbstractContextManager[None]:
        """Return the context in which to pickle for this view."""
        return nullcontext() if self._own is None else self._own.pickling()

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
        own = self._own
        if own is None:
            payload, frames = pack(name, args, kwargs)
        else:
            with own.pickling():
                payload, frames = pack(name, args, kwargs)
        link, now = self._client._link, time.time()
        objects: tuple[ObjectInfo, ...] = ()
        if frames:
            payload, frames, objects = to_object(link.store, payload, frames)
        first = link.new_tasks(len(ids))
        result = self._result(ids, first, now, scalar=scalar, convert=convert, assemble=assemble)
        result._late = late
        if frames:
            watch(link, result, first, track=self._flags["track"])
        task = Task(first, function.digest, payload, len(frames), copies=len(ids), objects=objects)
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
        result._addressed = ids
        return result

    def activate(self, suffix: str = "") -> None:
        """Make `%px` and its kin (with a suffix: `%px_even`) be those of this view, in IPython and notebooks.

        client[::2].activate("_even")
        """
        from ...jupyter.magics import activate  # noqa: PLC0415 - only in IPython

        activate(self, suffix)

    # ---------------------------------------------------------------- calls

    def apply_async(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call `f(*args, **kwargs)` on each engine; return the results to come (of a view of one engine: the result).

            pids = client[:].apply_async(os.getpid).get()

        Calls of coroutine functions begin in order, and an engine runs up to 64 of them at once. Raises
        SerializationError naming the argument that cannot travel, NoEngines if the view is of none.
        """
        return self._call(self._get_function(f), f, args, kwargs)

    def _get_function(self, f: Callable[..., Any]) -> Function:
        own = self._own
        return self._client._functions.get(f) if own is None else own.get_function(f)

    def map_async(
        self,
        f: Callable[..., Any],
        /,
        *sequences: Iterable[Any],
        ordered: bool = True,
        return_exceptions: bool = False,
        seed: Any = None,
    ) -> AsyncMapResult:
        """Call `f` on each item, the items cut into as many consecutive parts as there are engines.

            for value in client[:].map_async(f, xs): ...

        Sequences are iterated over as Python does (a DataFrame yields the names of its columns), up to the end of the
        shortest. See AsyncMapResult for `ordered` and `return_exceptions`, LoadBalancedView.map_async for `seed`. The
        items stay with their engines: where they take unequal time, a load-balanced view is faster. Raises what the
        input raises, and SerializationError naming the item that cannot travel.
        """
        check_map(f, sequences)
        ids, _ = self._ids(None)
        link = self._client._link
        f, rows = seeded(f, sequences, seed)
        items, count = rows.take()
        function, label, track = self._get_function(f), self._flags["label"], self._flags["track"]
        result = new_result(link, Options(label=label), ordered=ordered, return_exceptions=return_exceptions)
        result._addressed = addressed = {}
        try:
            for target, (lo, hi) in zip(ids, bounds(count, len(ids)), strict=True):
                options = Options(targets=(target,), label=label, ordered=True)
                size = 1 if function.digest[:1] == COROUTINE else max(1, hi - lo)  # alone, they run at once
                for first in range(lo, hi, size):
                    part = cut(items, first, first + size)
                    with self._pickling():
                        submit_items(link, result, part, size, function=function, options=options, track=track)
                    addressed[next(reversed(result._tasks))] = target
        except BaseException:
            result._seal()
            if not result.done():
                result._abandon()  # the first parts are under way
            raise
        result._seal()
        return result

    def _width(self) -> int:
        return len(self)

    def _map_parts(
        self, f: Callable[..., Any], columns: list[list[Any]], *, dist: str, ordered: bool
    ) -> AsyncMapResult:
        result = self.map_async(f, *columns, ordered=ordered)
        result._assemble = partial(join, dist=dist)
        return result

    def map_sync(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **how: Any) -> list[Any]:
        """Call `f` on each item, as `map_async` (`how` is passed on), and wait for the list of results.

        client[:].map_sync(f, xs, ys)
        """
        values: list[Any] = self.map_async(f, *sequences, **how).get()
        return values

    def map(self, f: Callable[..., Any], /, *sequences: Iterable[Any], block: bool | None = None, **how: Any) -> Any:
        """Call `f` on each item, as `map_async` (`how` is passed on); wait or not as `block`, else the flag, says.

        client[:].map(f, xs, block=True)
        """
        return self._maybe_wait(self.map_async(f, *sequences, **how), block)

    def imap(self, f: Callable[..., Any], /, *sequences: Iterable[Any], **how: Any) -> LazyMap:
        """Call `f` on each item of an input that may be endless, on whichever engine of this view is free.

            for value in client[:4].imap(f, endless(), max_outstanding=100): ...

        See LoadBalancedView.imap, also for `how`.
        """
        return lazy_map(self._client, Options(self._ids(None)[0], label=self._flags["label"]), f, sequences, **how)

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

    def _execute(self, code: str, targets: list[int]) -> AsyncResult:
        """Run code on these engines, leaving no trace; return the results to come."""
        return self._call(_EXECUTE, "execute", (code,), {"silent": True, "store_history": False}, targets=targets)

    def run(self, filename: str | os.PathLike[str], targets: Targets = None, block: bool | None = None) -> Any:
        """Run the file `filename` of this machine on each engine, as `execute`. Raises OSError if it cannot be read.

        client[:].run("setup.py", block=True)
        """
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
        """Have each engine close its Jupyter channels. Front ends lose their kernel; engine and variables stay.

        client[3].unbind_kernel()
        """
        for engine in self._ids(targets)[0]:
            detach(self._client._link, engine)

    # ---------------------------------------------------------------- variables

    def push(self, namespace: dict[str, Any], targets: Targets = None, block: bool | None = None) -> Any:
        """Set the variables of `namespace`, a dict by name, on each engine; a dotted name sets an attribute.

        client[:].push({"x": 1, "config.depth": 3}, block=True)
        """
        given: Any = namespace
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
            raise TypeError("push takes a dict of names and values")
        return self._maybe_wait(self._call(_PUSH, "push", (namespace,), {}, targets=targets), block)

    def update(self, namespace: dict[str, Any]) -> Any:
        """Set the variables of `namespace` on each engine, as `push`.

        client[:].update({"x": 1})
        """
        return self.push(namespace)

    def pull(self, names: str | Sequence[str], targets: Targets = None, block: bool | None = None) -> Any:
        """Return the value of a variable, dotted name or expression from each engine; of several, if `names` is a list.

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
        """Return the value of a variable, dotted name or expression from each engine; waits.

        client[:].get("len(part)")
        """
        return self.pull(name, block=True)

    def __getitem__(self, name: str) -> Any:
        """Return the value of a variable, dotted name or expression from each engine, as `get`.

        client[0]["x"], client[:]["x"]       # of one engine the value, of several a list
        """
        if not isinstance(name, str):
            raise TypeError(
                f"a view is indexed by the name of a variable, not {type(name).__name__}; engines: client[...]"
            )
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a variable, or an attribute by its dotted name, on each engine; waits.

        client[:]["config.depth"] = 3
        """
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
        """Cut the sequence `seq` into parts and set the variable `key` to one part on each engine.

            client[:].scatter("part", range(100), block=True)
            client[:].gather("part", block=True)
            client[:].scatter("rank", client.ids, flatten=True)      # each engine's own number

        `dist` is "b" for consecutive blocks, "r" for every n-th item. A part is of the type of the sequence where that
        can be sliced (of arrays any number of dimensions, of tables their rows), a dict of a dict, else a list; where
        there are fewer items than engines, the last ones get an empty one. With `flatten`, a part of one item is that
        item. Raises TypeError for what has no items.
        """
        ids, scalar = self._ids(targets)
        parts = split(seq, len(ids), dist)
        link, now = self._client._link, time.time()
        with self._pickling():  # all of them before the first leaves
            packed = [pack("scatter", ({key: only_item(part) if flatten else part},), {}) for part in parts]
        made = all_to_objects(link, packed)
        first = link.new_tasks(len(ids))
        result = self._result(ids, first, now, scalar=scalar)
        label, track = self._flags["label"], self._flags["track"]
        for place, (target, (payload, frames, objects)) in enumerate(zip(ids, made, strict=True)):
            options = Options(targets=(target,), label=label, ordered=True)
            task = Task(first + place, _PUSH.digest, payload, len(frames), objects=objects)
            if frames:
                watch(link, result, task.id, track=track)
            link.submit(result, Entry(task, _PUSH, options, frames), now)
        return self._maybe_wait(result, block)

    def gather(self, key: str, dist: str = "b", targets: Targets = None, block: bool | None = None) -> Any:
        """Return the parts of a scattered variable as one, in the order in which they were with the same `dist`.

            client[:].scatter("part", array, block=True)
            client[:].execute("part *= 2")
            client[:].gather("part", block=True)                    # an array

        Arrays and pandas' tables are concatenated, text and bytes joined, dicts merged; other sequences make a list,
        and so do values that are no sequence, numbers say. A view of one engine returns its part as it is. An engine
        without the variable, such as one that was replaced meanwhile, raises NameError.
        """
        check_dist(dist)
        if self._ids(targets)[1]:
            return self.pull(key, targets=targets, block=block)
        assemble = partial(join, dist=dist)
        result = self._call(_PULL, "gather", ([key],), {}, targets=targets, convert=_only, assemble=assemble)
        return self._maybe_wait(result, block)

    def sync_imports(self, local: bool = True, quiet: bool = False) -> SyncImports:
        """Have the import statements in a `with` block happen on the engines too.

            with client[:].sync_imports():
                import numpy as np
                from scipy import linalg

        All their forms work, `as` names included, and the names are then the engines' variables too. It is about the
        statements that stand in the block itself: not about what a function called there, or an imported module,
        imports in turn. With `local` False nothing is imported here, and the names stand for something that says so.
        Each statement is printed unless `quiet`. Raises what an import raises here; at the end of the block,
        ImportError naming the engines and the statement.
        """
        return SyncImports(self, local=local, quiet=quiet)

    @property
    def importer(self) -> SyncImports:
        """Short for `sync_imports()`.

        with view.importer:
            import numpy
        """
        return self.sync_imports()

    # ---------------------------------------------------------------- how things travel

    def use_cloudpickle(self) -> None:
        """Pickle what this view sends as everything is by default: functions and classes of yours by value.

        view.use_cloudpickle()               # after use_dill() or use_pickle()
        """
        self._own = None

    def use_dill(self) -> None:
        """Pickle with dill what this view sends: functions, and values that are not plain.

            view.use_dill()
            view.push({"settings": settings})

        Plain values and arrays of numbers travel as ever, and results come back as ever. Raises ImportError if dill is
        not installed here; an engine without it says so when it is sent something.
        """
        self._own = Own(*dill())

    def use_pickle(self) -> None:
        """Pickle with the standard library alone what this view sends: functions and classes go by name, so that
        engines must be able to import them, and lambdas cannot travel (SerializationError).

            view.use_pickle()
            view.apply_sync(scipy.linalg.norm, matrix)
        """
        self._own = Own(*standard())

    def clear(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Empty each engine's namespace.

        client[:].clear(block=True)
        """
        return self._maybe_wait(self._call(_CLEAR, "clear", (), {}, targets=targets), block)


def _only(values: list[Any], _part: object) -> Any:
    return values[0]
