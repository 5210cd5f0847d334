"""`%px` and its kin: cells that run on engines. `activate` puts them into the running IPython."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import CompositeError, RemoteError
from ..ids import show_engines
from . import comms
from .live import PROGRESS_AFTER_S, display_outputs, find_notebook
from .options import USAGE, OptionError, Options, read, read_line
from .running import follow
from .screen import without_colours

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.results.futures import AsyncResult
    from ..client.views.directview import DirectView

_active: dict[str, Magics] = {}
"""By suffix."""

_CONFIGURED = frozenset({"targets", "block", "stream", "group_outputs", "verbose", "progress_after", "signal"})
_OF_RESULT = frozenset({"group_outputs", "out", "stream", "progress_after"})


class FailedHereError(Exception):
    """With `--local`, the cell failed here; IPython has shown how."""

    def _render_traceback_(self) -> list[str]:
        return ["the cell failed here, as shown above; it ran on the engines"]


class Magics:
    """The magics of one view: `%px`, `%%px`, `%autopx`, `%pxresult` and `%pxconfig`, each with the view's suffix."""

    def __init__(self, shell: Any, view: DirectView, suffix: str) -> None:
        self.view = view
        self.shell = shell
        self.suffix = suffix
        self.last: AsyncResult | None = None
        """The result of the cell that was submitted last."""
        self._defaults = Options(stream=True, progress_after_s=PROGRESS_AFTER_S, signal="SIGINT")
        self._auto = False
        self._plain = False
        """A cell is to run here, though `%autopx` is on."""

    def register(self) -> None:
        """Put the magics into the shell."""
        suffix = self.suffix
        self._register("line", f"px{suffix}", self.px, f"Run a line on engines: %px{suffix} [options] code\n\n{USAGE}")
        self._register(
            "cell", f"px{suffix}", self.px_cell, f"Run the cell on engines: %%px{suffix} [options]\n\n{USAGE}"
        )
        self._register("line", f"autopx{suffix}", self.autopx, "Run all further cells on engines; again: no more.")
        self._register(
            "line",
            f"pxresult{suffix}",
            self.pxresult,
            "Show the output of the last cell that ran on engines.\n\nOptions: -o NAME, -e, -r, --group-outputs HOW",
        )
        self._register(
            "line",
            f"pxconfig{suffix}",
            self.pxconfig,
            f"Set defaults for %px{suffix}; without options: show.\n\n{USAGE}",
        )

    def _register(self, kind: str, name: str, method: Callable[..., Any], doc: str) -> None:
        def magic(*args: str) -> Any:
            return method(*args)

        magic.__doc__ = doc
        self.shell.register_magic_function(magic, magic_kind=kind, magic_name=name)

    # ---------------------------------------------------------------- the magics

    def px(self, line: str) -> Any:
        """Run a line on the engines."""
        options, code = self._read(read_line, line, f"%px{self.suffix}")
        if not code.strip():
            raise _usage(f"%px{self.suffix} needs code to run; %px{self.suffix}? shows its options")
        return self.run(code, options)

    def px_cell(self, line: str, cell: str) -> Any:
        """Run a cell on the engines."""
        options, rest = self._read(read, line, f"%%px{self.suffix}")
        if rest:
            raise _usage(
                f"after the options of %%px{self.suffix} there is {rest!r}; code begins on the next line "
                f"(in one line: %px{self.suffix})"
            )
        return self.run(cell, options)

    def pxresult(self, line: str) -> None:
        """Show the output of the last cell, when it is done."""
        options, rest = self._read(lambda text, magic: read(text, magic, _OF_RESULT), line, f"%pxresult{self.suffix}")
        if rest:
            raise _usage(f"%pxresult{self.suffix} takes options only, not {rest!r}")
        if self.last is None:
            raise _usage(f"nothing has been run with %px{self.suffix} yet")
        self._keep(self.last, options)
        self._show(self.last, options, stop=False)

    def pxconfig(self, line: str) -> None:
        """Set defaults, or show them."""
        options, rest = self._read(lambda text, magic: read(text, magic, _CONFIGURED), line, f"%pxconfig{self.suffix}")
        if rest:
            raise _usage(f"%pxconfig{self.suffix} takes options only, not {rest!r}")
        defaults = self._defaults
        if options == Options():
            print(  # noqa: T201 - what was asked for
                f"targets: {self.view.targets!r}, block: {self.view.block}, stream: {defaults.stream}, "
                f"group-outputs: {defaults.group_outputs or 'by engine, as it comes'}, "
                f"progress-after: {defaults.progress_after_s:g} s, signal-on-interrupt: {defaults.signal}"
            )
            return
        if options.targets is not None:
            targets = options.targets
            if isinstance(targets, slice):
                targets = list(self._ids(targets))
            self.view.set_flags(targets=targets)
        if options.block is not None:
            self.view.set_flags(block=options.block)
        for name in ("stream", "group_outputs", "verbose", "progress_after_s", "signal"):
            value = getattr(options, name)
            if value is not None:
                setattr(defaults, name, value)

    def autopx(self, line: str) -> None:
        """Run all further cells on the engines, or no more."""
        if line.strip():
            raise _usage(f"%autopx{self.suffix} takes no options; %pxconfig{self.suffix} sets them")
        transforms = self.shell.input_transformers_cleanup
        self._auto = not self._auto
        if self._auto:
            for other in list(_active.values()):
                if other is not self and other._auto:
                    other.autopx("")
            transforms.append(self._redirect)
        else:
            transforms.remove(self._redirect)
        print(f"%autopx{self.suffix} {'enabled' if self._auto else 'disabled'}")  # noqa: T201 - the answer

    def _redirect(self, lines: list[str]) -> list[str]:
        """Have a cell run on the engines, unless it is one of ours."""
        text = "".join(lines).strip()
        names = [f"{mark}{name}" for mark in ("%", "%%") for name in ("px", "autopx")]
        if self._plain or not text or text.startswith(tuple(names)):
            return lines
        return [f"%%px{self.suffix}\n", *lines]

    _redirect.has_side_effects = True  # type: ignore[attr-defined] # IPython skips such when it asks whether a cell is complete

    # ---------------------------------------------------------------- running

    def run(self, code: str, options: Options) -> Any:
        """Run code on the engines as the options say; return the AsyncResult if it is not waited for."""
        view = self.view
        ids = self._ids(options.targets)
        block = options.block
        if block is None:
            block = view.block
        if self._said(options.verbose, "verbose"):
            how = "Parallel execution" if block else "Asynchronous parallel execution"
            print(f"{how} on engines: {show_engines(ids)}")  # noqa: T201 - what was asked for
        result: AsyncResult = view.execute(code, silent=False, targets=list(ids), block=False)
        self.last = result
        self._keep(result, options)
        fine = self._run_here(code) if options.local else True
        if not block:
            return result
        self._show(result, options)
        if not fine:
            raise FailedHereError
        return None

    def _ids(self, targets: Any) -> tuple[int, ...]:
        ids: tuple[int, ...] = self.view._ids(targets)[0]
        return ids

    def _said(self, value: Any, name: str) -> Any:
        return getattr(self._defaults, name) if value is None else value

    def _keep(self, result: AsyncResult, options: Options) -> None:
        if options.out is not None:
            self.shell.user_ns[options.out] = result

    def _run_here(self, code: str) -> bool:
        self._plain = True
        try:
            return bool(self.shell.run_cell(code, store_history=False).success)
        finally:
            self._plain = False

    def _show(self, result: AsyncResult, options: Options, *, stop: bool = True) -> None:
        """Show the output of a result as the options say, and raise what it raised. Ctrl-C stops it (if `stop`)."""
        groupby = self._said(options.group_outputs, "group_outputs")
        stream = options.stream
        if stream is None:
            stream = groupby is None and self._defaults.stream is not False
        after_s = self._said(options.progress_after_s, "progress_after_s")
        try:
            follow(
                self.view.client,
                result,
                stream=stream,
                progress_after_s=None if after_s < 0 else after_s,
                signal=self._said(options.signal, "signal") if stop else None,
            )
        finally:
            if not stream:
                display_outputs(result, groupby or "type")
        error = result._whole_error()
        if error is not None:
            raise error

    def _read(self, read_: Callable[[str, str], tuple[Options, str]], line: str, magic: str) -> tuple[Options, str]:
        try:
            return read_(line, magic)
        except OptionError as error:
            raise _usage(str(error)) from None


