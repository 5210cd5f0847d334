"""The options of the magics: read from the line before the code."""

from __future__ import annotations

import ast
import re
import signal
from dataclasses import dataclass
from typing import Any

from .lines import GROUPINGS

USAGE = """\
    -t, --targets ENGINES     1, 0:4, ::2, 0,2,5 or all (default: those of the view)
    -b, --block               wait and show what comes (default, unless the view or %pxconfig says otherwise)
    -a, --noblock             do not wait; return the AsyncResult, and %pxresult shows its output
    --stream, --no-stream     show output as it comes (default), or all of it at the end
    --group-outputs HOW       at the end, by type, by engine or in order (-e is engine, -r is order)
    -o, --out NAME            set NAME to the AsyncResult
    --local                   run the code here too
    --progress-after SECONDS  when a progress bar appears (default 2; -1: never)
    --signal-on-interrupt SIG what engines get when you interrupt (default SIGINT)
    --verbose                 say on which engines it runs
"""


class OptionError(ValueError):
    """An option that is not one, as a sentence."""


@dataclass
class Options:
    """What options say; None where they say nothing."""

    targets: Any = None
    block: bool | None = None
    stream: bool | None = None
    group_outputs: str | None = None
    out: str | None = None
    local: bool = False
    verbose: bool | None = None
    progress_after_s: float | None = None
    signal: str | None = None


_VALUED = {
    "-t": "targets",
    "--targets": "targets",
    "-o": "out",
    "--out": "out",
    "--group-outputs": "group_outputs",
    "--progress-after": "progress_after",
    "--signal-on-interrupt": "signal",
}

_FLAGS: dict[str, tuple[str, Any]] = {
    "-b": ("block", True),
    "--block": ("block", True),
    "-a": ("block", False),
    "--noblock": ("block", False),
    "--no-block": ("block", False),
    "--stream": ("stream", True),
    "--no-stream": ("stream", False),
    "-e": ("group_outputs", "engine"),
    "-r": ("group_outputs", "order"),
    "--local": ("local", True),
    "--verbose": ("verbose", True),
}

_OPTION = re.compile(r"\s*(--?[A-Za-z][\w-]*)(?:=(\S*))?(?=\s|$)")
_VALUE = re.compile(r"""\s*("[^"]*"|'[^']*'|\[[^\]]*\]|\S+)""")


def read(line: str, magic: str, allowed: frozenset[str] | None = None) -> tuple[Options, str]:
    """Return the options that a line begins with, and what follows them.

    Raises OptionError, a sentence with the name of the `magic`. `allowed` are the options that it has (None: all).
    """
    options = Options()
    at = 0
    while match := _OPTION.match(line, at):
        name, value = match[1], match[2]
        field = _VALUED.get(name) or _FLAGS.get(name, ("",))[0]
        if not field or (allowed is not None and field not in allowed):
            raise OptionError(f"{magic} has no option {name}; {magic}? shows those it has")
        at = match.end()
        if name in _FLAGS:
            if value is not None:
                raise OptionError(f"{name} takes no value, so not {value!r}")
            setattr(options, *_FLAGS[name])
            continue
        if value is None:
            given = _VALUE.match(line, at)
            if given is None:
                raise OptionError(f"{name} needs a value; {magic}? shows which")
            value, at = given[1], given.end()
        _set(options, field, name, value.strip("\"'"))
    return options, line[at:].lstrip()


def read_line(line: str, magic: str) -> tuple[Options, str]:
    """Return the options and the code of a line. What is Python as it stands has no options: `-a` is minus a."""
    if not line.lstrip().startswith("-") or _is_python(line.strip()):
        return Options(), line
    return read(line, magic)


def _is_python(line: str) -> bool:
    try:
        ast.parse(line)
    except (SyntaxError, ValueError):
        return False
    return True


def _set(options: Options, field: str, name: str, value: str) -> None:
    match field:
        case "targets":
            options.targets = read_targets(value)
        case "out":
            if not value.isidentifier():
                raise OptionError(f"{name} takes the name of a variable, not {value!r}")
            options.out = value
        case "group_outputs":
            if value not in GROUPINGS:
                raise OptionError(f"{name} is one of {', '.join(GROUPINGS)}, not {value!r}")
            options.group_outputs = value
        case "progress_after":
            try:
                options.progress_after_s = float(value)
            except ValueError:
                raise OptionError(f"{name} takes a number of seconds, not {value!r}") from None
        case "signal":
            options.signal = read_signal(value, name)


def read_targets(text: str) -> Any:
    """Return the targets that a text means: "all", a number, a slice or a list."""
    text = text.strip().strip("[]()").replace(" ", "")
    if text == "all":
        return "all"
    try:
        if ":" in text:
            return slice(*(int(part) if part else None for part in text.split(":")))
        numbers = [int(part) for part in text.split(",") if part]
    except (ValueError, TypeError):
        numbers = []
    if not numbers:
        raise OptionError(f"targets are a number, a slice (::2), numbers with commas (0,2) or all, not {text!r}")
    return numbers[0] if "," not in text else numbers


def read_signal(text: str, name: str) -> str:
    """Return the name of a signal that is given by name or number."""
    if text.isdecimal():
        try:
            return signal.Signals(int(text)).name
        except ValueError:
            raise OptionError(f"{name} takes a signal, not {text!r}") from None
    full = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if full not in signal.Signals.__members__:
        raise OptionError(f"{name} takes a signal, such as SIGINT, not {text!r}")
    return full
