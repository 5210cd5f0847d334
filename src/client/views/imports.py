"""Import statements that happen here and on engines: `DirectView.sync_imports`.

An import statement calls `builtins.__import__`, which says neither what the name will be here (`as np`) nor where it
stands; the code that called it does: it is looked at from that instruction on. One hook serves all blocks of all
threads, and is there while there is a block. It looks only at statements that stand in the code a block stands in, so
what modules import in turn, and what other threads do, passes.
"""

from __future__ import annotations

import builtins
import sys
import threading
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from ...ids import show_engines

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Self

    from ..results.futures import AsyncResult
    from .directview import DirectView

_lock = threading.RLock()
_blocks: dict[FrameType, SyncImports] = {}
"""By the frame in which the block stands."""
_hook: Callable[..., Any] | None = None
_before: Callable[..., Any] | None = None
"""Ours, while there is a block, and what was in its place."""


class SyncImports:
    """A `with` block whose import statements happen on engines too. See `DirectView.sync_imports`."""

    def __init__(self, view: DirectView, *, local: bool, quiet: bool) -> None:
        self._view = view
        self._local = local
        self._quiet = quiet
        self._frame: FrameType | None = None
        self._sent: list[tuple[str, AsyncResult]] = []

    def __enter__(self) -> Self:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") == "contextlib":
            frame = frame.f_back  # entered by an ExitStack
        assert frame is not None
        self._sent = []
        self._targets = list(self._view._ids(None)[0])
        with _lock:
            if frame in _blocks:
                raise RuntimeError("a sync_imports() block stands in another one")
            self._frame = frame
            _blocks[frame] = self
            _put_hook()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        with _lock:
            if self._frame is not None:
                _blocks.pop(self._frame, None)
                self._frame = None
            if not _blocks:
                _take_hook()
        if error is None:
            self._wait()

    def _wait(self) -> None:
        for statement, result in self._sent:
            result.wait()
            errors = [one if isinstance(one, Exception) else None for one in result.get(return_exceptions=True)]
            failed = [engine for engine, one in zip(self._targets, errors, strict=True) if one is not None]
            if failed:
                first = next(one for one in errors if one is not None)
                raise ImportError(f"{statement} failed on {_which(failed)}: {first}") from first

    def take(self, module: str, names: tuple[str, ...], statement: str, load: Callable[[], Any]) -> Any:
        """Carry out an import statement; return the module for the statement itself to use."""
        loaded = load() if self._local else _elsewhere(module, names)
        if not self._quiet:
            print(f"{statement} on {_which(self._targets)}")  # noqa: T201 - what it is for
        self._sent.append((statement, self._view._execute(statement, self._targets)))
        return loaded


def _which(targets: list[int]) -> str:
    return f"engine{'' if len(targets) == 1 else 's'} {show_engines(targets)}"


class _Elsewhere(ModuleType):
    """Stands for a module that was imported on engines only, or for something of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{self.__name__} was imported on engines only, by sync_imports(local=False)")

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(f"{self.__name__} was imported on engines only, by sync_imports(local=False)")


def _elsewhere(module: str, names: tuple[str, ...]) -> _Elsewhere:
    """Return what `__import__` returns, for want of a module: it has what the statement looks for."""
    if names:
        found = _Elsewhere(module)
        found.__dict__["__all__"] = []
        found.__dict__.update((name, _Elsewhere(f"{module}.{name}")) for name in names if name != "*")
        return found
    first, *rest = module.split(".")
    top = found = _Elsewhere(first)
    for name in rest:
        found.__dict__[name] = found = _Elsewhere(f"{found.__name__}.{name}")
    return top


# -------------------------------------------------------------------------------------------------------- the hook


def _put_hook() -> None:
    global _hook, _before
    if _hook is None:
        _before = builtins.__import__
        _hook = builtins.__import__ = _make_hook(_before)


def _take_hook() -> None:
    global _hook, _before
    if builtins.__import__ is _hook and _before is not None:
        builtins.__import__ = _before
    # Else somebody has put another over it. It stays under that and passes everything on; the next block makes its own.
    _hook = _before = None


def _make_hook(before: Callable[..., Any]) -> Callable[..., Any]:
    def hook(
        name: str,
        globals: Any = None,  # noqa: A002 - the names of `__import__`
        locals: Any = None,  # noqa: A002
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        frame = sys._getframe(1)
        block = _blocks.get(frame)
        if block is None:
            return before(name, globals, locals, fromlist, level)
        names = tuple(fromlist or ())
        module = name
        if level:
            import importlib.util  # noqa: PLC0415 - rarely needed

            module = importlib.util.resolve_name("." * level + name, (globals or {}).get("__package__"))
        statement = _statement(frame.f_code, frame.f_lasti, module, names)
        return block.take(module, names, statement, lambda: before(name, globals, locals, fromlist, level))

    return hook


def _statement(code: CodeType, at: int, module: str, names: tuple[str, ...]) -> str:
    """Return the import statement whose call of `__import__` is the instruction at that place.

    What follows it is a store of the module, or, for `from` and for `import a.b as c`, IMPORT_FROM and a store for each
    name (for the latter, an IMPORT_FROM for each step, and one store).
    """
    import dis  # noqa: PLC0415 - only for who imports so

    if "*" in names:
        return f"from {module} import *"
    stored: list[str] = []
    through = False
    for instruction in dis.get_instructions(code):
        if instruction.offset <= at:
            continue
        if instruction.opname == "IMPORT_FROM":
            through = True
        elif instruction.opname.startswith("STORE_"):
            name = instruction.argval  # of two instructions in one: a tuple, ours first
            stored.append(name[0] if isinstance(name, tuple) else name)
            if len(stored) == max(1, len(names)):
                break
    if names:
        pairs = [name if name == given else f"{name} as {given}" for name, given in zip(names, stored, strict=True)]
        return f"from {module} import {', '.join(pairs)}"
    if through or stored[0] != module.partition(".")[0]:
        return f"import {module} as {stored[0]}"
    return f"import {module}"