def _usage(sentence: str) -> Exception:
    from IPython.core.error import UsageError  # noqa: PLC0415 - IPython is the user's here

    error: Exception = UsageError(sentence)
    return error


def find_shell() -> Any:
    """Return the IPython that this program runs in; None if there is none, and on an engine, which has its own."""
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or "enginery.engine.kernel" in sys.modules:
        return None
    return ipython.get_ipython()


def activate(view: DirectView, suffix: str) -> None:
    """Make `%px` and its kin, with this suffix, be those of a view. Raises RuntimeError outside of IPython."""
    shell = find_shell()
    if shell is None:
        raise RuntimeError("magics need IPython or a notebook; in a script use view.execute(code)")
    if not f"px{suffix}".isidentifier():
        raise ValueError(f'a suffix is letters, digits and "_", as in %px_even, not {suffix!r}')
    before = _active.get(suffix)
    if before is not None and before._auto:
        before.autopx("")
    magics = _active[suffix] = Magics(shell, view, suffix)
    magics.register()
    if not shell.custom_exceptions:
        shell.set_custom_exc((CompositeError, RemoteError), _show_error)
    comms.install()


def _show_error(shell: Any, kind: type, error: Any, tb: Any, tb_offset: int | None = None) -> None:
    """Show errors of engines as they render themselves: IPython would print a group its own way, and not mark the cell
    as failed, and take a SyntaxError of an engine for one of the cell here.
    """
    del tb, tb_offset
    lines = error._render_traceback_()
    if find_notebook() is None and (str(shell.colors).lower() == "nocolor" or not sys.stdout.isatty()):
        lines = [without_colours(line) for line in lines]
    shell._showtraceback(kind, error, lines)


def activate_first(make_view: Callable[[], DirectView]) -> None:
    """Activate the view of a new client, unless there is an active one whose client is still of use."""
    shell = find_shell()
    if shell is None:
        return
    active = _active.get("")
    if active is not None and active.shell is shell and active.view.client._link.core.lost is None:
        return
    activate(make_view(), "")
